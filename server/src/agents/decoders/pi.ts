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
  tokens,
  toolOutput,
  usage,
  type Fields,
} from './record.ts'

/** Records that tell nothing new. `message_update` repeats the whole message so far, each time. */
const SILENT = new Set(
  (
    'message_update message_start agent_start agent_settled turn_start turn_end entry_appended auto_retry_end ' +
    'tool_execution_update'
  ).split(' '),
)

/** Records that say how the conversation stands, not what a turn does: in a session they are no sign of one. */
export const PI_STANDING: ReadonlySet<unknown> = new Set(
  (
    'queue_update session_info_changed thinking_level_changed compaction_start compaction_end ' +
    'summarization_retry_scheduled summarization_retry_attempt_start summarization_retry_finished'
  ).split(' '),
)

/** `pi -p --mode json` of pi 0.73 and 0.87; its rpc mode prints the same records. */
export const decodePi = lineDecoder((record) => {
  switch (record['type']) {
    case 'session':
      return session(record['id'])
    case 'compaction_start':
      return [{ type: 'log', message: `the conversation is summarized: ${text(record['reason']) ?? ''}` }]
    case 'auto_retry_start':
    case 'summarization_retry_scheduled':
      return [
        again({
          attempt: number(record['attempt']),
          of: number(record['maxAttempts']),
          delayMs: number(record['delayMs']),
          message: text(record['errorMessage']),
        }),
      ]
    case 'tool_execution_start': {
      const { toolCallId, toolName, args } = record
      return [
        { type: 'tool.started', toolCallId: text(toolCallId) ?? '', name: text(toolName) ?? 'a tool', input: args },
      ]
    }
    case 'tool_execution_end':
      return [
        {
          type: 'tool.ended',
          toolCallId: text(record['toolCallId']) ?? '',
          isError: record['isError'] === true,
          ...toolOutput(fields(record['result'])['content']),
        },
      ]
    case 'message_end':
      return message(fields(record['message']))
    case 'agent_end':
      return [end(items(record['messages']))]
    default:
      return SILENT.has(text(record['type']) ?? '') || PI_STANDING.has(record['type']) ? [] : undefined
  }
})

function message(said: Fields): AgentEvent[] {
  if (said['role'] !== 'assistant') return []
  const used = fields(said['usage'])
  const input = tokens(used['input']) + tokens(used['cacheRead']) + tokens(used['cacheWrite'])
  return [
    ...items(said['content']).flatMap((part): AgentEvent[] => {
      const words = text(part['text'])
      const thought = text(part['thinking'])
      if (part['type'] === 'text' && words) return [{ type: 'agent.message', text: words }]
      return part['type'] === 'thinking' && thought ? [{ type: 'agent.thought', text: thought }] : []
    }),
    usage(input, tokens(used['output']), fields(used['cost'])['total']),
  ]
}

/** Comes after every attempt, and the last one counts; the exit code is 0 either way. */
function end(messages: Fields[]): AgentEvent {
  const last = messages.findLast((said) => said['role'] === 'assistant') ?? {}
  const reason = text(last['stopReason'])
  if (reason !== 'error' && reason !== 'aborted') return { type: 'agent.end', ok: true }
  const complaint = text(last['errorMessage']) ?? reason
  return { type: 'agent.end', ok: false, error: { kind: failureKind(complaint), message: complaint } }
}
