import { constants } from 'node:fs'
import { access, stat } from 'node:fs/promises'
import { isAbsolute, join } from 'node:path'
import { absoluteEntries } from './environment.ts'
import { runQuick } from './quick.ts'

/**
 * The absolute path of a program that is named, on the absolute entries of `path`, or of one that is an absolute path
 * itself; undefined when there is none that may be executed. Links stay as they are: some programs look at the name they
 * were called by. A name with a slash that is not absolute is never found: it would mean the workspace's.
 */
export async function findProgram(name: string, path: string): Promise<string | undefined> {
  if (isAbsolute(name)) return (await isExecutable(name)) ? name : undefined
  if (name.includes('/') || name === '' || name === '.' || name === '..') return undefined
  for (const directory of absoluteEntries(path)) {
    const found = join(directory, name)
    if (await isExecutable(found)) return found
  }
  return undefined
}

async function isExecutable(path: string): Promise<boolean> {
  return await access(path, constants.X_OK).then(
    () => isFile(path),
    () => false,
  )
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
