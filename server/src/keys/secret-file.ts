import { constants } from 'node:fs'
import { link, open, rename, rm, type FileHandle } from 'node:fs/promises'
import { ConfigError } from '../config.ts'

/**
 * The text of a file that only this user may read.
 *
 * @returns undefined when there is no such file
 * @throws ConfigError when it is not a regular file of this user with mode 0600, or cannot be read
 */
export async function readSecretFile(path: string): Promise<string | undefined> {
  let file: FileHandle
  try {
    file = await open(path, constants.O_RDONLY | (constants.O_NOFOLLOW ?? 0) | (constants.O_NONBLOCK ?? 0))
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ENOENT') return undefined
    throw new ConfigError(
      `${path} cannot be read (${code ?? 'unknown error'}): it must be a file of this user, mode 0600`,
    )
  }
  try {
    const stat = await file.stat()
    if (!stat.isFile()) throw new ConfigError(`${path} is not a regular file`)
    if (process.getuid && stat.uid !== process.getuid()) {
      throw new ConfigError(`${path} belongs to user ${stat.uid}; it must belong to user ${process.getuid()}`)
    }
    if (process.platform !== 'win32' && (stat.mode & 0o077) !== 0) {
      const mode = (stat.mode & 0o777).toString(8).padStart(4, '0')
      throw new ConfigError(`${path} has mode ${mode}, so others may have read it: remove it, or chmod 0600`)
    }
    return await file.readFile('utf8')
  } finally {
    await file.close()
  }
}

/** Makes the file, whole or not at all: written beside, then linked, which fails when the name is taken. Mode 0600. */
export async function createSecretFile(path: string, text: string): Promise<void> {
  const temporary = `${path}.${process.pid}.tmp`
  await rm(temporary, { force: true })
  const file = await open(temporary, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL, 0o600)
  try {
    await file.writeFile(text)
    await file.sync()
  } finally {
    await file.close()
  }
  try {
    await link(temporary, path)
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    // Not every file system has links; the lock on the data directory keeps others from making one meanwhile.
    if (code !== 'EEXIST') await rename(temporary, path)
  } finally {
    await rm(temporary, { force: true })
  }
}
