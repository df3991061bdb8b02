import type { Agent } from '../agents/agent.ts'
import { isoTime, type Clock } from '../clock.ts'
import { DomainError } from '../errors.ts'
import { isTerminal, LIMITS, type CreateRun, type RunRow, type Trigger } from '../model.ts'
import { initialState } from './view.ts'

/** Why the agent cannot continue the conversation of its run; undefined: it can, as soon as the run has ended. */
export function whyNotResumable(row: RunRow, agent: Agent): string | undefined {
  if (!agent.resume) return `"${agent.id}" cannot continue a conversation`
  if (!isTerminal(row.status)) return undefined
  if (row.conversationId === null) return `"${agent.id}" reported no conversation`
  if (agent.conversationsPerDirectory && row.isolation === 'worktree' && row.git.worktree === null)
    return `"${agent.id}" finds its conversation only in its worktree, which was removed as it held no work`
  return undefined
}

/** @throws DomainError `run_not_found`; `not_resumable` when that run's conversation cannot be continued by this agent in this workspace, or not so */
export function checkResumable(
  target: RunRow | undefined,
  asked: { taskId: string; wsId: string; agent: Agent; isolation: CreateRun['isolation'] },
): void {
  const { taskId, wsId, agent, isolation } = asked
  const refuse = (why: string): DomainError =>
    new DomainError('not_resumable', `${taskId} cannot be continued: ${why}`, { hint: `postern runs show ${taskId}` })
  if (!target) throw new DomainError('run_not_found', `there is no run ${taskId} to continue`, { hint: 'postern runs' })
  if (target.wsId !== wsId) throw refuse(`it belongs to ${target.wsId}`)
  if (target.agent !== agent.id) throw refuse(`its conversation is with "${target.agent}", not "${agent.id}"`)
  const why = whyNotResumable(target, agent)
  if (why !== undefined) throw refuse(why)
  if (agent.conversationsPerDirectory && isolation === 'worktree' && target.isolation === 'none')
    throw refuse(`"${agent.id}" finds its conversation only in the workspace itself, not in a worktree`)
}

/** The row of a new run. */
export function newRow(options: {
  id: string
  wsId: string
  agent: Agent
  body: CreateRun
  /** The run whose conversation it continues. */
  continued: RunRow | undefined
  promptInRow: string | null
  acceptedAs: 'queued' | 'running'
  trigger: Trigger
  retryOf: string | null
  clock: Clock
}): RunRow {
  const { id, wsId, agent, body, continued, promptInRow, acceptedAs, trigger, retryOf, clock } = options
  const createdAt = isoTime(clock.now())
  const goesBack = agent.conversationsPerDirectory === true && continued?.isolation === 'worktree'
  return {
    id,
    wsId,
    agent: agent.id,
    prompt: promptInRow,
    model: body.model ?? null,
    isolation: goesBack ? 'worktree' : (body.isolation ?? 'none'),
    ...(goesBack && { worktreeOf: continued.worktreeOf ?? continued.id }),
    resume: body.resume ?? null,
    timeoutMs: Math.min(body.timeoutMs ?? LIMITS.defaultTimeoutMs, LIMITS.timeoutMs),
    idleTimeoutMs: body.idleTimeoutMs ?? null,
    createdAt,
    trigger,
    retryOf,
    metadata: body.metadata ?? {},
    acceptedAs,
    ...(trigger.parentSessionId !== undefined && { untold: true }),
    ...initialState(acceptedAs, createdAt),
  }
}

export const API_TRIGGER: Trigger = { kind: 'api', grantId: null, issueId: null, parentTaskId: null }
