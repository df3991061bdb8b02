/** How one code is answered. `retryable`: the same request may succeed later without being changed. */
export interface ErrorKind {
  status: number
  title: string
  retryable: boolean
}

const kind = (status: number, title: string, retryable = false): ErrorKind => ({ status, title, retryable })

/**
 * Every code a caller can meet, with its HTTP status and title. Codes are public and stable.
 * Source: docs/contract.md 3 and 7; RFC 9457 for the shape they are sent in.
 */
export const ERRORS = {
  bad_request: kind(400, 'Bad request'),
  validation_failed: kind(400, 'The request does not fit the schema'),
  unknown_field: kind(400, 'Unknown field'),
  invalid_json: kind(400, 'The body is not valid JSON'),
  invalid_cursor: kind(400, 'Invalid cursor'),
  prompt_too_long: kind(400, 'Prompt too long'),
  unknown_agent: kind(400, 'Unknown agent'),
  agent_not_enabled: kind(400, 'Agent not enabled'),
  agent_not_headless: kind(400, 'Agent cannot run headless'),
  agent_not_live: kind(400, 'Agent cannot hold sessions'),
  option_not_offered: kind(400, 'Option not offered'),
  model_not_supported: kind(400, 'Agent cannot choose a model'),
  unknown_credential: kind(400, 'Unknown credential'),
  variable_not_allowed: kind(400, 'Variable not allowed'),
  path_not_usable: kind(400, 'Path not usable'),
  document_not_usable: kind(400, 'Document not usable'),
  cron_invalid: kind(400, 'Invalid cron expression'),
  idempotency_key_invalid: kind(400, 'Invalid idempotency key'),
  token_required: kind(401, 'Token required'),
  invalid_token: kind(401, 'Invalid token'),
  forbidden: kind(403, 'Forbidden'),
  host_not_allowed: kind(403, 'Host not allowed'),
  origin_not_allowed: kind(403, 'Origin not allowed'),
  insufficient_scope: kind(403, 'Insufficient scope'),
  not_found: kind(404, 'Not found'),
  workspace_not_found: kind(404, 'Workspace not found'),
  run_not_found: kind(404, 'Run not found'),
  agent_not_found: kind(404, 'Agent not found'),
  session_not_found: kind(404, 'Session not found'),
  grant_not_found: kind(404, 'Grant not found'),
  delivery_not_found: kind(404, 'Delivery not found'),
  request_not_found: kind(404, 'Permission request not found'),
  inbox_entry_not_found: kind(404, 'Inbox entry not found'),
  document_not_found: kind(404, 'Document not found'),
  issue_not_found: kind(404, 'Issue not found'),
  credential_not_found: kind(404, 'Credential not found'),
  diff_not_available: kind(404, 'No diff'),
  method_not_allowed: kind(405, 'Method not allowed'),
  not_acceptable: kind(406, 'Not acceptable'),
  request_timeout: kind(408, 'Request timeout', true),
  workspace_exists: kind(409, 'Workspace exists'),
  issue_exists: kind(409, 'Issue exists'),
  issue_changed: kind(409, 'Issue file changed'),
  workspace_busy: kind(409, 'Workspace busy', true),
  resume_busy: kind(409, 'Conversation busy', true),
  not_resumable: kind(409, 'Not resumable'),
  not_retryable: kind(409, 'Not retryable'),
  run_ended: kind(409, 'Run has ended'),
  no_parent: kind(409, 'Nobody to report to'),
  nested_too_deep: kind(409, 'Runs nested too deep'),
  steer_not_supported: kind(409, 'Agent cannot be steered'),
  request_answered: kind(409, 'Permission request answered'),
  too_many_credentials: kind(409, 'Too many credentials'),
  keys_in_use: kind(409, 'Every key number is in use'),
  idempotency_in_flight: kind(409, 'Request with this key in flight', true),
  session_ended: kind(410, 'Session ended'),
  grant_revoked: kind(410, 'Grant revoked'),
  inbox_entry_removed: kind(410, 'Inbox entry removed'),
  log_retired: kind(410, 'Log retired'),
  document_damaged: kind(410, 'Document damaged'),
  payload_too_large: kind(413, 'Payload too large'),
  unsupported_media_type: kind(415, 'Unsupported media type'),
  range_not_satisfiable: kind(416, 'Range not satisfiable'),
  issue_invalid: kind(422, 'Issue file not valid'),
  idempotency_mismatch: kind(422, 'Idempotency key used with another body'),
  capacity_reached: kind(429, 'Capacity reached', true),
  budget_reached: kind(429, 'Budget of the day reached', true),
  buffer_full: kind(429, 'Too many messages wait', true),
  too_many_keys: kind(429, 'Too many idempotency keys', true),
  too_many_messages: kind(429, 'Too many messages on one address', true),
  too_many_failures: kind(429, 'Too many failed attempts', true),
  headers_too_large: kind(431, 'Headers too large'),
  internal_error: kind(500, 'Internal error', true),
  run_not_recorded: kind(500, 'The run could not be recorded', true),
  storage_unavailable: kind(503, 'Storage unavailable', true),
  draining: kind(503, 'Server is stopping', true),
} as const satisfies Record<string, ErrorKind>

export type ErrorCode = keyof typeof ERRORS

/** One broken field of a body: a JSON Pointer (RFC 6901) and what is wrong with it. */
export interface FieldError {
  pointer: string
  detail: string
}

export interface ErrorDetails {
  /** One next command or step. */
  hint?: string
  /** After how many seconds a retry makes sense; sent as `Retry-After`. */
  retryAfterSeconds?: number
  errors?: FieldError[]
  /** Further response headers, such as `Allow`. */
  headers?: Record<string, string>
  cause?: unknown
}

/**
 * The one error of the product: thrown where a rule is broken, turned into an answer in one place (`http/respond.ts`).
 * `message` names the thing, its value and the limit, and never holds a token, a secret or a stack.
 */
export class DomainError extends Error {
  override readonly name = 'DomainError'
  readonly code: ErrorCode
  readonly details: ErrorDetails

  constructor(code: ErrorCode, message: string, details: ErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause })
    this.code = code
    this.details = details
  }
}
