import type { Said } from './conversations.ts'
import type { Door } from './door.ts'

/** What may be done without asking: read only, edit files, or also run programs. */
export const LEVELS = ['ask', 'edit', 'full'] as const
export type Level = (typeof LEVELS)[number]
export const isLevel = (text: string): text is Level => (LEVELS as readonly string[]).includes(text)

/** True when `level` covers what a tool needs. */
export const covers = (level: Level, needs: Level): boolean => LEVELS.indexOf(level) >= LEVELS.indexOf(needs)

export interface ToolCall {
  name: string
  input: Record<string, unknown>
  /** `ask`: it only reads; `edit`: it changes files; `full`: it runs a program of the workspace. */
  needs: Level
  /** @returns what the tool found, for the event and the reply */
  work: () => string | Promise<string>
}

/** Where a turn plays: one headless run, or one prompt of a live session. */
export interface Stage {
  readonly kind: 'headless' | 'session'
  /** Real path of the workspace. */
  readonly root: string
  /** Where the agent keeps its own state. */
  readonly home: string
  readonly faults: boolean
  /** The server that started us; undefined: none did. */
  readonly door: Door | undefined
  /** Aborts when the turn is canceled. */
  readonly signal: AbortSignal
  /** What was said before this turn. */
  readonly earlier: Said[]
  /** Adds to the reply, seen at once. */
  say(text: string): void
  /** One tool call as events: asks first where it must. A refusal or a failure is a result, not an exception. */
  tool(call: ToolCall): Promise<{ ok: boolean; output: string }>
  /** Asks a person; undefined: there is nobody. */
  ask(question: string): Promise<boolean | undefined>
  /** News of a limit that was met. */
  retrying(news: { status: number; delayMs: number; message: string; resetsAt: string }): void
  /** What became of the shared settings when the program started, where it was told to rewrite them. */
  readonly rewritten?: Promise<string>
  /** Bytes on stdout as they are, which no protocol would send. */
  raw(bytes: string | Uint8Array): void
}

/** How a turn ends, beyond its reply. */
export interface Ending {
  exitCode: number
  /** False: the program ends without saying that it ended. */
  record: boolean
  /** True: the program stays after its result. */
  stays: boolean
  error?: { kind: 'rate_limit' | 'agent'; message: string }
  usage: { inputTokens: number; outputTokens: number }
}

export const goodEnding = (): Ending => ({
  exitCode: 0,
  record: true,
  stays: false,
  usage: { inputTokens: 0, outputTokens: 0 },
})

/** One slash command: what it does with the rest of its line. */
export type Command = (stage: Stage, argument: string, ending: Ending) => Promise<void>

/** A whole number from 1 to `most`; what is none is `standard`. */
export function wholeNumber(text: string, standard: number, most: number): number {
  const value = Number(text)
  return text !== '' && Number.isInteger(value) && value >= 1 ? Math.min(value, most) : standard
}
