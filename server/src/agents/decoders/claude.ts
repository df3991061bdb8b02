import type { AgentEvent } from '../agent.ts'
import { failureKind } from '../failures.ts'
import {
  again,
  fields,
  items,
  lineDecoder,
  number,
  session,
  text,
  timeOfSeconds,
  tokens,
  toolOutput,
  usage,
  type Fields,
} from './record.ts'

/** Characters of the id of a message that are kept. */
const ID_CHARACTERS = 100

/** `--output-format stream-json` of claude 2.1, and of qwen 0.24, which prints the same records. */
export const decodeClaude = lineDecoder((record) => {
  switch (record['type']) {
    case 'system':
      return system(record)
    case 'assistant':
      return assistant(fields(record['message']))
    case 'user':
      return items(fields(record['message'])['content']).flatMap(toolResult)
    case 'result':
      return result(record)
    case 'rate_limit_event':
      return rateLimit(fields(record['rate_limit_info']))
    case 'stream_event': // pieces of what comes whole, and qwen's inner state
      return []
    default:
      return undefined
  }
})

function system(record: Fields): AgentEvent[] | undefined {
  const data = fields(record['data'])
  switch (record['subtype']) {
    case 'init':
      return session(record['session_id'])
    case 'api_retry': {
      const status = number(record['error_status'])
      const { attempt, max_retries: of, retry_delay_ms: delayMs, error } = record
      return [
        again({
          attempt: number(attempt),
          of: number(of),
          delayMs: number(delayMs),
          status,
          message: text(error),
          // With a wrong key it would go on for three minutes.
          fatal: status === 401 || status === 403 ? true : undefined,
        }),
      ]
    }
    case 'retry': // qwen, which tells the reason on stderr alone
      return [
        again({ attempt: number(data['attempt']), of: number(data['maxRetries']), delayMs: number(data['delayMs']) }),
      ]
    case 'permission_denied': {
      const message = text(record['message'])
      return [
        {
          type: 'permission.denied',
          name: text(record['tool_name']) ?? 'a tool',
          ...(message !== undefined && { message }),
        },
      ]
    }
    case 'thinking_tokens':
      return []
    default:
      return undefined
  }
}

function assistant(message: Fields): AgentEvent[] {
  const synthetic = message['model'] === '<synthetic>' // an error of the model's service, dressed as an answer
  const parts = items(message['content']).flatMap((part): AgentEvent[] => {
    const said = text(part['text'])
    const thought = text(part['thinking'])
    if (part['type'] === 'text' && said !== undefined) {
      return [synthetic ? { type: 'log', message: said } : { type: 'agent.message', text: said }]
    }
    if (part['type'] === 'thinking' && thought !== undefined) return [{ type: 'agent.thought', text: thought }]
    if (part['type'] !== 'tool_use') return []
    const { id, name, input } = part
    return [{ type: 'tool.started', toolCallId: text(id) ?? '', name: text(name) ?? 'a tool', input }]
  })
  return [...parts, ...usageOfMessage(message)]
}

/** All that is known of a run that is ended before its `result`. A message may come in several records, each with all of it. */
function usageOfMessage(message: Fields): AgentEvent[] {
  const messageId = text(message['id'])?.slice(0, ID_CHARACTERS)
  const used = tokensOf(fields(message['usage']))
  if (messageId === undefined || used.input + used.output === 0) return []
  return [{ type: 'usage', messageId, inputTokens: used.input, outputTokens: used.output, costUsd: null }]
}

/** claude counts what its cache read and wrote apart; qwen counts it in, and names no `cache_creation_input_tokens`. */
function tokensOf(used: Fields): { input: number; output: number } {
  const cached =
    used['cache_creation_input_tokens'] === undefined
      ? 0
      : tokens(used['cache_creation_input_tokens']) + tokens(used['cache_read_input_tokens'])
  return { input: tokens(used['input_tokens']) + cached, output: tokens(used['output_tokens']) }
}

function toolResult(part: Fields): AgentEvent[] {
  if (part['type'] !== 'tool_result') return []
  const toolCallId = text(part['tool_use_id']) ?? ''
  return [{ type: 'tool.ended', toolCallId, isError: part['is_error'] === true, ...toolOutput(part['content']) }]
}

/** `subtype` says "success" even of a failure: `is_error` decides. */
function result(record: Fields): AgentEvent[] {
  const said = text(record['result'])
  const used = tokensOf(fields(record['usage']))
  const counted = usage(used.input, used.output, record['total_cost_usd'])
  if (record['is_error'] !== true) {
    return [counted, { type: 'agent.end', ok: true, ...(said !== undefined && { text: said }) }]
  }
  const errors = Array.isArray(record['errors']) ? record['errors'].map(String).join('; ') : undefined
  const message =
    text(fields(record['error'])['message']) ?? said ?? errors ?? text(record['subtype']) ?? 'the agent failed'
  const kind = failureKind(message, number(record['api_error_status']))
  return [counted, { type: 'agent.end', ok: false, error: { kind, message } }]
}

/** A subscription's limit: `resetsAt` is in seconds. While it is not reached there is nothing to tell. */
function rateLimit(info: Fields): AgentEvent[] {
  if (info['status'] !== 'rejected') return []
  return [again({ status: 429, message: 'usage limit reached', resetsAt: timeOfSeconds(number(info['resetsAt'])) })]
}

/** stderr of qwen 0.24: "Retrying in 60s (attempt 1/10): [API Error: 429 ...]". */
export function decodeQwenStderr(line: string): AgentEvent[] {
  const [, seconds, attempt, of, message] = /^Retrying in (\d+)s \(attempt (\d+)\/(\d+)\): (.{0,500})/.exec(line) ?? []
  if (seconds === undefined) return []
  return [again({ attempt: Number(attempt), of: Number(of), delayMs: Number(seconds) * 1_000, message })]
}
