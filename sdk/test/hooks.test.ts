import { build } from 'vite'
import { expect, test } from 'vitest'
import { BadRequestError, ConnectionError, ForbiddenError, IdempotencyError, ServerError, hooks } from '../src/index.ts'
import { json, nowhere, problem, serve, type Received } from './server.ts'

const RECEIPT = {
  status: 'delivered',
  deliveryId: 'dlv_01M7W3P5H2A9E4R7W0Y6ZC8MND',
  channel: 'postern:/sessions/sess_01M7W2YAHR3Q8V5N0D6C7BKXTE',
  sessionId: 'sess_01M7W2YAHR3Q8V5N0D6C7BKXTE',
}
const TOKEN = 'psk1_this-is-the-secret-part'
const keys = (received: Received[]): unknown[] => received.map(({ headers }) => headers['idempotency-key'])

test('a knock is tried again, with its key, until it is answered', async () => {
  const refusals: [number, string][] = [
    [503, 'storage_unavailable'],
    [409, 'idempotency_in_flight'],
    [502, 'bad_gateway'],
  ]
  await using server = await serve((_, response, count) => {
    const refusal = refusals[count - 1]
    if (count === refusals.length + 1) return void response.destroy()
    return refusal ? problem(response, ...refusal) : json(response, 200, RECEIPT)
  })
  const url = `${server.url}/hook/${TOKEN}`
  const answer = await hooks.send(url, { message: 'hello', from: 'ci', key: 'build-812' }).withResponse()
  expect([answer.status, answer.data]).toEqual([200, RECEIPT])
  expect(keys(server.received)).toEqual(Array.from({ length: 5 }, () => 'build-812'))
  expect(server.received[0]?.body).toBe('{"message":"hello","from":"ci"}')
  expect(server.received[0]?.headers.referer).toBeUndefined()
})

test('a knock without a key gets one of its own, the same in every try', async () => {
  await using server = await serve((_, response, count) =>
    count % 2 === 1 ? problem(response, 503, 'draining') : json(response, 202, RECEIPT),
  )
  await hooks.send(`${server.url}/hook/${TOKEN}`, { message: 'one' })
  await hooks.send(`${server.url}/hook/${TOKEN}`, { message: 'two' })
  const [a, b, c, d] = keys(server.received)
  expect([a === b, c === d, a === c]).toEqual([true, true, false])
})

test('Retry-After is obeyed, and what no patience helps is told at once', async () => {
  await using server = await serve((_, response, count) =>
    count === 1
      ? problem(response, 429, 'too_many_messages', {}, { 'Retry-After': '1' })
      : json(response, 200, RECEIPT),
  )
  await hooks.send(`${server.url}/hook/${TOKEN}`, { message: 'x' })
  const [first, second] = server.received
  expect((second?.at ?? 0) - (first?.at ?? 0)).toBeGreaterThan(990)

  const final = [
    [403, 'forbidden', ForbiddenError],
    [422, 'idempotency_mismatch', IdempotencyError],
    [400, 'validation_failed', BadRequestError],
    [500, 'internal_error', ServerError],
  ] as const
  for (const [status, code, kind] of final) {
    await using refusal = await serve((_, response) => problem(response, status, code))
    await expect(hooks.send(`${refusal.url}/hook/${TOKEN}`, { message: 'x' })).rejects.toThrow(kind)
    expect(refusal.received).toHaveLength(1)
  }
})

test('an address that is wrong, leads elsewhere or is not answered is refused without being repeated', async () => {
  await using elsewhere = await serve((_, response) => void response.writeHead(307, { Location: '/' }).end())
  await using page = await serve((_, response) => void response.end('<html>'))
  const none = await nowhere()
  const failures: [string, unknown][] = [
    [`not an address ${TOKEN}`, BadRequestError],
    [`ftp://127.0.0.1/hook/${TOKEN}`, BadRequestError],
    [`${elsewhere.url}/hook/${TOKEN}`, ConnectionError],
    [`${page.url}/hook/${TOKEN}`, ServerError],
    [`${none}/hook/${TOKEN}`, ConnectionError],
  ]
  for (const [url, kind] of failures) {
    const error: unknown = await hooks.send(url, { message: 'x' }, { retries: 0 }).catch((thrown: unknown) => thrown)
    expect(error, url).toBeInstanceOf(kind)
    const shown = `${JSON.stringify(error)} ${String(error)} ${(error as Error).stack} ${String((error as Error).cause)}`
    expect(shown).not.toContain(TOKEN)
  }
})

test('a caller who gives up is heard at once, also between two tries', async () => {
  await using server = await serve((_, response) => problem(response, 429, 'buffer_full', {}, { 'Retry-After': '50' }))
  const abort = new AbortController()
  const knocking = hooks.send(`${server.url}/hook/${TOKEN}`, { message: 'x' }, { signal: abort.signal })
  setTimeout(() => abort.abort(new Error('enough')), 100)
  await expect(knocking).rejects.toThrow('enough')
  expect(server.received).toHaveLength(1)
})

test('on its own it is small, and needs nothing of Node', async () => {
  const entry = new URL('../dist/hooks.js', import.meta.url).pathname
  const built = await build({
    configFile: false,
    logLevel: 'silent',
    build: { write: false, minify: true, lib: { entry, formats: ['es'] } },
  })
  const [bundle] = [built].flat()
  const chunk = bundle && 'output' in bundle ? bundle.output[0] : undefined
  expect(chunk?.code).toMatch(/Idempotency-Key/)
  expect(chunk?.code).not.toMatch(/['"]node:|\bky\b/)
  expect(chunk?.code.length).toBeLessThan(8_000)
})
