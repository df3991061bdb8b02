import { join } from 'node:path'
import type { RunRow } from '../model.ts'
import { replaceFile, type Disk } from '../store/disk.ts'
import type { Redactor } from '../events/redactor.ts'
import type { RunGit } from './ports.ts'
import { Unstartable } from './unstartable.ts'

export const PATCH_FILE = 'changes.patch'

interface Base {
  headSha: string | null
  branch: string | null
  /** The files as they were; undefined when they could not be listed. */
  tree: string | undefined
}

/** What a run changes: where it works, what was there before, and what is different after it. */
export interface Changes {
  /** Where the run works. */
  readonly directory: string
  /** Where the repository stood before the run; resolves with undefined outside git, never rejects. */
  readonly base: Promise<Base | undefined>
  /** The git part of the record as the run ends; the patch is on disk, without secrets, and a worktree without work in it is gone. */
  finish(redactor: Redactor): Promise<RunRow['git']>
}

/**
 * Notes where a run begins, and makes its worktree when it has one to itself.
 *
 * @throws Unstartable `worktree_failed`
 */
export async function beginChanges(
  deps: { git: RunGit; disk: Disk; runDirectory: string; worktreePath: string },
  row: RunRow,
  cwd: string,
): Promise<Changes> {
  const { git, disk, runDirectory } = deps
  const scratch = join(runDirectory, 'git')
  await disk.mkdir(runDirectory, { recursive: true, mode: 0o700 })
  const worktree = row.isolation === 'worktree' ? deps.worktreePath : null
  const directory = worktree === null ? cwd : await isolate(worktree)
  const base = noteBase()

  async function isolate(path: string): Promise<string> {
    try {
      return await git.addWorktree(cwd, path, `postern/${row.id}`)
    } catch (error) {
      const why = (error as Error).message.slice(0, 300)
      throw new Unstartable('worktree_failed', `the worktree could not be made: ${why}`)
    }
  }
  /** A repository whose files cannot be listed is no reason not to run; it only has no diff. */
  async function noteBase(): Promise<Base | undefined> {
    try {
      return await git.snapshot(directory, scratch)
    } catch {
      const head = await git.describe(directory).catch(() => undefined)
      return head && { ...head, tree: undefined }
    }
  }

  return {
    directory,
    base,
    async finish(redactor) {
      const before = await base
      const state: RunRow['git'] = {
        baseSha: before?.headSha ?? null,
        headSha: null,
        branch: before?.branch ?? null,
        filesChanged: 0,
        worktree,
      }
      try {
        const after = before && (await git.snapshot(directory, scratch))
        state.headSha = after?.headSha ?? null
        if (before?.tree !== undefined && after) {
          const { patch, filesChanged } = await git.diff(directory, scratch, before.tree, after.tree)
          await replaceFile(disk, join(runDirectory, PATCH_FILE), redactor.bytes(patch))
          state.filesChanged = filesChanged
        }
        if (worktree !== null && (await git.removeWorktree(worktree, `postern/${row.id}`, state.baseSha))) {
          state.worktree = null
        }
      } catch {
        // Too much changed, or git cannot read it any more: the run ends without a diff, and keeps its worktree.
      } finally {
        await disk.rm(scratch, { recursive: true, force: true }).catch(() => undefined)
      }
      return state
    },
  }
}
