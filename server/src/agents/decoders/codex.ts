import type { AgentEvent } from '../agent.ts'
import { failureKind } from '../failures.ts'
import { again, fields, items, lineDecoder, session, text, tokens, toolOutput, usage, type Fields } from './record.ts'

/** `codex exec --json` of codex 0.169. Its usage is the total of the thread. */
export const decodeCodex = lineDecoder((record) => {
  const item = fields(record['item'])
  switch (record['type']) {
    case 'thread.started':
      return session(record['thread_id'])
    case 'error':
      return [trouble(text(record['message']) ?? 'an error without a message')]
    case 'item.started':
      return isTool(item) ? [toolStarted(item)] : []
    case 'item.completed':
      return completed(item)
    case 'turn.completed': {
      const used = fields(record['usage'])
      return [usage(tokens(used['input_tokens']), tokens(used['output_tokens'])), { type: 'agent.end', ok: true }]
    }
    case 'turn.failed': {
      const message = text(fields(record['error'])['message']) ?? 'the turn failed'
      return [{ type: 'agent.end', ok: false, error: { kind: failureKind(message), message } }]
    }
    case 'turn.started':
    case 'item.updated':
      return []
    default:
      return undefined
  }
})

/** "Reconnecting... 2/5 (reason)"; the last one has no count, and `turn.failed` follows it. */
function trouble(message: string): AgentEvent {
  const [, attempt, of] = /(\d+)\/(\d+)/.exec(message) ?? []
  if (attempt === undefined || of === undefined) return { type: 'log', message }
  // With a wrong key it would go on all the same.
  const fatal = /\bstatus:? 40[13]\b/.test(message) ? true : undefined
  return again({ attempt: Number(attempt), of: Number(of), delayMs: delayIn(message), message, fatal })
}

/** "Please try again in 1.5s", which is the service's own advice. */
function delayIn(message: string): number | undefined {
  const [, amount, unit] = /try again in (\d+(?:\.\d+)?) ?(ms|s)\b/i.exec(message) ?? []
  return amount === undefined ? undefined : Math.round(Number(amount) * (unit === 'ms' ? 1 : 1_000))
}

function isTool(item: Fields): boolean {
  return !['agent_message', 'reasoning', 'error'].includes(text(item['type']) ?? '')
}

function toolStarted(item: Fields): AgentEvent {
  const name = text(item['type']) ?? 'a tool'
  return { type: 'tool.started', toolCallId: text(item['id']) ?? '', name, input: item['command'] ?? item }
}

function completed(item: Fields): AgentEvent[] {
  const said = text(item['text']) ?? ''
  if (item['type'] === 'agent_message') return [{ type: 'agent.message', text: said }]
  if (item['type'] === 'reasoning') return [{ type: 'agent.thought', text: said }]
  if (item['type'] === 'error') return [{ type: 'log', message: text(item['message']) ?? 'an error without a message' }]
  const isError = item['status'] === 'failed' || (item['exit_code'] ?? 0) !== 0
  return [{ type: 'tool.ended', toolCallId: text(item['id']) ?? '', isError, ...toolOutput(outputOf(item)) }]
}

/** Of a command what it printed, of a tool of a server what that answered, of an edit the files. */
function outputOf(item: Fields): unknown {
  if (item['changes'] !== undefined) {
    return items(item['changes']).map(({ kind, path }) => ({ text: `${text(kind) ?? 'change'} ${text(path) ?? ''}` }))
  }
  return item['aggregated_output'] ?? fields(item['result'])['content'] ?? fields(item['error'])['message']
}
