import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { startTestServer, type TestServer } from './harness.ts'
import { exchangeBytes, parseAnswer, rawConnection, rawJson, rawRequest, type RawAnswer } from './raw-http.ts'

let server: TestServer
let wsId: string
const agents = { sh: { command: ['bash', '--norc', '-s'] } }

beforeAll(async () => {
  server = await startTestServer({ config: { agents } })
  wsId = await server.workspace({ agents: ['sh'] })
})
afterAll(async () => {
  // Whatever was sent above: nothing may have ended the server or been answered without a cause.
  expect((await server.call('GET', '/healthz')).status).toBe(200)
  await server[Symbol.asyncDispose]()
})

const get = (headers: string[] = [], host?: string | null, line = 'GET /api/headless'): Promise<RawAnswer> =>
  rawRequest(server.port, { line, headers, ...(host !== undefined && { host }) })
const start = (body: string | Buffer, headers: string[] = []): Promise<RawAnswer> =>
  rawJson(server.port, `POST /api/workspaces/${wsId}/headless`, body, headers)
const runCount = async (): Promise<number> =>
  (await server.call<{ tasks: unknown[] }>('GET', '/api/headless?limit=200')).body.tasks.length

function expectProblem(answer: RawAnswer, status: number, code: string): void {
  expect({ status: answer.status, code: answer.json?.['code'] }).toEqual({ status, code })
  expect(answer.headers['content-type']).toBe('application/problem+json')
  expect(answer.json).toMatchObject({
    type: `/docs#${code}`,
    status,
    title: expect.any(String),
    detail: expect.any(String),
  })
  expect(answer.json?.['requestId']).toBe(answer.headers['x-request-id'])
  expect(answer.headers['cache-control']).toBe('no-store')
  expect(answer.headers['x-content-type-options']).toBe('nosniff')
}

describe('where a request may come from', () => {
  test('L5: a text/plain POST is refused with 403 from an evil origin, with 415 without one', async () => {
    const send = (headers: string[]): Promise<RawAnswer> => {
      const body = '{"prompt":"echo hi"}'
      const all = ['Content-Type: text/plain', `Content-Length: ${body.length}`, ...headers]
      return rawRequest(server.port, { line: `POST /api/workspaces/${wsId}/headless`, headers: all, body })
    }
    const before = await runCount()
    expectProblem(await send(['Origin: https://evil.example']), 403, 'origin_not_allowed')
    expectProblem(await send([]), 415, 'unsupported_media_type')
    expect(await runCount()).toBe(before)
  })

  test.each(['cross-site', 'same-site', 'anything'])(
    'L6: Sec-Fetch-Site: %s is refused, also for a GET',
    async (site) => {
      expectProblem(await get([`Sec-Fetch-Site: ${site}`]), 403, 'origin_not_allowed')
    },
  )

  test.each(['same-origin', 'none'])('L6: Sec-Fetch-Site: %s passes', async (site) => {
    expect((await get([`Sec-Fetch-Site: ${site}`])).status).toBe(200)
  })

  test('L7: a Host that does not name this server is refused, without a list of those that do', async () => {
    const { port } = server
    for (const host of [
      `evil.example:${port}`,
      `0.0.0.0:${port}`,
      `127.0.0.1:${port + 1}`,
      '127.0.0.1',
      'localhost',
      '',
      'a b',
      `127.0.0.1:${port}.evil`,
      `[::ffff:127.0.0.1]:${port}`,
    ]) {
      const answer = await get([], host)
      expectProblem(answer, 403, 'host_not_allowed')
      expect(answer.body).not.toContain('localhost')
    }
    for (const host of ['localhost', '127.0.0.1', '[::1]', 'postern.localhost', 'LOCALHOST']) {
      expect((await get([], `${host}:${port}`)).status).toBe(200)
    }
  })

  test('L8: a rebinding POST is refused, whether it names its own host or ours', async () => {
    const { port } = server
    const evil = [`Origin: http://evil.example:${port}`]
    expectProblem(await get(evil, `evil.example:${port}`, 'POST /api/headless'), 403, 'host_not_allowed')
    expectProblem(await start('{"prompt":"echo hi"}', evil), 403, 'origin_not_allowed')
  })

  test('L9: a page of another port on this machine is refused', async () => {
    for (const origin of ['http://localhost:3000', `https://127.0.0.1:${server.port}`, 'http://127.0.0.1']) {
      expectProblem(await get([`Origin: ${origin}`]), 403, 'origin_not_allowed')
    }
    expect((await get([`Origin: http://127.0.0.1:${server.port}`])).status).toBe(200)
  })

  test('L10: Origin: null is refused', async () => {
    expectProblem(await get(['Origin: null']), 403, 'origin_not_allowed')
  })

  test('L11: event streams and upgrades from a foreign page are refused; ours are not upgraded either', async () => {
    const foreign = 'Origin: https://evil.example'
    expectProblem(await get(['Accept: text/event-stream', foreign]), 403, 'origin_not_allowed')
    const upgrade = ['Upgrade: websocket', 'Sec-WebSocket-Version: 13', 'Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==']
    expectProblem(await get([...upgrade, foreign]), 403, 'origin_not_allowed')
    expectProblem(await get(upgrade), 400, 'bad_request')
    // Java's client offers HTTP/2 with every request; an offer may be ignored.
    expect((await get(['Upgrade: h2c', 'HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA'])).status).toBe(200)
  })

  test('there is no CORS: a preflight gets no permission', async () => {
    const answer = await get(
      ['Origin: https://evil.example', 'Access-Control-Request-Method: POST'],
      undefined,
      'OPTIONS /api/headless',
    )
    expect(answer.status).toBe(403)
    expect(Object.keys(answer.headers).filter((name) => name.startsWith('access-control'))).toEqual([])
  })

  test.each([
    'Forwarded: for=127.0.0.1',
    'Via: 1.1 proxy',
    'X-Forwarded-For: 127.0.0.1',
    'X-Forwarded-Host: localhost',
    'X-Forwarded-Proto: https',
    'X-Real-IP: 127.0.0.1',
    'X-Client-IP: 127.0.0.1',
    'True-Client-IP: 127.0.0.1',
    'CF-Connecting-IP: 127.0.0.1',
    'Fly-Client-IP: 127.0.0.1',
    'Tailscale-User-Login: ada',
    'X-Envoy-External-Address: 127.0.0.1',
    'X-Amzn-Trace-Id: Root=1',
  ])('L12: "%s" ends the exemption of local callers', async (header) => {
    expectProblem(await get([header]), 401, 'token_required')
    expect((await get([header, `Authorization: Bearer ${server.token}`])).status).toBe(200)
  })

  test('L13: a thousand junk headers do not hide the traces of a proxy', async () => {
    const junk = Array.from({ length: 1_050 }, (_, i) => `A${i}: 1`)
    expectProblem(await get([...junk, 'X-Forwarded-For: 203.0.113.9']), 431, 'headers_too_large')
  })

  test('L21: two Host headers, or none, are refused', async () => {
    const own = `Host: 127.0.0.1:${server.port}`
    expectProblem(await get([own]), 400, 'bad_request')
    expectProblem(await get([], null), 400, 'bad_request')
    expectProblem(parseAnswer(await exchangeBytes(server.port, 'GET /healthz HTTP/1.0\r\n\r\n')), 400, 'bad_request')
  })

  test('L22: a target in absolute form is refused', async () => {
    expectProblem(await get([], undefined, 'GET http://evil/'), 400, 'bad_request')
    expectProblem(await get([], undefined, `GET http://127.0.0.1:${server.port}/healthz`), 400, 'bad_request')
    expectProblem(await get([], undefined, 'OPTIONS *'), 400, 'bad_request')
  })

  test('CONNECT is refused in our own words', async () => {
    expectProblem(await get([], undefined, 'CONNECT evil.example:443'), 400, 'bad_request')
  })

  test('L24: pages cannot be framed or reached from other origins', async () => {
    for (const path of ['/', '/docs', '/docs.md', '/llms.txt']) {
      const { headers, status } = await get([], undefined, `GET ${path}`)
      expect(status).toBe(200)
      expect(headers['content-security-policy']).toContain("frame-ancestors 'none'")
      expect(headers['cross-origin-resource-policy']).toBe('same-origin')
      expect(headers['cross-origin-opener-policy']).toBe('same-origin')
    }
  })
})

describe('the size and form of a request', () => {
  test('H1: ten gigabytes announced are refused unread', async () => {
    const before = process.memoryUsage.rss()
    const connection = await rawConnection(server.port)
    connection.socket.write(
      `POST /api/workspaces/${wsId}/headless HTTP/1.1\r\nHost: 127.0.0.1:${server.port}\r\nContent-Type: application/json\r\nContent-Length: 10000000000\r\n\r\n`,
    )
    const answer = parseAnswer(await connection.until('retryable'))
    expect(answer.status).toBe(413)
    // A caller that sends on is not read to the end: the connection is closed.
    const chunk = Buffer.alloc(256 * 1024, 32)
    while (!connection.socket.destroyed) {
      if (!connection.socket.write(chunk)) {
        await Promise.race([new Promise((resolve) => connection.socket.once('drain', resolve)), connection.closed])
      }
    }
    expect(process.memoryUsage.rss() - before).toBeLessThan(64 * 1024 * 1024)
  })

  test('H1: a caller that asks first is told before it sends', async () => {
    const answer = await rawRequest(server.port, {
      line: `POST /api/workspaces/${wsId}/headless`,
      headers: ['Content-Type: application/json', 'Content-Length: 2000000', 'Expect: 100-continue'],
    })
    expectProblem(answer, 413, 'payload_too_large')
    expect(answer.json?.['detail']).toBe('the body announces 2000000 bytes; the limit is 1048576')
  })

  test('a caller that asks first is asked for a body that fits', async () => {
    const body = '{"prompt":"true","wait":true}'
    const answer = await start(body, ['Expect: 100-continue'])
    expect(answer.status).toBe(200)
    expect(
      await exchangeBytes(
        server.port,
        `POST /api/workspaces/${wsId}/headless HTTP/1.1\r\nHost: 127.0.0.1:${server.port}\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n${body}`,
      ),
    ).toMatch(/^HTTP\/1\.1 100 Continue\r\n\r\nHTTP\/1\.1 200 /)
  })

  test('H2: a chunked body is counted, and refused past the limit', async () => {
    const piece = `10000\r\n${' '.repeat(65_536)}\r\n`
    const answer = await rawRequest(server.port, {
      line: `POST /api/workspaces/${wsId}/headless`,
      headers: ['Content-Type: application/json', 'Transfer-Encoding: chunked'],
      body: `${piece.repeat(17)}0\r\n\r\n`,
    })
    expectProblem(answer, 413, 'payload_too_large')
  })

  test('H3: a gzip body is refused with 415', async () => {
    expectProblem(await start('{"prompt":"echo hi"}', ['Content-Encoding: gzip']), 415, 'unsupported_media_type')
    const plain = await start('{"prompt":"true","wait":true}', ['Content-Encoding: identity'])
    expect(plain.status).toBe(200)
  })

  test('H4: 33 levels of JSON are refused before they are parsed', async () => {
    const nested = (levels: number): string => `${'{"metadata":'.repeat(levels)}1${'}'.repeat(levels)}`
    const answer = await start(nested(33))
    expectProblem(answer, 400, 'invalid_json')
    expect(answer.json?.['detail']).toContain('32 levels')
    expect((await start(nested(32))).json?.['code']).not.toBe('invalid_json')
    expectProblem(await start('['.repeat(500_000)), 400, 'invalid_json')
  })

  test('H5: __proto__ and duplicate keys are refused', async () => {
    for (const body of [
      '{"prompt":"echo hi","__proto__":{"agent":"sh"}}',
      '{"prompt":"echo hi","\\u005f_proto__":{}}',
      '{"prompt":"echo hi","metadata":{"constructor":{"prototype":{}}}}',
      '{"prompt":"echo hi","prompt":"echo ho"}',
      '{"prompt":"echo hi","\\u0070rompt":"echo ho"}',
      '{"prompt":"echo hi","metadata":{"a":"1","a":"2"}}',
    ]) {
      expectProblem(await start(body), 400, 'invalid_json')
    }
  })

  test('H6: bodies and prompts of another type are refused, and the server lives', async () => {
    for (const body of ['null', '[]', '[{"prompt":"x"}]', '1', '"text"', 'true']) {
      expectProblem(await start(body), 400, 'validation_failed')
    }
    for (const prompt of ['["a"]', '1', '""', '"   "', '"\\n\\t\\u00a0"', 'null', '{}']) {
      const answer = await start(`{"prompt":${prompt}}`)
      expectProblem(answer, 400, 'validation_failed')
      expect(answer.json?.['errors']).toMatchObject([{ pointer: '/prompt' }])
    }
    expectProblem(await start('{}'), 400, 'validation_failed')
  })

  test('H7: invalid UTF-8, half a surrogate pair and NUL are refused', async () => {
    const invalid = Buffer.concat([Buffer.from('{"prompt":"'), Buffer.from([0xc3, 0x28]), Buffer.from('"}')])
    expectProblem(await start(invalid), 400, 'invalid_json')
    expectProblem(await start('{"prompt":"a\\ud800b"}'), 400, 'validation_failed')
    expectProblem(await start('{"prompt":"a\\u0000b"}'), 400, 'validation_failed')
    expectProblem(await start('{"prompt":"a\0b"}'), 400, 'invalid_json')
  })

  test('H8: 20 kB of headers and 101 headers are refused with 431', async () => {
    expectProblem(await get([`X-Large: ${'x'.repeat(20_000)}`]), 431, 'headers_too_large')
    expectProblem(await get([], undefined, `GET /api/headless?wsId=${'x'.repeat(20_000)}`), 431, 'headers_too_large')
    const lines = (count: number): string[] => Array.from({ length: count - 2 }, (_, i) => `A${i}: 1`)
    expectProblem(await get(lines(101)), 431, 'headers_too_large')
    expect((await get(lines(100))).status).toBe(200)
  })

  test('H11: Content-Length together with Transfer-Encoding is refused', async () => {
    const body = '{"prompt":"echo hi"}'
    const answer = await start(`14\r\n${body}\r\n0\r\n\r\n`, ['Transfer-Encoding: chunked'])
    expectProblem(answer, 400, 'bad_request')
    const twice = await rawRequest(server.port, {
      line: `POST /api/workspaces/${wsId}/headless`,
      headers: ['Content-Type: application/json', 'Content-Length: 20', 'Content-Length: 2'],
      body,
    })
    expectProblem(twice, 400, 'bad_request')
  })

  test('H12: line breaks in reflected values make no header', async () => {
    const answer = await get([], undefined, 'GET /api/headless?x%0d%0aSet-Cookie:%20a%3d1')
    expectProblem(answer, 400, 'unknown_field')
    expect(answer.headers['set-cookie']).toBeUndefined()
    expect(answer.json?.['detail']).toContain('`x\\r\\nSet-Cookie: a=1`')
    const started = await start(
      JSON.stringify({ prompt: 'true', agent: 'sh', metadata: { 'a\r\nX-Evil: 1': 'b\r\nX-Evil: 1' } }),
    )
    expect(started.status).toBe(202)
    expect(started.headers['x-evil']).toBeUndefined()
  })

  test('H13: 16 001 units are refused; 16 000 pass, also when every one is escaped', async () => {
    const long = await start(JSON.stringify({ prompt: 'x'.repeat(18_204) }))
    expectProblem(long, 400, 'prompt_too_long')
    expect(long.json?.['detail']).toBe('18204 characters; the limit is 16000')
    expect(long.json?.['hint']).toContain('workspace file')
    expectProblem(await start(JSON.stringify({ prompt: '😀'.repeat(8_001) })), 400, 'prompt_too_long')
    const escaped = `{"prompt":"${'\\u0023'.repeat(16_000)}","wait":true}`
    const accepted = await start(escaped)
    expect(accepted.status).toBe(200)
    expect(accepted.json?.['prompt']).toBe('#'.repeat(16_000))
  })

  test('H14: unknown fields are refused by name, with what was meant', async () => {
    const before = await runCount()
    for (const [name, meant] of [
      ['timeoutMS', 'timeoutMs'],
      ['timeout_ms', 'timeoutMs'],
      ['promt', 'prompt'],
      ['idempotencyKey', undefined],
      ['env', undefined],
      ['id', undefined],
      ['toString', undefined],
    ] as const) {
      const answer = await start(JSON.stringify({ prompt: 'echo hi', [name]: 'x' }))
      expectProblem(answer, 400, 'unknown_field')
      expect(answer.json?.['detail']).toBe(`\`${name}\` is not a field.${meant ? ` Did you mean \`${meant}\`?` : ''}`)
      expect(answer.json?.['errors']).toMatchObject([{ pointer: `/${name}` }])
    }
    expect(await runCount()).toBe(before)
  })

  test('S9: a path that would lead out is not found', async () => {
    for (const path of [
      '/api/workspaces/..%2f..%2fetc/headless',
      '/api/workspaces/%2e%2e%2f%2e%2e%2fetc/headless',
      '/api/workspaces/../../etc/headless',
      '/api/workspaces/%2e%2e/headless',
      '/api/workspaces/%00/headless',
      '/api/headless/..%2f..%2fadmin-token/output',
      '/docs/..%2fpackage.json',
      '/docs/package.json',
    ]) {
      const answer = await rawJson(
        server.port,
        `${path.startsWith('/api/workspaces') ? 'POST' : 'GET'} ${path}`,
        '',
        [],
      )
      expect(answer.status).toBe(404)
    }
  })

  test('what is not HTTP gets a problem, and the server lives', async () => {
    for (const bytes of [
      '\x16\x03\x01\x02\x00\x01\x00\x01\xfc',
      'hello\r\n\r\n',
      'GET / HTTP/9.9\r\n\r\n',
      'GET /\x01 HTTP/1.1\r\n\r\n',
    ]) {
      expectProblem(parseAnswer(await exchangeBytes(server.port, Buffer.from(bytes, 'latin1'))), 400, 'bad_request')
    }
  })
})
