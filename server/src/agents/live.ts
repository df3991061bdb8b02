import type { PermissionLevel } from '../model.ts'
import type { PermissionOption } from '../model/sessions.ts'
import type { AgentEvent, FailureKind } from './event.ts'

/**
 * A live agent: a program that stays and takes one message after another. The connection sees two streams and never a
 * process, so it is tested by joining two ends. Decision 0006.
 */

/** A program's two ends. */
export interface LiveIo {
  /** What it prints; closed when it has ended. */
  output: ReadableStream<Uint8Array>
  /** Resolves once every byte was handed to the program. @throws when it is gone */
  write(text: string): Promise<void>
}

export interface LiveTask {
  cwd: string
  permissions: PermissionLevel
  model: string | null
}

/** What a live agent wants to be allowed. */
export interface PermissionAsk {
  toolCallId: string | null
  title: string
  kind: string | null
  input?: unknown
  options: PermissionOption[]
}

export interface LiveHandlers {
  /** Everything the agent says, in order, in our words; `usage` figures are those of the turn. */
  onEvent(event: AgentEvent): void
  /** Resolves with the id of the chosen option; undefined answers "cancelled". Aborted when the turn is canceled. */
  onRequest(ask: PermissionAsk, signal: AbortSignal): Promise<string | undefined>
}

/** How a turn ended. */
export interface TurnEnd {
  status: 'completed' | 'canceled' | 'failed'
  /** The agent's words after its last tool call; empty when it said nothing. */
  text: string
  error?: { kind: FailureKind; message: string }
}

/** One message at work. None of the promises rejects unheard; each rejects with `AgentGone` when the program ends first. */
export interface Turn {
  /** The whole message was written to the program. */
  written: Promise<void>
  /** The program's first sign of this turn: an update, a request, an acknowledgement or its answer. */
  confirmed: Promise<void>
  ended: Promise<TurnEnd>
}

/** The program has ended or closed its output. */
export class AgentGone extends Error {
  override readonly name = 'AgentGone'
}

/** Characters of a refusal that are kept: it becomes part of a record. */
const REFUSAL_CHARACTERS = 2_000

/** The agent answered an `open`, a `steer` or a `cancel` with an error. */
export class AgentRefused extends Error {
  override readonly name = 'AgentRefused'
  readonly kind: FailureKind | 'unknown_conversation'
  constructor(kind: FailureKind | 'unknown_conversation', message: string, options?: ErrorOptions) {
    super(message.slice(0, REFUSAL_CHARACTERS), options)
    this.kind = kind
  }
}

export interface Opened {
  /** As the agent itself reports it. */
  conversationId: string
  canSteer: boolean
  /** Of what was sought, what the agent has heard; nothing when it does not tell. */
  heard: string[]
}

export interface AgentConnection {
  /**
   * Handshake, then a new conversation or the one named, with the permission level set; what the agent replays of an
   * earlier conversation is not reported as events.
   *
   * @param sought what is looked for in the messages that the named conversation remembers
   * @throws AgentRefused, AgentGone
   */
  open(task: LiveTask, conversationId: string | null, sought?: string[]): Promise<Opened>
  /** Sends one message as a turn; one at a time: the caller waits for `ended` before the next. */
  prompt(text: string): Turn
  /**
   * Puts a message into the turn at work; never called unless `canSteer`. Resolves with a turn that the agent began with
   * it, as the one at work had just ended: the caller waits for its `ended` before the next prompt.
   *
   * @throws AgentRefused: the agent did not take it; AgentGone: it may have
   */
  steer(text: string): Promise<Turn | undefined>
  /** Asks the agent to end the turn at work; pending requests are answered "cancelled". The turn's own promise tells the end. */
  cancel(): Promise<void>
}
