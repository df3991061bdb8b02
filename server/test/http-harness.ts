import { readFile } from 'node:fs/promises'
import { systemClock, type Clock } from '../src/clock.ts'
import { ConfigFile, type Config } from '../src/config.ts'
import { DomainError } from '../src/errors.ts'
import { createHttp, type HttpDeps, type HttpLimits } from '../src/http/app.ts'
import { createProcessTokens, type ProcessTokens } from '../src/keys/process-tokens.ts'
import { createLogger, type LogLevel } from '../src/log.ts'
import type { Event, Run, Workspace } from '../src/model.ts'
import type { Inbox } from '../src/inbox/types.ts'
import type { Channels } from '../src/channels/types.ts'
import { GrantRow, type Grant } from '../src/model/channels.ts'
import type { Credentials } from '../src/credentials/types.ts'
import type { Requests } from '../src/requests/requests.ts'
import type { Sessions } from '../src/sessions/types.ts'
import { channelOf, type PermissionRequest, type Session } from '../src/model/sessions.ts'
import type { Issues } from '../src/issues/types.ts'
import type { Issue } from '../src/model/issues.ts'
import type { InboxEntry } from '../src/model/inbox.ts'
import type { Delivery, Receipt } from '../src/model/sessions.ts'
import type { Runs, Started } from '../src/runs/types.ts'
import { temporaryDirectory } from './temporary.ts'

export const TASK_ID = 'headless_01K00000000000000000000001'

/** A run that ended, with everything a run has. */
export const someRun: Run = {
  taskId: TASK_ID,
  status: 'succeeded',
  reason: null,
  detail: null,
  wsId: 'ws-a',
  agent: 'demo',
  prompt: 'x',
  model: null,
  isolation: 'none',
  resume: null,
  timeoutMs: 1_000,
  idleTimeoutMs: null,
  createdAt: '2026-11-20T09:00:00.000Z',
  startedAt: '2026-11-20T09:00:00.000Z',
  finishedAt: '2026-11-20T09:00:01.000Z',
  durationMs: 1_000,
  lastActivityAt: null,
  lastSeq: 0,
  result: { text: 'done', truncated: false },
  exitCode: 0,
  signal: null,
  usage: { inputTokens: 0, outputTokens: 0, costUsd: null, source: 'none' },
  git: { baseSha: null, headSha: null, branch: null, filesChanged: 0, worktree: null },
  outcome: null,
  inboxIds: [],
  silentWhy: null,
  resumable: false,
  survivors: 0,
  trigger: { kind: 'api', grantId: null, issueId: null, parentTaskId: null },
  retryOf: null,
  metadata: {},
}

/** Runs in memory: the one above, with the events it is given. Everything is as long as a test needs, and no longer. */
export function memoryRuns(
  options: { events?: Event[]; isRunning?: boolean } = {},
): Runs & { append(event: Event): void } {
  const { events = [], isRunning = false } = options
  const listeners = new Set<() => void>()
  const find = (taskId: string): Run => {
    if (taskId !== TASK_ID) throw new DomainError('run_not_found', `there is no run ${taskId}`)
    return { ...someRun, status: isRunning ? 'running' : 'succeeded', lastSeq: events.length }
  }
  const unsupported = (): never => {
    throw new DomainError('diff_not_available', 'this run has none')
  }
  return {
    append(event) {
      events.push(event)
      for (const listener of listeners) listener()
    },
    start: () => Promise.resolve({ run: find(TASK_ID), replayed: false }),
    replay: () => Promise.resolve(undefined),
    retry: (taskId) => Promise.resolve().then(() => ({ run: find(taskId), replayed: false })),
    get: (taskId) => Promise.resolve().then(() => find(taskId)),
    heard: () => Promise.resolve(),
    wait: (taskId) => Promise.resolve().then(() => find(taskId)),
    cancel: (taskId) => Promise.resolve().then(() => find(taskId)),
    list: () =>
      Promise.resolve({ tasks: [find(TASK_ID)], nextCursor: null, capacity: { running: 0, queued: 0, limit: 8 } }),
    scheduled: () => Promise.resolve(undefined),
    async events(taskId, after, limit) {
      find(taskId)
      const page = events.filter(({ seq }) => seq > after).slice(0, limit)
      return { events: page, nextAfter: page.at(-1)?.seq ?? after, lastSeq: events.length }
    },
    async *follow(taskId, after, signal) {
      find(taskId)
      let cursor = after
      while (!signal.aborted) {
        const news = new Promise<void>((resolve) => {
          listeners.add(resolve)
          signal.addEventListener('abort', () => resolve(), { once: true })
        })
        const page = events.filter(({ seq }) => seq > cursor)
        for (const event of page) {
          if (signal.aborted) return
          cursor = event.seq
          yield event
          if (event.type === 'run.ended') return
        }
        if (page.length === 0) await news
      }
    },
    children: (taskId) => Promise.resolve().then(() => [find(taskId)]),
    silent: (taskId) => Promise.resolve().then(() => find(taskId)),
    report: () => Promise.resolve({ to: TASK_ID }),
    output: () => Promise.resolve().then(unsupported),
    diff: () => Promise.resolve().then(unsupported),
    capacity: () => ({ running: isRunning ? 1 : 0, queued: 0, limit: 8 }),
    endedCounts: () => ({ succeeded: 1 }),
    stop: () => Promise.resolve(),
  }
}

export const someEntry: InboxEntry = {
  id: 'inb_01K00000000000000000000001',
  from: 'run',
  wsId: 'ws-a',
  taskId: TASK_ID,
  sessionId: null,
  issueId: null,
  title: 'A result',
  body: 'All is **well**.',
  documents: [],
  damage: null,
  createdAt: '2026-11-20T09:00:00.000Z',
  readAt: null,
}

/** An Inbox with the entry above. */
export function memoryInbox(): Inbox<Started> {
  const event = { seq: 1, at: someEntry.createdAt, type: 'inbox.pushed', id: someEntry.id }
  return {
    push: () => Promise.resolve({ entry: someEntry, replayed: false }),
    list: () => Promise.resolve({ entries: [someEntry], nextCursor: null, unread: 1, damaged: [] }),
    get: () => Promise.resolve(someEntry),
    mark: () => Promise.resolve(someEntry),
    markMany: () => Promise.resolve(1),
    remove: () => Promise.resolve(),
    reply: () => Promise.resolve({ run: someRun, replayed: false }),
    document: () => Promise.resolve({ name: 'a.md', bytes: Buffer.from('x') }),
    pushedBy: () => Promise.resolve([]),
    events: () => Promise.resolve({ events: [event], nextAfter: 1, lastSeq: 1 }),
    async *follow() {
      await Promise.resolve()
      yield event
    },
  }
}

export const SESSION_ID = 'sess_01K00000000000000000000002'
const at = '2026-11-20T09:00:00.000Z'
export const someSession: Session = {
  id: SESSION_ID,
  wsId: 'ws-a',
  agent: 'demo',
  title: null,
  state: 'idle',
  reason: null,
  detail: null,
  model: null,
  permissions: 'edit',
  conversationId: 'c',
  steerable: false,
  waiting: 0,
  turns: 1,
  usage: { inputTokens: 0, outputTokens: 0, costUsd: null, source: 'none' },
  createdAt: at,
  lastActivityAt: null,
  endedAt: null,
  lastSeq: 1,
}
export const someGrant: Grant = {
  id: 'grant_01K00000000000000000000001',
  channel: `postern:/sessions/${SESSION_ID}`,
  sessionId: SESSION_ID,
  verb: 'send_input',
  label: 'ci',
  revoked: false,
  revokedAt: null,
  createdAt: '2026-11-20T09:00:00.000Z',
  expiresAt: '2026-11-27T09:00:00.000Z',
  lastUsedAt: null,
  deliveries: 0,
}
export const someDelivery: Delivery = {
  id: 'dlv_01K00000000000000000000001',
  sessionId: SESSION_ID,
  grantId: someGrant.id,
  label: 'ci',
  taskId: null,
  mode: 'queue',
  message: 'deploy finished',
  from: 'github',
  status: 'delivered',
  reason: null,
  possibleDuplicate: false,
  createdAt: '2026-11-20T09:00:00.000Z',
  deliveredAt: '2026-11-20T09:00:00.000Z',
  confirmedAt: null,
  endedAt: null,
}

/** The text that `memoryChannels` takes for a token. */
export const GOOD_TOKEN = 'good'

/** Channels with the grant above; a message `later` is buffered, every other one delivered. */
export function memoryChannels(): Channels {
  const { revoked: _revoked, expiresAt: _expiresAt, ...row } = someGrant
  const grant = GrantRow.parse({ ...row, exp: 1_796_000_000, createdBy: 'admin', kid: 1 })
  const receipt: Receipt = {
    status: 'delivered',
    deliveryId: someDelivery.id,
    channel: someGrant.channel,
    sessionId: SESSION_ID,
  }
  return {
    mint: () =>
      Promise.resolve({
        minted: {
          grantId: someGrant.id,
          channel: someGrant.channel,
          webhook: `http://127.0.0.1:47331/hook/${GOOD_TOKEN}`,
          token: GOOD_TOKEN,
          verb: 'send_input',
          label: 'ci',
          taskId: null,
          expiresAt: someGrant.expiresAt,
        },
        replayed: true,
      }),
    get: () => Promise.resolve(someGrant),
    list: () => Promise.resolve({ grants: [someGrant], nextCursor: null }),
    revoke: () => Promise.resolve({ ...someGrant, revoked: true }),
    deliveries: () => Promise.resolve({ deliveries: [someDelivery], nextCursor: null }),
    delivery: () => Promise.resolve(someDelivery),
    verify: (token) => Promise.resolve(token === GOOD_TOKEN ? { grant } : { refusal: 'malformed' }),
    take: () => ({ isTaken: true, left: 9, nextMs: 0, fullMs: 2_000 }),
    deliver: (_, { message }) =>
      Promise.resolve({
        receipt: { ...receipt, status: message === 'later' ? 'buffered' : 'delivered' },
        replayed: true,
      }),
    rotateKeys: () => Promise.resolve({ kid: 2, previous: [{ kid: 1, verifyUntil: null }], revoked: [someGrant.id] }),
  }
}

/** Sessions that consist of the one above. `over`: it has ended, and every message waits. */
export function memorySessions(over = false): Sessions {
  const session: Session = over ? { ...someSession, state: 'ended', endedAt: at } : someSession
  const status = over ? ('buffered' as const) : ('delivered' as const)
  const receipt = { status, deliveryId: someDelivery.id, channel: channelOf(SESSION_ID), sessionId: SESSION_ID }
  const event = { seq: 1, at, type: 'session.state', state: 'ended' }
  return {
    open: () => Promise.resolve({ session, replayed: over }),
    get: () => Promise.resolve(session),
    list: () => Promise.resolve({ sessions: [session], nextCursor: null }),
    send: () => Promise.resolve({ receipt, replayed: over }),
    deliver: () => Promise.resolve({ receipt, delivery: someDelivery }),
    report: () => Promise.resolve(),
    receipt: () => Promise.resolve(receipt),
    delivery: () => Promise.resolve(someDelivery),
    deliveries: () => Promise.resolve({ deliveries: [someDelivery], nextCursor: null }),
    revoke: () => Promise.resolve(),
    interrupt: () => Promise.resolve(session),
    end: () => Promise.resolve(session),
    events: (_, after) => Promise.resolve({ events: after < 1 ? [event] : [], nextAfter: 1, lastSeq: 1 }),
    async *follow() {
      await Promise.resolve()
      yield event
    },
    counts: () => ({ live: 0, limit: 8, waiting: 0 }),
    stop: () => Promise.resolve(),
  }
}

export const someRequest: PermissionRequest = {
  id: 'perm_01K00000000000000000000001',
  sessionId: SESSION_ID,
  wsId: 'ws-a',
  agent: 'demo',
  status: 'allowed',
  title: 'run_tests',
  toolCallId: 't',
  kind: 'execute',
  options: [{ id: 'allow', name: 'Allow', kind: 'allow_once' }],
  answer: 'allow',
  answeredBy: 'caller',
  createdAt: at,
  expiresAt: at,
  answeredAt: at,
}
/** Credentials of which one named `old` is set. */
export function memoryCredentials(): Credentials {
  const at = '2026-11-20T09:00:00.000Z'
  const some = { name: 'old', variables: ['A_KEY'], agents: [], usable: true, createdAt: at, updatedAt: at }
  return {
    list: () => Promise.resolve([some]),
    set: ({ name }) => Promise.resolve({ credential: { ...some, name }, created: name !== 'old', replayed: true }),
    remove: () => Promise.resolve(some),
  }
}

export function memoryRequests(): Requests {
  return {
    ask: () => Promise.resolve({ request: someRequest, answered: Promise.resolve(someRequest) }),
    get: () => Promise.resolve(someRequest),
    list: () => Promise.resolve({ requests: [someRequest], nextCursor: null }),
    answer: () => Promise.resolve(someRequest),
    recover: () => Promise.resolve(),
  }
}

export const someIssue: Issue = {
  wsId: 'ws-a',
  issueId: 'brief',
  title: 'Brief',
  status: 'todo',
  priority: 'none',
  when: { kind: 'every', every: '1h' },
  agent: null,
  timeoutMs: null,
  overlap: 'skip',
  catchUp: 'once',
  file: '.postern/issues/brief.md',
  revision: '0123456789abcdef',
  updatedAt: '2026-11-20T09:00:00.000Z',
  nextFire: '2026-11-20T10:00:00.000Z',
  health: 'ok',
  body: 'Do it.\n',
  comments: [],
}

/** The issue above, whatever is asked for. */
export function memoryIssues(): Issues {
  const { body: _body, comments, ...summary } = someIssue
  const comment = { at: '2026-11-20T09:00:00.000Z', author: 'ada', text: 'x' }
  return {
    board: () => Promise.resolve({ issues: [{ ...summary, comments: comments.length }], problems: [] }),
    get: () => Promise.resolve(someIssue),
    create: () => Promise.resolve({ issue: someIssue, replayed: false }),
    update: () => Promise.resolve(someIssue),
    remove: () => Promise.resolve(someIssue),
    comment: () => Promise.resolve({ comment, replayed: false }),
    run: () => Promise.resolve({ run: someRun, replayed: false }),
    schedule: ({ wsId, issueId }) =>
      Promise.resolve({
        wsId,
        issueId,
        when: someIssue.when,
        health: 'ok' as const,
        nextFires: [],
        waiting: null,
        lastFire: null,
        lastMiss: null,
      }),
    preview: (when) => ({ when, fires: [] }),
  }
}

export interface TestHttp extends AsyncDisposable {
  /** A key as an agent process gets one. */
  mintToken: ProcessTokens['mint']
  url: string
  port: number
  dataDir: string
  token: string
  logged: string[]
  close(): Promise<void>
}

/** The boundary alone, over nouns in memory: for its own limits, and for failures that no noun has. */
export async function startHttp(
  options: {
    config?: Partial<Config>
    runs?: Partial<Runs>
    limits?: HttpLimits
    clock?: Clock
    level?: LogLevel
    /** What listing and probing agents fail with; undefined: they do not. */
    failure?: () => unknown
  } & Partial<
    Pick<
      HttpDeps,
      | 'isDraining'
      | 'runProcesses'
      | 'workspaces'
      | 'inbox'
      | 'issues'
      | 'channels'
      | 'channelLimits'
      | 'sessions'
      | 'requests'
      | 'credentials'
    >
  > = {},
): Promise<TestHttp> {
  const directory = await temporaryDirectory()
  const config: Config = {
    ...ConfigFile.parse({}),
    host: '127.0.0.1',
    port: 0,
    portNamed: true,
    dataDir: directory.path,
    ...options.config,
  }
  const none = (): never => {
    throw new DomainError('workspace_not_found', 'there are no workspaces here')
  }
  const told = async <T>(value: T): Promise<T> => {
    const failure = options.failure?.()
    if (failure !== undefined) throw failure
    return value
  }
  const logged: string[] = []
  const processTokens = createProcessTokens()
  const http = await createHttp({
    runs: { ...memoryRuns(), ...options.runs },
    workspaces: options.workspaces ?? {
      create: () => Promise.resolve().then(none),
      list: () => Promise.resolve([] as Workspace[]),
      get: () => Promise.resolve().then(none),
      update: () => Promise.resolve().then(none),
      remove: () => Promise.resolve().then(none),
      directory: () => Promise.resolve().then(none),
    },
    inbox: options.inbox ?? memoryInbox(),
    channels: options.channels ?? memoryChannels(),
    ...(options.channelLimits && { channelLimits: options.channelLimits }),
    sessions: options.sessions ?? memorySessions(),
    requests: options.requests ?? memoryRequests(),
    credentials: options.credentials ?? memoryCredentials(),
    issues: options.issues ?? memoryIssues(),
    agents: { all: () => [], find: () => undefined, noteUnknown: () => undefined, info: () => told([]) },
    probe: (agent) => told({ agent, ok: true, reason: null, detail: null, text: 'ready', durationMs: 1 }),
    processTokens,
    config,
    clock: options.clock ?? systemClock,
    log: createLogger({ level: options.level ?? 'debug', write: (line) => void logged.push(line) }),
    version: '0.0.0-test',
    isDraining: options.isDraining ?? (() => false),
    runProcesses: options.runProcesses ?? (() => new Set()),
    ...(options.limits && { limits: options.limits }),
  })
  const { url, port } = await http.listen()
  const token = (await readFile(`${config.dataDir}/admin-token`, 'utf8')).trim()
  return {
    url,
    port,
    dataDir: directory.path,
    token,
    mintToken: processTokens.mint,
    logged,
    close: http.close,
    async [Symbol.asyncDispose]() {
      await http.close()
      await directory[Symbol.asyncDispose]()
    },
  }
}
