import { DomainError } from '../errors.ts'
import type { Workspace } from '../model.ts'
import type { Agent } from './agent.ts'
import type { Agents } from './types.ts'

/** What is asked of an agent. */
interface Wanted {
  /** Absent: the fallback, or the default of the workspace. */
  agent?: string | undefined
  model?: string | undefined
}

const ABILITIES = {
  headless: { code: 'agent_not_headless', lacks: 'has no headless mode and cannot do runs' },
  live: { code: 'agent_not_live', lacks: 'cannot hold sessions' },
} as const

/**
 * The agent that is named, or the default one, if it may and can do what is wanted.
 *
 * @throws DomainError `unknown_agent`, `agent_not_enabled`, `agent_not_headless` or `agent_not_live`, `model_not_supported`
 */
export function chooseAgent(
  agents: Agents,
  workspace: Workspace,
  wanted: Wanted,
  ability: keyof typeof ABILITIES,
  fallback = workspace.defaultAgent,
): Agent {
  const id = wanted.agent ?? fallback
  const agent = agents.find(id)
  if (!agent) {
    const known = agents.all().map((each) => each.id)
    throw new DomainError('unknown_agent', `there is no agent "${id}" (known: ${known.join(', ')})`, {
      hint: 'postern agents',
    })
  }
  if (!agent[ability]) {
    const { code, lacks } = ABILITIES[ability]
    throw new DomainError(code, `"${id}" ${lacks}`, { hint: 'postern agents' })
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
  if (wanted.model !== undefined && !agent.models) {
    throw new DomainError('model_not_supported', `"${id}" cannot choose a model (asked for "${wanted.model}")`, {
      hint: 'leave "model" out, or choose another agent',
    })
  }
  return agent
}
