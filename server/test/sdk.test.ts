import { once } from 'node:events'
import { connect, createServer, type AddressInfo, type Socket } from 'node:net'
import {
  BadRequestError,
  CapacityError,
  ConflictError,
  IdempotencyError,
  NotFoundError,
  Postern,
  RunFailedError,
  WaitTimeoutError,
  type TaskId,
  type WorkspaceId,
} from '@postern/sdk'
import { describe, expect, test } from 'vitest'
import { startTestServer, type TestServer } from './harness.ts'
import { serve } from './server-process.ts'
import { temporaryDirectory } from './temporary.ts'

/** The client as its users have it, built, against a real server. */

const demo = async (server: TestServer): Promise<{ postern: Postern; wsId: WorkspaceId }> => ({
  postern: await Postern.connect({ home: server.dataDir }),
  wsId: (await server.workspace()) as WorkspaceId,
})

/** A relay that cuts each connection after some bytes of its answer. */
async function cutter(
  target: number,
  afterBytes: () => number,
): Promise<{ url: string; cuts(): number } & AsyncDisposable> {
  const sockets = new Set<Socket>()
  let cuts = 0
  const relay = createServer((inner) => {
    const outer = connect(target, '127.0.0.1')
    let left = afterBytes()
    for (const socket of [inner, outer]) {
      sockets.add(socket)
      socket.on('error', () => undefined).on('close', () => sockets.delete(socket))
    }
    inner.on('data', (chunk: Buffer) => {
      // The server takes only its own name.
      outer.write(chunk.toString('latin1').replace(/^host: .*$/im, `Host: 127.0.0.1:${target}`), 'latin1')
    })
    outer.on('data', (chunk: Buffer) => {
      inner.write(chunk.subarray(0, left))
      left -= chunk.length
      if (left > 0) return
      cuts += 1
      inner.destroy()
      outer.destroy()
    })
    inner.on('close', () => outer.destroy())
    outer.on('close', () => inner.end())
  })
  relay.listen(0, '127.0.0.1')
  await once(relay, 'listening')
  const { port } = relay.address() as AddressInfo
  return {
    url: `http://127.0.0.1:${port}`,
    cuts: () => cuts,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy()
      relay.close()
      await once(relay, 'close')
    },
  }
}

describe('the client', () => {
  test('starts, follows, waits, reads, repeats and ends runs', async () => {
    await using server = await startTestServer()
    const { postern, wsId } = await demo(server)
    const run = await postern.runs.create({ wsId, prompt: '/write notes.md hello', metadata: { build: '812' } })
    const types: string[] = []
    for await (const event of postern.runs.events(run.taskId)) types.push(event.type)
    expect(types[0]).toBe('run.started')
    expect(types.at(-1)).toBe('run.ended')
    const done = await postern.runs.waitFor(run.taskId)
    expect(done).toMatchObject({ status: 'succeeded', metadata: { build: '812' }, lastSeq: types.length })
    expect(await postern.runs.diff(run.taskId)).toContain('+hello')
    expect(await postern.runs.output(run.taskId, { tailBytes: 20 })).toHaveLength(20)
    expect((await postern.runs.eventsPage(run.taskId, { after: 1, limit: 1 })).events).toMatchObject([{ seq: 2 }])
    const again = await postern.runs.retry(run.taskId)
    expect(again.retryOf).toBe(run.taskId)
    expect((await postern.runs.createAndWait({ wsId, prompt: '/fail 3' })).status).toBe('failed')
    const failing = postern.runs.createAndWait({ wsId, prompt: '/fail 3' }, { throwOnFailure: true })
    await expect(failing).rejects.toThrow(RunFailedError)
  })

  test('starts one run for one key, and says which answer was a replay', async () => {
    await using server = await startTestServer()
    const { postern, wsId } = await demo(server)
    const request = { wsId, prompt: '/files' }
    const first = await postern.runs.create(request, { idempotencyKey: 'build-812' }).withResponse()
    const again = await postern.runs.create(request, { idempotencyKey: 'build-812' }).withResponse()
    expect([first.status, again.status]).toEqual([202, 202])
    expect(again.data).toEqual(first.data)
    expect(first.headers.get('Idempotency-Replayed')).toBeNull()
    expect(again.headers.get('Idempotency-Replayed')).toBe('true')
    const other = postern.runs.create({ wsId, prompt: '/todo' }, { idempotencyKey: 'build-812' })
    await expect(other).rejects.toThrow(IdempotencyError)
  })

  test('has a class for what the server refuses', async () => {
    await using server = await startTestServer({ config: { maxRuns: 1 } })
    const { postern, wsId } = await demo(server)
    await expect(postern.runs.create({ wsId: 'ws-nowhere', prompt: 'x' })).rejects.toMatchObject({
      name: 'NotFoundError',
      code: 'workspace_not_found',
      status: 404,
      requestId: expect.stringMatching(/^req_/) as string,
    })
    await expect(postern.runs.create({ wsId, prompt: ' ' })).rejects.toThrow(BadRequestError)
    const run = await postern.runs.create({ wsId, prompt: '/sleep 50' })
    const impatient = await Postern.connect({ home: server.dataDir, retries: 0 })
    const full = await impatient.runs.create({ wsId, prompt: '/files' }).catch((error: unknown) => error)
    expect(full).toBeInstanceOf(CapacityError)
    expect((full as CapacityError).retryAfterMs).toBeGreaterThan(0)
    await expect(postern.runs.retry(run.taskId)).rejects.toThrow(ConflictError)
    await expect(postern.runs.waitFor(run.taskId, { timeoutMs: 100 })).rejects.toThrow(WaitTimeoutError)
    await expect(postern.runs.diff(run.taskId)).rejects.toThrow(NotFoundError)
    const abort = new AbortController()
    const waiting = postern.runs.waitFor(run.taskId, { signal: abort.signal, cancelOnAbort: true })
    abort.abort(new Error('enough'))
    await expect(waiting).rejects.toThrow('enough')
    expect((await postern.runs.get(run.taskId)).status).toBe('canceled')
  })

  test('pages through runs, and looks after workspaces and agents', async () => {
    await using server = await startTestServer()
    const { postern, wsId } = await demo(server)
    for (let i = 0; i < 5; i++) await postern.runs.createAndWait({ wsId, prompt: '/files' })
    const paged: TaskId[] = []
    for await (const run of postern.runs.list({ wsId, pageSize: 2 })) paged.push(run.taskId)
    expect(paged).toEqual((await postern.runs.list({ wsId }).page()).tasks.map(({ taskId }) => taskId))
    expect(new Set(paged).size).toBe(5)
    const made = await postern.workspaces.create({ tag: 'scratch', agents: ['demo'] })
    expect(await postern.workspaces.update(made.id, { maxRuns: 2 })).toMatchObject({ id: made.id, maxRuns: 2 })
    expect((await postern.workspaces.list().toArray()).map(({ id }) => id)).toContain(made.id)
    await postern.workspaces.delete(made.id, { purge: true })
    await expect(postern.workspaces.get(made.id)).rejects.toThrow(NotFoundError)
    expect((await postern.agents.list().toArray()).map(({ id }) => id)).toContain('demo')
    expect(await postern.agents.probe('demo')).toMatchObject({ agent: 'demo', ok: true })
  })
})

test('writes, reads, runs and changes issues, and tells of a file that changed meanwhile', async () => {
  await using server = await startTestServer()
  const { postern, wsId } = await demo(server)
  const issue = await postern.issues.create(wsId, {
    title: 'Brief',
    body: '/files',
    when: { kind: 'every', every: '1d' },
  })
  expect(issue).toMatchObject({ issueId: 'brief', status: 'todo', health: 'ok' })
  expect((await postern.issues.list(wsId).toArray()).map(({ issueId }) => issueId)).toEqual(['brief'])
  expect(await postern.issues.board({ wsId, status: 'done' })).toEqual({ issues: [], problems: [] })
  await postern.issues.comment(wsId, 'brief', { text: 'Skip it on holidays.' })
  const { comments, revision } = await postern.issues.get(wsId, 'brief')
  expect(comments).toMatchObject([{ author: 'operator', text: 'Skip it on holidays.' }])
  const stale = postern.issues.update(wsId, 'brief', { revision: issue.revision, status: 'done' })
  await expect(stale).rejects.toBeInstanceOf(ConflictError)
  expect((await postern.issues.update(wsId, 'brief', { revision, when: null })).when).toBeNull()
  const run = await postern.issues.run(wsId, 'brief', { idempotencyKey: 'k' })
  expect((await postern.issues.run(wsId, 'brief', { idempotencyKey: 'k' })).taskId).toBe(run.taskId)
  expect((await postern.runs.waitFor(run.taskId)).trigger).toMatchObject({ kind: 'issue', issueId: 'brief' })
  expect((await postern.issues.schedule(wsId, 'brief')).nextFires).toEqual([])
  expect((await postern.issues.preview({ kind: 'cron', cron: '0 9 * * *' }, { count: 2 })).fires).toHaveLength(2)
  await expect(postern.issues.preview({ kind: 'cron', cron: '61 9 * * *' })).rejects.toMatchObject({
    code: 'cron_invalid',
  })
  expect((await postern.issues.delete(wsId, 'brief'))?.title).toBe('Brief')
  await expect(postern.issues.get(wsId, 'brief')).rejects.toBeInstanceOf(NotFoundError)
})

describe('events', () => {
  test('come once and in order through connections that are cut again and again', async () => {
    await using server = await startTestServer()
    const { postern, wsId } = await demo(server)
    const prompt = Array.from({ length: 12 }, () => '/files').join('\n')
    const { taskId } = await postern.runs.create({ wsId, prompt })
    let bytes = 900
    await using relay = await cutter(server.port, () => (bytes += 150))
    const through = new Postern({ url: relay.url })
    const seen: number[] = []
    for await (const event of through.runs.events(taskId)) seen.push(event.seq)
    const { lastSeq } = await postern.runs.get(taskId)
    expect(seen).toEqual(Array.from({ length: lastSeq }, (_, index) => index + 1))
    expect(relay.cuts()).toBeGreaterThan(1)
  })

  test('go on when the server dies and comes back, and end with how the run ended', async () => {
    await using home = await temporaryDirectory()
    const first = await serve({ dataDir: home.path })
    const { port } = new URL(first.url)
    const postern = await Postern.connect({ home: home.path })
    const { id } = await postern.workspaces.create({ tag: 'survivor', agents: ['demo'] })
    const { taskId } = await postern.runs.create({ wsId: id, prompt: '/sleep 50' })
    const seen: number[] = []
    let second: Awaited<ReturnType<typeof serve>> | undefined
    let last = ''
    for await (const event of postern.runs.events(taskId)) {
      seen.push(event.seq)
      last = event.type
      if (event.type !== 'tool.started') continue
      await first.end('SIGKILL')
      second = await serve({ dataDir: home.path, args: ['--port', port] })
    }
    expect(last).toBe('run.ended')
    expect(seen).toEqual(seen.map((_, index) => index + 1))
    expect(await postern.runs.waitFor(taskId)).toMatchObject({ status: 'interrupted', reason: 'server_died' })
    await second?.end('SIGTERM')
  })
})
