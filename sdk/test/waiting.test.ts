import { setTimeout as delay } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { NotFoundError, Postern, RunFailedError, WaitTimeoutError } from '../src/index.ts'
import { TASK, ended, json, problem, run, serve } from './server.ts'

const AT_ONCE_MS = 2_000
const prompt = { wsId: 'ws-news', prompt: 'Look around' } as const

test('waiting asks with Prefer and returns the run however it ended', async () => {
  await using server = await serve((_, response, count) =>
    json(response, 200, count < 3 ? run() : ended({ status: 'failed', reason: 'agent_error' })),
  )
  const done = await new Postern({ url: server.url }).runs.waitFor(TASK)
  expect(done).toMatchObject({ status: 'failed', reason: 'agent_error' })
  expect(server.received.map(({ headers }) => headers['prefer'])).toEqual(['wait=50', 'wait=50', 'wait=50'])
})

test('a server that does not wait is not asked without pause', async () => {
  await using server = await serve((_, response) => json(response, 200, run()))
  const waiting = new Postern({ url: server.url }).runs.waitFor(TASK, { timeoutMs: 1_200 })
  await expect(waiting).rejects.toThrow(WaitTimeoutError)
  expect(server.received.length).toBeLessThanOrEqual(3)
})

test('the own deadline is a WaitTimeoutError that holds the run as last seen, and the run goes on', async () => {
  await using server = await serve((_, response, count) => {
    if (count === 1) json(response, 200, run())
  })
  const error = await new Postern({ url: server.url }).runs
    .waitFor(TASK, { timeoutMs: 700 })
    .catch((error: unknown) => error)
  expect(error).toBeInstanceOf(WaitTimeoutError)
  expect(error).toMatchObject({ code: 'wait_timeout', taskId: TASK, run: { status: 'running' } })
  expect(server.received.every(({ method }) => method === 'GET')).toBe(true)
})

test('throwOnFailure turns any other end than success into an error', async () => {
  await using server = await serve((_, response, count) =>
    json(
      response,
      200,
      count === 1 ? ended() : ended({ status: 'timed_out', reason: 'timeout', detail: 'after 1 ms' }),
    ),
  )
  const { runs } = new Postern({ url: server.url })
  expect((await runs.waitFor(TASK, { throwOnFailure: true })).status).toBe('succeeded')
  const error = await runs.waitFor(TASK, { throwOnFailure: true }).catch((error: unknown) => error)
  expect(error).toBeInstanceOf(RunFailedError)
  expect(error).toMatchObject({ code: 'timeout', run: { status: 'timed_out' } })
  expect((error as Error).message).toBe(`${TASK} ended timed_out: after 1 ms`)
})

test('a status this version does not know still ends the wait', async () => {
  await using server = await serve((_, response) => json(response, 200, ended({ status: 'evaporated' })))
  expect((await new Postern({ url: server.url }).runs.waitFor(TASK)).status).toBe('evaporated')
})

test('an abort stops the wait at once, and cancels the run only when asked to', async () => {
  await using server = await serve((request, response) => {
    if (request.path.endsWith('/cancel')) json(response, 200, ended({ status: 'canceled' }))
  })
  const { runs } = new Postern({ url: server.url })
  for (const cancelOnAbort of [false, true]) {
    const abort = new AbortController()
    const waiting = runs.waitFor(TASK, { signal: abort.signal, cancelOnAbort }).catch((error: unknown) => error)
    await delay(100)
    const since = performance.now()
    abort.abort(new Error('enough'))
    expect(await waiting).toMatchObject({ message: 'enough' })
    expect(performance.now() - since).toBeLessThan(AT_ONCE_MS)
    expect(server.received.some(({ path }) => path.endsWith('/cancel'))).toBe(cancelOnAbort)
  }
})

test('an unknown run ends the wait at once; a server that restarts does not', async () => {
  await using server = await serve((request, response, count) => {
    if (request.path.includes('nowhere')) return problem(response, 404, 'run_not_found')
    if (count < 4) return void response.socket?.destroy()
    return json(response, 200, ended())
  })
  const { runs } = new Postern({ url: server.url })
  expect((await runs.waitFor(TASK)).status).toBe('succeeded')
  await expect(runs.waitFor('headless_nowhere')).rejects.toThrow(NotFoundError)
  expect(server.received).toHaveLength(5)
})

test('createAndWait starts once and waits', async () => {
  await using server = await serve((request, response) =>
    json(response, request.method === 'POST' ? 202 : 200, request.method === 'POST' ? run() : ended()),
  )
  const done = await new Postern({ url: server.url }).runs.createAndWait(prompt, { idempotencyKey: 'build-812' })
  expect(done.status).toBe('succeeded')
  expect(server.received.map(({ method }) => method)).toEqual(['POST', 'GET'])
  expect(server.received[0]?.headers['idempotency-key']).toBe('build-812')
})

test('createAndWait aborted during the start still cancels what was started', async () => {
  const abort = new AbortController()
  await using server = await serve((request, response) => {
    if (request.path.endsWith('/cancel')) return json(response, 200, ended({ status: 'canceled' }))
    abort.abort(new Error('enough'))
    return json(response, 202, run())
  })
  const waiting = new Postern({ url: server.url }).runs.createAndWait(prompt, {
    signal: abort.signal,
    cancelOnAbort: true,
  })
  await expect(waiting).rejects.toThrow('enough')
  expect(server.received.map(({ path }) => path.split('/').at(-1))).toEqual(['headless', 'cancel'])
})
