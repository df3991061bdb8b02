import { LIMITS } from '../model.ts'
import { LIVE_EXAMPLES } from './live-examples.ts'
import { ENTRY, TASK } from './problem-texts.ts'

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
  ...LIVE_EXAMPLES,
  Health: { status: 'ok', version: '0.1.0' },
  Readiness: { status: 'ready' },
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
