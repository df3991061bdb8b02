import type { Clock } from '../clock.ts'
import type { AgentInfo, CommandAgentConfig } from '../model.ts'
import type { Agent } from './agent.ts'
import { DEFINITIONS } from './adapters.ts'
import { commandAgent } from './command.ts'
import { programAgent } from './definition.ts'
import { demoAgent } from './demo.ts'
import { shellAgent } from './shell.ts'
import type { Agents } from './types.ts'

/** Milliseconds for which what was found on the machine is taken for true. */
const INFO_MS = 30_000

/** The table of agents: built-in ones, and those of `config.json`, which may replace one by its id (but `shell`, which is no agent). */
export function createAgents(deps: {
  configured: Record<string, CommandAgentConfig>
  clock: Clock
  /** Where the demo agent keeps its conversations. */
  demoHome: string
  /** Absolute path of a program, or undefined. */
  findProgram: (name: string) => Promise<string | undefined>
  /** What a program prints when asked for its version; undefined when it does not answer. */
  askVersion: (program: string, args: string[]) => Promise<string | undefined>
}): Agents {
  const { configured, clock, findProgram, askVersion } = deps
  const table = new Map<string, Agent>(
    [...DEFINITIONS.map((one) => programAgent(one)), demoAgent(deps.demoHome), shellAgent].map((agent) => [
      agent.id,
      agent,
    ]),
  )
  for (const [id, config] of Object.entries(configured)) table.set(id, commandAgent(id, config))
  let known: { at: number; info: Promise<AgentInfo[]> } | undefined

  async function describe(agent: Agent): Promise<AgentInfo> {
    const program = agent.program === null ? null : ((await findProgram(agent.program)) ?? null)
    const installed = agent.program === null || program !== null
    return {
      id: agent.id,
      title: agent.title,
      installed,
      program,
      version: program && agent.versionArgs ? ((await askVersion(program, agent.versionArgs)) ?? null) : null,
      headless: agent.headless !== undefined,
      live: agent.live,
      resume: agent.resume,
      models: agent.models,
      hasModel: agent.hasModel,
      hint: installed ? null : `"${agent.program}" is not on the server's PATH; ${agent.installHint ?? 'install it'}`,
    }
  }

  return {
    all: () => [...table.values()],
    find: (id) => table.get(id),
    async info() {
      if (!known || clock.monotonic() - known.at > INFO_MS) {
        known = { at: clock.monotonic(), info: Promise.all([...table.values()].map(describe)) }
        known.info.catch(() => (known = undefined))
      }
      return await known.info
    },
  }
}
