import type { Run } from '@postern/sdk'

/** The longest limit that a run may have. */
const MAX_TIMEOUT_MS = 1_800_000
const minutes = (ms: number): string => `${Math.ceil(ms / 60_000)}m`

const again = ({ wsId, agent }: Run, flags = ''): string => `run "…" -w ${wsId} -a ${agent}${flags}`
const output = ({ taskId }: Run): string => `runs output ${taskId}`
const errors = (run: Run): string => `${output(run)} --stderr`

/** By the reason of the run; with the others nothing is wrong but the moment, and they are started again. */
const NEXT: Record<string, (run: Run) => string> = {
  agent_not_found: () => 'agents',
  agent_not_logged_in: () => 'agents',
  agent_not_startable: ({ agent }) => `agents probe ${agent}`,
  budget_exceeded: ({ wsId }) => `ws show ${wsId}`,
  credential_not_found: ({ detail }) => `cred set ${/"([\w.-]+)"/.exec(detail ?? '')?.[1] ?? '<name>'}`,
  exit_nonzero: errors,
  idle: (run) =>
    run.idleTimeoutMs === null ? again(run) : again(run, ` --idle-timeout ${minutes(run.idleTimeoutMs * 2)}`),
  internal_error: () => 'doctor',
  no_result: output,
  output_limit: (run) => `${output(run)} --tail 4096`,
  process_limit: errors,
  resume_mismatch: (run) => again(run),
  server_died: ({ taskId }) => `runs diff ${taskId} (files may be half written), then runs retry ${taskId}`,
  timeout: (run) =>
    run.timeoutMs < MAX_TIMEOUT_MS
      ? again(run, ` --timeout ${minutes(Math.min(run.timeoutMs * 2, MAX_TIMEOUT_MS))}`)
      : output(run),
  workspace_moved: ({ wsId }) => `ws show ${wsId}`,
  worktree_failed: (run) => `${again(run)} (without --worktree)`,
}

/** What to type after a run that has ended, without the name of this program; undefined: there is nothing more to do. */
export function nextAfter(run: Run): string | undefined {
  if (run.status === 'succeeded') return run.git.filesChanged > 0 ? `runs diff ${run.taskId}` : undefined
  return NEXT[run.reason ?? '']?.(run) ?? `runs retry ${run.taskId}`
}
