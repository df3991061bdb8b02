import { copyFile, mkdir, readFile, rm, stat } from 'node:fs/promises'
import { dirname, join, resolve } from 'node:path'
import { runQuick, type QuickResult } from '../process/quick.ts'
import { searchPath } from '../process/environment.ts'

/** Bytes of a patch at most; a run that changed more has no diff. */
export const MAX_PATCH_BYTES = 64 * 1024 * 1024
const TIMEOUT_MS = 60_000

/** Where a directory's repository stands. */
export interface Head {
  /** null before the first commit. */
  headSha: string | null
  /** null when HEAD is detached. */
  branch: string | null
}

/** Our own git calls: they execute nothing that a repository brings, and write into none but to make or drop a worktree. */
export interface Git {
  /** undefined outside git. */
  describe(directory: string): Promise<Head | undefined>
  /**
   * The tree of a directory's files as they are: untracked ones too, ignored ones not. Its objects lie in `scratch`, which
   * the caller removes; the repository is only read. undefined outside git.
   */
  snapshot(directory: string, scratch: string): Promise<(Head & { tree: string }) | undefined>
  /** The binary patch between two trees of `snapshot`, and how many files it touches. */
  diff(directory: string, scratch: string, from: string, to: string): Promise<{ patch: Buffer; filesChanged: number }>
  /** A new repository. */
  init(directory: string): Promise<void>
  /** A new worktree at `path`, on a new branch from HEAD. */
  addWorktree(directory: string, path: string, branch: string): Promise<void>
  /**
   * Removes a worktree and its branch when nothing would be lost: no uncommitted or untracked file, no commit that only
   * it has. False: it was kept.
   */
  removeWorktree(path: string, branch: string, baseSha: string | null): Promise<boolean>
}

interface Located extends Head {
  objects: string
  index: string
  /** The directory's place in the work tree, with a slash at its end; empty at the top. */
  prefix: string
}

/** Git failed; the message is its own last line. */
class GitError extends Error {
  override readonly name = 'GitError'
}

/**
 * What every call carries: no program of a repository's configuration, attributes or hooks runs. Filters have names of
 * their own and are switched off one by one. Source: git-config(1), gitattributes(5).
 */
const SAFE = [
  ...['-c', 'core.fsmonitor=false', '-c', 'core.hooksPath=/dev/null', '-c', 'core.untrackedCache=false'],
  ...['-c', 'core.sshCommand=false', '-c', 'core.askPass=', '-c', 'credential.helper=', '-c', 'gc.auto=0'],
  ...['-c', 'maintenance.auto=false', '-c', 'submodule.recurse=false', '-c', 'diff.external=', '-c', 'core.pager=cat'],
  ...['-c', 'core.alternateRefsCommand=', '-c', 'commit.gpgSign=false', '-c', 'core.quotePath=true'],
]

export function createGit(deps: { environment: Record<string, string | undefined>; binDirectory: string }): Git {
  const { environment, binDirectory } = deps
  const env: Record<string, string> = {
    PATH: searchPath(environment, binDirectory),
    ...(environment['HOME'] !== undefined && { HOME: environment['HOME'] }),
    LC_ALL: 'C',
    GIT_TERMINAL_PROMPT: '0',
    GIT_OPTIONAL_LOCKS: '0',
    GIT_NO_LAZY_FETCH: '1',
    GIT_NO_REPLACE_OBJECTS: '1',
    GIT_ALLOW_PROTOCOL: 'none',
    GIT_LITERAL_PATHSPECS: '1',
    GIT_PAGER: 'cat',
    GIT_EDITOR: 'true',
  }

  async function git(
    directory: string,
    args: string[],
    more: Record<string, string> = {},
    maxBytes = 1_000_000,
  ): Promise<QuickResult> {
    return await runQuick({
      program: 'git',
      args: [...SAFE, ...args],
      cwd: directory,
      env: { ...env, ...more },
      timeoutMs: TIMEOUT_MS,
      maxBytes,
    })
  }
  async function mustGit(
    directory: string,
    args: string[],
    more?: Record<string, string>,
    maxBytes?: number,
  ): Promise<Buffer> {
    const result = await git(directory, args, more, maxBytes)
    if (result.exitCode !== 0) throw failure(args.find((arg) => /^[a-z]/.test(arg)) ?? '', result)
    return result.stdout
  }
  function failure(command: string, { exitCode, stderr, timedOut, truncated }: QuickResult): GitError {
    const why = timedOut
      ? `took longer than ${TIMEOUT_MS} ms`
      : truncated
        ? 'printed too much'
        : stderr.trim().split('\n').at(-1)
    return new GitError(`git ${command}: ${why || `exited with ${exitCode}`}`)
  }

  /** One call for everything; HEAD may be unborn, then the call fails behind what it printed. */
  async function locate(directory: string): Promise<Located | undefined> {
    if (!(await isBelowRepository(directory))) return undefined
    const { stdout } = await git(directory, [
      ...['rev-parse', '--is-inside-work-tree', '--git-path', 'objects', '--git-path', 'index', '--git-path', 'HEAD'],
      ...['--show-prefix', '--verify', 'HEAD^{commit}'],
    ])
    const [inside, objects = '', index = '', headFile = '', prefix = '', headSha = ''] = stdout
      .toString('utf8')
      .split('\n')
    if (inside !== 'true') return undefined
    const head = await readFile(resolve(directory, headFile), 'utf8').catch(() => '')
    return {
      objects: resolve(directory, objects),
      index: resolve(directory, index),
      prefix,
      headSha: /^[0-9a-f]{40,64}$/.test(headSha) ? headSha : null,
      branch: /^ref: refs\/heads\/(.+)$/m.exec(head)?.[1] ?? null,
    }
  }

  /** Overrides for every clean, smudge and process filter that the repository or the user configured. */
  async function withoutFilters(directory: string): Promise<string[]> {
    const { stdout } = await git(directory, ['config', '--name-only', '-z', '--get-regexp', '^filter\\.'])
    const names = stdout
      .toString('utf8')
      .split('\0')
      .flatMap((key) => /^filter\.(.*)\.[^.]+$/s.exec(key)?.[1] ?? [])
    return [...new Set(names)].flatMap((name) =>
      ['clean=', 'smudge=', 'process=', 'required=false'].flatMap((setting) => ['-c', `filter.${name}.${setting}`]),
    )
  }

  function scratchEnvironment(scratch: string, objects: string): Record<string, string> {
    return {
      GIT_INDEX_FILE: join(scratch, 'index'),
      GIT_OBJECT_DIRECTORY: join(scratch, 'objects'),
      GIT_ALTERNATE_OBJECT_DIRECTORIES: objects,
    }
  }

  return {
    async describe(directory) {
      const found = await locate(directory)
      return found && { headSha: found.headSha, branch: found.branch }
    },

    async snapshot(directory, scratch) {
      const [found, filters] = await Promise.all([locate(directory), withoutFilters(directory)])
      if (!found) return undefined
      await mkdir(join(scratch, 'objects'), { recursive: true, mode: 0o700 })
      const more = scratchEnvironment(scratch, found.objects)
      // The repository's index knows which files did not change since; without one, every file is read.
      await copyFile(found.index, more['GIT_INDEX_FILE'] ?? '').catch(() => undefined)
      // A file that cannot be read is left out: git says so with exit code 1, and the others are in.
      const added = await git(directory, [...filters, 'add', '--all', '--ignore-errors', '--', '.'], more)
      if (added.exitCode !== 0 && added.exitCode !== 1) throw failure('add', added)
      const at = found.prefix === '' ? [] : [`--prefix=${found.prefix}`]
      const written = await git(directory, ['write-tree', '--missing-ok', ...at], more)
      // A subdirectory without files has no tree: it is the empty one.
      const tree = written.exitCode === 0 ? written.stdout : await mustGit(directory, ['mktree'], more)
      return { headSha: found.headSha, branch: found.branch, tree: tree.toString('utf8').trim() }
    },

    async diff(directory, scratch, from, to) {
      if (from === to) return { patch: Buffer.alloc(0), filesChanged: 0 }
      const found = await locate(directory)
      if (!found) throw new GitError('not a git repository')
      const more = scratchEnvironment(scratch, found.objects)
      const safe = ['--no-ext-diff', '--no-textconv', '--no-color', '--no-renames', '--ignore-submodules=all']
      const [patch, names] = await Promise.all([
        mustGit(
          directory,
          ['diff-tree', '-r', '-p', '--binary', '--full-index', ...safe, from, to],
          more,
          MAX_PATCH_BYTES,
        ),
        mustGit(directory, ['diff-tree', '-r', '-z', '--name-only', ...safe, from, to], more, MAX_PATCH_BYTES),
      ])
      return { patch, filesChanged: names.toString('latin1').split('\0').filter(Boolean).length }
    },

    async init(directory) {
      await mustGit(directory, ['init', '--quiet', '--initial-branch=main', '--template='])
    },

    async addWorktree(directory, path, branch) {
      const filters = await withoutFilters(directory)
      await mkdir(join(path, '..'), { recursive: true, mode: 0o700 })
      await mustGit(directory, [...filters, 'worktree', 'add', '--quiet', '-b', branch, path, 'HEAD'])
    },

    async removeWorktree(path, branch, baseSha) {
      const filters = await withoutFilters(path)
      const status = await mustGit(path, [
        ...filters,
        'status',
        '--porcelain',
        '--untracked-files=all',
        '--ignore-submodules=none',
      ])
      const head = (await mustGit(path, ['rev-parse', 'HEAD'])).toString('utf8').trim()
      if (status.length > 0 || head !== baseSha) return false
      const common = (await mustGit(path, ['rev-parse', '--path-format=absolute', '--git-common-dir']))
        .toString('utf8')
        .trim()
      await mustGit(common, ['worktree', 'remove', path])
      await mustGit(common, ['branch', '--quiet', '-D', '--', branch])
      await rm(path, { recursive: true, force: true })
      return true
    },
  }
}

/** True when the directory or one above it has a `.git`: outside, no program need be started to find out. */
async function isBelowRepository(directory: string): Promise<boolean> {
  for (let at = directory; ; at = dirname(at)) {
    if (
      await stat(join(at, '.git')).then(
        () => true,
        () => false,
      )
    )
      return true
    if (dirname(at) === at) return false
  }
}
