import { AgentRefused } from '../agents/live.ts'
import { DomainError } from '../errors.ts'
import type { SessionReason, SessionRow } from '../model/sessions.ts'
import { NotLive } from './live.ts'

/** Why a session has no process, or is over. */
export interface Why {
  reason: SessionReason
  detail: string
}

/** What no resume can mend. */
export const FINAL: ReadonlySet<SessionReason> = new Set(['not_resumable', 'resume_mismatch', 'workspace_removed'])

/** What a person has to mend first: not tried again until the next input. */
export const NEEDS_A_PERSON: ReadonlySet<SessionReason> = new Set([
  'agent_not_found',
  'agent_not_logged_in',
  'agent_not_startable',
  'workspace_moved',
  'credential_not_found',
  'log_damaged',
])

/** Why a process could not be started, or its conversation not be opened. */
export function whyOf(error: unknown, row: SessionRow): Why {
  if (error instanceof NotLive) return { reason: error.reason, detail: error.message }
  if (error instanceof AgentRefused) {
    return { reason: error.kind === 'auth' ? 'agent_not_logged_in' : 'agent_error', detail: error.message }
  }
  if (error instanceof DomainError) {
    const removed = error.code === 'workspace_not_found'
    return { reason: removed ? 'workspace_removed' : 'workspace_moved', detail: error.message }
  }
  return { reason: 'agent_error', detail: `session ${row.id} could not be started` }
}

/** The session is over for good. */
export const gone = (row: Pick<SessionRow, 'id' | 'wsId' | 'endedAt'>): DomainError =>
  new DomainError('session_ended', `${row.id} ended${row.endedAt === null ? '' : ` at ${row.endedAt}`}`, {
    hint: `postern session start -w ${row.wsId}`,
  })

/** Another request with the same key is finishing what an earlier server began. */
export const twin = (): DomainError =>
  new DomainError('idempotency_in_flight', 'the first request with this key is still in flight', {
    retryAfterSeconds: 1,
  })

/** The grant was revoked while its message came in. */
export const revoked = (): DomainError => new DomainError('forbidden', 'the grant was revoked')

/** The agent has no way to take a message in mid-turn. */
export const cannotSteer = (agent: string): DomainError =>
  new DomainError('steer_not_supported', `"${agent}" takes no message in the middle of a turn`, {
    hint: 'send it with delivery "queue", or "interrupt"',
  })
