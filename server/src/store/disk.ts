import { mkdir, open, readFile, readdir, rename, rm, stat, unlink, type FileHandle } from 'node:fs/promises'
import { dirname } from 'node:path'
import { randomBytes } from 'node:crypto'

/** The file calls that state depends on. A parameter, so that tests can fail the nth call. */
export const systemDisk = { open, rename, unlink, readFile, readdir, mkdir, stat, rm }
export type Disk = typeof systemDisk

/** State on disk that cannot be trusted: exit code 65, the file untouched. Names file and, where known, byte offset. */
export class DamagedStateError extends Error {
  override readonly name = 'DamagedStateError'
  constructor(path: string, what: string, offset?: number) {
    super(`${path}${offset === undefined ? '' : ` at byte ${offset}`}: ${what}. The file was left as it is.`)
  }
}

/** Writes all of `data` at the handle's position. `FileHandle.write` may write less than it was given. */
export async function writeAll(file: FileHandle, data: Buffer): Promise<void> {
  for (let done = 0; done < data.length;) {
    const { bytesWritten } = await file.write(data, done, data.length - done)
    if (bytesWritten === 0) throw Object.assign(new Error('nothing was written'), { code: 'EIO' })
    done += bytesWritten
  }
}

/** Makes renames, creations and removals in a directory survive a power loss. */
export async function syncDirectory(disk: Disk, path: string): Promise<void> {
  const handle = await disk.open(path, 'r')
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}

/** A name beside `path` that nobody else uses; files of that form left by a crash are removed at start. */
export const temporaryName = (path: string): string => `${path}.${randomBytes(6).toString('hex')}.tmp`

/**
 * Replaces a file whole or not at all: temp file beside it, every byte checked, synced, renamed, directory synced.
 * On failure the old file is as it was and no temp file stays. Mode 0600.
 */
export async function replaceFile(disk: Disk, path: string, data: Buffer): Promise<void> {
  const temporary = temporaryName(path)
  try {
    const handle = await disk.open(temporary, 'wx', 0o600)
    try {
      await writeAll(handle, data)
      const { size } = await handle.stat()
      if (size !== data.length)
        throw Object.assign(new Error(`${size} of ${data.length} bytes arrived`), { code: 'EIO' })
      await handle.sync()
    } finally {
      await handle.close()
    }
    await disk.rename(temporary, path)
  } catch (error) {
    await disk.rm(temporary, { force: true })
    throw error
  }
  await syncDirectory(disk, dirname(path))
}
