import { z } from 'zod'
import type { AgentEvent } from './agent.ts'
import { parseJson } from './json.ts'

/** Characters of a line that is not one of our words, kept in its `log` event. */
const LOG_CHARACTERS = 500

/** Characters of a time: it may have any number of decimals. */
const TIME_CHARACTERS = 64

/** Becomes an argument of the program that resumes: never an option, never several words. */
const conversationId = z.string().regex(/^[^\s\p{C}-][^\s\p{C}]{0,199}$/u)
/** True for an id of a conversation that can safely be an argument. */
export const isConversationId = (value: unknown): value is string => conversationId.safeParse(value).success
const tokens = z.int().min(0)
const failure = z.object({
  kind: z.enum(['auth', 'rate_limit', 'provider', 'agent']).default('agent'),
  message: z.string(),
})

/**
 * One line of a program that prints Postern's own words as JSON Lines: what `output: "jsonl"` means in `config.json`, and
 * what the demo agent prints. Unknown fields are dropped.
 */
const Line = z.discriminatedUnion('type', [
  z.object({ type: z.literal('agent.session'), conversationId }),
  z.object({ type: z.literal('agent.message'), text: z.string(), delta: z.boolean().optional() }),
  z.object({ type: z.literal('agent.thought'), text: z.string(), delta: z.boolean().optional() }),
  z.object({
    type: z.literal('tool.started'),
    toolCallId: z.string(),
    name: z.string(),
    input: z.unknown().optional(),
  }),
  z.object({
    type: z.literal('tool.ended'),
    toolCallId: z.string(),
    isError: z.boolean().default(false),
    output: z.string().optional(),
  }),
  z.object({
    type: z.literal('agent.retry'),
    attempt: z.int().optional(),
    of: z.int().optional(),
    delayMs: z.number().optional(),
    status: z.int().optional(),
    message: z.string().optional(),
    fatal: z.boolean().optional(),
  }),
  z.object({
    type: z.literal('agent.waiting'),
    kind: z.literal('rate_limit').default('rate_limit'),
    attempt: z.int().optional(),
    of: z.int().optional(),
    delayMs: z.number().optional(),
    status: z.int().optional(),
    message: z.string().optional(),
    resetsAt: z.iso.datetime({ offset: true }).max(TIME_CHARACTERS).optional(),
  }),
  z.object({ type: z.literal('permission.denied'), name: z.string(), message: z.string().optional() }),
  z.object({
    type: z.literal('usage'),
    inputTokens: tokens.default(0),
    outputTokens: tokens.default(0),
    costUsd: z.number().min(0).nullable().default(null),
  }),
  z.object({ type: z.literal('output.text'), text: z.string() }),
  z.object({ type: z.literal('log'), message: z.string() }),
  z.object({ type: z.literal('agent.end'), ok: z.boolean(), text: z.string().optional(), error: failure.optional() }),
])

/** One line as an event. Never throws: what is none of our words is one `log` event. */
export function decodeEvents(line: string): AgentEvent[] {
  try {
    const parsed = Line.safeParse(parseJson(line))
    if (parsed.success) return [withoutUndefined(parsed.data)]
  } catch {
    // no JSON, or too deep
  }
  return [{ type: 'log', message: line.slice(0, LOG_CHARACTERS) }]
}

function withoutUndefined(event: object): AgentEvent {
  return Object.fromEntries(Object.entries(event).filter(([, value]) => value !== undefined)) as AgentEvent
}
