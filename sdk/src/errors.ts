import type { Problem } from './generated/types.gen.ts'
import type { DeliveryId, SessionId } from './live-types.ts'
import type { Open, Run, TaskId } from './types.ts'

/** Stable codes, open-ended: those of the server, and what the SDK finds out by itself. */
export type ErrorCode = Open<
  | 'agent_not_enabled'
  | 'agent_not_found'
  | 'agent_not_live'
  | 'budget_reached'
  | 'buffer_full'
  | 'capacity_reached'
  | 'credential_not_found'
  | 'delivery_not_found'
  | 'cron_invalid'
  | 'diff_not_available'
  | 'draining'
  | 'forbidden'
  | 'grant_not_found'
  | 'grant_revoked'
  | 'idempotency_in_flight'
  | 'idempotency_mismatch'
  | 'inbox_entry_removed'
  | 'internal_error'
  | 'invalid_token'
  | 'keys_in_use'
  | 'issue_changed'
  | 'issue_exists'
  | 'issue_invalid'
  | 'issue_not_found'
  | 'log_retired'
  | 'not_found'
  | 'not_resumable'
  | 'not_retryable'
  | 'option_not_offered'
  | 'prompt_too_long'
  | 'request_answered'
  | 'request_not_found'
  | 'resume_busy'
  | 'run_not_found'
  | 'run_not_recorded'
  | 'session_ended'
  | 'session_not_found'
  | 'steer_not_supported'
  | 'storage_unavailable'
  | 'token_required'
  | 'too_many_failures'
  | 'too_many_messages'
  | 'unknown_agent'
  | 'unknown_credential'
  | 'unknown_field'
  | 'validation_failed'
  | 'variable_not_allowed'
  | 'workspace_busy'
  | 'workspace_exists'
  | 'workspace_not_found'
  | 'connection_failed'
  | 'delivery_uncertain'
  | 'request_timed_out'
  | 'server_not_running'
  | 'unexpected_answer'
  | 'wait_timeout'
>

/** One broken field of a body: a JSON Pointer (RFC 6901) and what is wrong with it. */
export interface FieldError {
  pointer: string
  detail: string
}

export interface ErrorFields {
  code: ErrorCode
  detail: string
  retryable: boolean
  status?: number | undefined
  requestId?: string | undefined
  hint?: string | undefined
  retryAfterMs?: number | undefined
  errors?: FieldError[] | undefined
  cause?: unknown
}

/** Whatever went wrong between the caller and the server. `message` and `detail` are the same sentence. */
export class PosternError extends Error {
  override readonly name: string = 'PosternError'
  /** Decide by it, not by the text. */
  readonly code: ErrorCode
  /** What went wrong: the thing, its value and the limit. */
  readonly detail: string
  /** True when the same request may succeed later. */
  readonly retryable: boolean
  /** The HTTP status; undefined when no answer came. */
  readonly status: number | undefined
  /** Names the request in the server's log. */
  readonly requestId: string | undefined
  /** One next step. */
  readonly hint: string | undefined
  /** How long the server asks to wait before a repetition, in milliseconds. */
  readonly retryAfterMs: number | undefined
  /** What is wrong with a body, field by field. */
  readonly errors: readonly FieldError[]

  constructor(fields: ErrorFields) {
    super(fields.detail, fields.cause === undefined ? undefined : { cause: fields.cause })
    this.code = fields.code
    this.detail = fields.detail
    this.retryable = fields.retryable
    this.status = fields.status
    this.requestId = fields.requestId
    this.hint = fields.hint
    this.retryAfterMs = fields.retryAfterMs
    this.errors = fields.errors ?? []
  }
}

/** The request is wrong and will stay wrong: 400 and its relatives. */
export class BadRequestError extends PosternError {
  override readonly name = 'BadRequestError'
}
/** 401: no token where one is needed, or a wrong one. */
export class AuthError extends PosternError {
  override readonly name = 'AuthError'
}
/** 403: the caller may not do this. */
export class ForbiddenError extends PosternError {
  override readonly name = 'ForbiddenError'
}
/** 404: there is no such thing. */
export class NotFoundError extends PosternError {
  override readonly name = 'NotFoundError'
}
/** 409: the thing is not in the state that this needs. */
export class ConflictError extends PosternError {
  override readonly name = 'ConflictError'
}
/** 410: it existed and is gone. */
export class GoneError extends PosternError {
  override readonly name = 'GoneError'
}
/** The idempotency key: in flight (409), or used with another body (422). */
export class IdempotencyError extends PosternError {
  override readonly name = 'IdempotencyError'
}
/** 429: no room, or too fast. `retryAfterMs` says when to come back. */
export class CapacityError extends PosternError {
  override readonly name = 'CapacityError'
}
/** 5xx, 408, or an answer that is not the API's. */
export class ServerError extends PosternError {
  override readonly name = 'ServerError'
}
/** No answer: refused, cut off, or none in time. */
export class ConnectionError extends PosternError {
  override readonly name = 'ConnectionError'
}

/** The caller's own deadline passed; the run goes on. */
export class WaitTimeoutError extends PosternError {
  override readonly name = 'WaitTimeoutError'
  readonly taskId: TaskId
  /** The run as last seen; undefined when the server never answered. */
  readonly run: Run | undefined

  constructor(taskId: TaskId, timeoutMs: number, run: Run | undefined) {
    super({
      code: 'wait_timeout',
      detail: `${taskId} has not ended within ${timeoutMs} ms; it goes on`,
      retryable: true,
    })
    this.taskId = taskId
    this.run = run
  }
}

/** The caller's own deadline passed before the agent answered; the message stays sent, and the turn goes on. */
export class ReplyTimeoutError extends PosternError {
  override readonly name = 'ReplyTimeoutError'
  readonly sessionId: SessionId
  /** The message; undefined when the server never answered. */
  readonly deliveryId: DeliveryId | undefined

  constructor(sessionId: SessionId, timeoutMs: number, deliveryId: DeliveryId | undefined) {
    super({
      code: 'wait_timeout',
      detail: `${sessionId} has not answered within ${timeoutMs} ms; it goes on`,
      retryable: true,
    })
    this.sessionId = sessionId
    this.deliveryId = deliveryId
  }
}

/** The run ended otherwise than `succeeded`; thrown only where the caller asked for it. `code` is the run's reason. */
export class RunFailedError extends PosternError {
  override readonly name = 'RunFailedError'
  readonly run: Run

  constructor(run: Run) {
    super({
      code: run.reason ?? run.status,
      detail: `${run.taskId} ended ${run.status}${run.detail === null ? '' : `: ${run.detail}`}`,
      retryable: false,
    })
    this.run = run
  }
}

function classOf(status: number, code: string): new (fields: ErrorFields) => PosternError {
  if (status === 401) return AuthError
  if (status === 403) return ForbiddenError
  if (status === 404) return NotFoundError
  if (code === 'idempotency_in_flight' || code === 'idempotency_mismatch') return IdempotencyError
  if (status === 409) return ConflictError
  if (status === 410) return GoneError
  if (status === 429) return CapacityError
  if (status === 408 || status >= 500 || status < 400) return ServerError
  return BadRequestError
}

const RETRYABLE = new Set([408, 429, 502, 503, 504])

/**
 * The error that an answer outside 2xx stands for.
 *
 * @param body its text: the server's problem (RFC 9457), or whatever stands between us and it
 */
export function errorOf(status: number, headers: Headers, body: string): PosternError {
  const problem = parseProblem(body)
  const code = problem?.code ?? 'unexpected_answer'
  return new (classOf(status, code))({
    code,
    detail: problem?.detail ?? `the answer is ${status}, and not the API's`,
    retryable: problem?.retryable ?? RETRYABLE.has(status),
    status,
    requestId: problem?.requestId ?? headers.get('x-request-id') ?? undefined,
    hint: problem?.hint,
    retryAfterMs: retryAfterMs(headers.get('retry-after')),
    errors: problem?.errors,
  })
}

function parseProblem(body: string): Partial<Problem> | undefined {
  try {
    const parsed = JSON.parse(body) as unknown
    if (typeof parsed !== 'object' || parsed === null) return undefined
    const { code, detail } = parsed as Partial<Problem>
    return typeof code === 'string' && typeof detail === 'string' ? parsed : undefined
  } catch {
    return undefined
  }
}

/** `Retry-After` in milliseconds: seconds or a date. Source: RFC 9110. */
function retryAfterMs(header: string | null): number | undefined {
  if (header === null) return undefined
  if (/^\d+$/.test(header)) return Number(header) * 1_000
  const at = Date.parse(header)
  return Number.isNaN(at) ? undefined : Math.max(0, at - Date.now())
}

/** The error for an answer that never came, or broke off. @param what the request, as `POST http://…` */
export function connectionError(what: string, cause: unknown): ConnectionError {
  return new ConnectionError({
    code: 'connection_failed',
    detail: `${what}: ${reasonOf(cause)}`,
    retryable: true,
    cause,
  })
}

/** What happened at the bottom of it: fetch itself says only "fetch failed". */
export function reasonOf(error: unknown): string {
  if (error instanceof AggregateError && error.errors.length > 0) return reasonOf(error.errors[0])
  if (error instanceof Error) return error.cause === undefined ? error.message : reasonOf(error.cause)
  return String(error)
}
