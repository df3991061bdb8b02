import { constants } from 'node:fs'
import { access, realpath, stat } from 'node:fs/promises'
import { isAbsolute, join } from 'node:path'
import { absoluteEntries } from './environment.ts'
import { runQuick } from './quick.ts'

/** A program found on disk. */
export interface FoundProgram {
  /** Absolute path as found (not resolved: some programs look at the name they were called by). */
  path: string
  /** What it is in the end. */
  realPath: string
  device: string
  inode: string
}

/**
 * Finds a program by name on the absolute entries of `path`, or takes an absolute path as it is; undefined when there is
 * none that may be executed. A name with a slash that is not absolute is never found: it would mean the workspace's.
 */
export async function findProgram(name: string, path: string): Promise<FoundProgram | undefined> {
  if (isAbsolute(name)) return await executable(name)
  if (name.includes('/') || name === '' || name === '.' || name === '..') return undefined
  for (const directory of absoluteEntries(path)) {
    const found = await executable(join(directory, name))
    if (found) return found
  }
  return undefined
}

async function executable(path: string): Promise<FoundProgram | undefined> {
  try {
    await access(path, constants.X_OK)
    const found = await stat(path, { bigint: true })
    if (!found.isFile()) return undefined
    return { path, realPath: await realpath(path), device: String(found.dev), inode: String(found.ino) }
  } catch {
    return undefined
  }
}

/** True for a file that is there; nothing is opened. */
export async function isFile(path: string): Promise<boolean> {
  return await stat(path).then(
    (found) => found.isFile(),
    () => false,
  )
}

const VERSION_TIMEOUT_MS = 10_000

/** The first line a program prints when asked for its version; undefined when it gives none in time. */
export async function askVersion(program: string, args: string[], path: string): Promise<string | undefined> {
  const limits = { timeoutMs: VERSION_TIMEOUT_MS, maxBytes: 64 * 1024 }
  const { exitCode, stdout } = await runQuick({ program, args, cwd: '/', env: { PATH: path, TERM: 'dumb' }, ...limits })
  return exitCode === 0 ? stdout.toString('utf8').split('\n')[0]?.trim().slice(0, 100) || undefined : undefined
}
