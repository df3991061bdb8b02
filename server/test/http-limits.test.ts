import { createServer, request, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { connect } from 'node:net'
import { describe, expect, test } from 'vitest'
import { ConfigError } from '../src/config.ts'
import { MAX_WAITING } from '../src/http/connections.ts'
import type { Event } from '../src/model.ts'
import { memoryRuns, someRun, startHttp, TASK_ID } from './http-harness.ts'
import { parseAnswer, rawConnection, rawRequest } from './raw-http.ts'
import { eventually } from './temporary.ts'

const at = '2026-11-20T09:00:00.000Z'
const head = (port: number, line: string, ...headers: string[]): string =>
  [`${line} HTTP/1.1`, `Host: 127.0.0.1:${port}`, ...headers, '', ''].join('\r\n')

describe('time', () => {
  const limits = { headersMs: 300, requestMs: 600 }

  test('H9: headers that do not arrive in time are answered with 408', async () => {
    await using http = await startHttp({ limits })
    const connection = await rawConnection(http.port)
    connection.socket.write(`GET /healthz HTTP/1.1\r\nHost: 127.0.0.1:${http.port}\r\nX-Slow:`)
    await connection.closed
    const answer = parseAnswer(connection.received())
    expect([answer.status, answer.json?.['code']]).toEqual([408, 'request_timeout'])
    expect(answer.json?.['retryable']).toBe(true)
  })

  test('H9: a body that does not arrive in time is answered with 408', async () => {
    await using http = await startHttp({ limits })
    const connection = await rawConnection(http.port)
    const headers = ['Content-Type: application/json', 'Content-Length: 14']
    connection.socket.write(`${head(http.port, 'POST /api/workspaces/ws-a/headless', ...headers)}{"prom`)
    await connection.closed
    expect(parseAnswer(connection.received()).status).toBe(408)
  })

  test('a request that waits for a run is not under that limit', async () => {
    const runs = memoryRuns()
    const wait = Promise.withResolvers<void>()
    await using http = await startHttp({ limits, runs: { ...runs, wait: async () => (await wait.promise, someRun) } })
    const connection = await rawConnection(http.port)
    connection.socket.write(head(http.port, `GET /api/headless/${TASK_ID}`, 'Prefer: wait=60'))
    const other = await rawConnection(http.port)
    await other.closed // silent: gone after the limit for headers
    await new Promise((resolve) => setTimeout(resolve, 1_500)) // and past the limit for a request
    wait.resolve()
    expect(await connection.until('"taskId"')).toMatch(/^HTTP\/1\.1 200/)
    connection.socket.destroy()
  })
})

describe('connections', () => {
  test('H10: six hundred silent sockets do not keep the operator out', async () => {
    await using http = await startHttp()
    const sockets = Array.from({ length: 600 }, () => connect(http.port, '127.0.0.1').on('error', () => undefined))
    let closed = 0
    for (const socket of sockets) socket.once('close', () => closed++)
    await Promise.all(sockets.map((socket) => new Promise((resolve) => socket.once('connect', resolve))))
    const answer = await rawRequest(http.port, {
      line: 'GET /api/workspaces',
      headers: [`Authorization: Bearer ${http.token}`],
    })
    expect(answer.status).toBe(200)
    await eventually(() => closed >= 600 - MAX_WAITING)
    expect(closed).toBeLessThan(200)
    for (const socket of sockets) socket.destroy()
  })

  test('requests under way do not count as silent, however many there are', async () => {
    const runs = memoryRuns({ isRunning: true, events: [{ seq: 1, at, type: 'run.started' }] })
    await using http = await startHttp({ runs })
    const count = MAX_WAITING + 100
    const readers = await Promise.all(Array.from({ length: count }, () => rawConnection(http.port)))
    const line = `GET /api/headless/${TASK_ID}/events`
    for (const { socket } of readers) socket.write(head(http.port, line, 'Accept: text/event-stream'))
    await Promise.all(readers.map((reader) => reader.until('run.started')))
    runs.append({ seq: 2, at, type: 'run.ended' })
    await Promise.all(readers.map((reader) => reader.until('run.ended')))
    for (const { socket } of readers) socket.destroy()
  })

  test('several requests on one connection are answered in order', async () => {
    await using http = await startHttp()
    const connection = await rawConnection(http.port)
    connection.socket.write(
      head(http.port, 'GET /healthz') +
        head(http.port, 'GET /nothing') +
        head(http.port, 'GET /readyz', 'Connection: close'),
    )
    await connection.closed
    const statuses = connection.received().match(/HTTP\/1\.1 \d{3}/g)
    expect(statuses).toEqual(['HTTP/1.1 200', 'HTTP/1.1 404', 'HTTP/1.1 200'])
  })

  test('a body refused in time leaves the connection usable', async () => {
    await using http = await startHttp()
    const connection = await rawConnection(http.port)
    const body = 'x'.repeat(100_000)
    const headers = ['Content-Type: text/plain', `Content-Length: ${body.length}`]
    connection.socket.write(head(http.port, 'POST /api/workspaces/ws-a/headless', ...headers))
    await connection.until('HTTP/1.1 415')
    connection.socket.write(body + head(http.port, 'GET /healthz', 'Connection: close'))
    expect(await connection.until('"ok"')).toContain('HTTP/1.1 200')
  })
})

describe('a slow reader', () => {
  const big = (seq: number): Event => ({ seq, at, type: 'output.text', text: 'x'.repeat(1_000_000) })

  test('C4: who takes nothing is cut off, at little cost, and resumes where it was', async () => {
    const runs = memoryRuns({ isRunning: true })
    const stream = { heartbeatMs: 15_000, stallMs: 400, sliceBytes: 64 * 1_024 }
    await using http = await startHttp({ runs, limits: { headersMs: 10_000, requestMs: 30_000, stream } })
    const connection = await rawConnection(http.port)
    connection.socket.write(head(http.port, `GET /api/headless/${TASK_ID}/events`, 'Accept: text/event-stream'))
    await connection.until('event-stream')
    connection.socket.pause()
    const events = Array.from({ length: 40 }, (_, i) => big(i + 1))
    for (const event of events) runs.append(event)
    const before = process.memoryUsage.rss()
    // Cut off: nothing but what the kernel holds is left to read, and the end of it is no end of a stream.
    await eventually(async () => (await metric(http, 'postern_http_open_requests')) === 1)
    expect(process.memoryUsage.rss() - before).toBeLessThan(40 * 1024 * 1024)
    connection.socket.resume()
    await connection.closed
    const seen = connection.received()
    expect(seen).not.toContain('id: 40\n')
    const whole = [...seen.matchAll(/id: (\d+)\n(?:.*\n){2}\n/g)].map((match) => Number(match[1]))
    const last = whole.at(-1) ?? 0

    runs.append({ seq: 41, at, type: 'run.ended' })
    const again = await rawConnection(http.port)
    const resume = [`Last-Event-ID: ${last}`, 'Accept: text/event-stream', 'Connection: close']
    again.socket.write(head(http.port, `GET /api/headless/${TASK_ID}/events`, ...resume))
    await again.closed
    const ids = [...again.received().matchAll(/^id: (\d+)$/gm)].map((match) => Number(match[1]))
    expect(ids).toEqual(Array.from({ length: 41 - last }, (_, i) => last + 1 + i))
  })

  test('a quiet stream is kept open by comments, never inside an event', async () => {
    const runs = memoryRuns({ isRunning: true, events: [{ seq: 1, at, type: 'log', text: 'a' }] })
    const stream = { heartbeatMs: 20, stallMs: 30_000, sliceBytes: 16 }
    await using http = await startHttp({ runs, limits: { headersMs: 10_000, requestMs: 30_000, stream } })
    const connection = await rawConnection(http.port)
    connection.socket.write(
      head(http.port, `GET /api/headless/${TASK_ID}/events`, 'Accept: text/event-stream', 'Connection: close'),
    )
    await connection.until('\n:\n\n')
    for (let seq = 2; seq < 50; seq++) runs.append({ seq, at, type: 'log', text: 'y'.repeat(2_000) })
    runs.append({ seq: 50, at, type: 'run.ended' })
    await connection.closed
    const blocks = unchunk(connection.received())
      .split('\n\n')
      .filter((block) => block !== '' && block !== ':')
    expect(blocks).toHaveLength(50)
    for (const [i, block] of blocks.entries()) {
      expect(block).toMatch(new RegExp(`^id: ${i + 1}\\nevent: [a-z.]+\\ndata: \\{.*\\}$`))
    }
  })
})

/** The body of a chunked answer. */
function unchunk(text: string): string {
  let rest = text.slice(text.indexOf('\r\n\r\n') + 4)
  let body = ''
  for (;;) {
    const end = rest.indexOf('\r\n')
    const size = Number.parseInt(rest.slice(0, end), 16)
    if (!size) return body
    body += rest.slice(end + 2, end + 2 + size)
    rest = rest.slice(end + 4 + size)
  }
}

async function metric(http: { port: number }, name: string): Promise<number> {
  const { body } = await rawRequest(http.port, { line: 'GET /metrics' })
  return Number(new RegExp(`^${name} (.+)$`, 'm').exec(body)?.[1])
}

describe('failures', () => {
  const boom = (): never => {
    throw new Error('secret path /home/ada/.postern/x and pstn_adm1_0123456789')
  }

  test('C6: a 500 says nothing of its cause; the log has it, without a token', async () => {
    const rejects = async (): Promise<never> => boom()
    await using http = await startHttp({ runs: { get: rejects, list: rejects, cancel: boom, capacity: boom } })
    for (const line of [`GET /api/headless/${TASK_ID}`, 'GET /api/headless', `POST /api/headless/${TASK_ID}/cancel`]) {
      const answer = await rawRequest(http.port, { line, headers: [`Authorization: Bearer ${http.token}`] })
      expect(answer.status).toBe(500)
      expect(answer.json).toMatchObject({ code: 'internal_error', retryable: true })
      expect(answer.body).not.toMatch(/secret|home|pstn_|\.ts|at /)
      const id = answer.headers['x-request-id'] ?? ''
      const line500 = http.logged.find((each) => each.includes(id) && each.includes('"level":50'))
      expect(line500).toContain('secret path')
      expect(line500).not.toContain('0123456789')
    }
  })

  test('C6: an answer that does not fit its own schema is a 500, not a leak', async () => {
    const odd = { ...someRun, status: 'odd', prompt: 5 } as never
    await using http = await startHttp({ runs: { get: () => Promise.resolve(odd) } })
    const answer = await rawRequest(http.port, { line: `GET /api/headless/${TASK_ID}` })
    expect([answer.status, answer.json?.['errors']]).toEqual([500, undefined])
  })

  test('a stream that fails halfway is cut off, not ended', async () => {
    const runs = memoryRuns({ isRunning: true, events: [{ seq: 1, at, type: 'log' }] })
    const seen = Promise.withResolvers<void>()
    const follow = async function* (): AsyncIterable<Event> {
      yield { seq: 1, at, type: 'log' }
      await seen.promise
      boom()
    }
    await using http = await startHttp({ runs: { ...runs, follow } })
    const connection = await rawConnection(http.port)
    connection.socket.write(head(http.port, `GET /api/headless/${TASK_ID}/events`, 'Accept: text/event-stream'))
    await connection.until('id: 1')
    seen.resolve()
    await connection.closed
    expect(connection.received().endsWith('0\r\n\r\n')).toBe(false)
  })

  test('callers who cut the connection at the first byte of a refusal do no harm', async () => {
    await using http = await startHttp()
    const refused = [
      head(http.port, 'CONNECT evil.example:443'),
      head(http.port, 'GET /healthz', 'Upgrade: websocket', 'Connection: Upgrade'),
      head(http.port, 'POST /api/headless', 'Expect: something'),
      head(
        http.port,
        'POST /api/workspaces/ws-a/headless',
        'Content-Type: application/json',
        'Content-Length: 9000000',
      ),
      'not HTTP\r\n\r\n',
    ]
    for (const bytes of [...refused, ...refused]) {
      const { socket, closed } = await rawConnection(http.port)
      socket.once('data', () => socket.resetAndDestroy())
      socket.write(bytes)
      await closed
    }
    expect((await rawRequest(http.port, { line: 'GET /healthz' })).status).toBe(200)
  })

  test('callers who hang up at any moment leave nothing behind', async () => {
    const runs = memoryRuns({ isRunning: true, events: [{ seq: 1, at, type: 'run.started' }] })
    const signals: AbortSignal[] = []
    const wait = (_: string, __: number, signal?: AbortSignal): Promise<typeof someRun> =>
      new Promise((resolve) => {
        if (!signal) return
        signals.push(signal)
        signal.addEventListener('abort', () => resolve(someRun), { once: true })
      })
    await using http = await startHttp({ runs: { ...runs, wait } })
    const post = ['Content-Type: application/json', 'Content-Length: 14']
    const starts = [
      head(http.port, 'CONNECT evil.example:443'),
      head(http.port, 'GET /healthz', 'Upgrade: websocket', 'Connection: Upgrade'),
      'not HTTP\r\n\r\n',
      head(http.port, 'GET /healthz').slice(0, 20),
      head(http.port, 'POST /api/workspaces/ws-a/headless', ...post),
      `${head(http.port, 'POST /api/workspaces/ws-a/headless', ...post)}{"prom`,
      head(http.port, `GET /api/headless/${TASK_ID}`, 'Prefer: wait=60'),
      head(http.port, `GET /api/headless/${TASK_ID}/events`, 'Accept: text/event-stream'),
      head(http.port, 'GET /docs/swagger-ui-bundle.js'),
    ]
    for (let i = 0; i < 20; i++) {
      const open = await Promise.all(starts.map(() => rawConnection(http.port)))
      for (const [j, { socket }] of open.entries()) socket.write(starts[j] ?? '')
      await open[7]?.until('run.started')
      for (const { socket } of open) socket.resetAndDestroy()
    }
    await eventually(async () => (await metric(http, 'postern_http_open_requests')) === 1)
    expect(signals).toHaveLength(20)
    expect(signals.every(({ aborted }) => aborted)).toBe(true)
  })
})

describe('start and stop', () => {
  const listening = (port: number): Promise<Server> =>
    new Promise((resolve) => {
      const server = createServer().listen(port, '127.0.0.1', () => resolve(server))
    })
  const portOf = (server: Server): number => (server.address() as AddressInfo).port

  test('a named port that is taken is an error that names it', async () => {
    await using other = { server: await listening(0), [Symbol.asyncDispose]: async () => void other.server.close() }
    const port = portOf(other.server)
    await expect(startHttp({ config: { port, portNamed: true } })).rejects.toThrow(ConfigError)
    await expect(startHttp({ config: { port, portNamed: true } })).rejects.toThrow(`port ${port} on 127.0.0.1 is taken`)
  })

  test('when nobody named a port, the next free one is taken and said', async () => {
    await using other = { server: await listening(0), [Symbol.asyncDispose]: async () => void other.server.close() }
    const port = portOf(other.server)
    await using http = await startHttp({ config: { port, portNamed: false } })
    expect(http.port).toBeGreaterThan(port)
    expect(http.url).toBe(`http://127.0.0.1:${http.port}`)
    expect(http.logged.join()).toContain(`port ${port} is taken; using ${http.port}`)
    expect((await rawRequest(http.port, { line: 'GET /healthz' })).status).toBe(200)
  })

  test('it answers on IPv6 loopback', async () => {
    await using http = await startHttp({ config: { host: '::1' } })
    expect(http.url).toBe(`http://[::1]:${http.port}`)
    expect((await fetch(`${http.url}/api/headless`)).status).toBe(200)
  })

  test('closing ends idle connections at once, waits for requests, and cuts off what lasts', async () => {
    const runs = memoryRuns({ isRunning: true, events: [{ seq: 1, at, type: 'run.started' }] })
    const asked = Promise.withResolvers<void>()
    const wait = async (_: string, __: number, signal?: AbortSignal): Promise<typeof someRun> => {
      asked.resolve()
      await new Promise((resolve) => setTimeout(resolve, 300))
      expect(signal?.aborted).toBe(false)
      return someRun
    }
    await using http = await startHttp({ runs: { ...runs, wait } })
    const idle = await rawConnection(http.port)
    idle.socket.write(head(http.port, 'GET /healthz'))
    await idle.until('"ok"')
    const working = await rawConnection(http.port)
    working.socket.write(head(http.port, `GET /api/headless/${TASK_ID}`, 'Prefer: wait=60'))
    const reader = await rawConnection(http.port)
    reader.socket.write(head(http.port, `GET /api/headless/${TASK_ID}/events`, 'Accept: text/event-stream'))
    await Promise.all([asked.promise, reader.until('run.started')])

    const closing = http.close()
    await idle.closed
    await working.closed
    expect(working.received()).toContain('HTTP/1.1 200')
    expect(working.received()).toContain('Connection: close')
    await closing
    await reader.closed
    expect(reader.received().endsWith('0\r\n\r\n')).toBe(false)
    await expect(rawConnection(http.port)).rejects.toThrow('ECONNREFUSED')
  })

  test('a server that is stopping says so', async () => {
    await using http = await startHttp({ isDraining: () => true })
    const ready = await rawRequest(http.port, { line: 'GET /readyz' })
    expect([ready.status, ready.json?.['code'], ready.headers['retry-after']]).toEqual([503, 'draining', '5'])
    expect((await rawRequest(http.port, { line: 'GET /healthz' })).status).toBe(200)
  })

  test('D14: ten thousand requests leave no descriptor and no timer behind', async () => {
    await using http = await startHttp()
    const call = (path: string): Promise<void> =>
      new Promise((resolve, reject) => {
        const sent = request({ port: http.port, path, agent }, (answer) => answer.resume().on('end', resolve))
        sent.on('error', reject).end()
      })
    const { Agent } = await import('node:http')
    const agent = new Agent({ keepAlive: true, maxSockets: 8 })
    const paths = [`/api/headless/${TASK_ID}`, '/api/headless', '/nothing', '/api/workspaces/ws-a', '/healthz?x=1']
    const round = async (count: number): Promise<void> => {
      for (let i = 0; i < count; i += 50)
        await Promise.all(Array.from({ length: 50 }, (_, j) => call(paths[j % 5] ?? '')))
    }
    await round(500)
    const before = process.getActiveResourcesInfo().length
    await round(10_000)
    expect(Math.abs(process.getActiveResourcesInfo().length - before)).toBeLessThanOrEqual(5)
    agent.destroy()
  })
})
