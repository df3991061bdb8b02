import type { ErrorCode } from '../errors.ts'
import { LIMITS } from '../model.ts'

/** The words of the document that belong to no single operation. */

type Json = Record<string, unknown>

export const INFO = {
  title: 'Postern',
  url: 'http://127.0.0.1:47331',
  description: [
    'A door to your coding agents: start headless runs in your own workspaces, watch them, and read what they did.',
    '',
    'Errors are `application/problem+json` (RFC 9457) with a stable `code`. Every answer carries `X-Request-Id`.',
    'Unknown query parameters and body fields are refused by name. Times are ISO 8601 UTC; ids are opaque and time-ordered.',
    'Answers may gain fields, and open-ended texts new values: ignore what you do not know.',
  ].join('\n'),
  channelSecurity: 'The token of a channel address, from the answer that minted it.',
  security:
    'The admin token, kept in `admin-token` under the data directory. Callers on the same machine and of the same user need none where an operation says so.',
} as const

/** The scheme of the tokens of agent processes, beside the operator's. */
export const RUN_SECURITY =
  'The token of one agent process, in its environment as `POSTERN_TOKEN`; void once the process has ended. `x-run-scope` says what of an operation it covers.'

export const TAGS: Record<string, string> = {
  runs: 'One headless execution of one prompt each.',
  channels: 'Addresses that put a message into a live session: mint, look, revoke.',
  hook: 'Where those addresses lead.',
  deliveries: 'What came in, and what became of it.',
  keys: 'The root keys behind addresses and sealed credentials.',
  credentials: 'Named sets of environment variables: sealed, write-only, given to the workspaces that name them.',
  workspaces: 'Directories agents work in.',
  agents: 'Coding-agent programs behind adapters.',
  inbox: 'Results that last: what runs, sessions and the server leave for people.',
  sessions: 'Live agents that take one message after another.',
  requests: 'What live agents ask before they do it.',
  issues: 'Markdown files of a workspace that may schedule themselves.',
  server: 'Health, metrics and this document.',
}

export const REQUEST_HEADERS: Record<string, Json> = {
  'Idempotency-Key': {
    description:
      '1 to 255 visible ASCII characters, kept 24 h and across restarts. Same key and body: the same answer again, with ' +
      '`Idempotency-Replayed: true`, also at capacity. Same key, other body: 422. First request still in flight: 409.',
    schema: { type: 'string', minLength: 1, maxLength: LIMITS.idempotencyKeyLength, pattern: '^[\\x21-\\x7e]+$' },
    example: 'build-812',
  },
  Prefer: {
    description: `\`wait=n\`: answer when the run ends, or after n seconds, 1 to ${LIMITS.waitSeconds}. Source: RFC 7240.`,
    schema: { type: 'string' },
    example: 'wait=30',
  },
  'Last-Event-ID': {
    description: 'Resume the stream after this seq; what an `EventSource` sends by itself. Wins over `after`.',
    schema: { type: 'string', pattern: '^[0-9]+$' },
    example: '12',
  },
  Range: {
    description: 'One range of bytes: `bytes=0-1023`, `bytes=4096-` or `bytes=-512`. Source: RFC 9110.',
    schema: { type: 'string' },
    example: 'bytes=-4096',
  },
}

export const RESPONSE_HEADERS: Record<string, Json> = {
  'X-Request-Id': { description: 'Names this request in the log.', schema: { type: 'string' } },
  'Retry-After': { description: 'Seconds after which a retry makes sense.', schema: { type: 'integer', minimum: 0 } },
  'Idempotency-Replayed': {
    description: '`true` when the key was known and nothing was started.',
    schema: { type: 'string', enum: ['true'] },
  },
  RateLimit: {
    description: 'What is left for this address: `r` messages, and seconds `t` until it is the whole quota again.',
    schema: { type: 'string' },
    example: '"grant";r=9;t=2',
  },
  'RateLimit-Policy': {
    description: 'The quota of an address: `q` messages in `w` seconds.',
    schema: { type: 'string' },
    example: '"grant";q=10;w=20',
  },
  'Preference-Applied': { description: '`wait=n` as it was applied.', schema: { type: 'string' } },
  Location: { description: 'Path of what was made.', schema: { type: 'string' } },
  'Content-Range': { description: 'Which bytes of how many.', schema: { type: 'string' } },
  'Accept-Ranges': { description: '`bytes`.', schema: { type: 'string' } },
  'WWW-Authenticate': { description: '`Bearer realm="postern"`.', schema: { type: 'string' } },
  'X-Postern-Truncated': {
    description: '`true` when the program printed more than is kept.',
    schema: { type: 'string', enum: ['true', 'false'] },
  },
  'X-Postern-Complete': {
    description: '`true` once nothing will be added.',
    schema: { type: 'string', enum: ['true', 'false'] },
  },
}

const SESSION = 'sess_01M7W2YAHR3Q8V5N0D6C7BKXTE'
const TASK = 'headless_01M7W3M6R0B5D8F1H4K7N0Q3T6'
const ENTRY = 'inb_01M7W3N1TT5V8Y0B3D6F9HKMPR'
export const PARAMETER_EXAMPLES: Record<string, unknown> = {
  name: 'anthropic',
  taskId: TASK,
  wsId: 'ws-news',
  agent: 'demo',
  issueId: 'pre-market-brief',
}

const WORKSPACE = {
  id: 'ws-news',
  tag: 'news',
  path: '/home/ada/news',
  managed: false,
  agents: ['claude', 'demo'],
  defaultAgent: 'claude',
  credentials: [],
  permissions: 'edit',
  onRequest: 'ask',
  childWorkspaces: [],
  nudge: false,
  budget: { maxTokensPerRun: 2_000_000, runsPerDay: 50 },
  maxRuns: null,
  createdAt: '2026-11-20T09:00:00.000Z',
}
const RUN = {
  taskId: TASK,
  status: 'succeeded',
  reason: null,
  detail: null,
  wsId: 'ws-news',
  agent: 'demo',
  prompt: 'Summarise what changed since yesterday.',
  model: null,
  isolation: 'none',
  resume: null,
  timeoutMs: LIMITS.defaultTimeoutMs,
  idleTimeoutMs: null,
  createdAt: '2026-11-20T09:13:05.000Z',
  startedAt: '2026-11-20T09:13:05.004Z',
  finishedAt: '2026-11-20T09:13:05.911Z',
  durationMs: 907,
  lastActivityAt: '2026-11-20T09:13:05.900Z',
  lastSeq: 12,
  result: { text: 'Two commits since yesterday: both touch the parser.', truncated: false },
  exitCode: 0,
  signal: null,
  usage: { inputTokens: 0, outputTokens: 0, costUsd: null, source: 'none' },
  git: {
    baseSha: '9c56cc51b374c3ba189210d5b6d4bf57790d351c',
    headSha: '9c56cc51b374c3ba189210d5b6d4bf57790d351c',
    branch: 'main',
    filesChanged: 1,
    worktree: null,
  },
  outcome: 'reported',
  inboxIds: [ENTRY],
  silentWhy: null,
  resumable: true,
  survivors: 0,
  trigger: { kind: 'api', grantId: null, issueId: null, parentTaskId: null },
  retryOf: null,
  metadata: {},
}
const MESSAGE = { seq: 7, at: '2026-11-20T09:13:05.600Z', type: 'agent.message', text: 'Reading git log.' }

const CREDENTIAL = {
  name: 'anthropic',
  variables: ['EXAMPLE_API_KEY'],
  agents: ['claude'],
  usable: true,
  createdAt: '2026-11-20T09:00:00.000Z',
  updatedAt: '2026-11-20T09:00:00.000Z',
}

/** An example for each component that is a body. */
export const EXAMPLES: Record<string, unknown> = {
  Run: RUN,
  RunList: { tasks: [RUN], nextCursor: null, capacity: { running: 0, queued: 0, limit: 8 } },
  EventPage: { events: [MESSAGE], nextAfter: 7, lastSeq: 12 },
  CreateRun: { prompt: 'Summarise what changed since yesterday.', agent: 'demo', timeoutMs: 600_000 },
  RunChildren: { tasks: [RUN] },
  RunReported: { to: TASK },
  SilentRun: { why: 'no position broke a rule' },
  ReportRun: { message: 'half of them done' },
  Workspace: WORKSPACE,
  WorkspaceList: { workspaces: [WORKSPACE] },
  CreateWorkspace: { tag: 'news', path: '/home/ada/news', agents: ['claude', 'demo'] },
  UpdateWorkspace: { defaultAgent: 'demo' },
  Credential: CREDENTIAL,
  CredentialList: { credentials: [CREDENTIAL] },
  SetCredential: { name: 'anthropic', variables: { EXAMPLE_API_KEY: 'the value' }, agents: ['claude'] },
  AgentList: {
    agents: [
      {
        id: 'demo',
        title: 'Demo (no model)',
        installed: true,
        program: null,
        version: '0.1.0',
        headless: true,
        live: true,
        resume: true,
        models: false,
        hasModel: false,
        hint: null,
        verified: null,
        login: 'yes',
        unknownRecords: 0,
      },
    ],
  },
  AgentProbe: { agent: 'demo', ok: true, reason: null, detail: null, text: 'ok', durationMs: 412 },
}

const INBOX_ENTRY = {
  id: ENTRY,
  from: 'run',
  wsId: 'ws-news',
  taskId: TASK,
  sessionId: null,
  issueId: null,
  title: 'Risk limits: all inside',
  body: 'Three positions checked, **none** over its limit.',
  documents: [
    {
      name: 'reports/risk.md',
      sizeBytes: 812,
      sha256: '2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae',
    },
  ],
  damage: null,
  createdAt: '2026-11-20T09:13:05.900Z',
  readAt: null,
}
Object.assign(EXAMPLES, {
  InboxEntry: INBOX_ENTRY,
  InboxList: { entries: [INBOX_ENTRY], nextCursor: null, unread: 1, damaged: [] },
  InboxMarked: { marked: 3 },
  InboxRemoved: { id: ENTRY },
  PushInbox: {
    title: 'Risk limits: all inside',
    body: 'Three positions checked, **none** over its limit.',
    documents: ['reports/risk.md'],
  },
  ReadInbox: { all: true },
  ReplyInbox: { message: 'Check them against the limits of last year, too.' },
})

const WHEN = { kind: 'cron', cron: '30 8 * * 1-5', timezone: 'America/New_York' }
const ISSUE_SUMMARY = {
  wsId: 'ws-news',
  issueId: 'pre-market-brief',
  title: 'Pre-market brief',
  status: 'todo',
  priority: 'high',
  when: WHEN,
  agent: 'claude',
  timeoutMs: 600_000,
  overlap: 'skip',
  catchUp: 'once',
  comments: 1,
  file: '.postern/issues/pre-market-brief.md',
  revision: '5f0c2e51a7d3b946',
  updatedAt: '2026-11-20T09:00:00.000Z',
  nextFire: '2026-11-20T13:30:00.000Z',
  health: 'ok',
}
const COMMENT = { at: '2026-11-20T09:13:05.000Z', author: 'ada', text: 'Skip it on holidays.' }
Object.assign(EXAMPLES, {
  Issue: { ...ISSUE_SUMMARY, body: 'Read positions.md and write reports/brief.md.\n', comments: [COMMENT] },
  IssueBoard: {
    issues: [ISSUE_SUMMARY],
    problems: [
      {
        wsId: 'ws-news',
        file: '.postern/issues/weekly.md',
        line: 4,
        message: 'when.cron: "61 9 * * *": minute 61 is outside 0-59',
      },
    ],
  },
  IssueComment: COMMENT,
  IssueSchedule: {
    wsId: 'ws-news',
    issueId: 'pre-market-brief',
    when: WHEN,
    health: 'ok',
    nextFires: ['2026-11-20T13:30:00.000Z', '2026-11-23T13:30:00.000Z'],
    waiting: null,
    lastFire: {
      dueAt: '2026-11-19T13:30:00.000Z',
      at: '2026-11-19T13:30:00.004Z',
      taskId: TASK,
      status: 'succeeded',
      reason: null,
      outcome: 'reported',
    },
    lastMiss: null,
  },
  SchedulePreview: { when: WHEN, fires: ['2026-11-20T13:30:00.000Z', '2026-11-23T13:30:00.000Z'] },
  CreateIssue: { title: 'Pre-market brief', when: WHEN, body: 'Read positions.md and write reports/brief.md.' },
  UpdateIssue: { status: 'done', revision: '5f0c2e51a7d3b946' },
  CreateComment: { text: 'Skip it on holidays.', author: 'ada' },
})

/** For each code: an example of its `detail`, and what to do. */
export const PROBLEMS: Record<ErrorCode, { detail: string; advice: string }> = {
  bad_request: {
    detail: '2 Host headers; exactly 1 is needed',
    advice: 'Correct the request line or the headers; `detail` names what is wrong.',
  },
  validation_failed: {
    detail: 'timeoutMs: expected number, received string',
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
