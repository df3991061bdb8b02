import type { Clock } from '../clock.ts'
import type { AgentInfo, CommandAgentConfig } from '../model/agents.ts'
import type { Agent, Live } from './agent.ts'
import { DEFINITIONS } from './adapters.ts'
import { commandAgent } from './command.ts'
import { programAgent } from './definition.ts'
import { demoAgent } from './demo.ts'
import { createDrift } from './drift.ts'
import { findLogin, type Login } from './login.ts'
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
  /** The server's: whether a key is set is looked at, never passed on from here. */
  environment: Record<string, string | undefined>
  isFile: (path: string) => Promise<boolean>
}): Agents {
  const { configured, clock, findProgram, askVersion } = deps
  const drift = createDrift()
  const table = new Map<string, Agent>(
    [...DEFINITIONS.map((one) => programAgent(one, clock)), demoAgent(deps.demoHome, clock), shellAgent].map(
      (agent) => [agent.id, agent],
    ),
  )
  for (const [id, config] of Object.entries(configured)) table.set(id, commandAgent(id, config, clock))
  let known: { at: number; info: Promise<AgentInfo[]> } | undefined

  async function loginOf({ login }: Agent): Promise<Login> {
    if (login === undefined) return 'unknown'
    return login === 'none' ? 'yes' : await findLogin(login, deps.environment, deps.isFile)
  }

  async function describe(agent: Agent): Promise<AgentInfo> {
    const program = agent.program === null ? null : ((await findProgram(agent.program)) ?? null)
    const installed = agent.program === null || program !== null
    const hasLive = agent.live !== undefined && (await canHoldSessions(agent.live, agent.program))
    const login = await loginOf(agent)
    const liveHint =
      agent.live && !hasLive ? missing(agent.live.program, agent.live.installHint, 'sessions need') : null
    const loginHint = login === 'no' ? `not logged in; ${agent.loginHint ?? 'log it in'}` : null
    return {
      id: agent.id,
      title: agent.title,
      installed,
      program,
      version: program && agent.versionArgs ? ((await askVersion(program, agent.versionArgs)) ?? null) : null,
      headless: agent.headless !== undefined,
      live: hasLive,
      resume: agent.resume,
      models: agent.models,
      hasModel: agent.hasModel,
      hint: installed
        ? [loginHint, liveHint].filter((hint) => hint !== null).join('; ') || null
        : missing(agent.program, agent.installHint),
      verified: agent.verified ?? null,
      login,
      unknownRecords: 0,
    }
  }

  function withDrift(info: AgentInfo): AgentInfo {
    const unknownRecords = drift.of(info.id, info.version)
    if (unknownRecords === 0) return info
    const records = unknownRecords === 1 ? '1 record' : `${unknownRecords} records`
    const tested = info.verified === null ? '' : `; verified with ${info.verified}`
    const news = `printed ${records} this version of Postern does not know${tested}`
    return { ...info, unknownRecords, hint: info.hint === null ? news : `${info.hint}; ${news}` }
  }

  /** Of an agent whose own program holds its sessions this is known without a look, as it is of headless runs. */
  async function canHoldSessions(live: Live, own: string | null): Promise<boolean> {
    return live.program === own || (await findProgram(live.program)) !== undefined
  }

  return {
    all: () => [...table.values()],
    find: (id) => table.get(id),
    noteUnknown: (id) => drift.note(id),
    async info() {
      if (!known || clock.monotonic() - known.at > INFO_MS) {
        known = { at: clock.monotonic(), info: Promise.all([...table.values()].map(describe)) }
        known.info.catch(() => (known = undefined))
      }
      return (await known.info).map(withDrift)
    },
  }
}

function missing(program: string | null, installHint: string | null = null, who?: string): string {
  const subject = who === undefined ? `"${program}"` : `${who} "${program}", which`
  return `${subject} is not on the server's PATH; ${installHint ?? 'install it'}`
}
