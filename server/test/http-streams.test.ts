import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Event, Run } from '../src/model.ts'
import { startTestServer, type TestServer } from './harness.ts'
import { rawRequest } from './raw-http.ts'

const agents = {
  sh: { command: ['bash', '--norc', '-s'] },
  lines: { command: ['bash', '--norc', '-s'], output: 'jsonl' },
}
let server: TestServer
let wsId: string
beforeAll(async () => {
  server = await startTestServer({ config: { agents } })
  wsId = await server.workspace({ agents: ['sh', 'lines'] })
})
afterAll(() => server[Symbol.asyncDispose]())

const start = (body: Record<string, unknown>, headers: Record<string, string> = {}) =>
  server.call<Run>('POST', `/api/workspaces/${wsId}/headless`, { agent: 'sh', ...body }, { headers })

interface Sent {
  id: string
  event: string
  data: Event
}

/** The events of a stream, until it ends or `until` says so; then the connection is cut. */
async function follow(
  path: string,
  init: RequestInit = {},
  until: (sent: Sent) => boolean = () => false,
): Promise<Sent[]> {
  const response = await fetch(server.url + path, {
    ...init,
    headers: { accept: 'text/event-stream', ...(init.headers as Record<string, string>) },
  })
  expect([response.status, response.headers.get('content-type')]).toEqual([200, 'text/event-stream'])
  const seen: Sent[] = []
  let text = ''
  for await (const chunk of response.body ?? []) {
    text += Buffer.from(chunk as Uint8Array).toString('utf8')
    for (let end = text.indexOf('\n\n'); end !== -1; end = text.indexOf('\n\n')) {
      const lines = Object.fromEntries(
        text
          .slice(0, end)
          .split('\n')
          .map((line) => [line.slice(0, line.indexOf(': ')), line.slice(line.indexOf(': ') + 2)]),
      ) as Record<string, string>
      text = text.slice(end + 2)
      if (lines['data'] === undefined) continue
      const sent = { id: lines['id'] ?? '', event: lines['event'] ?? '', data: JSON.parse(lines['data']) as Event }
      seen.push(sent)
      if (until(sent)) return seen // leaving the loop cancels the body, and with it the connection
    }
  }
  return seen
}
const ids = (seen: Sent[]): number[] => seen.map(({ id }) => Number(id))
const upTo = (last: number, first = 1): number[] => Array.from({ length: last - first + 1 }, (_, i) => first + i)

describe('events', () => {
  test('a stream is the past, then what happens, to the terminal event and no further', async () => {
    const { body } = await start({ prompt: 'for i in 1 2 3; do echo $i; sleep 0.05; done' })
    const seen = await follow(`/api/headless/${body.taskId}/events`)
    expect(ids(seen)).toEqual(upTo(seen.length))
    expect(seen.at(-1)?.event).toBe('run.ended')
    for (const { id, event, data } of seen) expect([data.seq, data.type]).toEqual([Number(id), event])
    const page = await server.call<{ events: Event[] }>('GET', `/api/headless/${body.taskId}/events`)
    expect(page.body.events).toEqual(seen.map(({ data }) => data))
  })

  test('a stream cut after each event resumes without a gap or a double', async () => {
    const words = Array.from({ length: 8 }, (_, i) => `echo '{"type":"agent.message","text":"${i}"}'; sleep 0.05`)
    const { body } = await start({ agent: 'lines', prompt: words.join('\n') })
    const path = `/api/headless/${body.taskId}/events`
    const seen: Sent[] = []
    while (seen.at(-1)?.event !== 'run.ended') {
      const last = seen.at(-1)
      const headers: Record<string, string> = last ? { 'last-event-id': last.id } : {}
      seen.push(...(await follow(path, { headers }, () => true)))
    }
    expect(ids(seen)).toEqual(upTo(seen.length))
    expect(seen.filter(({ event }) => event === 'agent.message').map(({ data }) => data.text)).toEqual([
      '0',
      '1',
      '2',
      '3',
      '4',
      '5',
      '6',
      '7',
    ])
  })

  test('`after` does the same, `Last-Event-ID` wins over it, and who has seen the end gets 204', async () => {
    const { body } = await start({ prompt: 'echo a', wait: true })
    const path = `/api/headless/${body.taskId}/events`
    const last = body.lastSeq
    expect(ids(await follow(`${path}?after=1`))).toEqual(upTo(last, 2))
    expect(ids(await follow(`${path}?after=0`, { headers: { 'last-event-id': '2' } }))).toEqual(upTo(last, 3))
    for (const after of [last, last + 10]) {
      const over = await server.call('GET', `${path}?after=${after}`, undefined, {
        headers: { accept: 'text/event-stream' },
      })
      expect([over.status, over.text]).toEqual([204, ''])
    }
    const odd = await server.call('GET', path, undefined, {
      headers: { accept: 'text/event-stream', 'last-event-id': 'x' },
    })
    expect([odd.status, odd.body['code']]).toEqual([400, 'validation_failed'])
    const missing = await server.call('GET', `/api/headless/headless_01K00000000000000000000001/events`, undefined, {
      headers: { accept: 'text/event-stream' },
    })
    expect([missing.status, missing.body['code']]).toEqual([404, 'run_not_found'])
  })

  test('a page goes on where the last one stopped', async () => {
    const { body } = await start({
      agent: 'lines',
      prompt: 'for i in 1 2 3 4 5; do echo "{\\"type\\":\\"log\\",\\"message\\":\\"$i\\"}"; done',
      wait: true,
    })
    const seen: number[] = []
    for (let after = 0; ;) {
      const page = await server.call<{ events: Event[]; nextAfter: number; lastSeq: number }>(
        'GET',
        `/api/headless/${body.taskId}/events?after=${after}&limit=2`,
      )
      expect(page.body.lastSeq).toBe(body.lastSeq)
      if (page.body.events.length === 0) break
      seen.push(...page.body.events.map(({ seq }) => seq))
      after = page.body.nextAfter
    }
    expect(seen).toEqual(upTo(body.lastSeq))
  })

  test('HEAD of a stream is its head', async () => {
    const { body } = await start({ prompt: 'echo a', wait: true })
    const head = await rawRequest(server.port, {
      line: `HEAD /api/headless/${body.taskId}/events`,
      headers: ['Accept: text/event-stream'],
    })
    expect([head.status, head.headers['content-type'], head.body]).toEqual([200, 'text/event-stream', ''])
  })
})

describe('create and stream', () => {
  const init = (body: Record<string, unknown>, headers: Record<string, string> = {}): RequestInit => ({
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: JSON.stringify({ agent: 'sh', ...body }),
  })
  const path = (): string => `/api/workspaces/${wsId}/headless`

  test('one POST starts a run and streams it from its first event; `wait` changes nothing', async () => {
    const seen = await follow(path(), init({ prompt: 'echo a', wait: true }))
    expect(ids(seen)).toEqual(upTo(seen.length))
    expect(seen.at(-1)?.data).toMatchObject({ type: 'run.ended', status: 'succeeded' })
  })

  test('the run is committed when the stream begins: hanging up does not cancel it, and its key finds it', async () => {
    const body = { prompt: 'sleep 0.3; echo done' }
    const headers = { 'idempotency-key': 'stream-1', accept: 'text/event-stream' }
    const cut = new AbortController()
    const first = await fetch(server.url + path(), { ...init(body, headers), signal: cut.signal })
    const location = first.headers.get('location') ?? ''
    expect(location).toMatch(/^\/api\/headless\/headless_/)
    cut.abort()
    const again = await fetch(server.url + path(), init(body, headers))
    expect(again.headers.get('idempotency-replayed')).toBe('true')
    expect(again.headers.get('location')).toBe(location)
    expect(await again.text()).toContain('id: 1\n')
    const { body: run } = await server.call<Run>('GET', location, undefined, { headers: { prefer: 'wait=30' } })
    expect(run).toMatchObject({ status: 'succeeded', result: { text: 'done\n' } })
  })

  test('a refused start is a problem, not a stream', async () => {
    const answer = await server.call('POST', path(), { prompt: '' }, { headers: { accept: 'text/event-stream' } })
    expect([answer.status, answer.headers.get('content-type')]).toEqual([400, 'application/problem+json'])
  })
})

describe('raw output', () => {
  let output: string
  beforeAll(async () => {
    const { body } = await start({ prompt: 'printf 0123456789; printf oops >&2', wait: true })
    output = `/api/headless/${body.taskId}/output`
  })
  const get = (query = '', ...headers: string[]) => rawRequest(server.port, { line: `GET ${output}${query}`, headers })

  test('is given whole, as text, with what is known of it', async () => {
    const answer = await get()
    expect([answer.status, answer.body]).toEqual([200, '0123456789'])
    expect(answer.headers).toMatchObject({
      'content-type': 'text/plain; charset=utf-8',
      'content-length': '10',
      'accept-ranges': 'bytes',
      'x-postern-truncated': 'false',
      'x-postern-complete': 'true',
    })
    expect((await get('?stream=stderr')).body).toBe('oops')
    expect((await get('?stream=stdin')).status).toBe(400)
  })

  test.each([
    ['bytes=0-3', 206, '0123', 'bytes 0-3/10'],
    ['bytes=4-', 206, '456789', 'bytes 4-9/10'],
    ['bytes=-3', 206, '789', 'bytes 7-9/10'],
    ['bytes=-99', 206, '0123456789', 'bytes 0-9/10'],
    ['bytes=8-99', 206, '89', 'bytes 8-9/10'],
    ['bytes=10-', 416, undefined, 'bytes */10'],
    ['bytes=-0', 416, undefined, 'bytes */10'],
    ['bytes=0-1,4-5', 200, '0123456789', undefined],
    ['bytes=5-2', 200, '0123456789', undefined],
    ['bytes=x', 200, '0123456789', undefined],
    ['lines=0-1', 200, '0123456789', undefined],
  ])('Range: %s is %i', async (range, status, body, contentRange) => {
    const answer = await get('', `Range: ${range}`)
    expect([answer.status, answer.headers['content-range']]).toEqual([status, contentRange])
    if (body === undefined) expect(answer.json?.['code']).toBe('range_not_satisfiable')
    else expect(answer.body).toBe(body)
  })

  test('tailBytes gives the end of it', async () => {
    expect((await get('?tailBytes=4')).body).toBe('6789')
    expect((await get('?tailBytes=99')).body).toBe('0123456789')
    expect((await get('?tailBytes=0')).headers['content-length']).toBe('0')
    expect((await get('?tailBytes=4', 'Range: bytes=0-1')).status).toBe(400)
    expect((await get('?tailBytes=-1')).status).toBe(400)
    expect((await get('', 'Range: bytes=0-1', 'If-Range: "x"')).status).toBe(200)
  })

  test('HEAD says how long it is', async () => {
    const whole = await rawRequest(server.port, { line: `HEAD ${output}` })
    expect([whole.status, whole.body, whole.headers['content-length']]).toEqual([200, '', '10'])
    const part = await rawRequest(server.port, { line: `HEAD ${output}`, headers: ['Range: bytes=2-3'] })
    expect([part.status, part.headers['content-range'], part.headers['content-length']]).toEqual([
      206,
      'bytes 2-3/10',
      '2',
    ])
  })

  test('of a run that printed nothing is empty', async () => {
    const { body } = await start({ prompt: 'true', wait: true })
    const answer = await rawRequest(server.port, { line: `GET /api/headless/${body.taskId}/output` })
    expect([answer.status, answer.body, answer.headers['content-length']]).toEqual([200, '', '0'])
  })
})

describe('workspaces', () => {
  test('the same key and body register one workspace, and say so', async () => {
    const create = (tag: string) =>
      server.call<{ id: string }>(
        'POST',
        '/api/workspaces',
        { tag },
        { token: true, headers: { 'idempotency-key': 'ws-key' } },
      )
    const first = await create('once')
    const again = await create('once')
    expect([first.status, again.status]).toEqual([201, 201])
    expect(first.headers.get('location')).toBe(`/api/workspaces/${first.body.id}`)
    expect(again.text).toBe(first.text)
    expect([first.headers.get('idempotency-replayed'), again.headers.get('idempotency-replayed')]).toEqual([
      null,
      'true',
    ])
    const other = await create('twice')
    expect([other.status, other.body]).toMatchObject([422, { code: 'idempotency_mismatch' }])
  })
})

describe('diff', () => {
  test('is a patch, with its own media type', async () => {
    const { body } = await start({ prompt: 'echo new > made.txt', wait: true })
    const answer = await rawRequest(server.port, { line: `GET /api/headless/${body.taskId}/diff` })
    expect([answer.status, answer.headers['content-type']]).toEqual([200, 'text/x-diff; charset=utf-8'])
    expect(answer.body).toContain('+++ b/made.txt')
    const running = await start({ prompt: 'sleep 20' })
    const early = await server.call('GET', `/api/headless/${running.body.taskId}/diff`)
    expect([early.status, early.body['code']]).toEqual([404, 'diff_not_available'])
    await server.call('POST', `/api/headless/${running.body.taskId}/cancel`)
  })
})

describe('documents', () => {
  test('the reference names every operation and every code, with an anchor', async () => {
    const markdown = (await server.call('GET', '/docs.md')).text
    expect(markdown).toContain('but for those of the hook')
    expect((await server.call('GET', '/llms.txt')).text).toContain('the token of a run covers neither this list')
    for (const id of [
      'runs.create',
      'workspaces.delete',
      'server.health',
      'capacity_reached',
      'draining',
      'CreateRun',
    ]) {
      expect(markdown).toContain(`<a id="${id}"></a>`)
    }
    expect(markdown).not.toContain('undefined')
    expect(markdown).not.toContain('[object')
    const page = (await server.call('GET', '/docs')).text
    expect(page).toContain('<tr id="capacity_reached">')
    expect(page).not.toMatch(/<script>|https?:\/\//)
  })

  test('every link of the pages leads somewhere here', async () => {
    for (const path of ['/', '/docs', '/llms.txt']) {
      const { text } = await server.call('GET', path)
      const links = [...text.matchAll(/(?:href|src)="([^"#]+)"|\]\(([^)]+)\)/g)].map(
        (match) => match[1] ?? match[2] ?? '',
      )
      expect(links.length).toBeGreaterThan(2)
      for (const link of links) expect((await fetch(new URL(link, server.url))).status, link).toBe(200)
    }
  })

  test('the served document calls the server it came from', async () => {
    const { body } = await server.call<{ servers: unknown; info: { version: string } }>('GET', '/openapi.json')
    expect([body.servers, body.info.version]).toEqual([[{ url: '/' }], '0.0.0-test'])
  })

  test('the prompt contract of a workspace is filled in, and what it says works', async () => {
    const { text, headers } = await server.call('GET', `/api/workspaces/${wsId}/contract.md`)
    expect(headers.get('content-type')).toBe('text/markdown; charset=utf-8')
    expect(text).toContain('Agents here: sh (default), lines.')
    const [url = ''] = /http:\S+\/headless$/m.exec(text) ?? []
    const body = (/^ {4}(\{.*\})$/m.exec(text)?.[1] ?? '').replace('…', 'echo hi')
    const started = await fetch(url, { method: 'POST', headers: { 'content-type': 'application/json' }, body })
    expect(started.status).toBe(202)
    const inbox = /GET (http:\S+\/api\/inbox\?wsId=\S+) /.exec(text)?.[1] ?? ''
    expect((await fetch(inbox)).status).toBe(200)
    expect(text).not.toContain('budget')
  })

  test('the prompt contract names the limits in force', async () => {
    const budget = { maxTokensPerRun: 50_000, runsPerDay: 12, costUsdPerDay: 2.5 }
    const id = await server.workspace({ permissions: 'ask', maxRuns: 2, budget })
    const { text } = await server.call('GET', `/api/workspaces/${id}/contract.md`)
    expect(text).toContain('Without asking an agent may read;')
    expect(text).toContain('One run: at most 50000 tokens; beyond that it ends `budget_exceeded`.')
    expect(text).toContain('A day, UTC: at most 12 runs, $2.5; then 429 `budget_reached` until midnight.')
    expect(text).toContain('At once: 2 here;')
  })

  test('metrics count runs and answers', async () => {
    await start({ prompt: 'exit 3', wait: true })
    const { text, headers } = await server.call('GET', '/metrics')
    expect(headers.get('content-type')).toBe('text/plain; version=0.0.4; charset=utf-8')
    expect(text).toMatch(/^postern_runs_ended_total\{status="failed"\} [1-9]/m)
    expect(text).toMatch(/^postern_runs_limit 8$/m)
    expect(text).toMatch(/^postern_http_answers_total\{class="2xx"\} [1-9]/m)
    for (const line of text.trimEnd().split('\n'))
      expect(line).toMatch(/^(# (HELP|TYPE) |[a-z_]+(\{[a-z]+="[^"]*"\})? [-+.e\d]+$)/)
  })
})
