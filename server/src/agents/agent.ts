import type { PermissionLevel } from '../model.ts'
import type { AgentEvent } from './event.ts'
import type { AgentConnection, LiveHandlers, LiveIo, LiveTask } from './live.ts'
import type { LoginEvidence } from './login.ts'

export type { AgentEvent, FailureKind } from './event.ts'

/** A program to start: composed by an adapter, started by `process/supervise.ts` alone. */
export interface Command {
  /** Name to find on PATH, or an absolute path. */
  program: string
  args: string[]
  /** What the adapter adds to the environment, beyond the allow-list of `process/environment.ts`. */
  env: Record<string, string>
  /** Written to the program's stdin, which is then closed. */
  stdin: string
  /** Variables that pass from the server's environment, where they are set: the agent's own keys and home. */
  passEnv?: string[]
}

export interface HeadlessTask {
  prompt: string
  cwd: string
  permissions: PermissionLevel
  model: string | null
  /** The agent's own conversation id, to continue it. */
  conversationId: string | null
}

/**
 * How the figures of `usage` events count towards a run: those of each step are added up; of totals, of a turn or of the
 * run, the last counts; of totals that grow over the runs of a conversation, the last counts less what was there before.
 */
export type Counting = 'step' | 'total' | 'conversation'

/** What is known of a live agent's start beside its task. */
export interface Launch {
  /** The agent's own name of the conversation to continue; null: a new one. Some programs want it in their arguments. */
  conversationId: string | null
  /** Absolute path of the agent's own program (`Agent.program`), which an adapter starts; null: not found, or none. */
  programPath: string | null
}

/** How an agent holds sessions: what to start, and how to talk to it. */
export interface Live {
  /** The program to find on PATH (or an absolute path): the agent's own, or an adapter that starts that. */
  readonly program: string
  /** How to install that program, when it is not the agent's own. */
  readonly installHint?: string
  /** Milliseconds from the beginning of a conversation before which the program cannot continue it. */
  readonly resumeAfterMs?: number
  /** Its stdin stays open. */
  compose(task: LiveTask, launch: Launch): Omit<Command, 'stdin'>
  connect(io: LiveIo, handlers: LiveHandlers): AgentConnection
}

/** A coding-agent program. Composes a command and decodes lines; never spawns. Decision 0006. */
export interface Agent {
  readonly id: string
  readonly title: string
  /** The program to find on PATH (or an absolute path); null: part of Postern. */
  readonly program: string | null
  /** Arguments that make the program print its version; null: it has none to ask. */
  readonly versionArgs: string[] | null
  /** True: somebody named it in `config.json`. */
  readonly configured?: boolean
  /**
   * Programs with the same name here share a directory of settings that they rewrite when they start: their starts take
   * turns (`process/turns.ts`), until the program has printed something.
   */
  readonly sharedHome?: string
  readonly resume: boolean
  /** True: it finds a conversation in the directory in which that was begun, and nowhere else. */
  readonly conversationsPerDirectory?: boolean
  readonly models: boolean
  readonly hasModel: boolean
  /** How to install it, when it is not found. */
  readonly installHint: string | null
  /** The version whose output our decoder was tested with. */
  readonly verified?: string
  /** What to do when it is not logged in. */
  readonly loginHint?: string
  /** What shows that it is logged in; `none`: there is nothing to log in to; absent: nobody knows. */
  readonly login?: LoginEvidence | 'none'
  /** Absent: it cannot run headless. */
  headless?: {
    compose(task: HeadlessTask): Command
    /** `text`: stdout is the reply (its last 64 KiB). `events`: each line goes through `decode`. */
    output: 'text' | 'events'
    /**
     * True: a run without an `agent.end` has failed (`no_result`), whatever its exit code. With or without it, a program
     * that stays after its `agent.end` is ended after a grace, and its record counts.
     */
    endsWithRecord: boolean
    /** Tokens and cost each have their own way: some programs print tokens a turn and cost in total. */
    usage: { tokens: Counting; cost: Counting }
    /** One line as events. Never throws: what it cannot read is one `log` event. */
    decode(line: string): AgentEvent[]
    /**
     * Lines of stdout that begin so say nothing that others do not say, and much of it: they are decoded, counted and not
     * kept in the raw output.
     */
    unstored?: readonly string[]
    /** One line of stderr, where a program tells there what it tells nowhere else; mostly nothing. Never throws. */
    decodeStderr?(line: string): AgentEvent[]
  }
  /** Absent: it cannot hold sessions. */
  live?: Live
}
