import { DomainError, type ErrorCode } from '../../errors.ts'
import { isTerminal, type Run, type Trigger } from '../../model.ts'
import type { Started } from '../../runs/types.ts'
import type { RunCaller } from '../run-scope.ts'
import type { Context } from '../trpc.ts'

/** Codes with which a run may not start. Source: docs/contract.md 3. */
export const START_ERRORS: ErrorCode[] = [
  'unknown_agent',
  'agent_not_enabled',
  'agent_not_headless',
  'model_not_supported',
  'workspace_not_found',
  'not_resumable',
  'resume_busy',
  'capacity_reached',
  'budget_reached',
  'idempotency_key_invalid',
  'idempotency_in_flight',
  'idempotency_mismatch',
  'too_many_keys',
  'run_not_recorded',
]

/** A start that could not be recorded is a 500 that may be repeated, whatever kept it from the disk. */
export async function recorded(start: () => Promise<Started>): Promise<Started> {
  try {
    return await start()
  } catch (error) {
    if (error instanceof DomainError && (error.code === 'draining' || error.code === 'storage_unavailable')) {
      throw new DomainError('run_not_recorded', error.message, { ...error.details, cause: error })
    }
    throw error
  }
}

/** 202 with the run as first answered; 200 with the ended run when the caller waited for it. */
export async function accepted(ctx: Context, started: Started, waitMs: number | undefined): Promise<Run> {
  const { run, replayed } = started
  ctx.reply.status = 202
  ctx.reply.headers['Location'] = `/api/headless/${run.taskId}`
  if (replayed) ctx.reply.headers['Idempotency-Replayed'] = 'true'
  if (waitMs === undefined || ctx.streams) return run
  const now = await shown(ctx, await ctx.runs.wait(run.taskId, waitMs, ctx.signal))
  if (!isTerminal(now.status)) return replayed ? run : now
  ctx.reply.status = 200
  return now
}

/** The trigger of a run that an agent process starts. */
export function startedBy({ taskId, sessionId }: RunCaller): Trigger {
  const shared = { kind: 'run' as const, grantId: null, issueId: null, parentTaskId: taskId }
  return sessionId === null ? shared : { ...shared, parentSessionId: sessionId }
}

/** Answers with a run. A session that so learns the end of one that it started is not told again. */
export async function shown({ caller, runs, signal }: Context, run: Run): Promise<Run> {
  const { parentSessionId } = run.trigger
  const isItsOwn = typeof caller !== 'string' && caller.sessionId !== null && caller.sessionId === parentSessionId
  if (isItsOwn && isTerminal(run.status) && !signal.aborted) await runs.heard(run.taskId)
  return run
}
