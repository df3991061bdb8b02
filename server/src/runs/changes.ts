import { join } from 'node:path'
import type { RunRow } from '../model.ts'
import { replaceFile, type Disk } from '../store/disk.ts'
import type { Redactor } from '../events/redactor.ts'
import type { RunGit } from './ports.ts'
import { Unstartable } from './unstartable.ts'

export const PATCH_FILE = 'changes.patch'
/** Characters of what is told of a diff that could not be made. */
const TROUBLE_CHARACTERS = 300

interface Base {
  headSha: string | null
  branch: string | null
  /** The files as they were; undefined when they could not be listed. */
  tree: string | undefined
  /** Why they could not. */
  trouble?: string
}

/** Where a run works, and what was there before it. */
export interface Begun {
  directory: string
  /** Its own worktree; null: it works in the workspace itself. */
  worktree: string | null
  /** null: outside git, or unknown. */
  base: Base | null
}

/** What a run changes: where it works, what was there before, and what is different after it. */
export interface Changes {
  /** Where the run works. */
  readonly directory: string
  /** Resolves once what was there before is known; never rejects. */
  readonly begun: Promise<Begun>
  /** See `endChanges`. */
  finish(redactor: Redactor): Promise<Changed>
}

/** What becomes of that in the record. */
export type Changed = Pick<RunRow, 'git' | 'diffTrouble'>

/**
 * Notes where a run begins, and makes its worktree when it has one to itself; that of an earlier run is there already, and
 * stays.
 *
 * @throws Unstartable `worktree_failed`
 */
export async function beginChanges(
  deps: { git: RunGit; disk: Disk; runDirectory: string; worktreePath: string },
  row: RunRow,
  cwd: string,
): Promise<Changes> {
  const { git, disk, runDirectory } = deps
  const scratch = scratchOf(runDirectory)
  await disk.mkdir(runDirectory, { recursive: true, mode: 0o700 })
  const worktree = row.isolation === 'worktree' ? deps.worktreePath : null
  const isOwn = row.worktreeOf === undefined
  const directory = worktree === null ? cwd : await isolate(worktree)
  const begun = noteBase().then((base) => ({ directory, worktree, base: base ?? null }))

  async function isolate(path: string): Promise<string> {
    try {
      return isOwn ? await git.addWorktree(cwd, path, `postern/${row.id}`) : await git.insideWorktree(cwd, path)
    } catch (error) {
      const why = (error as Error).message.slice(0, 300)
      const what = isOwn ? 'the worktree could not be made' : `the worktree of ${row.worktreeOf} could not be entered`
      throw new Unstartable('worktree_failed', `${what}: ${why}`)
    }
  }
  /** A repository whose files cannot be listed is no reason not to run; it only has no diff. */
  async function noteBase(): Promise<Base | undefined> {
    try {
      return await git.snapshot(directory, scratch)
    } catch (error) {
      const head = await git.describe(directory).catch(() => undefined)
      return head && { ...head, tree: undefined, trouble: told(error) }
    }
  }

  return {
    directory,
    begun,
    finish: async (redactor) => await endChanges(deps, row.id, await begun, (patch) => redactor.bytes(patch)),
  }
}

/**
 * The git part of the record as a run ends; the patch is on disk, without secrets, and a worktree without work in it is
 * gone.
 *
 * @param clean takes secrets out of the patch
 */
export async function endChanges(
  deps: { git: RunGit; disk: Disk; runDirectory: string },
  taskId: string,
  { directory, worktree, base }: Begun,
  clean: (patch: Buffer) => Buffer | Promise<Buffer>,
): Promise<Changed> {
  const { git, disk, runDirectory } = deps
  let diffTrouble = base?.trouble
  const scratch = scratchOf(runDirectory)
  const state: RunRow['git'] = {
    baseSha: base?.headSha ?? null,
    headSha: null,
    branch: base?.branch ?? null,
    filesChanged: 0,
    worktree,
  }
  try {
    const after = base && (await git.snapshot(directory, scratch))
    state.headSha = after?.headSha ?? null
    if (base?.tree !== undefined && after) {
      const { patch, filesChanged } = await git.diff(directory, scratch, base.tree, after.tree)
      await replaceFile(disk, join(runDirectory, PATCH_FILE), await clean(patch))
      state.filesChanged = filesChanged
    }
  } catch (error) {
    diffTrouble ??= told(error) // too much changed, or git cannot read it any more
  }
  // That of an earlier run stands on a branch of that one, and stays.
  if (worktree !== null && (await remove(worktree))) state.worktree = null
  return { git: state, ...(diffTrouble !== undefined && { diffTrouble }) }

  /** True also of one that is gone already. */
  async function remove(path: string): Promise<boolean> {
    try {
      return await git.removeWorktree(path, `postern/${taskId}`, state.baseSha)
    } catch {
      return (await disk.stat(path).catch(() => undefined)) === undefined
    }
  }
}

/** What went wrong, without a path of this machine. */
function told(error: unknown): string {
  const { code, message } = error as NodeJS.ErrnoException
  return code === undefined ? message.slice(0, TROUBLE_CHARACTERS) : `the disk says ${code}`
}

/** Removes what the diff was made from, once the record is on disk: until then it may have to be made again. */
export async function discardSnapshots(disk: Disk, runDirectory: string): Promise<void> {
  await disk.rm(scratchOf(runDirectory), { recursive: true, force: true }).catch(() => undefined)
}

const scratchOf = (runDirectory: string): string => join(runDirectory, 'git')
