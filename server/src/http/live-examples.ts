import { SESSION } from './problem-texts.ts'

/** Examples of the second door: sessions, what is sent into them, and the addresses that lead there. */

const GRANT_ID = 'grant_01M7W3P5H2A9E4R7W0Y6ZC8MND'
const DELIVERY_ID = 'dlv_01M7W3P5H2A9E4R7W0Y6ZC8MND'
const CHANNEL = `postern:/sessions/${SESSION}`
/** Neither its length nor its checksum is that of a token. */
const TOKEN = 'pstn_h1_EXAMPLE'
const CREATED = '2026-11-20T09:13:05.000Z'
const EXPIRES = '2026-11-21T09:13:05.000Z'

const SESSION_NOW = {
  id: SESSION,
  wsId: 'ws-news',
  agent: 'demo',
  title: 'Watch the deploys',
  state: 'idle',
  reason: null,
  detail: null,
  model: null,
  permissions: 'edit',
  conversationId: 'demo-1',
  steerable: false,
  waiting: 0,
  turns: 1,
  usage: { inputTokens: 0, outputTokens: 0, costUsd: null, source: 'none' },
  createdAt: CREATED,
  lastActivityAt: '2026-11-20T09:13:06.000Z',
  endedAt: null,
  lastSeq: 8,
}
const DELIVERY = {
  id: DELIVERY_ID,
  sessionId: SESSION,
  grantId: GRANT_ID,
  label: 'ci',
  taskId: null,
  mode: 'queue',
  message: 'deploy finished, look at the logs',
  from: 'ci',
  status: 'confirmed',
  reason: null,
  possibleDuplicate: false,
  createdAt: CREATED,
  deliveredAt: '2026-11-20T09:13:05.006Z',
  confirmedAt: '2026-11-20T09:13:05.090Z',
  endedAt: '2026-11-20T09:13:05.090Z',
}
const GRANT = {
  id: GRANT_ID,
  channel: CHANNEL,
  sessionId: SESSION,
  verb: 'send_input',
  label: 'ci',
  revoked: false,
  revokedAt: null,
  createdAt: CREATED,
  expiresAt: EXPIRES,
  lastUsedAt: CREATED,
  deliveries: 1,
}
const REQUEST = {
  id: 'perm_01M7W3P5H2A9E4R7W0Y6ZC8MND',
  sessionId: SESSION,
  wsId: 'ws-news',
  agent: 'demo',
  status: 'pending',
  title: 'write reports/brief.md',
  toolCallId: 'call-3',
  kind: 'edit',
  input: { path: 'reports/brief.md' },
  options: [
    { id: 'once', name: 'Allow once', kind: 'allow_once' },
    { id: 'no', name: 'Reject', kind: 'reject_once' },
  ],
  answer: null,
  answeredBy: null,
  createdAt: CREATED,
  expiresAt: '2026-11-20T09:23:05.000Z',
  answeredAt: null,
}

export const LIVE_EXAMPLES: Record<string, unknown> = {
  CreateSession: { wsId: 'ws-news', agent: 'demo', prompt: 'Wait for the deploys.', title: 'Watch the deploys' },
  Session: SESSION_NOW,
  SessionList: { sessions: [SESSION_NOW], nextCursor: null },
  SessionInput: { message: 'deploy finished, look at the logs', from: 'ci' },
  Delivery: DELIVERY,
  DeliveryList: { deliveries: [DELIVERY], nextCursor: null },
  MintRequest: { sessionId: SESSION, label: 'ci', ttlSeconds: 86_400 },
  Minted: {
    grantId: GRANT_ID,
    channel: CHANNEL,
    webhook: `http://127.0.0.1:47331/hook/${TOKEN}`,
    token: TOKEN,
    verb: 'send_input',
    label: 'ci',
    expiresAt: EXPIRES,
  },
  Grant: GRANT,
  GrantList: { grants: [GRANT], nextCursor: null },
  HookBody: { message: 'deploy finished, look at the logs', from: 'ci', idempotency_key: 'build-812' },
  Receipt: { status: 'delivered', deliveryId: DELIVERY_ID, channel: CHANNEL, sessionId: SESSION },
  PermissionRequest: REQUEST,
  PermissionRequestList: { requests: [REQUEST], nextCursor: null },
  AnswerRequest: { answer: 'allow', optionId: 'once' },
  RotateKeys: { drop: false },
  KeyRotation: { kid: 2, previous: [{ kid: 1, verifyUntil: EXPIRES }], revoked: [] },
}
