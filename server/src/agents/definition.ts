import type { Clock } from '../clock.ts'
import type { PermissionLevel } from '../model.ts'
import type { LoginEvidence } from './login.ts'
import type { Agent, AgentEvent, Command, Counting, HeadlessTask } from './agent.ts'

type Environment = Record<string, string>

/** What a permission level means to a program. `rootEnv` is added when the server runs as root. */
export interface Level {
  args: string[]
  env?: Environment
  rootEnv?: Environment
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
  /** A word that comes early in the arguments of a run that resumes. */
  resumeCommand?: string[]
  permissions: Record<PermissionLevel, Level>
  /** Keeps it quiet: no updates, no reports to its maker. */
  env: Environment
  /** Its keys and addresses: they pass from the server's environment to this agent and to no other. */
  keyEnv: string[]
  /** Names the directory of its settings and logins; passes as well. */
  homeEnv?: string
  /** It rewrites files of its home when it starts, without a lock: starts take turns. */
  sharesHome?: true
  usage: { tokens: Counting; cost: Counting }
  /** How to log in. */
  login: string
  loginEvidence: LoginEvidence
}

/** The agent that a definition describes. Sessions come later: none is `live` yet. */
export function programAgent(definition: AgentDefinition, clock: Clock, asRoot = process.getuid?.() === 0): Agent {
  const { id, title, program, decode } = definition
  return {
    id,
    title,
    program,
    versionArgs: definition.versionArgs,
    ...(definition.sharesHome && { sharedHome: id }),
    resume: true,
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
  }
}

function compose(definition: AgentDefinition, task: HeadlessTask, asRoot: boolean): Command {
  const { conversationId, model } = task
  const level = definition.permissions[task.permissions]
  const lists: Record<string, string[]> = {
    ':permissions': level.args,
    ':model': model === null ? [] : definition.model.map((text) => text.replace('{model}', () => model)),
    ':resumeCommand': conversationId === null ? [] : (definition.resumeCommand ?? []),
    ':resume':
      conversationId === null
        ? []
        : definition.resume.map((text) => text.replace('{conversationId}', () => conversationId)),
  }
  return {
    program: definition.program,
    args: definition.args.flatMap((text) => lists[text] ?? [text]),
    env: { ...definition.env, ...level.env, ...(asRoot && level.rootEnv) },
    passEnv: [...definition.keyEnv, ...(definition.homeEnv === undefined ? [] : [definition.homeEnv])],
    stdin: task.prompt,
  }
}
