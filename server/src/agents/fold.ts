import type { Usage } from '../model.ts'
import type { AgentEvent, FailureKind } from './agent.ts'

/** Bytes of a reply that are kept; of a longer one, the end. */
export const REPLY_BYTES = 64 * 1024

/** What the events of a run come to. */
export interface Folded {
  conversationId: string | null
  /** The last message, or what `agent.end` gave as the reply. */
  text: string | null
  textTruncated: boolean
  usage: Usage
  /** The terminal record, once it was seen; of several, the last. */
  end: { ok: boolean; error?: { kind: FailureKind; message: string } } | undefined
  /** An error that the agent would go on repeating. */
  fatal: { kind: FailureKind; message: string } | undefined
}

export interface Fold {
  readonly state: Folded
  add(event: AgentEvent): void
}

/**
 * Folds events, in order, into what a run's record needs; pure, so a stored log can be folded again.
 *
 * @param counting `step`: usage figures are added up; `total`: the last ones count
 */
export function createFold(counting: 'step' | 'total'): Fold {
  const state: Folded = {
    conversationId: null,
    text: null,
    textTruncated: false,
    usage: { inputTokens: 0, outputTokens: 0, costUsd: null, source: 'none' },
    end: undefined,
    fatal: undefined,
  }
  let streaming = false

  function reply(text: string): void {
    const kept = lastBytes(text, REPLY_BYTES)
    state.text = kept
    state.textTruncated = kept.length < text.length
  }

  return {
    state,
    add(event) {
      switch (event.type) {
        case 'agent.session':
          state.conversationId = event.conversationId
          break
        case 'agent.message': {
          const cut = streaming && event.delta === true && state.textTruncated
          reply(event.delta && streaming ? (state.text ?? '') + event.text : event.text)
          state.textTruncated ||= cut
          streaming = event.delta === true
          break
        }
        case 'tool.started':
          streaming = false // a delta after a tool begins a new message
          break
        case 'agent.retry':
          if (event.fatal)
            state.fatal = { kind: kindOf(event.status), message: event.message ?? `status ${event.status}` }
          break
        case 'usage': {
          const last = counting === 'step' ? state.usage : undefined
          const costs = [last?.costUsd ?? null, event.costUsd].filter((cost) => cost !== null)
          state.usage = {
            inputTokens: (last?.inputTokens ?? 0) + event.inputTokens,
            outputTokens: (last?.outputTokens ?? 0) + event.outputTokens,
            costUsd: costs.length > 0 ? costs.reduce((sum, cost) => sum + cost, 0) : null,
            source: 'agent_reported',
          }
          break
        }
        case 'agent.end':
          state.end = { ok: event.ok, ...(event.error && { error: event.error }) }
          if (event.text !== undefined) reply(event.text)
          break
        default: // shown, and of no further consequence
      }
    },
  }
}

function kindOf(status: number | undefined): FailureKind {
  if (status === 401 || status === 403) return 'auth'
  if (status === 429) return 'rate_limit'
  return status !== undefined && status >= 500 ? 'provider' : 'agent'
}

/** The end of a text in at most so many bytes of UTF-8, whole characters only. */
function lastBytes(text: string, limit: number): string {
  if (text.length * 3 <= limit) return text
  const bytes = Buffer.from(text)
  if (bytes.length <= limit) return text
  let start = bytes.length - limit
  while (start < bytes.length && ((bytes[start] ?? 0) & 0xc0) === 0x80) start++
  return bytes.toString('utf8', start)
}
