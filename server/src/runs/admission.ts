import type { Agent } from '../agents/agent.ts'
import type { Agents } from '../agents/types.ts'
import { isoTime, type Clock } from '../clock.ts'
import { DomainError } from '../errors.ts'
import { isTerminal, LIMITS, type CreateRun, type RunRow, type Trigger, type Workspace } from '../model.ts'
import { initialState } from './view.ts'

/**
 * The agent of a run: the one it names, or the default of the run it continues, or of the workspace.
 *
 * @throws DomainError `unknown_agent`, `agent_not_enabled`, `agent_not_headless`, `model_not_supported`
 */
export function chooseAgent(
  agents: Agents,
  workspace: Workspace,
  body: CreateRun,
  continued: RunRow | undefined,
): Agent {
  const id = body.agent ?? continued?.agent ?? workspace.defaultAgent
  const agent = agents.find(id)
  if (!agent) {
    const known = agents.all().map((each) => each.id)
    throw new DomainError('unknown_agent', `there is no agent "${id}" (known: ${known.join(', ')})`, {
      hint: 'postern agents',
    })
  }
  if (!agent.headless) {
    throw new DomainError('agent_not_headless', `"${id}" has no headless mode and cannot do runs`, {
      hint: 'postern agents',
    })
  }
  if (!workspace.agents.includes(id)) {
    throw new DomainError(
      'agent_not_enabled',
      `"${id}" is not enabled on ${workspace.id} (${workspace.agents.join(', ')})`,
      {
        hint: `postern workspace set ${workspace.id} --agents ${[...workspace.agents, id].join(',')}`,
      },
    )
  }
  if (body.model !== undefined && !agent.models) {
    throw new DomainError('model_not_supported', `"${id}" cannot choose a model (asked for "${body.model}")`, {
      hint: 'leave "model" out, or choose another agent',
    })
  }
  return agent
}

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
    ...initialState(acceptedAs, createdAt),
  }
}

export const API_TRIGGER: Trigger = { kind: 'api', grantId: null, issueId: null, parentTaskId: null }
