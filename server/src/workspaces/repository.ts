import { constants } from 'node:fs'
import { open, stat } from 'node:fs/promises'
import { dirname, join, relative, resolve, sep } from 'node:path'

/** Bytes of `.git`, `HEAD`, a loose reference: one line each. */
const MAX_LINE_BYTES = 8 * 1024
const MAX_CONFIG_BYTES = 1024 * 1024
const MAX_PACKED_REFS_BYTES = 64 * 1024 * 1024
/** References that lead to references, as many as git follows. */
const MAX_SYMBOLIC_REFS = 5

/** Where a repository stands. */
export interface Head {
  /** null before the first commit. */
  headSha: string | null
  /** null when HEAD is detached. */
  branch: string | null
}

/** Where the repository of a directory keeps its things. */
export interface Repository {
  /** The directory that holds `.git`. */
  top: string
  /** From `top` to the directory asked about, '' when they are the same. */
  prefix: string
  /** Of this worktree: `HEAD`, `index`. */
  gitDir: string
  /** Shared by all worktrees: `objects`, `refs`, `config`, `info`. */
  commonDir: string
}

/**
 * Finds the repository that a directory is in, by its files alone: no program runs, and nothing that the repository
 * configures is obeyed. Undefined outside a working tree, as in a bare repository or in `.git` itself.
 *
 * @param directory absolute real path
 * Source: gitrepository-layout(5).
 */
export async function findRepository(directory: string): Promise<Repository | undefined> {
  for (let top = directory; ; top = dirname(top)) {
    const gitDir = await gitDirectoryOf(top)
    if (gitDir !== undefined) {
      const prefix = relative(top, directory)
      if (prefix.split(sep).includes('.git')) return undefined
      const common = await readSmall(join(gitDir, 'commondir'), MAX_LINE_BYTES)
      return {
        top,
        prefix,
        gitDir,
        commonDir: common === undefined ? gitDir : resolve(gitDir, common.toString().trim()),
      }
    }
    if (dirname(top) === top) return undefined
  }
}

async function gitDirectoryOf(top: string): Promise<string | undefined> {
  const path = join(top, '.git')
  const found = await stat(path).catch(() => undefined)
  if (!found) return undefined
  const line = found.isDirectory() ? undefined : (await readSmall(path, MAX_LINE_BYTES))?.toString()
  const gitDir = found.isDirectory() ? path : resolve(top, /^gitdir: (.+?)\r?\n?$/.exec(line ?? '')?.[1] ?? '.git')
  return (await readSmall(join(gitDir, 'HEAD'), MAX_LINE_BYTES)) === undefined ? undefined : gitDir
}

/** The commit and branch a worktree is on. (Where references lie in a reftable, both are null.) */
export async function readHead(repository: Repository): Promise<Head> {
  const head = (await readSmall(join(repository.gitDir, 'HEAD'), MAX_LINE_BYTES))?.toString().trim() ?? ''
  const name = /^ref: (refs\/.+)$/.exec(head)?.[1]
  if (name === undefined) return { headSha: sha(head), branch: null }
  if (name === 'refs/heads/.invalid') return { headSha: null, branch: null } // the mark of a reftable
  const branch = name.startsWith('refs/heads/') ? name.slice('refs/heads/'.length) : null
  return { headSha: await resolveReference(repository, name, MAX_SYMBOLIC_REFS), branch }
}

async function resolveReference(repository: Repository, name: string, depth: number): Promise<string | null> {
  if (depth === 0 || name.split('/').includes('..')) return null
  const loose = (await readSmall(join(repository.commonDir, name), MAX_LINE_BYTES))?.toString().trim()
  if (loose !== undefined) {
    const next = /^ref: (refs\/.+)$/.exec(loose)?.[1]
    return next === undefined ? sha(loose) : await resolveReference(repository, next, depth - 1)
  }
  const packed = await readSmall(join(repository.commonDir, 'packed-refs'), MAX_PACKED_REFS_BYTES)
  const at = packed?.indexOf(` ${name}\n`) ?? -1
  if (packed === undefined || at === -1) return null
  return sha(packed.toString('latin1', packed.lastIndexOf('\n', at) + 1, at))
}

const sha = (text: string): string | null => (/^([0-9a-f]{40}|[0-9a-f]{64})$/.test(text) ? text : null)

/** Settings that say how files are read and compared; their values are single words, so that none can name a program. */
const HARMLESS =
  /^\s*(fileMode|ignoreCase|precomposeUnicode|symlinks|autocrlf|eol|objectFormat)\s*=\s*(true|false|input|lf|crlf|native|sha1|sha256)\s*$/gim

/** What of a repository's configuration is needed to read its files as git would, by lower-case name. */
export async function harmlessSettings(repository: Repository): Promise<Map<string, string>> {
  const config = (await readSmall(join(repository.commonDir, 'config'), MAX_CONFIG_BYTES))?.toString() ?? ''
  return new Map(
    [...config.matchAll(HARMLESS)].map(([, name = '', value = '']) => [name.toLowerCase(), value.toLowerCase()]),
  )
}

/**
 * The content of an ordinary file; undefined when it is none, is larger than `maxBytes` or cannot be read. A named pipe
 * in its place is not waited for.
 */
export async function readSmall(path: string, maxBytes: number): Promise<Buffer | undefined> {
  const handle = await open(path, constants.O_RDONLY | constants.O_NONBLOCK).catch(() => undefined)
  try {
    const found = await handle?.stat()
    return handle && found?.isFile() && found.size <= maxBytes ? await handle.readFile() : undefined
  } catch {
    return undefined
  } finally {
    await handle?.close()
  }
}
