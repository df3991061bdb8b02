import type { AgentEvent } from '../agent.ts'
import { isConversationId } from '../events-format.ts'
import { failureKind } from '../failures.ts'
import { parseJson } from '../json.ts'

/** Characters of a line that cannot be read, kept in its `log` event. */
const LOG_CHARACTERS = 500
/** Characters of a record's type that are repeated in its `log` event. */
const TYPE_CHARACTERS = 100

/** A record as a program printed it: nothing is known of its fields. */
export type Fields = Record<string, unknown>

/** The fields of a value; of what is no object, none. */
export function fields(value: unknown): Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Fields) : {}
}

/** The objects of a list; of what is no list, none. */
export function items(value: unknown): Fields[] {
  return Array.isArray(value) ? value.map(fields) : []
}

export function text(value: unknown): string | undefined {
  return typeof value === 'string' ? value : undefined
}

export function number(value: unknown): number | undefined {
  return typeof value === 'number' && Number.isFinite(value) ? value : undefined
}

/** Characters of a tool's output that its event has; of a longer one, as much of both ends. */
export const TOOL_OUTPUT_CHARACTERS = 8_000

/** What a tool came to, cut; a list of parts with `text` counts as one text. undefined when it is neither. */
export function toolOutput(value: unknown): { output?: string } {
  const whole = text(value) ?? (Array.isArray(value) ? joined(value) : undefined)
  if (whole === undefined) return {}
  if (whole.length <= TOOL_OUTPUT_CHARACTERS) return { output: whole }
  const half = TOOL_OUTPUT_CHARACTERS / 2
  const cut = `\n[${whole.length - TOOL_OUTPUT_CHARACTERS} characters cut]\n`
  return { output: (whole.slice(0, half) + cut + whole.slice(-half)).toWellFormed() }
}

function joined(parts: unknown[]): string {
  return items(parts)
    .flatMap((part) => text(part['text']) ?? [])
    .join('\n')
}

/** A number of tokens; what is none counts nothing. */
export function tokens(value: unknown): number {
  const found = number(value) ?? 0
  return Number.isSafeInteger(found) && found > 0 ? found : 0
}

/** Tokens and US dollars as one event. */
export function usage(inputTokens: number, outputTokens: number, cost?: unknown): AgentEvent {
  const costUsd = number(cost) ?? null
  return { type: 'usage', inputTokens, outputTokens, costUsd: costUsd !== null && costUsd >= 0 ? costUsd : null }
}

/** The conversation, when its id is one that can safely be an argument later; else nothing. */
export function session(id: unknown): AgentEvent[] {
  return isConversationId(id) ? [{ type: 'agent.session', conversationId: id }] : []
}

/** The event without the fields that are undefined. */
export function compact<T extends object>(event: { [K in keyof T]: T[K] | undefined }): T {
  return Object.fromEntries(Object.entries(event).filter(([, value]) => value !== undefined)) as T
}

type Retry = Extract<AgentEvent, { type: 'agent.retry' }>
type Waiting = Extract<AgentEvent, { type: 'agent.waiting' }>

/** Another attempt of the agent: `agent.waiting` when it waits for a limit, else `agent.retry`. */
export function again(facts: {
  attempt?: number | undefined
  of?: number | undefined
  delayMs?: number | undefined
  status?: number | undefined
  message?: string | undefined
  resetsAt?: string | undefined
  /** It would go on repeating what repeating cannot mend. */
  fatal?: true | undefined
}): AgentEvent {
  const { fatal, resetsAt, ...rest } = facts
  return failureKind(facts.message ?? '', facts.status) === 'rate_limit'
    ? compact<Waiting>({ type: 'agent.waiting', kind: 'rate_limit', ...rest, resetsAt })
    : compact<Retry>({ type: 'agent.retry', ...rest, fatal })
}

/** The time that a number of seconds since 1970 stands for (RFC 3339); of what is none, undefined. */
export function timeOfSeconds(seconds: number | undefined): string | undefined {
  return seconds !== undefined && seconds > 0 && seconds < 1e11 ? new Date(seconds * 1_000).toISOString() : undefined
}

/**
 * A decoder of lines out of one of records. A line that is no JSON object is one `log` event; so is a record that the
 * decoder does not know (undefined), with `code: "unknown_record"`. Never throws.
 */
export function lineDecoder(decode: (record: Fields) => AgentEvent[] | undefined): (line: string) => AgentEvent[] {
  return (line) => {
    try {
      const record = parseJson(line)
      if (typeof record === 'object' && record !== null && !Array.isArray(record)) {
        return decode(record as Fields) ?? [unknown(record as Fields)]
      }
    } catch {
      // no JSON, or too deep
    }
    return [{ type: 'log', message: line.slice(0, LOG_CHARACTERS) }]
  }
}

function unknown({ type, subtype }: Fields): AgentEvent {
  const name = [text(type) ?? 'none', text(subtype)].filter((part) => part !== undefined).join('/')
  return { type: 'log', code: 'unknown_record', message: `a record of type "${name.slice(0, TYPE_CHARACTERS)}"` }
}
