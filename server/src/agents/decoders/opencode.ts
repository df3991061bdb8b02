import type { AgentEvent } from '../agent.ts'
import { failureKind } from '../failures.ts'
import { fields, lineDecoder, number, session, text, tokens, toolOutput, usage, type Fields } from './record.ts'

/** `opencode run --format json` of opencode 1.18. */
export const decodeOpencode = lineDecoder((record) => {
  const part = fields(record['part'])
  switch (record['type']) {
    case 'step_start':
      return session(record['sessionID'])
    case 'text':
      return [{ type: 'agent.message', text: text(part['text']) ?? '' }]
    case 'reasoning':
      return [{ type: 'agent.thought', text: text(part['text']) ?? '' }]
    case 'tool_use':
      return tool(part)
    case 'step_finish': {
      const used = fields(part['tokens'])
      const cache = fields(used['cache'])
      const input = tokens(used['input']) + tokens(cache['read']) + tokens(cache['write'])
      const counted = usage(input, tokens(used['output']), part['cost'])
      // After "tool-calls" another step follows, unless a refused tool ends the turn, which is then without an end.
      return part['reason'] === 'tool-calls' ? [counted] : [counted, { type: 'agent.end', ok: true }]
    }
    case 'error': {
      const error = fields(record['error'])
      const data = fields(error['data'])
      const message = text(data['message']) ?? text(error['name']) ?? 'the agent failed'
      const kind = failureKind(message, number(data['statusCode']))
      return [...session(record['sessionID']), { type: 'agent.end', ok: false, error: { kind, message } }]
    }
    default:
      return undefined
  }
})

/** Printed once, when the tool has ended; a command that failed is "completed" all the same. */
function tool(part: Fields): AgentEvent[] {
  const state = fields(part['state'])
  const toolCallId = text(part['callID']) ?? ''
  const isError = state['status'] === 'error' || (number(fields(state['metadata'])['exit']) ?? 0) !== 0
  return [
    { type: 'tool.started', toolCallId, name: text(part['tool']) ?? 'a tool', input: state['input'] },
    { type: 'tool.ended', toolCallId, isError, ...toolOutput(state['output'] ?? state['error']) },
  ]
}

/** stderr: "! permission requested: bash (echo hi); auto-rejecting". It ends the turn without an end. */
export function decodeOpencodeStderr(line: string): AgentEvent[] {
  const [, name, what] = /permission requested: (\S+) \((.{0,300}).*\); auto-rejecting/.exec(line) ?? []
  return name === undefined ? [] : [{ type: 'permission.denied', name, message: `rejected: ${what}` }]
}
