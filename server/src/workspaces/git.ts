import { copyFile, mkdir, readFile, rm } from 'node:fs/promises'
import { isAbsolute, join, resolve } from 'node:path'
import { runQuick, type QuickResult } from '../process/quick.ts'
import { searchPath } from '../process/environment.ts'

/** Bytes of a patch at most; a run that changed more has no diff. */
export const MAX_PATCH_BYTES = 64 * 1024 * 1024
const TIMEOUT_MS = 60_000

/** Our own git calls: they execute nothing that a repository brings, and write into none but to make or drop a worktree. */
export interface Git {
  /** HEAD and branch of the repository the directory is in; undefined outside git. */
  describe(directory: string): Promise<{ headSha: string | null; branch: string | null } | undefined>
  /**
   * Id of a tree of the directory's files as they are: untracked ones too, ignored ones not. Its objects lie in
   * `scratch`, which the caller removes; the repository is only read.
   */
  snapshot(directory: string, scratch: string): Promise<string>
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
    const { exitCode, stdout, stderr, timedOut, truncated } = await git(directory, args, more, maxBytes)
    if (exitCode === 0) return stdout
    const why = timedOut
      ? `took longer than ${TIMEOUT_MS} ms`
      : truncated
        ? 'printed too much'
        : stderr.trim().split('\n').at(-1)
    throw new GitError(`git ${args[0]}: ${why || `exited with ${exitCode}`}`)
  }

  /** Where the repository of a directory keeps its things; HEAD unborn or detached is fine. */
  async function locate(directory: string): Promise<{ gitDir: string; objects: string; index: string } | undefined> {
    const { exitCode, stdout } = await git(directory, [
      ...['rev-parse', '--is-inside-work-tree', '--absolute-git-dir', '--git-path', 'objects', '--git-path', 'index'],
    ])
    const [inside, gitDir = '', objects = '', index = ''] = stdout.toString('utf8').split('\n')
    if (exitCode !== 0 || inside !== 'true') return undefined
    const absolute = (path: string): string => (isAbsolute(path) ? path : resolve(directory, path))
    return { gitDir, objects: absolute(objects), index: absolute(index) }
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
      const { exitCode, stdout } = await git(directory, ['rev-parse', '--is-inside-work-tree', '--absolute-git-dir'])
      const [inside, gitDir = ''] = stdout.toString('utf8').split('\n')
      if (exitCode !== 0 || inside !== 'true') return undefined
      const head = (await readFile(join(gitDir, 'HEAD'), 'utf8').catch(() => '')).trim()
      const branch = /^ref: refs\/heads\/(.+)$/.exec(head)?.[1] ?? null
      if (/^[0-9a-f]{40,64}$/.test(head)) return { headSha: head, branch: null }
      const parsed = await git(directory, ['rev-parse', '--verify', '--quiet', 'HEAD^{commit}'])
      return { headSha: parsed.exitCode === 0 ? parsed.stdout.toString('utf8').trim() : null, branch }
    },

    async snapshot(directory, scratch) {
      const [found, filters] = await Promise.all([locate(directory), withoutFilters(directory)])
      if (!found) throw new GitError('not a git repository')
      await mkdir(join(scratch, 'objects'), { recursive: true, mode: 0o700 })
      const more = scratchEnvironment(scratch, found.objects)
      // The repository's index knows which files did not change since; without one, every file is read.
      await copyFile(found.index, more['GIT_INDEX_FILE'] ?? '').catch(() => undefined)
      await mustGit(directory, [...filters, 'add', '--all', '--ignore-errors', '--', '.'], more).catch(
        async (error: unknown) => {
          // A file that cannot be read is left out; anything else is told.
          const listed = await git(directory, ['ls-files', '--cached', '--', '.'], more)
          if (listed.exitCode !== 0) throw error
        },
      )
      const prefix = (await mustGit(directory, ['rev-parse', '--show-prefix'])).toString('utf8').trim()
      const args = prefix === '' ? ['write-tree', '--missing-ok'] : ['write-tree', '--missing-ok', `--prefix=${prefix}`]
      const { exitCode, stdout } = await git(directory, args, more)
      if (exitCode === 0) return stdout.toString('utf8').trim()
      // An empty subdirectory has no tree of its own.
      return (await mustGit(directory, ['mktree'], more)).toString('utf8').trim()
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
