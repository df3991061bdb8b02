import type { ErrorCode } from '../errors.ts'
import { LIMITS } from '../model.ts'

/** Ids as examples show them. */
export const SESSION = 'sess_01M7W2YAHR3Q8V5N0D6C7BKXTE'
export const TASK = 'headless_01M7W3M6R0B5D8F1H4K7N0Q3T6'
export const ENTRY = 'inb_01M7W3N1TT5V8Y0B3D6F9HKMPR'

/** For each code: an example of its `detail`, and what to do. */
export const PROBLEMS: Record<ErrorCode, { detail: string; advice: string }> = {
  bad_request: {
    detail: '2 Host headers; exactly 1 is needed',
    advice: 'Correct the request line or the headers; `detail` names what is wrong.',
  },
  validation_failed: {
    detail: 'timeoutMs: must be a number, not text',
    advice: 'Correct the fields that `errors` points to.',
  },
  unknown_field: {
    detail: '`timeoutMS` is not a field. Did you mean `timeoutMs`?',
    advice: 'Correct the name, or leave it out. Nothing was started.',
  },
  invalid_json: {
    detail: 'the body is not valid JSON',
    advice: 'Send one JSON object in UTF-8, without duplicate keys, at most 32 levels deep.',
  },
  invalid_cursor: {
    detail: 'the cursor is not one of ours',
    advice: 'Pass `nextCursor` as it was given, or start without a cursor.',
  },
  prompt_too_long: {
    detail: '18204 characters; the limit is 16000',
    advice: 'Put context in a workspace file and name it in the prompt.',
  },
  unknown_agent: { detail: 'no agent `cluade`', advice: '`GET /api/agents` lists them.' },
  agent_not_enabled: {
    detail: '`codex` is not enabled on `ws-news` (claude, demo)',
    advice: 'Enable it on the workspace, or name another agent.',
  },
  agent_not_headless: { detail: '`shell` cannot do runs', advice: 'Name an agent whose `headless` is true.' },
  agent_not_live: { detail: '`shell` cannot hold sessions', advice: 'Name an agent whose `live` is true.' },
  option_not_offered: { detail: '`always` is not one of: allow', advice: 'Name one of the `options`, or none.' },
  model_not_supported: { detail: '`demo` cannot choose a model', advice: 'Leave `model` out.' },
  path_not_usable: {
    detail: 'the path is not a directory',
    advice: 'Name an existing directory by its absolute path.',
  },
  cron_invalid: {
    detail: '"61 9 * * *": minute 61 is outside 0-59',
    advice: '`postern issue schedule --preview "0 9 * * 1-5"` shows when an expression would fire.',
  },
  idempotency_key_invalid: {
    detail: 'Idempotency-Key: 256 characters; the limit is 255',
    advice: 'Send one key of 1 to 255 visible ASCII characters.',
  },
  token_required: {
    detail: 'called from 192.168.1.20, not a local caller',
    advice: 'Send the admin token as `Authorization: Bearer`, over TLS.',
  },
  invalid_token: {
    detail: 'the token is not valid',
    advice: 'Use the token in `admin-token` under the data directory, or none when calling locally.',
  },
  forbidden: { detail: 'this is not allowed', advice: 'The caller may not do this.' },
  host_not_allowed: {
    detail: 'the Host header does not name this server',
    advice: 'Call it by the address it prints at start; behind a proxy set `publicUrl`.',
  },
  origin_not_allowed: {
    detail: 'requests from other web pages are refused',
    advice: 'Call from a program, not from a page of another origin. There is no CORS.',
  },
  insufficient_scope: {
    detail: 'the token of a run does not cover this',
    advice: 'Use the admin token; the token of a run covers what the operation says of it, and no more.',
  },
  not_found: { detail: 'no such path', advice: '`/docs` lists every path.' },
  workspace_not_found: {
    detail: 'no workspace `ws-newz`. Nearest: `ws-news`',
    advice: 'Use the id, not the tag; `GET /api/workspaces` lists them.',
  },
  run_not_found: { detail: `no run \`${TASK}\``, advice: '`GET /api/headless` lists runs.' },
  agent_not_found: { detail: 'no agent `cluade`', advice: '`GET /api/agents` lists them.' },
  session_not_found: { detail: `no session \`${SESSION}\``, advice: '`GET /api/sessions` lists them.' },
  grant_not_found: { detail: 'there is no such grant', advice: '`GET /api/channels` lists them.' },
  delivery_not_found: { detail: 'no such delivery', advice: 'List those of the grant.' },
  request_not_found: { detail: 'no such permission request', advice: '`GET /api/requests` lists them.' },
  inbox_entry_not_found: { detail: `no inbox entry \`${ENTRY}\``, advice: '`GET /api/inbox` lists them.' },
  document_not_found: { detail: 'the entry has 1 document; there is no 1', advice: 'Positions begin at 0.' },
  document_not_usable: {
    detail: '"../notes.md" is no file of the workspace',
    advice: 'Name a regular file inside the workspace; links that lead out of it are refused.',
  },
  document_damaged: {
    detail: 'the snapshot of "reports/risk.md" does not fit its SHA-256',
    advice: 'The entry itself stays readable; the bytes are lost.',
  },
  issue_not_found: { detail: 'no issue "brief" in ws-news', advice: '`GET /api/issues` lists them.' },
  credential_not_found: { detail: 'there is no credential "anthropic"', advice: '`GET /api/credentials` lists them.' },
  unknown_credential: {
    detail: 'there is no credential "antropic" (set: anthropic)',
    advice: 'Set it first, or name one that `GET /api/credentials` lists.',
  },
  variable_not_allowed: {
    detail: '"LD_PRELOAD" may not be set for an agent: it changes what runs, what is loaded, or is ours',
    advice: 'Give agents their keys and settings under other names.',
  },
  too_many_credentials: {
    detail: '500 of 500 credentials are set',
    advice: 'Put several variables into one, or remove some.',
  },
  diff_not_available: { detail: 'the run has not ended', advice: 'Wait for the end; outside git there is no diff.' },
  method_not_allowed: {
    detail: 'DELETE is not possible here; possible: GET, HEAD, OPTIONS',
    advice: 'Use a method that `Allow` names.',
  },
  not_acceptable: { detail: 'nothing that Accept names is available', advice: 'Accept what the operation documents.' },
  request_timeout: { detail: 'the body did not arrive within 30 s', advice: 'Send it again.' },
  workspace_exists: { detail: '`ws-news` exists', advice: 'Choose another id, or use the one that exists.' },
  issue_exists: {
    detail: 'there is an issue "brief" in ws-news',
    advice: 'Choose another `issueId`, or change that one.',
  },
  issue_changed: {
    detail: 'the file was changed since revision 5f0c2e51a7d3b946',
    advice: 'Read the issue again, and send its new `revision`.',
  },
  workspace_busy: { detail: '2 runs are at work in `ws-news`', advice: 'Wait for them, or cancel them.' },
  resume_busy: { detail: `that conversation runs in \`${TASK}\``, advice: 'Wait for that run to end.' },
  not_resumable: {
    detail: 'the run has no conversation to continue',
    advice: 'Name a run whose `resumable` is true, or start a new one.',
  },
  not_retryable: { detail: 'the run has not ended', advice: 'Wait for the end, or cancel it.' },
  run_ended: { detail: `\`${TASK}\` is not at work any more`, advice: 'Only a run at work can say this.' },
  no_parent: {
    detail: `nobody who could be reported to started \`${TASK}\``,
    advice: 'Push to the Inbox instead.',
  },
  nested_too_deep: {
    detail: `the run would stand 5 levels below the first; the limit is ${LIMITS.runDepth}`,
    advice: 'Let a run nearer to the first one start it.',
  },
  steer_not_supported: {
    detail: '`demo` cannot take a message in mid-turn',
    advice: 'Send it with `delivery` `queue`, or `interrupt`.',
  },
  request_answered: { detail: 'it was denied by the deadline', advice: 'The first answer wins; nothing changed.' },
  keys_in_use: { detail: '255 of 255 keys are in use', advice: 'Rotate with `drop: true`.' },
  idempotency_in_flight: {
    detail: 'the first request with key "build-812" is still in flight',
    advice: 'Repeat it after `Retry-After`, with the same key.',
  },
  session_ended: { detail: `\`${SESSION}\` ended 14 m ago`, advice: 'Open a new session; mint again.' },
  grant_revoked: {
    detail: 'the grant that this key minted was revoked',
    advice: 'Mint again, with another key.',
  },
  inbox_entry_removed: {
    detail: `\`inb_01K00000000000000000000001\`, which this key made, was removed`,
    advice: 'People have dealt with it. Push with another key if there is something new to say.',
  },
  log_retired: { detail: 'the log was removed after 90 days', advice: 'The run itself stays readable.' },
  payload_too_large: {
    detail: `the body announces 2000000 bytes; the limit is ${LIMITS.bodyBytes}`,
    advice: 'Put large material in a workspace file.',
  },
  unsupported_media_type: {
    detail: 'Content-Type text/plain; the body must be application/json',
    advice: 'Send `Content-Type: application/json`, not compressed.',
  },
  range_not_satisfiable: { detail: 'the output has 120 bytes', advice: 'Ask for a range inside `Content-Range`.' },
  issue_invalid: {
    detail: '.postern/issues/brief.md, line 4: when.cron: "61 9 * * *": minute 61 is outside 0-59',
    advice: 'Correct the file in the workspace; `GET /api/issues` names every line that is wrong.',
  },
  idempotency_mismatch: {
    detail: 'key "build-812" was used with another body',
    advice: 'A new request needs a new key.',
  },
  capacity_reached: {
    detail: '8 of 8 runs are active, 2 queued',
    advice: 'Repeat after `Retry-After`, or send `whenBusy: "queue"`.',
  },
  budget_reached: {
    detail: '20 runs were started today in ws-news; the budget of a day is 20; it begins anew at midnight UTC',
    advice: 'Wait until midnight UTC, or change `budget` of the workspace.',
  },
  buffer_full: {
    detail: '100 of 100 messages wait for the session',
    advice: 'Repeat after `Retry-After`; nothing was stored.',
  },
  too_many_keys: {
    detail: '100000 of 100000 idempotency keys of the last 24 hours are in use',
    advice: 'Wait, or raise `maxIdempotencyKeys`.',
  },
  too_many_messages: {
    detail: '10 messages at once and 30 a minute are the limit of one address',
    advice: 'Repeat after `Retry-After`; nothing was stored.',
  },
  too_many_failures: {
    detail: 'more than 10 bad tokens in 60 s',
    advice: 'Wait for `Retry-After`. A good token always passes.',
  },
  headers_too_large: {
    detail: '101 headers; the limit is 100',
    advice: 'Send at most 100 headers and 16 KiB of them.',
  },
  internal_error: {
    detail: 'something went wrong on the server',
    advice: 'Look for the request id in the log of the server.',
  },
  run_not_recorded: {
    detail: 'the run could not be recorded; nothing was started',
    advice: 'Repeat it with the same key; look at disk space.',
  },
  storage_unavailable: {
    detail: 'the change could not be stored; nothing was changed',
    advice: 'Repeat it; look at disk space.',
  },
  draining: { detail: 'the server is stopping', advice: 'Repeat it once the server is back.' },
}
