import type { AgentEvent } from '../agent.ts'
import { failureKind } from '../failures.ts'
import { again, fields, lineDecoder, session, text, tokens, toolOutput, usage } from './record.ts'

/** Characters of a complaint that are repeated. */
const MESSAGE_CHARACTERS = 300

/** `gemini -o stream-json` of gemini 0.61. A command that failed is a "success" here. */
export const decodeGemini = lineDecoder((record) => {
  switch (record['type']) {
    case 'init':
      return session(record['session_id'])
    case 'message':
      return record['role'] === 'assistant'
        ? [{ type: 'agent.message', text: text(record['content']) ?? '', delta: true }]
        : [] // our own words
    case 'tool_use': {
      const { tool_id: id, tool_name: name, parameters: input } = record
      return [{ type: 'tool.started', toolCallId: text(id) ?? '', name: text(name) ?? 'a tool', input }]
    }
    case 'tool_result':
      return [
        {
          type: 'tool.ended',
          toolCallId: text(record['tool_id']) ?? '',
          isError: record['status'] !== 'success',
          ...toolOutput(record['output'] ?? fields(record['error'])['message']),
        },
      ]
    case 'error':
      return [{ type: 'log', message: text(record['message']) ?? 'an error without a message' }]
    case 'result': {
      const stats = fields(record['stats'])
      const counted = usage(tokens(stats['input_tokens']), tokens(stats['output_tokens']))
      if (record['status'] === 'success') return [counted, { type: 'agent.end', ok: true }]
      const message = text(fields(record['error'])['message']) ?? 'the agent failed'
      return [counted, { type: 'agent.end', ok: false, error: { kind: failureKind(message), message } }]
    }
    default:
      return undefined
  }
})

/** stderr: "Attempt 1 failed with status 429. Retrying with backoff... _ApiError: {...}"; stdout has nothing of it. */
export function decodeGeminiStderr(line: string): AgentEvent[] {
  const [, attempt, status] = /^Attempt (\d+) failed with status (\d{3})\. Retrying/.exec(line) ?? []
  if (attempt === undefined) return []
  const fatal = status === '401' || status === '403' ? true : undefined
  return [
    again({ attempt: Number(attempt), status: Number(status), fatal, message: line.slice(0, MESSAGE_CHARACTERS) }),
  ]
}
