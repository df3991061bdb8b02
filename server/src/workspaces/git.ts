import { mkdir, realpath } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { createGitCommand, GitError, mustGit } from './git-command.ts'
import { findRepository, readHead, type Head } from './repository.ts'
import { createSnapshots } from './snapshots.ts'

/** Our own git calls: they execute nothing that a repository brings, and write into none but to make or drop a worktree. */
export interface Git {
  /** Where the directory's repository stands; undefined outside git. Starts no program. */
  describe(directory: string): Promise<Head | undefined>
  /**
   * Where it stands, and a snapshot of the directory's files as they are: untracked ones too, ignored ones not. `tree`
   * names it in `scratch`, which the caller removes; the repository is only read. The same name as before: nothing
   * changed. undefined outside git.
   *
   * @throws GitError when there is too much that git does not have, or git cannot read it
   */
  snapshot(directory: string, scratch: string): Promise<(Head & { tree: string }) | undefined>
  /** The binary patch between two snapshots, paths relative to the directory, and how many files it touches. @throws GitError */
  diff(directory: string, scratch: string, from: string, to: string): Promise<{ patch: Buffer; filesChanged: number }>
  /** A new repository. @throws GitError */
  init(directory: string): Promise<void>
  /**
   * A new worktree at `path`, on a new branch from HEAD. Resolves with the directory in it that answers to `directory`.
   * Files that a filter would fill in (such as large ones kept elsewhere) stay as they are stored. @throws GitError
   */
  addWorktree(directory: string, path: string, branch: string): Promise<string>
  /** The same in a worktree that is there. @throws GitError when it is not, or is none of this repository */
  insideWorktree(directory: string, path: string): Promise<string>
  /**
   * Removes a worktree and its branch when nothing would be lost: still on its branch and commit, no changed and no
   * untracked file, no repository within. False: it was kept.
   */
  removeWorktree(path: string, branch: string, baseSha: string | null): Promise<boolean>
}

export function createGit(deps: { environment: Record<string, string | undefined>; binDirectory: string }): Git {
  const git = createGitCommand(deps)

  /**
   * Overrides for every filter and configured hook that the repository (or the user) names: these have names of their own
   * and are switched off one by one.
   */
  async function withoutPrograms(directory: string, env?: Record<string, string>): Promise<string[]> {
    const args = ['config', '--name-only', '-z', '--get-regexp', '^(filter|hook)\\.']
    const { stdout, exitCode, stderr } = await git(directory, args, env ? { env } : {})
    if (exitCode !== 0 && stderr !== '') throw new GitError(stderr.trim()) // 1 without a word: there are none
    const sections = stdout
      .toString('utf8')
      .split('\0')
      .flatMap((key) => /^((?:filter|hook)\..*)\.[^.]+$/s.exec(key)?.[1] ?? [])
    return [...new Set(sections)].flatMap((section) => {
      // On the command line such a name would end at its first "=".
      if (section.includes('=')) throw new GitError(`"${section}" in the configuration cannot be switched off`)
      const off = section.startsWith('hook.')
        ? ['command=', 'enabled=false']
        : ['clean=', 'smudge=', 'process=', 'required=false']
      return off.flatMap((setting) => ['-c', `${section}.${setting}`])
    })
  }

  return {
    ...createSnapshots(git, deps.environment),

    async describe(directory) {
      const repository = await findRepository(await realpath(directory))
      return repository && (await readHead(repository))
    },

    async init(directory) {
      const env = { GIT_CONFIG_GLOBAL: '/dev/null', GIT_CONFIG_NOSYSTEM: '1' }
      await mustGit(git, directory, ['init', '--quiet', '--initial-branch=main', '--template='], { env })
    },

    async addWorktree(directory, path, branch) {
      const repository = await findRepository(await realpath(directory))
      if (!repository) throw new GitError('not a git repository')
      const { headSha } = await readHead(repository)
      if (headSha === null) throw new GitError('there is no commit yet to begin a worktree from')
      const off = await withoutPrograms(directory)
      await mkdir(dirname(path), { recursive: true, mode: 0o700 })
      await mustGit(git, directory, [...off, 'worktree', 'add', '--quiet', '-b', branch, '--', path, headSha])
      const inside = join(path, repository.prefix)
      await mkdir(inside, { recursive: true }) // without a file in that commit it would be missing
      return inside
    },

    async insideWorktree(directory, path) {
      const repository = await findRepository(await realpath(directory))
      const inside = join(path, repository?.prefix ?? '')
      const real = await realpath(inside).catch(() => undefined)
      const found = real === undefined ? undefined : await findRepository(real)
      if (!found || found.gitDir === found.commonDir || found.commonDir !== repository?.commonDir)
        throw new GitError('it is not there any more')
      return inside
    },

    async removeWorktree(path, branch, baseSha) {
      const repository = await findRepository(await realpath(path))
      if (!repository || repository.gitDir === repository.commonDir) return false
      const head = await readHead(repository)
      if (head.branch !== branch || baseSha === null || head.headSha !== baseSha) return false
      const { commonDir } = repository
      const env = { GIT_DIR: commonDir }
      const off = await withoutPrograms(commonDir, env)
      // Without --force git looks itself, and keeps what has repositories within (those first, so that none is asked for
      // its status), changes or untracked files.
      const removed = await git(commonDir, [...off, 'worktree', 'remove', '--', path], { env })
      if (removed.exitCode !== 0) return false
      await mustGit(git, commonDir, ['update-ref', '-d', `refs/heads/${branch}`, baseSha], { env })
      return true
    },
  }
}
