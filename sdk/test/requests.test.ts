import { setTimeout as delay } from 'node:timers/promises'
import { describe, expect, test } from 'vitest'
import {
  AuthError,
  BadRequestError,
  CapacityError,
  ConflictError,
  ConnectionError,
  ForbiddenError,
  GoneError,
  IdempotencyError,
  NotFoundError,
  Postern,
  PosternError,
  ServerError,
} from '../src/index.ts'
import { TASK, ended, json, nowhere, problem, run, serve } from './server.ts'

/** Far from the 30 s and 60 s that these would take otherwise; a free machine needs a few milliseconds. */
const AT_ONCE_MS = 2_000
const prompt = { wsId: 'ws-news', prompt: 'Look around' } as const
const failure = (call: Promise<unknown>): Promise<unknown> =>
  call.then(
    () => undefined,
    (error: unknown) => error,
  )

describe('a start', () => {
  test('is repeated with one key through 503, 503 and 202', async () => {
    await using server = await serve((_, response, count) =>
      count < 3 ? problem(response, 503, 'draining') : json(response, 202, run()),
    )
    const started = await new Postern({ url: server.url }).runs.create(prompt)
    expect(started.taskId).toBe(TASK)
    expect(server.received).toHaveLength(3)
    const keys = server.received.map(({ headers }) => headers['idempotency-key'])
    expect(new Set(keys).size).toBe(1)
    expect(keys[0]).toMatch(/^[\x21-\x7e]{16,255}$/)
    expect(new Set(server.received.map(({ body }) => body))).toEqual(
      new Set([JSON.stringify({ prompt: 'Look around' })]),
    )
    expect(server.received[0]?.path).toBe('/api/workspaces/ws-news/headless')
  })

  test('sends another key each time it is called, or the one it is given', async () => {
    await using server = await serve((_, response) => json(response, 202, run()))
    const { runs } = new Postern({ url: server.url })
    await runs.create(prompt)
    await runs.create(prompt)
    await runs.create(prompt, { idempotencyKey: 'build-812' })
    await runs.retry(TASK)
    await runs.cancel(TASK)
    const keys = server.received.map(({ headers }) => headers['idempotency-key'])
    expect(new Set(keys).size).toBe(5)
    expect(keys).not.toContain(undefined)
    expect(keys[2]).toBe('build-812')
  })

  test('whose connection breaks before the answer is whole is repeated with the same key', async () => {
    await using server = await serve((_, response, count) => {
      if (count === 1) return void response.socket?.destroy()
      if (count === 2) {
        response.writeHead(202, { 'content-type': 'application/json', 'content-length': '500' })
        response.write('{"taskId":')
        return void setTimeout(() => response.socket?.destroy(), 10)
      }
      return json(response, 202, run())
    })
    expect((await new Postern({ url: server.url }).runs.create(prompt)).taskId).toBe(TASK)
    expect(new Set(server.received.map(({ headers }) => headers['idempotency-key'])).size).toBe(1)
  })

  test('is repeated while the first with its key is in flight, but not on any other 409', async () => {
    await using server = await serve((request, response, count) => {
      if (request.path.endsWith('/retry')) return problem(response, 409, 'resume_busy', { retryable: true })
      if (count === 1)
        return problem(response, 409, 'idempotency_in_flight', { retryable: true }, { 'retry-after': '1' })
      return json(response, 202, run())
    })
    const { runs } = new Postern({ url: server.url })
    await runs.create(prompt)
    expect(server.received).toHaveLength(2)
    await expect(runs.retry(TASK)).rejects.toThrow(ConflictError)
    expect(server.received).toHaveLength(3)
  })
})

describe('repetitions', () => {
  test('obey Retry-After', async () => {
    await using server = await serve((_, response, count) =>
      count === 1 ? problem(response, 429, 'capacity_reached', {}, { 'retry-after': '1' }) : json(response, 202, run()),
    )
    await new Postern({ url: server.url }).runs.create(prompt)
    const [first, second] = server.received
    expect((second?.at ?? 0) - (first?.at ?? 0)).toBeGreaterThanOrEqual(995)
  })

  test('do not wait longer than a minute: the caller is told instead', async () => {
    await using server = await serve((_, response) =>
      problem(response, 429, 'capacity_reached', {}, { 'retry-after': '61' }),
    )
    const error = await failure(new Postern({ url: server.url }).runs.create(prompt))
    expect(error).toBeInstanceOf(CapacityError)
    expect(error).toMatchObject({ retryAfterMs: 61_000, retryable: true, status: 429 })
    expect(server.received).toHaveLength(1)
  })

  test('follow what the server says of a code, whatever its status', async () => {
    await using server = await serve((request, response) =>
      request.method === 'POST'
        ? problem(response, 500, 'run_not_recorded', { retryable: true })
        : problem(response, 503, 'storage_unavailable', { retryable: false }),
    )
    const { runs } = new Postern({ url: server.url })
    await expect(runs.get(TASK)).rejects.toThrow(ServerError)
    expect(server.received).toHaveLength(1)
    await expect(runs.create(prompt)).rejects.toMatchObject({ code: 'run_not_recorded' })
    expect(server.received).toHaveLength(4)
  })

  test('happen by status alone when something before the server answers', async () => {
    await using server = await serve((_, response, count) => {
      response.writeHead(count === 1 ? 502 : 500, { 'content-type': 'text/html' })
      response.end('<h1>Bad gateway</h1>')
    })
    const error = await failure(new Postern({ url: server.url }).runs.get(TASK))
    expect(error).toBeInstanceOf(ServerError)
    expect(error).toMatchObject({ code: 'unexpected_answer', status: 500, retryable: false })
    expect(server.received).toHaveLength(2)
  })

  test('end after two', async () => {
    await using server = await serve((_, response) => problem(response, 503, 'draining'))
    await expect(new Postern({ url: server.url }).runs.get(TASK)).rejects.toMatchObject({ code: 'draining' })
    expect(server.received).toHaveLength(3)
    await expect(new Postern({ url: server.url, retries: 0 }).runs.get(TASK)).rejects.toThrow(ServerError)
    expect(server.received).toHaveLength(4)
  })
})

describe('errors', () => {
  const cases = [
    [400, 'validation_failed', BadRequestError],
    [413, 'payload_too_large', BadRequestError],
    [401, 'token_required', AuthError],
    [403, 'insufficient_scope', ForbiddenError],
    [404, 'run_not_found', NotFoundError],
    [409, 'not_retryable', ConflictError],
    [410, 'log_retired', GoneError],
    [422, 'idempotency_mismatch', IdempotencyError],
    [429, 'capacity_reached', CapacityError],
    [500, 'internal_error', ServerError],
  ] as const
  test.each(cases)('%i %s has its class and carries what the server said', async (status, code, type) => {
    await using server = await serve((_, response) =>
      problem(response, status, code, { retryable: false, hint: 'do this', detail: 'what it is' }),
    )
    const error = await failure(new Postern({ url: server.url }).runs.create(prompt))
    expect(error).toBeInstanceOf(type)
    expect(error).toBeInstanceOf(PosternError)
    expect(error).toMatchObject({
      code,
      status,
      requestId: 'req_1',
      retryable: false,
      detail: 'what it is',
      hint: 'do this',
    })
    expect((error as Error).message).toBe('what it is')
    expect((error as Error).name).toBe(type.name)
  })

  test('of a refused body point to its fields', async () => {
    await using server = await serve((_, response) => {
      const errors = [{ pointer: '/timeoutMs', detail: 'expected number' }]
      json(response, 400, { code: 'validation_failed', detail: 'no', retryable: false, status: 400, errors })
    })
    await expect(new Postern({ url: server.url }).runs.create(prompt)).rejects.toMatchObject({
      errors: [{ pointer: '/timeoutMs', detail: 'expected number' }],
    })
  })

  test('a refused connection is a ConnectionError that names address and cause', async () => {
    const url = await nowhere()
    const error = await failure(new Postern({ url }).runs.get(TASK))
    expect(error).toBeInstanceOf(ConnectionError)
    expect(error).toMatchObject({ code: 'connection_failed', status: undefined, retryable: true })
    expect((error as Error).message).toContain(url)
    expect((error as Error).message).toContain('ECONNREFUSED')
  })

  test('an answer that does not come, or does not end, is a ConnectionError after the timeout', async () => {
    await using server = await serve((request, response) => {
      if (request.method === 'GET') return
      response.writeHead(202, { 'content-type': 'application/json' })
      response.write('{')
    })
    const { runs } = new Postern({ url: server.url, timeoutMs: 100 })
    for (const call of [runs.get(TASK), runs.create(prompt)]) {
      const error = await failure(call)
      expect(error).toBeInstanceOf(ConnectionError)
      expect(error).toMatchObject({ code: 'request_timed_out' })
    }
    expect(server.received).toHaveLength(2)
    await expect(runs.get(TASK, { timeoutMs: 50 })).rejects.toThrow('50 ms')
  })

  test('a 2xx that is not JSON is not taken for an answer', async () => {
    await using server = await serve((_, response) => {
      response.writeHead(200, { 'content-type': 'text/html' })
      response.end('<h1>Log in to this network</h1>')
    })
    await expect(new Postern({ url: server.url }).runs.get(TASK)).rejects.toMatchObject({ code: 'unexpected_answer' })
  })

  test('a redirect is refused: a start must not become a read', async () => {
    await using server = await serve((_, response) => void response.writeHead(301, { location: '/elsewhere' }).end())
    await expect(new Postern({ url: server.url, retries: 0 }).runs.create(prompt)).rejects.toThrow(ConnectionError)
    expect(server.received).toHaveLength(1)
  })
})

describe('an abort', () => {
  test('ends a request at once, and a wait between repetitions', async () => {
    await using server = await serve((request, response) => {
      if (request.method === 'POST') problem(response, 503, 'draining', {}, { 'retry-after': '30' })
    })
    const { runs } = new Postern({ url: server.url })
    for (const start of [
      (signal: AbortSignal) => runs.get(TASK, { signal }),
      (signal: AbortSignal) => runs.create(prompt, { signal }),
    ]) {
      const abort = new AbortController()
      const call = failure(start(abort.signal))
      await delay(100)
      const since = performance.now()
      abort.abort(new Error('enough'))
      expect(await call).toMatchObject({ message: 'enough' })
      expect(performance.now() - since).toBeLessThan(AT_ONCE_MS)
    }
  })

  test('that came first sends nothing', async () => {
    await using server = await serve((_, response) => json(response, 200, run()))
    const call = new Postern({ url: server.url }).runs.get(TASK, { signal: AbortSignal.abort() })
    await expect(call).rejects.toMatchObject({ name: 'AbortError' })
    expect(server.received).toHaveLength(0)
  })
})

describe('a call', () => {
  test('returns the plain object, and with its response on demand', async () => {
    await using server = await serve((_, response) =>
      json(response, 202, run(), { 'idempotency-replayed': 'true', 'x-request-id': 'req_7' }),
    )
    const { runs } = new Postern({ url: server.url })
    expect(await runs.create(prompt)).toEqual(run())
    const answer = await runs.create(prompt).withResponse()
    expect(answer).toMatchObject({ data: run(), status: 202, requestId: 'req_7' })
    expect(answer.headers.get('idempotency-replayed')).toBe('true')
  })

  test('that fails is told once, to whoever asked for the response', async () => {
    await using server = await serve((_, response) => problem(response, 404, 'run_not_found'))
    await expect(new Postern({ url: server.url }).runs.get(TASK).withResponse()).rejects.toThrow(NotFoundError)
  })

  test('carries the token, encodes the path and keeps that of the address', async () => {
    await using server = await serve((_, response) => json(response, 200, run()))
    const postern = new Postern({ url: `${server.url}/door/`, token: 'pstn_adm1_x' })
    await postern.runs.get('headless_a/b c')
    expect(server.received[0]?.path).toBe('/door/api/headless/headless_a%2Fb%20c')
    expect(server.received[0]?.headers.authorization).toBe('Bearer pstn_adm1_x')
  })

  test('uses the fetch and tells the logger it was given, without the token', async () => {
    await using server = await serve((_, response, count) =>
      count === 1 ? problem(response, 503, 'draining') : json(response, 200, run()),
    )
    const lines: string[] = []
    let fetched = 0
    const postern = new Postern({
      url: server.url,
      token: 'pstn_adm1_secret',
      fetch: (input, init) => {
        fetched += 1
        return fetch(input, init)
      },
      logger: { debug: (line) => lines.push(line), warn: (line) => lines.push(line) },
    })
    await postern.runs.get(TASK)
    expect(fetched).toBe(2)
    expect(lines.filter((line) => / 503 | 200 /.test(line) && !line.includes('again in'))).toHaveLength(2)
    expect(lines.filter((line) => /draining.*again in/.test(line))).toHaveLength(1)
    expect(lines.join('\n')).not.toContain('secret')
  })

  test('reads text as text', async () => {
    await using server = await serve((request, response) => {
      response.writeHead(200, {
        'content-type': request.path.includes('diff') ? 'text/x-diff' : 'text/plain; charset=utf-8',
      })
      response.end(request.path.includes('empty') ? '' : '{"not":"parsed"} grüße')
    })
    const { runs } = new Postern({ url: server.url })
    expect(await runs.output(TASK, { stream: 'stderr', tailBytes: 10 })).toBe('{"not":"parsed"} grüße')
    expect(await runs.diff(TASK)).toBe('{"not":"parsed"} grüße')
    expect(await runs.output('headless_empty')).toBe('')
    expect(server.received[0]?.path).toBe(`/api/headless/${TASK}/output?stream=stderr&tailBytes=10`)
  })

  test('has a way out for what has no method', async () => {
    await using server = await serve((request, response) =>
      request.path.startsWith('/missing')
        ? problem(response, 404, 'not_found')
        : json(response, 200, { method: request.method, path: request.path, body: request.body }),
    )
    const postern = new Postern({ url: server.url, token: 'pstn_adm1_x' })
    const answer = await postern.raw('/api/new', { method: 'POST', query: { a: 'b c', d: undefined }, body: { e: 1 } })
    expect(await answer.json()).toEqual({ method: 'POST', path: '/api/new?a=b+c', body: '{"e":1}' })
    expect(server.received[0]?.headers).toMatchObject({ authorization: 'Bearer pstn_adm1_x' })
    expect(server.received[0]?.headers['idempotency-key']).toBeDefined()
    await expect(postern.raw('/missing')).rejects.toThrow(NotFoundError)
  })
})

describe('a list', () => {
  const page = (path: string): { tasks: unknown[]; nextCursor: string | null; capacity: unknown } => {
    const cursor = Number(new URL(path, 'http://x').searchParams.get('cursor') ?? 0)
    return {
      tasks: [ended({ taskId: `headless_${cursor}a` }), ended({ taskId: `headless_${cursor}b` })],
      nextCursor: cursor < 2 ? String(cursor + 1) : null,
      capacity: { running: 0, queued: 0, limit: 8 },
    }
  }

  test('pages itself to the end', async () => {
    await using server = await serve((request, response) => json(response, 200, page(request.path)))
    const found: string[] = []
    const list = new Postern({ url: server.url }).runs.list({ wsId: 'ws-news', status: 'failed', pageSize: 2 })
    for await (const each of list) found.push(each.taskId)
    expect(found).toEqual(['0a', '0b', '1a', '1b', '2a', '2b'].map((id) => `headless_${id}`))
    expect(server.received[1]?.path).toBe('/api/headless?wsId=ws-news&status=failed&limit=2&cursor=1')
  })

  test('asks for no page in vain, and gives one as the API answers it', async () => {
    await using server = await serve((request, response) => json(response, 200, page(request.path)))
    const list = new Postern({ url: server.url }).runs.list()
    expect(await list.toArray({ limit: 2 })).toHaveLength(2)
    expect(server.received).toHaveLength(1)
    expect(await list.toArray({ limit: 3 })).toHaveLength(3)
    expect(await list.toArray({ limit: 0 })).toEqual([])
    expect(await list.toArray()).toHaveLength(6)
    expect(await list.page({ cursor: '2' })).toEqual(page('/?cursor=2'))
  })

  test('of workspaces and of agents is used the same way', async () => {
    await using server = await serve((request, response) =>
      json(
        response,
        200,
        request.path === '/api/agents' ? { agents: [{ id: 'demo' }] } : { workspaces: [{ id: 'ws-a' }] },
      ),
    )
    const postern = new Postern({ url: server.url })
    expect(await postern.agents.list().toArray()).toEqual([{ id: 'demo' }])
    expect(await postern.workspaces.list().page()).toEqual({ workspaces: [{ id: 'ws-a' }] })
  })
})
