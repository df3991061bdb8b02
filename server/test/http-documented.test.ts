import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { z } from 'zod'
import { DomainError, ERRORS, type ErrorCode } from '../src/errors.ts'
import { openApiDocument, type Operation } from '../src/http/openapi.ts'
import type { Workspace } from '../src/model.ts'
import type { OutputFile, Runs } from '../src/runs/types.ts'
import { writeFile } from 'node:fs/promises'
import {
  GOOD_TOKEN,
  memoryChannels,
  memoryCredentials,
  memoryInbox,
  memoryIssues,
  memoryRuns,
  someDelivery,
  someEntry,
  someGrant,
  memoryRequests,
  memorySessions,
  SESSION_ID,
  someRequest,
  someRun,
  startHttp,
  TASK_ID,
  type TestHttp,
} from './http-harness.ts'
import { rawConnection, parseAnswer, rawRequest, type RawAnswer } from './raw-http.ts'
import { temporaryDirectory } from './temporary.ts'

/**
 * Every documented status of every operation, with each of its codes, is produced here once over a real socket, and
 * every answer is checked against the document. What nouns refuse is refused here by nouns that were told to; that the
 * real ones do so is shown by their own tests.
 */
const document = openApiDocument('0.0.0-test')
const operations = Object.entries(document.paths).flatMap(([path, item]) =>
  Object.entries(item).map(([method, operation]) => ({ path, method: method.toUpperCase(), operation })),
)
type Op = (typeof operations)[number]
const byId = (id: string): Op => {
  const found = operations.find(({ operation }) => operation.operationId === id)
  if (!found) throw new Error(`no operation ${id}`)
  return found
}

const workspace: Workspace = {
  id: 'ws-a',
  tag: 'a',
  path: '/tmp/a',
  managed: true,
  agents: ['demo'],
  defaultAgent: 'demo',
  credentials: [],
  permissions: 'edit',
  onRequest: 'ask',
  childWorkspaces: [],
  nudge: false,
  budget: {},
  maxRuns: null,
  createdAt: '2026-11-20T09:00:00.000Z',
}

/** What the nouns are told to refuse with; and whether work is at hand or over. */
let failure: unknown
let http: TestHttp
let busy: TestHttp
const seen = new Set<string>()

/** The noun, unless it was told to fail. */
function obedient<T extends object>(noun: T): T {
  return new Proxy(noun, {
    get: (target, name) => {
      const own: unknown = Reflect.get(target, name)
      if (typeof own !== 'function') return own
      return (...given: unknown[]): unknown => {
        if (failure !== undefined && name !== 'capacity' && name !== 'endedCounts' && name !== 'counts') throw failure
        return Reflect.apply(own, target, given)
      }
    },
  })
}

beforeAll(async () => {
  const directory = await temporaryDirectory()
  await writeFile(`${directory.path}/stdout.log`, '0123456789')
  const file: OutputFile = { path: `${directory.path}/stdout.log`, sizeBytes: 10, truncated: false, complete: true }
  const events = [{ seq: 1, at: '2026-11-20T09:00:00.000Z', type: 'run.ended' }]
  const runs: Runs = {
    ...memoryRuns({ events }),
    output: () => Promise.resolve(file),
    diff: () => Promise.resolve(Buffer.from('diff --git a/x b/x\n')),
  }
  const workspaces = {
    create: () => Promise.resolve({ workspace, replayed: false }),
    list: () => Promise.resolve([workspace]),
    get: () => Promise.resolve(workspace),
    update: () => Promise.resolve(workspace),
    remove: () => Promise.resolve(workspace),
    directory: () => Promise.resolve('/tmp/a'),
  }
  const options = {
    workspaces: obedient(workspaces),
    inbox: obedient(memoryInbox()),
    channels: obedient(memoryChannels()),
    credentials: obedient(memoryCredentials()),
    channelLimits: { failuresPerSource: 3 },
    sessions: obedient(memorySessions()),
    requests: obedient(memoryRequests()),
    issues: obedient(memoryIssues()),
    limits: { headersMs: 600, requestMs: 600 },
    failure: () => failure,
    level: 'silent' as const,
    config: { trustedProxies: ['127.0.0.1'] },
  }
  http = await startHttp({ ...options, runs: obedient(runs) })
  const unfinished = { ...someRun, status: 'running' as const }
  busy = await startHttp({
    ...options,
    sessions: memorySessions(true),
    runs: {
      ...runs,
      start: () => Promise.resolve({ run: unfinished, replayed: true }),
      wait: () => Promise.resolve(unfinished),
    },
    isDraining: () => true,
  })
})
afterAll(async () => {
  await http[Symbol.asyncDispose]()
  await busy[Symbol.asyncDispose]()
})

const PARAMETERS: Record<string, string> = {
  taskId: TASK_ID,
  index: '0',
  grantId: someGrant.id,
  token: GOOD_TOKEN,
  issueId: 'brief',
  name: 'old',
}
/** What `{id}` names, by the noun of the operation. */
const IDS: Record<string, string> = {
  agents: 'demo',
  inbox: someEntry.id,
  deliveries: someDelivery.id,
  sessions: SESSION_ID,
  requests: someRequest.id,
}
const fill = ({ path, operation }: Op, ids = true): string =>
  path.replace(/\{(\w+)\}/g, (_, name: string) =>
    ids ? (PARAMETERS[name] ?? IDS[operation.operationId.split('.')[0] ?? ''] ?? 'ws-a') : '-NOPE',
  )
const BODIES: Record<string, unknown> = {
  'runs.create': { prompt: 'x' },
  'workspaces.create': { tag: 'a' },
  'workspaces.update': { tag: 'b' },
  'channels.create': { sessionId: someGrant.sessionId },
  'keys.rotate': {},
  'credentials.set': { name: 'new', variables: { A_KEY: 'value' } },
  'hook.knock': { message: 'x' },
  'hook.send': { message: 'x' },
  'runs.silent': { why: 'nothing changed' },
  'runs.report': { message: 'half way' },
  'inbox.push': { title: 'A result' },
  'inbox.mark': { all: true },
  'inbox.reply': { message: 'x' },
  'sessions.create': { wsId: 'ws-a' },
  'sessions.input': { message: 'x' },
  'requests.answer': { answer: 'allow' },
  'issues.create': { title: 'Brief' },
  'issues.update': { status: 'done' },
  'issues.comment': { text: 'x' },
}

/** What is sent as `Authorization: Bearer` unless a test says otherwise. */
function tokenFor({ operation }: Op, on: TestHttp): string | null {
  if (operation.operationId === 'hook.knock') return null
  return operation.operationId === 'hook.send' ? GOOD_TOKEN : on.token
}
const isHook = ({ operation }: Op): boolean => operation.operationId.startsWith('hook.')
/** Of operations that need one. */
const QUERIES: Record<string, string> = { 'issues.preview': '?every=1h' }

/** Calls the operation in the way the document says, with the admin token; `change` makes it go wrong. */
async function call(
  op: Op,
  change: {
    on?: TestHttp
    query?: string
    headers?: string[]
    body?: string
    host?: string
    token?: string | null
    ids?: boolean
  } = {},
): Promise<RawAnswer> {
  const { on = http, headers = [], host, token = tokenFor(op, on), ids = true } = change
  const query = change.query ?? QUERIES[op.operation.operationId] ?? ''
  const given = BODIES[op.operation.operationId]
  const body = change.body ?? (given === undefined ? '' : JSON.stringify(given))
  const answer = await rawRequest(on.port, {
    line: `${op.method} ${fill(op, ids)}${query}`,
    headers: [
      ...(token === null ? [] : [`Authorization: Bearer ${token}`]),
      ...(body === '' ? [] : [`Content-Length: ${Buffer.byteLength(body)}`]),
      ...(body === '' || headers.some((line) => line.startsWith('Content-Type'))
        ? []
        : ['Content-Type: application/json']),
      ...headers,
    ],
    body,
    ...(host !== undefined && { host }),
  })
  check(op, answer)
  return answer
}

type Media = Record<string, { schema: Record<string, unknown> }>

/** The answer is one that the document has: status, media type, body, and for a problem its code. */
function check({ operation }: Op, answer: RawAnswer): void {
  const id = operation.operationId
  const response = operation.responses[String(answer.status)]
  expect(response, `${id} ${answer.status}: ${answer.body.slice(0, 300)}`).toBeDefined()
  expect(Object.keys(response?.['headers'] as object)).toContain('X-Request-Id')
  expect(answer.headers['x-request-id']).toBeTruthy()
  for (const name of [
    'location',
    'retry-after',
    'preference-applied',
    'idempotency-replayed',
    'content-range',
    'www-authenticate',
  ]) {
    if (answer.headers[name] === undefined) continue
    const documented = Object.keys(response?.['headers'] as object).map((each) => each.toLowerCase())
    expect(documented, `${id} ${answer.status}`).toContain(name)
  }
  const content = (response?.['content'] ?? {}) as Media
  const type = answer.headers['content-type']
  if (answer.status === 204) expect([Object.keys(content), answer.body, type]).toEqual([[], '', undefined])
  else expect(Object.keys(content)).toContain(type)
  const schema = content[type ?? '']?.schema
  if (schema && type?.endsWith('json')) {
    const parsed = schemaOf(schema).safeParse(answer.json)
    expect(parsed.error?.issues ?? [], `${id} ${answer.status}`).toEqual([])
  }
  const codes = response?.['x-codes'] as string[] | undefined
  if (codes) expect(codes, `${id} ${answer.status}`).toContain(answer.json?.['code'])
  seen.add(`${id} ${answer.status} ${codes ? String(answer.json?.['code']) : (type ?? '')}`)
}

const compiled = new Map<string, z.ZodType>()
function schemaOf(schema: Record<string, unknown>): z.ZodType {
  const key = JSON.stringify(schema)
  const known = compiled.get(key)
  if (known) return known
  const local = (node: unknown): unknown =>
    JSON.parse(JSON.stringify(node).replaceAll('#/components/schemas/', '#/$defs/')) as unknown
  const made = z.fromJSONSchema({ ...(local(schema) as object), $defs: local(document.components.schemas) } as never)
  compiled.set(key, made)
  return made
}

async function told<T>(error: unknown, work: () => Promise<T>): Promise<T> {
  failure = error
  try {
    return await work()
  } finally {
    failure = undefined
  }
}

/** The field that is a prompt, where it has another name. */
const PROMPTS: Record<string, string> = { 'inbox.reply': 'message', 'issues.create': 'body', 'issues.update': 'body' }

/** Codes that the boundary decides by itself; all others come from nouns. */
const OWN: Partial<Record<ErrorCode, (op: Op) => Promise<unknown>>> = {
  bad_request: (op) => call(op, { headers: ['Upgrade: websocket'] }),
  unknown_field: (op) => call(op, isHook(op) ? { body: '{"message":"x","nope":1}' } : { query: '?nope=1' }),
  // Each from an address of its own: failures are counted by it.
  invalid_token: (op) => call(op, { token: 'x', headers: [`X-Forwarded-For: 192.0.2.${operations.indexOf(op)}`] }),
  token_required: (op) => call(op, { token: null }),
  insufficient_scope: (op) => {
    const stranger = { taskId: 'headless_01K00000000000000000000009', sessionId: null, wsId: 'ws-b' }
    const { token } = http.mintToken(stranger)
    const body = op.operation.operationId === 'inbox.push' ? { body: '{"title":"x","wsId":"ws-a"}' } : {}
    return call(op, { token, ...body })
  },
  host_not_allowed: (op) => call(op, { host: 'evil.example' }),
  origin_not_allowed: (op) => call(op, { headers: ['Origin: null'] }),
  headers_too_large: (op) => call(op, { headers: Array.from({ length: 100 }, (_, i) => `A${i}: 1`) }),
  invalid_json: (op) => call(op, { body: '{' }),
  payload_too_large: (op) => call(op, { body: ' '.repeat(1_048_577) }),
  unsupported_media_type: (op) => call(op, { headers: ['Content-Type: text/plain'] }),
  prompt_too_long: (op) =>
    call(op, {
      body: JSON.stringify({
        ...(BODIES[op.operation.operationId] as object),
        [PROMPTS[op.operation.operationId] ?? 'prompt']: 'x'.repeat(16_001),
      }),
    }),
  idempotency_key_invalid: (op) => call(op, { headers: ['Idempotency-Key: a b'] }),
  range_not_satisfiable: (op) => call(op, { headers: ['Range: bytes=99-'] }),
  validation_failed: (op) => {
    if (op.operation.requestBody) return call(op, { body: '[]' })
    const query = (op.operation.parameters ?? []).find((parameter) => parameter['in'] === 'query')
    return query ? call(op, { query: `?${String(query['name'])}=%00` }) : call(op, { headers: ['Prefer: wait=0'] })
  },
  async request_timeout(op) {
    const connection = await rawConnection(http.port)
    const bearer = tokenFor(op, http)
    const token = bearer === null ? 'X-Nothing: 1' : `Authorization: Bearer ${bearer}`
    connection.socket.write(
      `${op.method} ${fill(op)} HTTP/1.1\r\nHost: 127.0.0.1:${http.port}\r\n${token}\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{`,
    )
    await connection.closed
    check(op, parseAnswer(connection.received()))
  },
}
/** Operations that ask no noun: nothing they do can fail, as far as we know. */
const INFALLIBLE = ['server.health', 'server.ready', 'server.metrics', 'server.openapi']

const codesOf = (operation: Operation): ErrorCode[] =>
  Object.values(operation.responses).flatMap((response) => (response['x-codes'] ?? []) as ErrorCode[])

describe.each(operations)('$operation.operationId', (op) => {
  const { operation } = op

  test('answers as documented', async () => {
    const id = operation.operationId
    await call(op)
    if (id === 'runs.create') {
      await call(op, { body: '{"prompt":"x","wait":true}' })
      await call(op, { headers: ['Accept: text/event-stream'] })
      await call(op, { on: busy, headers: ['Prefer: wait=1', 'Idempotency-Key: k'] })
    }
    if (isHook(op)) await call(op, { body: '{"message":"later"}' })
    if (id === 'credentials.set') await call(op, { body: '{"name":"old","variables":{"A_KEY":"value"}}' })
    if (id === 'runs.retry' || id === 'inbox.reply' || id === 'issues.run')
      await call(op, { headers: ['Prefer: wait=1'] })
    if (id === 'runs.get') await call(op, { headers: ['Prefer: wait=1'] })
    if (id === 'runs.output') await call(op, { headers: ['Range: bytes=0-1'] })
    if (id === 'inbox.events') await call(op, { headers: ['Accept: text/event-stream'] })
    if (id === 'sessions.input') await call(op, { on: busy })
    if (id === 'sessions.events') {
      await call(op, { headers: ['Accept: text/event-stream'] })
      await call(op, { on: busy, headers: ['Accept: text/event-stream', 'Last-Event-ID: 1'] })
    }
    if (id === 'runs.events') {
      await call(op, { headers: ['Accept: text/event-stream'] })
      await call(op, { headers: ['Accept: text/event-stream', 'Last-Event-ID: 1'] })
    }
    for (const [status, response] of Object.entries(operation.responses)) {
      if (Number(status) >= 300) continue
      const types = Object.keys(response['content'] ?? {})
      for (const type of types.length > 0 ? types : ['']) expect(seen).toContain(`${id} ${status} ${type}`)
    }
  })

  test.each(codesOf(operation).filter((code) => code !== 'too_many_failures'))(
    'refuses with %s as documented',
    async (code) => {
      if (code === 'internal_error') {
        if (INFALLIBLE.includes(operation.operationId)) return
        await told(new Error('unexpected'), () => call(op))
      } else if (code === 'draining' && operation.operationId === 'server.ready') await call(op, { on: busy })
      else if (OWN[code]) await OWN[code](op)
      else
        await told(
          new DomainError(code, 'as told', { retryAfterSeconds: ERRORS[code].retryable ? 1 : undefined } as never),
          () => call(op),
        )
      expect(seen).toContain(`${operation.operationId} ${ERRORS[code].status} ${code}`)
    },
  )

  test('knows no id that nothing can have', async () => {
    if (!op.path.includes('{') || isHook(op)) return
    expect((await call(op, { ids: false })).status).toBe(404)
  })
})

test('the eleventh bad token is refused as documented, by every operation', async () => {
  const guarded = operations.filter((op) => !isHook(op))
  for (const op of guarded) {
    for (let i = 0; i < 2; i++) await call(op, { token: 'x' })
  }
  for (const op of guarded) expect((await call(op, { token: 'x' })).json?.['code']).toBe('too_many_failures')
})

test('too many bad channel tokens are refused as documented, by both forms of the hook', async () => {
  for (const op of operations.filter(isHook)) {
    const bad = op.path.includes('{') ? { ids: false } : { token: 'x' }
    const answers = await Promise.all(Array.from({ length: 10 }, () => call(op, bad)))
    expect(new Set(answers.map(({ json }) => json?.['code']))).toContain('too_many_failures')
  }
})

test('stopping and a disk that takes nothing make a start a 500 that may be repeated', async () => {
  for (const id of ['runs.create', 'runs.retry']) {
    for (const code of ['draining', 'storage_unavailable'] as const) {
      const answer = await told(new DomainError(code, 'as told', { retryAfterSeconds: 5 }), () => call(byId(id)))
      expect([answer.status, answer.json?.['code'], answer.json?.['retryable']]).toEqual([
        500,
        'run_not_recorded',
        true,
      ])
      expect(answer.headers['retry-after']).toBe('5')
    }
  }
})

test('an answer that does not fit the document would be found', () => {
  const schema = schemaOf({ $ref: '#/components/schemas/Run' })
  expect(schema.safeParse(someRun).success).toBe(true)
  expect(schema.safeParse({ ...someRun, more: 1 }).success).toBe(true)
  for (const wrong of [{ status: 'odd' }, { prompt: 5 }, { usage: {} }, { taskId: 'x' }, { lastSeq: undefined }]) {
    expect(schema.safeParse(JSON.parse(JSON.stringify({ ...someRun, ...wrong }))).success).toBe(false)
  }
})
