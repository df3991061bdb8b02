import type { Clock } from '../clock.ts'
import type { PermissionLevel } from '../model.ts'
import type { LoginEvidence } from './login.ts'
import type { Agent, AgentEvent, Command, Counting, HeadlessTask, Live } from './agent.ts'
import { connectAcp } from './live/acp.ts'
import { connectPiRpc } from './live/pi-rpc.ts'

type Environment = Record<string, string>

/** What a permission level means to a program. `rootEnv` is added when the server runs as root. */
export interface Level {
  args: string[]
  env?: Environment
  rootEnv?: Environment
}

/** How a program holds sessions, as data. */
export interface SessionDefinition {
  via: 'acp' | 'pi-rpc'
  /** An adapter of its own, which starts the agent's program; absent: that program itself. */
  adapter?: { program: string; package: string; verified: string }
  /** As those of a run; levels are told by `modes` where it has them. */
  args: string[]
  /** With `{binPath}`, the path of the agent's own program, for an adapter that would bring its own. */
  env?: Environment
  /** Milliseconds from the beginning of a conversation before which it cannot be continued; absent: at once. */
  resumeAfterMs?: number
  /** ACP: its mode for each permission level; absent: the level is in `:permissions` or in the environment. */
  modes?: Record<PermissionLevel, string>
}

/**
 * A coding agent as data. The prompt always goes to stdin, never into the arguments, where every user of the machine could
 * read it and 128 KB are the limit.
 */
export interface AgentDefinition {
  id: string
  title: string
  /** The name to find on PATH. */
  program: string
  /** The npm package that installs it. */
  package: string
  /** The version whose recorded output the decoder is tested with. */
  verified: string
  versionArgs: string[]
  decode: (line: string) => AgentEvent[]
  /** Where it tells on stderr that it waits, and nowhere else. */
  decodeStderr?: (line: string) => AgentEvent[]
  /** Beginnings of lines that are not kept in the raw output, because the program prints too much of them. */
  unstored?: readonly string[]
  /** `:permissions`, `:model`, `:resumeCommand` and `:resume` stand for the lists of these names. */
  args: string[]
  /** With `{model}`. */
  model: string[]
  /** With `{conversationId}`. */
  resume: string[]
  /** It finds a conversation in the directory in which that was begun, and nowhere else. */
  conversationsPerDirectory?: true
  /** A word that comes early in the arguments of a run that resumes. */
  resumeCommand?: string[]
  permissions: Record<PermissionLevel, Level>
  /** Keeps it quiet: no updates, no reports to its maker. */
  env: Environment
  /** Its keys, addresses and switches: they pass from the server's environment to this agent and to no other. */
  keyEnv: string[]
  /** Names the directory of its settings and logins; passes as well. */
  homeEnv?: string
  /** It rewrites files of its home when it starts, without a lock: starts take turns. */
  sharesHome?: true
  usage: { tokens: Counting; cost: Counting }
  /** How it holds sessions. */
  session: SessionDefinition
  /** How to log in. */
  login: string
  loginEvidence: LoginEvidence
}

/** The agent that a definition describes. */
export function programAgent(definition: AgentDefinition, clock: Clock, asRoot = process.getuid?.() === 0): Agent {
  const { id, title, program, decode } = definition
  return {
    id,
    title,
    program,
    versionArgs: definition.versionArgs,
    ...(definition.sharesHome && { sharedHome: id }),
    resume: true,
    ...(definition.conversationsPerDirectory && { conversationsPerDirectory: true }),
    models: true,
    hasModel: true,
    installHint: `npm install -g ${definition.package}@${definition.verified}`,
    verified: definition.verified,
    loginHint: definition.login,
    login: definition.loginEvidence,
    headless: {
      compose: (task) => compose(definition, task, asRoot),
      output: 'events',
      endsWithRecord: true,
      usage: definition.usage,
      decode,
      ...(definition.unstored && { unstored: definition.unstored }),
      ...(definition.decodeStderr && { decodeStderr: definition.decodeStderr }),
    },
    live: live(definition, clock, asRoot),
  }
}

function compose(definition: AgentDefinition, task: HeadlessTask, asRoot: boolean): Command {
  return {
    program: definition.program,
    args: argumentsOf(definition, definition.args, task),
    env: variables(definition, task.permissions, asRoot),
    passEnv: passed(definition),
    stdin: task.prompt,
  }
}

function live(definition: AgentDefinition, clock: Clock, asRoot: boolean): Live {
  const { program, session } = definition
  const { adapter, modes } = session
  const modelIsSet = session.args.includes(':model')
  return {
    program: adapter?.program ?? program,
    // The agent's own program is used, so what an adapter would bring along is left out: 300 MB and more.
    ...(adapter && { installHint: `npm install -g --omit=optional ${adapter.package}@${adapter.verified}` }),
    ...(session.resumeAfterMs !== undefined && { resumeAfterMs: session.resumeAfterMs }),
    compose(task, { conversationId, programPath }) {
      const own: Environment = {}
      for (const [name, value] of Object.entries(session.env ?? {})) {
        if (programPath !== null) own[name] = value.replace('{binPath}', () => programPath)
      }
      return {
        program: adapter?.program ?? program,
        args: argumentsOf(definition, session.args, { ...task, conversationId }),
        env: { ...variables(definition, task.permissions, asRoot), ...own },
        passEnv: passed(definition),
      }
    },
    connect: (io, handlers) =>
      session.via === 'pi-rpc'
        ? connectPiRpc(io, handlers)
        : connectAcp(io, handlers, { clock, modelIsSet, ...(modes && { modes }) }),
  }
}

function variables(definition: AgentDefinition, permissions: PermissionLevel, asRoot: boolean): Environment {
  const level = definition.permissions[permissions]
  return { ...definition.env, ...level.env, ...(asRoot && level.rootEnv) }
}

const passed = ({ keyEnv, homeEnv }: AgentDefinition): string[] => [
  ...keyEnv,
  ...(homeEnv === undefined ? [] : [homeEnv]),
]

function argumentsOf(
  definition: AgentDefinition,
  args: string[],
  task: Pick<HeadlessTask, 'permissions' | 'model' | 'conversationId'>,
): string[] {
  const { conversationId, model } = task
  const lists: Record<string, string[]> = {
    ':permissions': definition.permissions[task.permissions].args,
    ':model': model === null ? [] : definition.model.map((text) => text.replace('{model}', () => model)),
    ':resumeCommand': conversationId === null ? [] : (definition.resumeCommand ?? []),
    ':resume':
      conversationId === null
        ? []
        : definition.resume.map((text) => text.replace('{conversationId}', () => conversationId)),
  }
  return args.flatMap((text) => lists[text] ?? [text])
}
