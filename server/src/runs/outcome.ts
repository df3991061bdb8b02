import type { FailureKind } from '../agents/agent.ts'
import { failureKind } from '../agents/failures.ts'
import type { Folded } from '../agents/fold.ts'
import type { RunReason, RunStatus } from '../model.ts'
import { MAX_OUTPUT_BYTES, MAX_PROCESSES } from '../process/supervise.ts'
import type { Exit } from '../process/types.ts'

/** How a run ended: status, stable reason and a sentence for people. */
export interface Verdict {
  status: RunStatus
  reason: RunReason | null
  detail: string | null
}

/** Characters of the sentence for people. */
const DETAIL_CHARACTERS = 500

const REASONS: Record<FailureKind, RunReason> = {
  auth: 'agent_not_logged_in',
  rate_limit: 'rate_limited',
  provider: 'provider_error',
  agent: 'agent_error',
}

/** What a caller can do about it. */
const ADVICE: Partial<Record<RunReason, string>> = {
  rate_limited: 'retry the run once the limit is over',
  provider_error: "the model's service failed, not the agent: retry the run",
}
const UNKNOWN_CONVERSATION =
  /no ((saved|previous) )?(conversation|session|rollout)s? found|(session|conversation) not found|invalid session/i
/** Colours and the like, which some programs print whatever the terminal. */
// eslint-disable-next-line no-control-regex
const ESCAPES = /\u001b\[[0-9;]*[A-Za-z]/g

/**
 * A run succeeded if and only if its program exited with 0 and, where the agent ends with a record, that was seen and
 * carried no error; or it was seen without error and the program merely stayed. Who ended the program early decides first.
 */
export function judge(input: {
  exit: Exit
  folded: Folded
  endsWithRecord: boolean
  /** What to do about `agent_not_logged_in`. */
  loginHint?: string | undefined
  stderr: string
  timeoutMs: number
  idleTimeoutMs: number | null
  /** True when it was to continue a conversation. */
  resumes?: boolean
}): Verdict {
  const { exit, folded, endsWithRecord, stderr } = input
  const failed = (reason: RunReason, detail: string): Verdict => {
    const advice = adviceFor(reason, detail)
    const next = advice === undefined ? '' : `; ${advice}`
    return { status: 'failed', reason, detail: detail.slice(0, DETAIL_CHARACTERS - next.length) + next }
  }
  function adviceFor(reason: RunReason, detail: string): string | undefined {
    if (reason === 'agent_not_logged_in') return input.loginHint
    if (reason === 'rate_limited' && folded.limitEndsAt) return `the limit is over at ${folded.limitEndsAt}`
    if (input.resumes && UNKNOWN_CONVERSATION.test(detail)) return 'leave `resume` out to begin a new conversation'
    if (folded.deniedTool !== null && reason === 'no_result')
      return `it was not allowed to use ${folded.deniedTool.slice(0, 100)}: the workspace's \`permissions\` say how far it may go`
    return ADVICE[reason]
  }
  const waited = folded.waiting ? `, while the agent waited for a limit of its model's service${untilWhen()}` : ''
  function untilWhen(): string {
    return folded.waiting?.resetsAt === undefined ? '' : ` that is over at ${folded.waiting.resetsAt}`
  }
  const inTool = folded.openTool === null ? '' : `, in tool ${folded.openTool.slice(0, 100)}`
  const reported = folded.fatal ?? folded.end?.error
  switch (exit.reason) {
    case 'canceled':
      return { status: 'canceled', reason: 'canceled_by_caller', detail: 'canceled by a caller' }
    case 'server_stopped':
      return {
        status: 'interrupted',
        reason: 'server_stopped',
        detail: 'the server was stopped while the run was at work',
      }
    case 'timed_out':
      return {
        status: 'timed_out',
        reason: 'timeout',
        detail: `stopped after ${input.timeoutMs} ms${waited || inTool}`,
      }
    case 'idle':
      return {
        status: 'timed_out',
        reason: 'idle',
        detail: `stopped after ${input.idleTimeoutMs} ms without a sign of life${waited || inTool}`,
      }
    case 'output_limit':
      return failed('output_limit', `stopped after ${MAX_OUTPUT_BYTES} bytes of output`)
    case 'process_limit':
      return failed('process_limit', `stopped with more than ${MAX_PROCESSES} processes`)
    case 'budget_exceeded':
      return failed('budget_exceeded', 'ended by the budget of its workspace')
    case 'not_started':
      return failed('agent_not_startable', `the program could not be started (${exit.error})`)
    default: // it ended by itself, was told to after its result, or after an error it would repeat
  }
  if (reported) return failed(REASONS[reported.kind], reported.message)
  if (folded.end?.ok === false) return failed('agent_error', 'the agent reported that it failed')
  if (exit.reason === 'settled') return { status: 'succeeded', reason: null, detail: null }
  const how = exit.signal ? `ended by ${exit.signal}` : `exited with ${exit.exitCode}`
  const said = complaint(stderr)
  const withoutRecord = endsWithRecord && !folded.end
  if (exit.exitCode === 0 && !withoutRecord) return { status: 'succeeded', reason: null, detail: null }
  // A program that should have said how it ended tells on stderr what the matter is.
  const kind = withoutRecord ? failureKind(said) : 'agent'
  const reason = kind !== 'agent' ? REASONS[kind] : exit.exitCode === 0 ? 'no_result' : 'exit_nonzero'
  return failed(reason, [withoutRecord ? `${how} without a result` : how, said].filter(Boolean).join(': '))
}

/** The first line that speaks of an error (the last is often a backtrace), or of a known failure, or the last one. */
function complaint(stderr: string): string {
  const lines = stderr
    .replaceAll(ESCAPES, '')
    .split('\n')
    .filter((line) => line.trim() !== '')
  const telling =
    lines.find((line) => /error/i.test(line)) ?? lines.find((line) => failureKind(line) !== 'agent') ?? lines.at(-1)
  return (telling ?? '').trim()
}
