import type { FailureKind } from '../event.ts'
import { fields, items, number, text, type Fields } from '../decoders/record.ts'
import { failureKind } from '../failures.ts'
import { parseJson } from '../json.ts'

/** Codes of ACP beyond those of JSON-RPC. */
const AUTH_REQUIRED = -32000
const NOT_FOUND = -32002
/** Characters of an agent's complaint that are kept. */
const MESSAGE_CHARACTERS = 2_000

export interface Failure {
  kind: FailureKind
  message: string
}

/**
 * What an agent's error answer means. Agents agree on little: the sentence is in `message`, behind "Internal error: ", in
 * `data.details` or as JSON in `message`; the status of the model's service is sometimes the code.
 */
export function failureOf(error: unknown): Failure {
  const { code, message, data } = parts(error)
  const status = code >= 400 && code < 600 ? code : undefined
  const details = text(data['details']) ?? text(data['message'])
  const plain = readable(message).replace(/^internal error:? */i, '')
  const found = (plain === '' || plain === message) && details !== undefined ? details : plain || message
  const complaint = (found || 'the agent answered with an error and no reason').slice(0, MESSAGE_CHARACTERS)
  if (code === AUTH_REQUIRED) return { kind: 'auth', message: complaint }
  return { kind: failureKind(complaint, status), message: complaint }
}

/** True when an answer to `session/load` or `session/resume` says that there is no such conversation. */
export function isUnknownConversation(error: unknown): boolean {
  const { code, message, data } = parts(error)
  if (code === NOT_FOUND) return true
  // opencode says nothing but which of its parts complained.
  if (data['service'] === 'session' && data['errorName'] === undefined) return true
  return /not found|no previous sessions|no rollout|no such|invalid session|unknown session|does not exist/i.test(
    `${message} ${text(data['details']) ?? ''}`,
  )
}

/** The words of an error that an agent gave as its reply; undefined: it is an ordinary reply. */
export function errorInReply(reply: string): string | undefined {
  return /^\[API Error: ([\s\S]*)\]$/.exec(reply.trim())?.[1]
}

/** True for words that an agent put in the place of a reply when its model failed; to be asked when its turn failed. */
export const isErrorText = (said: string): boolean => /^[^\n]{0,100}\bAPI Error: \d{3}\b/.test(said)

/** What an agent said instead of an answer, of which JSON keeps only its sentence. */
export function readable(message: string): string {
  try {
    const parsed = fields(parseJson(message))
    return text(fields(parsed['error'])['message']) ?? text(parsed['message']) ?? message
  } catch {
    return message.trim()
  }
}

/**
 * codex answers `end_turn` also when no request to its model succeeded; then it has counted nothing, in either of two
 * places. An agent that never counts sends neither.
 */
export function countedNothing(answer: Fields): boolean {
  const quota = fields(fields(answer['_meta'])['quota'])
  return answer['usage'] === null && quota['token_count'] === null && items(quota['model_usage']).length === 0
}

function parts(error: unknown): { code: number; message: string; data: Fields } {
  const { code, message, data } = error as { code?: unknown; message?: unknown; data?: unknown }
  return { code: number(code) ?? 0, message: text(message) ?? '', data: fields(data) }
}
