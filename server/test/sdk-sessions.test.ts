import {
  AuthError,
  BadRequestError,
  ConflictError,
  ForbiddenError,
  GoneError,
  IdempotencyError,
  NotFoundError,
  Postern,
  ReplyTimeoutError,
  hooks,
  isOver,
  type Event,
  type SessionId,
  type WorkspaceId,
} from '@postern/sdk'
import { describe, expect, test } from 'vitest'
import { census } from '../src/process/census.ts'
import { startTestServer, type TestServer } from './harness.ts'
import { serve } from './server-process.ts'
import { eventually, temporaryDirectory } from './temporary.ts'

/** The second door through the client as its users have it, built, against a real server. */

async function open(
  server: TestServer,
  settings: Record<string, unknown> = {},
): Promise<{ postern: Postern; wsId: WorkspaceId; id: SessionId }> {
  const postern = await Postern.connect({ home: server.dataDir })
  const wsId = (await server.workspace(settings)) as WorkspaceId
  const { id } = await postern.sessions.create({ wsId, agent: 'demo' })
  return { postern, wsId, id }
}
async function untilIdle(postern: Postern, id: SessionId): Promise<void> {
  await eventually(async () => (await postern.sessions.get(id)).state === 'idle')
}

describe('sessions', () => {
  test('are opened, asked, listed and ended, and their events are read to the end', async () => {
    await using server = await startTestServer()
    const { postern, wsId, id } = await open(server)
    const { data, status } = await postern.sessions.get(id).withResponse()
    expect([status, data.wsId, data.agent]).toEqual([200, wsId, 'demo'])
    const types: string[] = []
    const reply = await postern.sessions.ask(id, 'deploy finished', { onEvent: ({ type }) => types.push(type) })
    expect(reply).toMatchObject({ status: 'completed', text: expect.stringContaining('deploy finished') as string })
    expect(types).toContain('agent.message')
    const asked = await postern.sessions.ask(id, { message: 'and now?', from: 'ada' })
    expect(asked.text).toContain('[ada] and now?')
    expect(await postern.deliveries.get(asked.deliveryId)).toMatchObject({ status: 'confirmed', from: 'ada' })
    const sent = (await postern.sessions.deliveries(id, { pageSize: 1 }).toArray()).map((delivery) => delivery.id)
    expect(sent).toEqual([asked.deliveryId, reply.deliveryId])

    const second = await postern.sessions.create({ wsId, title: 'second', prompt: 'from the beginning' })
    for await (const event of postern.sessions.events(second.id)) {
      expect(event).toMatchObject({ seq: 1, type: 'input.accepted', text: 'from the beginning' })
      break
    }
    const listed = await postern.sessions.list({ wsId, pageSize: 1 }).toArray()
    expect(listed.map((session) => session.id)).toEqual([second.id, id])
    expect(await postern.sessions.end(id)).toMatchObject({ state: 'ended', reason: 'ended_by_caller' })
    expect(isOver(await postern.sessions.get(id))).toBe(true)
    expect((await postern.sessions.list({ state: 'ended' }).toArray()).map((session) => session.id)).toEqual([id])
    const seqs: number[] = []
    let last: Event | undefined
    for await (const event of postern.sessions.events(id)) {
      seqs.push(event.seq)
      last = event
    }
    expect(seqs).toEqual(seqs.map((_, index) => index + 1))
    expect(last).toMatchObject({ type: 'session.state', state: 'ended' })
    for await (const event of postern.sessions.events(id, { after: seqs.length })) expect(event).toBeUndefined()
    expect((await postern.sessions.eventsPage(id, { after: 1, limit: 1 })).events).toMatchObject([{ seq: 2 }])
    await expect(postern.sessions.ask(id, 'too late')).rejects.toThrow(GoneError)
    await expect(postern.sessions.send(id, 'too late')).rejects.toMatchObject({ code: 'session_ended', status: 410 })
  })

  test('deliver one message for one key, and answer it again when they are asked again', async () => {
    await using server = await startTestServer()
    const { postern, id } = await open(server)
    const first = await postern.sessions.ask(id, 'only once', { idempotencyKey: 'k-1' })
    const again = await postern.sessions.ask(id, 'only once', { idempotencyKey: 'k-1' })
    expect(again).toEqual(first)
    expect((await postern.sessions.get(id)).turns).toBe(1)
    await expect(postern.sessions.send(id, 'another', { idempotencyKey: 'k-1' })).rejects.toThrow(IdempotencyError)
  })

  test('tell what became of a question: interrupted, too slow, given up, or ended under it', async () => {
    await using server = await startTestServer()
    const { postern, id } = await open(server)
    const interrupted = postern.sessions.ask(id, '/sleep 60', {
      onEvent: ({ type }) => type === 'tool.started' && void postern.sessions.interrupt(id),
    })
    expect(await interrupted).toMatchObject({ status: 'canceled' })

    const slow = await postern.sessions.ask(id, '/sleep 60', { timeoutMs: 300 }).catch((error: unknown) => error)
    expect(slow).toBeInstanceOf(ReplyTimeoutError)
    expect(slow).toMatchObject({ code: 'wait_timeout', sessionId: id, deliveryId: expect.stringMatching(/^dlv_/) })
    const abort = new AbortController()
    const waiting = postern.sessions.ask(id, 'waits behind it', { signal: abort.signal })
    await eventually(async () => (await postern.sessions.get(id)).waiting === 1)
    abort.abort(new Error('enough'))
    await expect(waiting).rejects.toThrow('enough')
    const cut = postern.sessions.ask(id, 'never delivered').catch((error: unknown) => error)
    await eventually(async () => (await postern.sessions.get(id)).waiting === 2)
    await postern.sessions.end(id)
    expect(await cut).toBeInstanceOf(GoneError)
  })

  test('answer a question that waited when the agent died, once its next process has it', async () => {
    await using server = await startTestServer()
    const { postern, id } = await open(server)
    await postern.sessions.ask(id, 'hello')
    await postern.sessions.send(id, '/sleep 60')
    await eventually(async () => (await postern.sessions.get(id)).state === 'busy')
    const asked = postern.sessions.ask(id, 'still there?')
    await eventually(async () => (await postern.sessions.get(id)).waiting === 1)
    for (const pid of census().get(id) ?? []) process.kill(pid, 'SIGKILL')
    expect(await asked).toMatchObject({ status: 'completed', text: expect.stringContaining('still there?') as string })
  })

  test('have a class for what the server refuses', async () => {
    await using server = await startTestServer()
    const { postern, wsId, id } = await open(server)
    const stranger = new Postern({ url: server.url })
    await expect(stranger.sessions.create({ wsId })).rejects.toThrow(AuthError)
    await expect(stranger.channels.create({ sessionId: id })).rejects.toThrow(AuthError)
    await expect(postern.sessions.create({ wsId: 'ws-nowhere' })).rejects.toThrow(NotFoundError)
    await expect(postern.sessions.create({ wsId, agent: 'shell' })).rejects.toThrow(BadRequestError)
    await expect(postern.sessions.get('sess_01K00000000000000000000000')).rejects.toMatchObject({
      name: 'NotFoundError',
      code: 'session_not_found',
    })
    await postern.sessions.send(id, '/sleep 60')
    await eventually(async () => (await postern.sessions.get(id)).state === 'busy')
    await expect(postern.sessions.send(id, { message: 'left', delivery: 'steer' })).rejects.toThrow(ConflictError)
  })

  test('answer who asked when the server dies in the turn', async () => {
    await using home = await temporaryDirectory()
    const first = await serve({ dataDir: home.path })
    const { port } = new URL(first.url)
    const postern = await Postern.connect({ home: home.path })
    const { id: wsId } = await postern.workspaces.create({ tag: 'survivor', agents: ['demo'] })
    const { id } = await postern.sessions.create({ wsId })
    const asked = postern.sessions.ask(id, '/sleep 60')
    await eventually(async () => (await postern.sessions.deliveries(id).toArray())[0]?.status === 'confirmed')
    await first.end('SIGKILL')
    const second = await serve({ dataDir: home.path, args: ['--port', port] })
    expect(await asked).toMatchObject({
      status: 'failed',
      error: { message: expect.stringMatching('server died') as string },
    })
    await second.end('SIGTERM')
  })

  test('go on being followed when the server stops and comes back', async () => {
    await using home = await temporaryDirectory()
    const first = await serve({ dataDir: home.path })
    const { port } = new URL(first.url)
    const postern = await Postern.connect({ home: home.path })
    const { id: wsId } = await postern.workspaces.create({ tag: 'survivor', agents: ['demo'] })
    const { id } = await postern.sessions.create({ wsId, prompt: 'hello' })
    const seqs: number[] = []
    let second: Awaited<ReturnType<typeof serve>> | undefined
    for await (const event of postern.sessions.events(id)) {
      seqs.push(event.seq)
      if (event.type === 'turn.ended' && second === undefined) {
        await first.end('SIGTERM')
        second = await serve({ dataDir: home.path, args: ['--port', port] })
        await postern.sessions.send(id, 'still there?')
      } else if (event.type === 'turn.ended') await postern.sessions.end(id)
    }
    expect(seqs).toEqual(seqs.map((_, index) => index + 1))
    await second?.end('SIGTERM')
  })
})

test('the client for hooks is there on its own, for whoever has an address and nothing else', async () => {
  const { send } = await import('@postern/sdk/hooks')
  expect(send).toBe(hooks.send)
})

describe('channels', () => {
  test('are minted, knocked on, looked at and revoked', async () => {
    await using server = await startTestServer()
    const { postern, id } = await open(server)
    await untilIdle(postern, id)
    const door = await postern.channels.create({ sessionId: id, label: 'ci', ttlSeconds: 3_600 })
    expect(door.webhook).toBe(`${server.url}/hook/${door.token}`)
    const knock = { message: 'deploy finished', from: 'github', key: 'build-812' }
    const { data, status } = await hooks.send(door.webhook, knock).withResponse()
    expect([status, data]).toEqual([
      200,
      {
        status: 'delivered',
        deliveryId: expect.stringMatching(/^dlv_/) as string,
        channel: door.channel,
        sessionId: id,
      },
    ])
    const again = await hooks.send(door.webhook, knock).withResponse()
    expect([again.status, again.headers.get('Idempotency-Replayed'), again.data]).toEqual([200, 'true', data])
    await expect(hooks.send(door.webhook, { ...knock, message: 'another' })).rejects.toThrow(IdempotencyError)
    await expect(hooks.send(door.webhook, { message: ' ' })).rejects.toThrow(BadRequestError)

    expect(await postern.channels.get(door.grantId)).toMatchObject({ label: 'ci', revoked: false, deliveries: 1 })
    expect(await postern.channels.deliveries(door.grantId).toArray()).toMatchObject([
      { id: data.deliveryId, label: 'ci' },
    ])
    const other = await postern.channels.create({ sessionId: id })
    const listed = await postern.channels.list({ sessionId: id, pageSize: 1 }).toArray()
    expect(listed.map((grant) => grant.id)).toEqual([other.grantId, door.grantId])
    expect(JSON.stringify(listed)).not.toContain(door.token)
    expect(await postern.channels.revoke(door.grantId)).toMatchObject({ revoked: true })
    const refused = await hooks.send(door.webhook, { message: 'x' }).catch((error: unknown) => error)
    expect(refused).toBeInstanceOf(ForbiddenError)
    await expect(postern.channels.create({ sessionId: id, verb: 'read' })).rejects.toThrow(BadRequestError)
    await postern.sessions.end(id)
    await expect(hooks.send(other.webhook, { message: 'x' })).rejects.toThrow(GoneError)
    await expect(postern.channels.create({ sessionId: id })).rejects.toThrow(GoneError)
  })

  test('are void at once when the root key that signed them is dropped', async () => {
    await using server = await startTestServer()
    const { postern, id } = await open(server)
    const door = await postern.channels.create({ sessionId: id })
    expect((await postern.keys.rotate()).revoked).toEqual([])
    await hooks.send(door.webhook, { message: 'still good' })
    expect((await postern.keys.rotate({ drop: true })).revoked).toEqual([door.grantId])
    await expect(hooks.send(door.webhook, { message: 'x' })).rejects.toThrow(ForbiddenError)
  })
})

test('permission requests are listed and answered, and the first answer wins', async () => {
  await using server = await startTestServer()
  const { postern, id, wsId } = await open(server, { permissions: 'ask' })
  const writing = postern.sessions.ask(id, '/write note.txt hello')
  const request = await eventually(async () => (await postern.requests.list({ status: 'pending' }).toArray())[0])
  expect(request).toMatchObject({ sessionId: id, wsId, agent: 'demo' })
  await expect(postern.requests.answer(request.id, 'allow', { optionId: 'reject' })).rejects.toThrow(BadRequestError)
  expect(await postern.requests.answer(request.id, 'allow')).toMatchObject({ status: 'allowed', answeredBy: 'caller' })
  await expect(postern.requests.answer(request.id, 'deny')).rejects.toThrow(ConflictError)
  expect(await writing).toMatchObject({ status: 'completed', text: expect.stringContaining('wrote') as string })
  expect(await postern.requests.get(request.id)).toMatchObject({ status: 'allowed' })
  expect(await postern.requests.list({ sessionId: id, pageSize: 1 }).toArray()).toHaveLength(1)
})
