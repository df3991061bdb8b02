import type { AgentEvent, FailureKind } from '../agents/agent.ts'
import type { RunReason, RunStatus, Usage } from '../model.ts'
import type { Exit } from '../process/types.ts'

/** What a run needs of git. Nothing here writes into the user's repository but `addWorktree` and `removeWorktree`. */
export interface RunGit {
  /** HEAD and branch of the repository that the directory is in; undefined outside git. */
  describe(directory: string): Promise<{ headSha: string | null; branch: string | null } | undefined>
  /** Id of a tree of the directory's files as they are (untracked ones too, ignored ones not); its objects lie in `scratch`. */
  snapshot(directory: string, scratch: string): Promise<string>
  /** The binary patch between two trees of `snapshot`. */
  diff(directory: string, scratch: string, from: string, to: string): Promise<{ patch: Buffer; filesChanged: number }>
  /** A new worktree at `path` on a new branch from HEAD. */
  addWorktree(directory: string, path: string, branch: string): Promise<void>
  /** Removes a worktree and its branch when nothing in it would be lost; false: it was kept. */
  removeWorktree(directory: string, path: string, branch: string): Promise<boolean>
}

/** What the events of a run come to. */
export interface Folded {
  conversationId: string | null
  text: string | null
  textTruncated: boolean
  usage: Usage
  end: { ok: boolean; error?: { kind: FailureKind; message: string } } | undefined
  /** An error the agent would go on repeating: the run is ended. */
  fatal: { kind: FailureKind; message: string } | undefined
}

export interface Fold {
  readonly state: Folded
  add(event: AgentEvent): void
}

/** How a run ended, from everything that is known of it. */
export interface Verdict {
  status: RunStatus
  reason: RunReason | null
  detail: string | null
}

export type Judge = (input: {
  exit: Exit
  folded: Folded
  endsWithRecord: boolean
  stderr: string
  timeoutMs: number
  idleTimeoutMs: number | null
}) => Verdict
