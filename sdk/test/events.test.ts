import { setTimeout as delay } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { AuthError, GoneError, Postern, ServerError, type Event } from '../src/index.ts'
import { LAST, TASK, ended, json, problem, serve, stream } from './server.ts'

const AT_ONCE_MS = 2_000
const all = Array.from({ length: LAST }, (_, index) => index + 1)
const after = (headers: { [name: string]: unknown }): number => Number(headers['last-event-id'] ?? 0)

async function seqs(events: AsyncIterable<Event>): Promise<number[]> {
  const found: number[] = []
  for await (const event of events) found.push(event.seq)
  return found
}

test('a stream that is cut again and again yields every event once and in order', async () => {
  await using server = await serve(({ headers }, response, count) => {
    const from = after(headers)
    const events = stream(response)
    if (count % 3 === 0) response.write(`id: ${from + 1}\ndata: {"seq":${from + 1},"ty`) // half an event
    else events.send(from, ...all.slice(from, from + 2)) // the first was seen already
    if (count % 2 === 0 || from + 2 >= LAST) events.end()
    else setTimeout(() => events.cut(), 5)
  })
  expect(await seqs(new Postern({ url: server.url }).runs.events(TASK))).toEqual(all)
  expect(server.received.length).toBeGreaterThan(4)
  expect(server.received[0]?.headers['last-event-id']).toBeUndefined()
})

test('an event that spans chunks, and characters that span bytes, arrive whole', async () => {
  await using server = await serve(async (_, response) => {
    response.writeHead(200, { 'content-type': 'text/event-stream' })
    const bytes = Buffer.from(`data: ${JSON.stringify({ seq: 1, type: 'run.ended', text: 'grüße 🚪' })}\n\n`)
    for (const byte of bytes) {
      response.write(Buffer.of(byte))
      await new Promise((resolve) => setImmediate(resolve))
    }
  })
  for await (const event of new Postern({ url: server.url }).runs.events(TASK)) expect(event.text).toBe('grüße 🚪')
})

test('reading begins behind `after`, and ends at once when nothing is there', async () => {
  await using server = await serve(({ headers, path }, response) => {
    if (!path.endsWith('/events')) return json(response, 200, ended({ lastSeq: LAST }))
    const events = stream(response)
    events.send(...all.slice(after(headers)))
    events.end()
  })
  const { runs } = new Postern({ url: server.url })
  expect(await seqs(runs.events(TASK, { after: 7 }))).toEqual([8, 9, 10])
  expect(await seqs(runs.events(TASK, { after: LAST }))).toEqual([])
})

test('a server that has nothing more to say ends the reading with 204', async () => {
  await using server = await serve((_, response) => void response.writeHead(204).end())
  expect(await seqs(new Postern({ url: server.url }).runs.events(TASK, { after: LAST }))).toEqual([])
  expect(server.received).toHaveLength(1)
})

test('a clean end before the terminal event is not the end of the run', async () => {
  await using server = await serve(({ headers, path }, response) => {
    if (!path.endsWith('/events')) return json(response, 200, { taskId: TASK, finishedAt: null, lastSeq: 0 })
    const from = after(headers)
    const events = stream(response)
    if (server.received.length > 2) events.send(...all.slice(from))
    events.end()
  })
  expect(await seqs(new Postern({ url: server.url }).runs.events(TASK))).toEqual(all)
})

test('a gap is not passed on: the reader asks again for what it missed', async () => {
  await using server = await serve(({ headers }, response, count) => {
    const events = stream(response)
    if (count === 1) events.send(1, 2, 5, 6)
    else events.send(...all.slice(after(headers)))
  })
  expect(await seqs(new Postern({ url: server.url }).runs.events(TASK))).toEqual(all)
  expect(server.received.map(({ headers }) => after(headers))).toEqual([0, 2])
})

test('leaving the loop closes the socket', async () => {
  await using server = await serve((_, response) => stream(response).send(1, 2, 3))
  for await (const event of new Postern({ url: server.url }).runs.events(TASK)) if (event.seq === 2) break
  await server.allClosed()
  expect(server.received).toHaveLength(1)
})

test('the terminal event ends the loop and the connection, though the server keeps it open', async () => {
  await using server = await serve((_, response) => stream(response).send(...all))
  expect(await seqs(new Postern({ url: server.url }).runs.events(TASK))).toEqual(all)
  await server.allClosed()
})

test('410 is asked once, and so is 401', async () => {
  await using server = await serve((request, response) =>
    request.path.includes('old') ? problem(response, 410, 'log_retired') : problem(response, 401, 'token_required'),
  )
  const { runs } = new Postern({ url: server.url })
  await expect(seqs(runs.events('headless_old'))).rejects.toThrow(GoneError)
  await expect(seqs(runs.events(TASK))).rejects.toThrow(AuthError)
  expect(server.received).toHaveLength(2)
})

test('a server that is stopping is asked again, after as long as it says', async () => {
  await using server = await serve((_, response, count) => {
    if (count === 1) problem(response, 503, 'draining', {}, { 'retry-after': '1' })
    else stream(response).send(...all)
  })
  expect(await seqs(new Postern({ url: server.url }).runs.events(TASK))).toEqual(all)
  const [first, second] = server.received
  expect((second?.at ?? 0) - (first?.at ?? 0)).toBeGreaterThanOrEqual(995)
})

test('an abort ends the loop at once and closes the socket', async () => {
  await using server = await serve((_, response) => stream(response).send(1))
  const abort = new AbortController()
  const reading = seqs(new Postern({ url: server.url }).runs.events(TASK, { signal: abort.signal })).catch(
    (error: unknown) => error,
  )
  await delay(100)
  const since = performance.now()
  abort.abort(new Error('enough'))
  expect(await reading).toMatchObject({ message: 'enough' })
  expect(performance.now() - since).toBeLessThan(AT_ONCE_MS)
  await server.allClosed()
})

test('a connection that falls silent is given up and resumed; signs of life keep it', async () => {
  await using server = await serve(({ headers }, response, count) => {
    const events = stream(response)
    if (count === 1) {
      events.send(1)
      const timer = setInterval(() => events.comment(), 50)
      setTimeout(() => clearInterval(timer), 1_500) // kept for longer than the limit, then silent
    } else events.send(...all.slice(after(headers)))
  })
  const since = performance.now()
  expect(await seqs(new Postern({ url: server.url }).runs.events(TASK, { idleMs: 1_000 }))).toEqual(all)
  expect(performance.now() - since).toBeGreaterThan(1_500)
  expect(server.received).toHaveLength(2)
})

test('a reader that takes its time is not taken for a silent connection', async () => {
  await using server = await serve((_, response) => stream(response).send(...all))
  const found: number[] = []
  for await (const event of new Postern({ url: server.url }).runs.events(TASK, { idleMs: 500 })) {
    found.push(event.seq)
    if (event.seq === 1) await delay(700)
  }
  expect(found).toEqual(all)
  expect(server.received).toHaveLength(1)
})

test('a server that accepts and closes is not asked without pause', async () => {
  await using server = await serve(({ path }, response) =>
    path.endsWith('/events') ? stream(response).end() : json(response, 200, { finishedAt: null, lastSeq: 0 }),
  )
  const abort = AbortSignal.timeout(1_500)
  await expect(seqs(new Postern({ url: server.url }).runs.events(TASK, { signal: abort }))).rejects.toThrow()
  expect(server.received.filter(({ path }) => path.endsWith('/events')).length).toBeLessThan(8)
})

test('a stream that is not in our words fails instead of being read again and again', async () => {
  await using server = await serve((_, response) => {
    response.writeHead(200, { 'content-type': 'text/event-stream' })
    response.write('data: hello\n\n')
  })
  await expect(seqs(new Postern({ url: server.url }).runs.events(TASK))).rejects.toThrow(ServerError)
  expect(server.received).toHaveLength(1)
})

test('a page of events is read without waiting', async () => {
  const body = { events: [{ seq: 3, type: 'log', at: 'now' }], nextAfter: 3, lastSeq: 9 }
  await using server = await serve((_, response) => json(response, 200, body))
  expect(await new Postern({ url: server.url }).runs.eventsPage(TASK, { after: 2, limit: 1 })).toEqual(body)
  expect(server.received[0]?.path).toBe(`/api/headless/${TASK}/events?after=2&limit=1`)
})
