import type { Usage } from '../model.ts'
import type { AgentEvent, Counting, FailureKind } from './agent.ts'
import { failureKind } from './failures.ts'

/** Bytes of a reply that are kept; of a longer one, the end. */
export const REPLY_BYTES = 64 * 1024
/** Tools that are remembered as being at work; a program that never ends one must not fill the memory. */
const MAX_OPEN_TOOLS = 100

/** Messages whose usage is remembered apart. */
const MAX_MESSAGES = 1_000
const NOTHING: Usage = { inputTokens: 0, outputTokens: 0, costUsd: null, source: 'none' }

/** What the events of a run come to. */
export interface Folded {
  readonly conversationId: string | null
  /** The last message, or what `agent.end` gave as the reply. */
  readonly text: string | null
  readonly textTruncated: boolean
  readonly usage: Usage
  /** True: `usage` is the sum of single messages, what the run used itself, whatever its agent counts in the end. */
  readonly isUsageOwn: boolean
  /** The terminal record, once it was seen; of several, the last. */
  readonly end: { ok: boolean; error?: { kind: FailureKind; message: string } } | undefined
  /** An error that the agent would go on repeating. */
  readonly fatal: { kind: FailureKind; message: string } | undefined
  /** The limit that the agent last waited for, while it has done nothing since. */
  readonly waiting: { resetsAt?: string } | undefined
  /** When the last limit that it met ends (RFC 3339), where it told. */
  readonly limitEndsAt: string | undefined
  /** Name of the tool that was last refused. */
  readonly deniedTool: string | null
  /** Name of the tool that is at work, of several the one that began last. */
  readonly openTool: string | null
}

export interface Fold {
  /** As of now: reads of its fields see later events too. */
  readonly state: Folded
  add(event: AgentEvent): void
}

/** Folds events, in order, into what a run's record needs; no clock and no I/O, so a stored log can be folded again. */
export function createFold(counting: { tokens: Counting; cost: Counting }): Fold {
  const reply = createReply()
  const tools = new Map<string, string>()
  const messages = createMessages()
  let conversationId: string | null = null
  let usage = NOTHING
  let end: Folded['end']
  let fatal: Folded['fatal']
  let waiting: Folded['waiting']
  let limitEndsAt: string | undefined
  let deniedTool: string | null = null
  let streaming = false

  return {
    state: {
      get conversationId() {
        return conversationId
      },
      get text() {
        return reply.text()
      },
      get textTruncated() {
        return reply.truncated()
      },
      get usage() {
        return usage
      },
      get isUsageOwn() {
        return messages.isKept()
      },
      get end() {
        return end
      },
      get fatal() {
        return fatal
      },
      get waiting() {
        return waiting
      },
      get limitEndsAt() {
        return limitEndsAt
      },
      get deniedTool() {
        return deniedTool
      },
      get openTool() {
        return [...tools.values()].at(-1) ?? null
      },
    },
    add(event) {
      switch (event.type) {
        case 'agent.session':
          conversationId = event.conversationId
          break
        case 'agent.message':
          if (event.delta && streaming) reply.append(event.text)
          else reply.replace(event.text)
          streaming = event.delta === true
          waiting = undefined
          break
        case 'tool.started':
          if (tools.size >= MAX_OPEN_TOOLS) tools.clear()
          tools.set(event.toolCallId, event.name)
          waiting = undefined
          streaming = false // a delta after a tool begins a new message
          break
        case 'tool.ended':
          tools.delete(event.toolCallId)
          break
        case 'agent.waiting':
          waiting = event.resetsAt === undefined ? {} : { resetsAt: event.resetsAt }
          limitEndsAt = event.resetsAt ?? limitEndsAt
          break
        case 'permission.denied':
          deniedTool = event.name
          break
        case 'agent.retry':
          if (event.fatal) {
            const message = event.message ?? `the agent met status ${event.status}`
            fatal = { kind: failureKind(message, event.status), message }
          }
          break
        case 'usage': {
          if (event.messageId !== undefined) {
            usage = messages.add(event.messageId, event) ?? usage
            break
          }
          if (messages.isKept()) usage = NOTHING
          messages.forget()
          const { tokens, cost } = counting
          usage = {
            inputTokens: event.inputTokens + (tokens === 'step' ? usage.inputTokens : 0),
            outputTokens: event.outputTokens + (tokens === 'step' ? usage.outputTokens : 0),
            costUsd:
              event.costUsd === null ? usage.costUsd : event.costUsd + (cost === 'step' ? (usage.costUsd ?? 0) : 0),
            source: 'agent_reported',
          }
          break
        }
        case 'agent.end':
          end = { ok: event.ok, ...(event.error && { error: event.error }) }
          if (event.text !== undefined) reply.replace(event.text)
          break
        default: // shown, and of no further consequence
      }
    },
  }
}

/** What single messages used, each counted once, until the program tells what all of them did. */
function createMessages() {
  const known = new Map<string, Tokens>()
  let older: Tokens = { inputTokens: 0, outputTokens: 0 }
  let isOver = false
  const sum = (): Tokens => [...known.values()].reduce(plus, older)

  return {
    /** What all of them used up to now; undefined once that was told. */
    add(messageId: string, { inputTokens, outputTokens }: Tokens): Usage | undefined {
      if (isOver) return undefined
      if (known.size >= MAX_MESSAGES) {
        older = sum()
        known.clear()
      }
      known.set(messageId, { inputTokens, outputTokens })
      return { ...sum(), costUsd: null, source: 'agent_reported' }
    },
    isKept: (): boolean => known.size > 0,
    forget(): void {
      isOver = true
      known.clear()
    },
  }
}

type Tokens = Pick<Usage, 'inputTokens' | 'outputTokens'>
const plus = (one: Tokens, other: Tokens): Tokens => ({
  inputTokens: one.inputTokens + other.inputTokens,
  outputTokens: one.outputTokens + other.outputTokens,
})

/** A text of which the end is kept (`REPLY_BYTES`); null until something was said. Grows to twice the limit before it is cut, so that many small pieces cost little. */
export function createReply() {
  let kept: string | null = null
  let cut = false

  function trim(limit: number): void {
    if (kept === null || kept.length * 3 <= limit) return
    const bytes = Buffer.from(kept)
    if (bytes.length <= limit) return
    let start = bytes.length - REPLY_BYTES
    while (((bytes[start] ?? 0) & 0xc0) === 0x80) start++ // whole characters only
    kept = bytes.toString('utf8', start)
    cut = true
  }
  return {
    replace(text: string): void {
      kept = text
      cut = false
      trim(REPLY_BYTES)
    },
    append(text: string): void {
      kept = (kept ?? '') + text
      if (kept.length > 2 * REPLY_BYTES) trim(REPLY_BYTES)
    },
    text(): string | null {
      trim(REPLY_BYTES)
      return kept
    },
    truncated(): boolean {
      trim(REPLY_BYTES)
      return cut
    },
  }
}
