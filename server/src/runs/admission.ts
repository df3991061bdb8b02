import type { Agent } from '../agents/agent.ts'
import { isoTime, type Clock } from '../clock.ts'
import { DomainError } from '../errors.ts'
import { isTerminal, LIMITS, type CreateRun, type RunRow, type Trigger } from '../model.ts'
import { initialState } from './view.ts'

/** @throws DomainError `not_resumable` when that run's conversation cannot be continued by this agent in this workspace */
export function checkResumable(target: RunRow | undefined, taskId: string, wsId: string, agent: Agent): void {
  const why = !target
    ? 'there is no such run'
    : target.wsId !== wsId
      ? `it belongs to ${target.wsId}`
      : target.agent !== agent.id
        ? `its conversation is with "${target.agent}", not "${agent.id}"`
        : !agent.resume
          ? `"${agent.id}" cannot continue a conversation`
          : isTerminal(target.status) && target.conversationId === null
            ? `"${agent.id}" reported no conversation`
            : undefined
  if (why)
    throw new DomainError('not_resumable', `${taskId} cannot be continued: ${why}`, {
      hint: `postern runs show ${taskId}`,
    })
}

/** The row of a new run. */
export function newRow(options: {
  id: string
  wsId: string
  agent: Agent
  body: CreateRun
  promptInRow: string | null
  acceptedAs: 'queued' | 'running'
  trigger: Trigger
  retryOf: string | null
  clock: Clock
}): RunRow {
  const { id, wsId, agent, body, promptInRow, acceptedAs, trigger, retryOf, clock } = options
  const createdAt = isoTime(clock.now())
  return {
    id,
    wsId,
    agent: agent.id,
    prompt: promptInRow,
    model: body.model ?? null,
    isolation: body.isolation ?? 'none',
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
