import * as fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { startHttp, TASK_ID, type TestHttp } from './http-harness.ts'
import { rawConnection, rawJson, rawRequest, type RawAnswer } from './raw-http.ts'

/**
 * Requests of every odd form, each with the answer that is right. Frameworks differ in all of these; a change of one
 * must not bring a wrong answer back.
 */
let http: TestHttp
beforeAll(async () => {
  http = await startHttp()
})
afterAll(() => http[Symbol.asyncDispose]())

const send = (line: string, headers: string[] = [], body = ''): Promise<RawAnswer> =>
  rawRequest(http.port, { line, headers, body })
const admin = (): string => `Authorization: Bearer ${http.token}`
const post = (body: string, headers: string[] = []): Promise<RawAnswer> =>
  rawJson(http.port, 'POST /api/workspaces/ws-a/headless', body, headers)

describe('query', () => {
  test.each([
    ['', 200, undefined],
    ['?limit=5', 200, undefined],
    ['?limit=', 400, 'validation_failed'],
    ['?limit=abc', 400, 'validation_failed'],
    ['?limit=0', 400, 'validation_failed'],
    ['?limit=201', 400, 'validation_failed'],
    ['?limit=1.5', 400, 'validation_failed'],
    ['?limit=0x10', 400, 'validation_failed'],
    ['?limit=1e2', 400, 'validation_failed'],
    ['?limit=%205', 400, 'validation_failed'],
    ['?limit=null', 400, 'validation_failed'],
    ['?limit=5&limit=6', 400, 'validation_failed'],
    ['?limit[]=5', 400, 'unknown_field'],
    ['?status=running', 200, undefined],
    ['?status=', 400, 'validation_failed'],
    ['?status=Running', 400, 'validation_failed'],
    ['?wsId=ws-a', 200, undefined],
    ['?wsId=ws%2da', 200, undefined],
    ['?wsId=../x', 400, 'validation_failed'],
    ['?cursor=', 200, undefined],
    ['?toString=1', 400, 'unknown_field'],
    ['?__proto__=1', 400, 'unknown_field'],
    ['?constructor=1', 400, 'unknown_field'],
    ['?taskId=x', 400, 'unknown_field'],
    ['?=x', 400, 'unknown_field'],
    ['?&&', 200, undefined],
    ['?', 200, undefined],
    ['?limit=%zz', 400, 'bad_request'],
    ['?limit=%ff', 400, 'bad_request'],
    ['?limit=5#x', 400, 'bad_request'],
  ])('GET /api/headless%s is %i %s', async (query, status, code) => {
    const answer = await send(`GET /api/headless${query}`)
    expect([answer.status, answer.json?.['code']]).toEqual([status, code])
  })

  test.each([
    ['true', 404],
    ['false', 404],
    ['0', 400],
    ['1', 400],
    ['', 400],
    ['yes', 400],
  ])('a truth value is true or false in words: purge=%s is %i', async (text, status) => {
    const answer = await send(`DELETE /api/workspaces/ws-a?purge=${text}`, [admin()])
    expect(answer.status).toBe(status)
  })

  test('an unknown name is answered with the nearest known one', async () => {
    const { json } = await send('GET /api/headless?Limit=5')
    expect(json?.['detail']).toBe('`Limit` is not a query parameter. Did you mean `limit`?')
    expect(json?.['hint']).toBe('possible: wsId, status, agent, limit, cursor')
  })

  test('an operation with a body takes no query', async () => {
    const answer = await rawJson(http.port, 'POST /api/workspaces/ws-a/headless?wait=true', '{"prompt":"x"}')
    expect([answer.status, answer.json?.['code']]).toEqual([400, 'unknown_field'])
  })
})

describe('path', () => {
  test.each([
    [`/api/headless/${TASK_ID}`, 200],
    [`/api/headless/${TASK_ID.replace('_', '%5f')}`, 200],
    [`/api/headless/${TASK_ID.toLowerCase()}`, 404],
    ['/api/headless/a%20b', 404],
    ['/api/headless/a%2Fb', 404],
    ['/api/headless/%C3%A9', 404],
    ['/api/headless/%zz', 400],
    ['/api/headless/%', 400],
    ['/api/headless/%ff', 400],
    ['/API/headless', 404],
    ['/api/headless/', 404],
    ['/api//headless', 404],
    ['//api/headless', 404],
    ['/api/headlessX', 404],
    ['/openapiXjson', 404],
    ['/%61pi/headless', 404],
    ['/api/headless/..', 404],
    ['/api/headless/%2e', 404],
    ['/api/./headless', 404],
    ['/api\\headless', 400],
    ['/nothing', 404],
  ])('GET %s is %i', async (path, status) => {
    expect((await send(`GET ${path}`)).status).toBe(status)
  })

  test('an id that nothing can have is not found, under the code of its noun', async () => {
    expect((await send('GET /api/headless/nope')).json?.['code']).toBe('run_not_found')
    expect((await send('GET /api/workspaces/NOPE')).json?.['code']).toBe('workspace_not_found')
    expect((await send('POST /api/agents/NOPE/probe', [admin()])).json?.['code']).toBe('agent_not_found')
  })
})

describe('method', () => {
  test('another method than the ones there are is 405, with Allow', async () => {
    const answer = await send('PUT /api/workspaces/ws-a')
    expect(answer.status).toBe(405)
    expect(answer.headers['allow']).toBe('GET, PATCH, DELETE, HEAD, OPTIONS')
    expect(answer.json).toMatchObject({ code: 'method_not_allowed', hint: 'Use a method that `Allow` names.' })
    expect((await send('GET /api/workspaces/ws-a/headless')).headers['allow']).toBe('POST, OPTIONS')
    expect((await send('TRACE /healthz')).status).toBe(405)
    expect((await send('PROPFIND /healthz')).status).toBe(405)
    expect((await send('PROPFIND /nothing')).status).toBe(404)
  })

  test('HEAD is GET without the body', async () => {
    const get = await send(`GET /api/headless/${TASK_ID}`)
    const head = await send(`HEAD /api/headless/${TASK_ID}`)
    expect(head.status).toBe(200)
    expect(head.body).toBe('')
    expect(head.headers['content-length']).toBe(get.headers['content-length'])
    expect((await send('HEAD /api/headless/nope')).status).toBe(404)
    expect((await send('HEAD /api/workspaces/ws-a/headless')).status).toBe(405)
    expect((await send('HEAD /healthz')).status).toBe(200)
  })

  test('OPTIONS is 204 with Allow', async () => {
    const answer = await send('OPTIONS /api/headless')
    expect(answer.status).toBe(204)
    expect(answer.headers['allow']).toBe('GET, HEAD, OPTIONS')
    expect(answer.headers['content-type']).toBeUndefined()
    expect((await send('OPTIONS /nothing')).status).toBe(404)
  })
})

describe('body', () => {
  test.each([
    ['{"prompt":"x","timeoutMs":"5"}', 'validation_failed'],
    ['{"prompt":"x","timeoutMs":null}', 'validation_failed'],
    ['{"prompt":"x","timeoutMs":0}', 'validation_failed'],
    ['{"prompt":"x","timeoutMs":1.5}', 'validation_failed'],
    ['{"prompt":"x","wait":"false"}', 'validation_failed'],
    ['{"prompt":"x","wait":0}', 'validation_failed'],
    ['{"prompt":"x","wait":null}', 'validation_failed'],
    ['{"prompt":"x","metadata":{"k":7}}', 'validation_failed'],
    ['{"prompt":"x","metadata":["k"]}', 'validation_failed'],
    ['{"prompt":5}', 'validation_failed'],
    ['{"prompt":"x"', 'invalid_json'],
    ['{"prompt":"x"}{}', 'invalid_json'],
    ['{prompt:"x"}', 'invalid_json'],
    ['{"prompt":"x",}', 'invalid_json'],
    ['{"prompt":NaN}', 'invalid_json'],
    ['"', 'invalid_json'],
    ['{"', 'invalid_json'],
    ['{"\\', 'invalid_json'],
    [' ', 'invalid_json'],
    ['{"prompt":"x","id":"ws-evil"}', 'unknown_field'],
  ])('%s is 400 %s', async (body, code) => {
    const answer = await post(body)
    expect([answer.status, answer.json?.['code']]).toEqual([400, code])
  })

  test('what is wrong is named field by field, with JSON Pointers', async () => {
    const { json } = await post('{"prompt":"","timeoutMs":"5","metadata":{"a/b":1,"c~d":2}}')
    const pointers = ['/prompt', '/timeoutMs', '/metadata/a~1b', '/metadata/c~0d']
    expect(json?.['errors']).toEqual(pointers.map((pointer) => ({ pointer, detail: expect.any(String) as string })))
  })

  test.each([
    ['application/json', 202],
    ['application/json; charset=utf-8', 202],
    ['APPLICATION/JSON;charset="UTF-8"', 202],
    ['application/json; charset=latin1', 415],
    ['application/json-patch+json', 415],
    ['application/x-www-form-urlencoded', 415],
    ['multipart/form-data; boundary=x', 415],
    ['text/json', 415],
    ['', 415],
  ])('a body of type "%s" is %i', async (type, status) => {
    const body = '{"prompt":"x"}'
    const headers = [`Content-Length: ${body.length}`, `Content-Type: ${type}`]
    expect((await send('POST /api/workspaces/ws-a/headless', headers, body)).status).toBe(status)
  })

  test('a body without a type is 415', async () => {
    const answer = await send('POST /api/workspaces/ws-a/headless', ['Content-Length: 14'], '{"prompt":"x"}')
    expect(answer.status).toBe(415)
  })

  test('a POST without a body needs no type', async () => {
    expect((await send(`POST /api/headless/${TASK_ID}/cancel`)).status).toBe(200)
    expect((await send(`POST /api/headless/${TASK_ID}/cancel`, ['Content-Length: 0'])).status).toBe(200)
    expect((await send('POST /api/workspaces/ws-a/headless')).json?.['code']).toBe('validation_failed')
  })

  test('an operation that takes no body takes an empty object, and no field', async () => {
    expect((await rawJson(http.port, `POST /api/headless/${TASK_ID}/cancel`, '{}')).status).toBe(200)
    const field = await rawJson(http.port, `POST /api/headless/${TASK_ID}/cancel`, '{"force":true}')
    expect([field.status, field.json?.['code']]).toEqual([400, 'unknown_field'])
    const get = await rawJson(http.port, 'GET /api/headless', '{}')
    expect([get.status, get.json?.['code']]).toEqual([400, 'bad_request'])
  })

  test('a byte order mark is not part of the text', async () => {
    expect((await post('\ufeff{"prompt":"x"}')).status).toBe(202)
  })
})

describe('headers', () => {
  test('Idempotency-Key: one, of 1 to 255 visible characters, quoted or not', async () => {
    const key = (...values: string[]): Promise<RawAnswer> =>
      post(
        '{"prompt":"x"}',
        values.map((value) => `Idempotency-Key: ${value}`),
      )
    for (const good of ['a', '"a"', '__proto__', '../x', 'x'.repeat(255)]) expect((await key(good)).status).toBe(202)
    for (const bad of ['', '""', 'a b', 'é', 'x'.repeat(256)]) {
      expect((await key(bad)).json?.['code']).toBe('idempotency_key_invalid')
    }
    expect((await key('a', 'a')).json?.['code']).toBe('idempotency_key_invalid')
  })

  test('Prefer: wait=n is a number of seconds; more than 60 is 60, and other preferences are ignored', async () => {
    const prefer = (...values: string[]): Promise<RawAnswer> =>
      send(
        `GET /api/headless/${TASK_ID}`,
        values.map((value) => `Prefer: ${value}`),
      )
    expect((await prefer('wait=5')).headers['preference-applied']).toBe('wait=5')
    expect((await prefer('respond-async, wait="7"')).headers['preference-applied']).toBe('wait=7')
    expect((await prefer('respond-async', 'Wait = 7')).headers['preference-applied']).toBe('wait=7')
    expect((await prefer('wait=3600')).headers['preference-applied']).toBe('wait=60')
    expect((await prefer('respond-async')).headers['preference-applied']).toBeUndefined()
    for (const bad of ['wait', 'wait=', 'wait=0', 'wait=-1', 'wait=1.5', 'wait=soon']) {
      expect((await prefer(bad)).json?.['code']).toBe('validation_failed')
    }
  })

  test('every answer carries a request id of its own, may not be stored or sniffed', async () => {
    const answers = await Promise.all(
      [
        'GET /healthz',
        'GET /nothing',
        'PUT /healthz',
        'OPTIONS /healthz',
        'GET /docs',
        'GET /%zz',
        'HEAD /healthz',
      ].map((line) => send(line)),
    )
    for (const { headers } of answers) {
      expect(headers['x-request-id']).toMatch(/^req_[0-9a-z]{14,}$/)
      expect(headers['cache-control']).toBe('no-store')
      expect(headers['x-content-type-options']).toBe('nosniff')
      expect(headers['x-powered-by']).toBeUndefined()
    }
    expect(new Set(answers.map(({ headers }) => headers['x-request-id'])).size).toBe(answers.length)
  })
})

describe('anything', () => {
  const text = fc.oneof(
    fc.string(),
    fc.string({ unit: 'binary' }),
    fc.constantFrom('\r\n', '\0', ' ', '..', '%', '\r', ':'),
  )
  const line = fc.tuple(
    fc.constantFrom('GET', 'POST', 'PATCH', 'DELETE', 'HEAD', 'TRACE', 'M-SEARCH', ''),
    fc.constantFrom('/api/headless', `/api/headless/${TASK_ID}`, '/api/workspaces', '/docs', '/', ''),
    text,
  )
  const headers = fc.array(
    fc.tuple(
      fc.constantFrom(
        'Accept',
        'Prefer',
        'Range',
        'Idempotency-Key',
        'Last-Event-ID',
        'Content-Type',
        'Content-Length',
        'Transfer-Encoding',
        'Expect',
        'Host',
        'Authorization',
        'X',
      ),
      text,
    ),
    { maxLength: 4 },
  )

  test('a stranger sends is answered without a 5xx, and the server lives', async () => {
    await fc.assert(
      fc.asyncProperty(line, headers, text, async ([method, path, rest], list, body) => {
        const sent = list.map(([name, value]) => `${name}: ${value}`)
        const head = `${method} ${path}${rest} HTTP/1.1\r\nHost: 127.0.0.1:${http.port}\r\n${sent.join('\r\n')}\r\nConnection: close\r\n\r\n`
        const connection = await rawConnection(http.port)
        connection.socket.end(head + body)
        await connection.closed
        expect(connection.received()).not.toMatch(/^HTTP\/1\.1 5/)
      }),
      { numRuns: 1_000 },
    )
    expect((await send('GET /healthz')).status).toBe(200)
    expect(http.logged.filter((each) => each.includes('"level":50'))).toEqual([])
  })
})
