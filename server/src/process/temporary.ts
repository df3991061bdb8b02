import { chmod, lstat, mkdir, mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

/**
 * Bytes that the directory may have above ours. A socket's path ends at 108 bytes (104 on macOS), and programs put theirs
 * some way below what they get. Source: unix(7), `sun_path`.
 */
export const MAX_BASE_BYTES = 40
const FALLBACK_BASE = '/tmp'
const OWNER_ONLY = 0o700

/** A directory for what one process and its children leave lying about. */
export interface Temporary {
  /** Absolute, short enough for a socket; becomes the `TMPDIR` of the process. */
  readonly path: string
  /** Removes it with everything in it, once the process has ended. Never rejects: what stays goes at the next start. */
  remove(): Promise<void>
}

export interface Temporaries {
  /** A new, empty directory that only we may enter. */
  open(): Promise<Temporary>
  /** Removes all of them. */
  close(): Promise<void>
}

/**
 * Temporary directories for runs and sessions, all below one of this server's. Where that is stands in `recordFile`, so
 * that the next server removes what a killed one left: call it after the processes of that one were ended.
 *
 * @param base where temporary files go on this machine (`TMPDIR`); a long one is not used
 */
export async function openTemporaries(options: {
  base: string | undefined
  recordFile: string
  onTrouble: (message: string, error?: unknown) => void
}): Promise<Temporaries> {
  const { base = FALLBACK_BASE, recordFile, onTrouble } = options
  const parent = Buffer.byteLength(base) <= MAX_BASE_BYTES && base.startsWith('/') ? base : FALLBACK_BASE
  await removeLeft()
  const root = await mkdtemp(join(parent, 'postern-'))
  await writeFile(recordFile, JSON.stringify(await identityOf(root)), { mode: 0o600 })
  let opened = 0

  async function removeLeft(): Promise<void> {
    try {
      const left = JSON.parse(await readFile(recordFile, 'utf8')) as Identity
      const now = await identityOf(left.path)
      // Another one of that name is not ours to remove.
      if (now.device === left.device && now.inode === left.inode) await removeAll(left.path)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') onTrouble('an old temporary directory is left', error)
    }
  }

  async function ensureRoot(): Promise<void> {
    try {
      await mkdir(root, { mode: OWNER_ONLY }) // a machine that cleans up may have taken it
      await writeFile(recordFile, JSON.stringify(await identityOf(root)), { mode: 0o600 })
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
      const found = await lstat(root)
      if (!found.isDirectory() || found.uid !== process.getuid?.()) throw error
    }
  }

  return {
    async open() {
      await ensureRoot()
      const path = join(root, (opened++).toString(36))
      await mkdir(path, { mode: OWNER_ONLY })
      return {
        path,
        remove: () => removeAll(path).catch((error: unknown) => onTrouble('a temporary directory is left', error)),
      }
    },
    async close() {
      await removeAll(root)
      await rm(recordFile, { force: true })
    },
  }
}

interface Identity {
  path: string
  device: string
  inode: string
}

async function identityOf(path: string): Promise<Identity> {
  const { dev, ino } = await lstat(path, { bigint: true })
  return { path, device: String(dev), inode: String(ino) }
}

/** Also what stands in directories that may not be written, such as those of some package caches. */
async function removeAll(path: string): Promise<void> {
  try {
    await rm(path, { recursive: true, force: true })
  } catch {
    await unlock(path)
    await rm(path, { recursive: true, force: true })
  }
}

async function unlock(directory: string): Promise<void> {
  await chmod(directory, OWNER_ONLY)
  for (const entry of await readdir(directory, { withFileTypes: true })) {
    if (entry.isDirectory()) await unlock(join(directory, entry.name))
  }
}
