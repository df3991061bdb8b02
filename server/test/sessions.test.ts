import { readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import type { Delivery, PermissionRequest, Receipt, Session } from '../src/model/sessions.ts'
import { knock, mint } from './channels.ts'
import { diskBeforeSync, diskError, faultyDisk } from './faulty-disk.ts'
import { STEER_MS } from '../src/sessions/steer.ts'
import { startTestServer, type TestServer } from './harness.ts'
import { createJumpingClock } from './jumping-clock.ts'
import {
  confirmed,
  delivery,
  events,
  faulty,
  get,
  inState,
  open,
  processesOf,
  replies,
  send,
} from './session-client.ts'
import { eventually, temporaryDirectory } from './temporary.ts'

test('a session takes one message after another, and ends without leaving a process', async () => {
  await using server = await startTestServer()
  const session = await open(server, { title: 'first' })
  expect(session).toMatchObject({ state: 'starting', title: 'first', agent: 'demo', waiting: 0 })
  await inState(server, session.id, 'idle')
  const one = await send(server, session.id, 'deploy finished', { from: 'ci' })
  expect(one).toMatchObject({ status: 200, body: { status: 'delivered', sessionId: session.id } })
  await confirmed(server, session.id, one.body.deliveryId)
  await inState(server, session.id, 'idle')
  const two = await send(server, session.id, 'second')
  expect(two.status).toBe(200)
  await eventually(async () => (await replies(server, session.id)).length === 2)
  const [first, second] = await replies(server, session.id)
  expect(first).toContain('[ci] deploy finished')
  expect(second).toContain('second')
  expect(processesOf(session.id).length).toBeGreaterThan(0)

  const ended = await server.call<Session>('POST', `/api/sessions/${session.id}/end`, undefined, { token: true })
  expect(ended).toMatchObject({ status: 200, body: { state: 'ended', reason: 'ended_by_caller', turns: 2 } })
  expect(processesOf(session.id)).toEqual([])
  const all = await events(server, session.id)
  expect(all.map(({ seq }) => seq)).toEqual(all.map((_, i) => i + 1))
  expect(all.at(-1)).toMatchObject({ type: 'session.state', state: 'ended' })
  expect(ended.body.lastSeq).toBe(all.length)
  expect(await send(server, session.id, 'too late')).toMatchObject({ status: 410, body: { code: 'session_ended' } })
  const again = await server.call('POST', `/api/sessions/${session.id}/end`, undefined, { token: true })
  expect(again.status).toBe(200)
})

test('messages that come while the agent is busy wait, and are handed over in order', async () => {
  await using server = await startTestServer()
  const session = await open(server, { prompt: '/sleep 1' })
  const sent = []
  for (let i = 0; i < 5; i++) sent.push(await send(server, session.id, `message ${i}`))
  expect(sent.map(({ status }) => status)).toEqual([202, 202, 202, 202, 202])
  await eventually(async () => (await replies(server, session.id)).length === 6)
  const said = (await replies(server, session.id)).slice(1)
  for (const [i, text] of said.entries()) expect(text).toContain(`message ${i}`)
  for (const { body } of sent) expect((await delivery(server, session.id, body.deliveryId))?.status).toBe('confirmed')
})

test('of the messages for one session at most 100 wait', async () => {
  await using server = await startTestServer()
  const session = await open(server, { prompt: '/sleep 60' })
  await inState(server, session.id, 'busy')
  for (let i = 0; i < 100; i++) expect((await send(server, session.id, `message ${i}`)).status).toBe(202)
  const over = await send(server, session.id, 'one too many')
  expect(over).toMatchObject({ status: 429, body: { code: 'buffer_full' } })
  expect(over.headers.get('retry-after')).toBe('5')
  expect((await get(server, session.id)).waiting).toBe(100)
  const ended = await server.call<Session>('POST', `/api/sessions/${session.id}/end`, undefined, { token: true })
  expect(ended.body).toMatchObject({ state: 'ended', waiting: 0 })
  const page = await server.call<{ deliveries: Delivery[] }>('GET', `/api/sessions/${session.id}/deliveries?limit=200`)
  expect(page.body.deliveries.filter(({ reason }) => reason === 'session_ended')).toHaveLength(100)
})

test('of the bytes for one session at most 1 MiB waits', async () => {
  await using server = await startTestServer()
  const session = await open(server, { prompt: '/sleep 60' })
  await inState(server, session.id, 'busy')
  const message = '€'.repeat(16_000) // 48 000 bytes
  for (let i = 0; i < 21; i++) expect((await send(server, session.id, message)).status).toBe(202)
  expect(await send(server, session.id, message)).toMatchObject({ status: 429, body: { code: 'buffer_full' } })
  expect((await send(server, session.id, 'a short one')).status).toBe(202)
})

test('an interrupt ends the turn at work; a message can do it and be next', async () => {
  await using server = await startTestServer()
  const session = await open(server, { prompt: '/sleep 60' })
  await inState(server, session.id, 'busy')
  const idle = await server.call<Session>('POST', `/api/sessions/${session.id}/interrupt`, undefined, { token: true })
  expect(idle.status).toBe(200)
  await inState(server, session.id, 'idle')
  const turn = await eventually(async () =>
    (await events(server, session.id)).find(({ type }) => type === 'turn.ended'),
  )
  expect(turn).toMatchObject({ status: 'canceled' })
  await send(server, session.id, '/sleep 60')
  await send(server, session.id, 'waits')
  const urgent = await send(server, session.id, 'urgent', { delivery: 'interrupt' })
  expect(urgent.status).toBe(202)
  await eventually(async () => (await replies(server, session.id)).length === 4)
  const said = await replies(server, session.id)
  expect(said[2]).toContain('urgent')
  expect(said[3]).toContain('waits')
})

test('an agent that cannot be steered says so; a message without a turn at work needs no steering', async () => {
  await using server = await startTestServer()
  const session = await open(server, { prompt: '/sleep 60' })
  await inState(server, session.id, 'busy')
  expect(await send(server, session.id, 'left', { delivery: 'steer' })).toMatchObject({
    status: 409,
    body: { code: 'steer_not_supported' },
  })
})

describe('a message for the turn at work', () => {
  const steered = `${import.meta.dirname}/agents/steered-agent.mjs`
  const config = { agents: { steered: { command: [process.execPath, steered], acp: 'only' } } }
  const turns = async (server: TestServer, id: string): Promise<unknown[]> =>
    (await events(server, id)).flatMap((event) =>
      event.type === 'turn.ended' ? [[event['deliveryId'], event['status'], event.text]] : [],
    )

  test('becomes part of it', async () => {
    await using server = await startTestServer({ config })
    const { id } = await open(server, { agent: 'steered', prompt: 'work' })
    await eventually(async () => (await get(server, id)).steerable)
    await eventually(async () => (await events(server, id)).some(({ type }) => type === 'agent.message'))
    const { status, body } = await send(server, id, 'stop', { delivery: 'steer' })
    expect([status, body.status]).toEqual([200, 'delivered'])
    await eventually(async () => (await replies(server, id)).length > 0)
    expect(await replies(server, id)).toEqual(['heard work, then stop'])
  })

  test('that meets its end is a turn of its own, and what waits comes after that', async () => {
    await using server = await startTestServer({ config })
    const { id } = await open(server, { agent: 'steered', prompt: 'work' })
    await eventually(async () => (await events(server, id)).some(({ type }) => type === 'agent.message'))
    const [late, next] = await Promise.all([send(server, id, 'late', { delivery: 'steer' }), send(server, id, 'next')])
    expect([late.status, next.status]).toEqual([200, 202])
    await confirmed(server, id, next.body.deliveryId)
    await eventually(async () => (await turns(server, id)).length === 3)
    expect(await turns(server, id)).toEqual([
      [expect.any(String), 'completed', 'heard work'],
      [late.body.deliveryId, 'completed', 'heard late'],
      [next.body.deliveryId, 'completed', 'heard next'],
    ])
  })

  test('is accepted when it is on disk, whatever the disk says afterwards, and heard once', async () => {
    let refusals = 0
    const disk = diskBeforeSync((written) => {
      if (written.includes('"status":"confirmed"') && refusals-- > 0) throw diskError('ENOSPC')
    })
    await using server = await startTestServer({ config, disk })
    const { id } = await open(server, { agent: 'steered', prompt: 'work' })
    await eventually(async () => (await events(server, id)).some(({ type }) => type === 'agent.message'))
    await inState(server, id, 'busy')
    const { body: sessionDeliveries } = await server.call<{ deliveries: Delivery[] }>(
      'GET',
      `/api/sessions/${id}/deliveries`,
    )
    await confirmed(server, id, sessionDeliveries.deliveries[0]?.id ?? '')
    refusals = 1
    const { status, body } = await send(server, id, 'stop', { delivery: 'steer' })
    expect([status, body.status]).toEqual([202, 'buffered'])
    await confirmed(server, id, body.deliveryId)
    await inState(server, id, 'idle')
    expect(await replies(server, id)).toEqual(['heard work, then stop'])
  })

  test('to which the agent says nothing waits, and is handed over as a possible duplicate', async () => {
    const clock = createJumpingClock(Date.now())
    await using server = await startTestServer({ config, clock })
    const { id } = await open(server, { agent: 'steered', prompt: 'work' })
    await eventually(async () => (await events(server, id)).some(({ type }) => type === 'agent.message'))
    const answer = send(server, id, 'mute', { delivery: 'steer' })
    await eventually(async () =>
      (await events(server, id)).some(({ type, mode }) => type === 'input.accepted' && mode === 'steer'),
    )
    await eventually(async () => {
      const { body } = await server.call<{ deliveries: Delivery[] }>('GET', `/api/sessions/${id}/deliveries`)
      return body.deliveries.some(({ message, status }) => message === 'mute' && status === 'injecting')
    })
    clock.pass(STEER_MS)
    const { status, body } = await answer
    expect([status, body.status]).toEqual([202, 'buffered'])
    expect(await delivery(server, id, body.deliveryId)).toMatchObject({ status: 'accepted', mode: 'queue' })
    await server.call('POST', `/api/sessions/${id}/interrupt`, undefined, { token: true })
    expect(await confirmed(server, id, body.deliveryId)).toMatchObject({ possibleDuplicate: true })
  })
})

test('a message to be steered waits for an agent that has not said yet whether it can be', async () => {
  await using directory = await temporaryDirectory()
  const go = join(directory.path, 'go')
  const program = `
    import { existsSync } from 'node:fs'
    while (!existsSync(${JSON.stringify(go)})) await new Promise((resolve) => setTimeout(resolve, 20))
    await import(${JSON.stringify(`${import.meta.dirname}/agents/remembering-agent.mjs`)})`
  const command = [process.execPath, '--input-type=module', '-e', program]
  await using server = await startTestServer({ config: { agents: { slow: { command, acp: true } } } })
  const { id } = await open(server, { agent: 'slow' })
  await eventually(() => processesOf(id).length > 0)
  const { status, body } = await send(server, id, 'hello', { delivery: 'steer' })
  expect([status, body.status]).toEqual([202, 'buffered'])
  await writeFile(go, '')
  await confirmed(server, id, body.deliveryId)
})

test('what an agent asks is answered by a person, and the first answer wins', async () => {
  await using server = await startTestServer()
  const session = await open(server, { prompt: '/check', wsId: await server.workspace({ permissions: 'ask' }) })
  await inState(server, session.id, 'waiting')
  const [request] = (
    await server.call<{ requests: PermissionRequest[] }>('GET', '/api/requests?status=pending', undefined, {
      token: true,
    })
  ).body.requests
  expect(request).toMatchObject({ sessionId: session.id, status: 'pending', agent: 'demo' })
  const path = `/api/requests/${request?.id ?? ''}/answer`
  expect((await server.call('POST', path, { answer: 'deny' })).status).toBe(401)
  expect(await server.call('POST', path, { answer: 'allow', optionId: 'reject' }, { token: true })).toMatchObject({
    status: 400,
    body: { code: 'option_not_offered' },
  })
  const denied = await server.call<PermissionRequest>('POST', path, { answer: 'deny' }, { token: true })
  expect(denied).toMatchObject({ status: 200, body: { status: 'denied', answeredBy: 'caller' } })
  expect(await server.call('POST', path, { answer: 'allow' }, { token: true })).toMatchObject({
    status: 409,
    body: { code: 'request_answered' },
  })
  await inState(server, session.id, 'idle')
  const answered = await eventually(async () =>
    (await events(server, session.id)).find(({ type }) => type === 'permission.answered'),
  )
  expect(answered).toMatchObject({ requestId: request?.id, status: 'denied', answeredBy: 'caller' })
  expect((await events(server, session.id)).find(({ type }) => type === 'permission.requested')).toMatchObject({
    requestId: request?.id,
  })
})

test('a workspace may answer for itself', async () => {
  await using server = await startTestServer()
  const wsId = await server.workspace({ permissions: 'ask', onRequest: 'allow' })
  const session = await open(server, { wsId, prompt: '/write note.txt hello' })
  await eventually(async () => (await replies(server, session.id)).length === 1)
  const { requests } = (
    await server.call<{ requests: PermissionRequest[] }>('GET', '/api/requests', undefined, { token: true })
  ).body
  expect(requests).toMatchObject([{ status: 'allowed', answeredBy: 'policy' }])
  expect((await events(server, session.id)).find(({ type }) => type === 'tool.ended')).toMatchObject({ isError: false })
})

test('a session outlives its agent: what waits is handed to the next process, in the same conversation', async () => {
  await using server = await startTestServer()
  const session = await open(server, { prompt: 'remember the number 7' })
  await eventually(async () => (await replies(server, session.id)).length === 1)
  const { conversationId } = await get(server, session.id)
  await send(server, session.id, '/sleep 60')
  await inState(server, session.id, 'busy')
  const waiting = []
  for (const message of ['one', 'two', 'three']) waiting.push((await send(server, session.id, message)).body.deliveryId)
  for (const pid of processesOf(session.id)) process.kill(pid, 'SIGKILL')
  await eventually(async () => (await replies(server, session.id)).length === 5)
  const states = (await events(server, session.id)).filter(({ type }) => type === 'session.state')
  expect(states).toContainEqual(expect.objectContaining({ state: 'suspended', reason: 'agent_exited' }))
  for (const id of waiting) {
    expect(await confirmed(server, session.id, id)).toMatchObject({ possibleDuplicate: false })
  }
  const said = await replies(server, session.id)
  expect(said.slice(2).map((text) => /one|two|three/.exec(text)?.[0])).toEqual(['one', 'two', 'three'])
  expect((await get(server, session.id)).conversationId).toBe(conversationId)
})

test('a server that stops suspends its sessions; the next input resumes the same conversation', async () => {
  await using directory = await temporaryDirectory()
  let id: string
  let conversationId: string | null
  {
    await using server = await startTestServer({ dataDir: directory.path })
    const session = await open(server, { prompt: 'hello' })
    id = session.id
    await eventually(async () => (await replies(server, id)).length === 1)
    conversationId = (await get(server, id)).conversationId
    expect(conversationId).not.toBeNull()
  }
  expect(processesOf(id)).toEqual([])
  await using server = await startTestServer({ dataDir: directory.path })
  expect(await get(server, id)).toMatchObject({ state: 'suspended', reason: 'server_stopped', conversationId })
  expect((await send(server, id, 'still there?')).status).toBe(202)
  await eventually(async () => (await replies(server, id)).length === 2)
  expect(await get(server, id)).toMatchObject({ conversationId, reason: null })
})

test('a session is resumed with the arguments it was opened with, whatever the configuration says by then', async () => {
  await using directory = await temporaryDirectory()
  const agent = `${import.meta.dirname}/agents/starting-agent.mjs`
  const config = (flag: string) => ({ agents: { own: { command: [process.execPath, agent, flag], acp: true } } })
  let server = await startTestServer({ dataDir: directory.path, config: config('--sandbox') })
  const { id } = await open(server, { agent: 'own' })
  await inState(server, id, 'idle')
  await server.stop()
  server = await startTestServer({ dataDir: directory.path, config: config('--no-sandbox') })
  const { body } = await send(server, id, 'hello')
  await confirmed(server, id, body.deliveryId)
  const [pid] = processesOf(id)
  expect((await readFile(`/proc/${pid}/cmdline`, 'utf8')).split('\0')).toContain('--sandbox')
  const shown = await server.call('GET', `/api/sessions/${id}`)
  expect(shown.body).not.toHaveProperty('launch')
  await server.stop()
})

test('an agent that has lost the conversation ends the session instead of beginning a strange one', async () => {
  await using server = await startTestServer()
  const session = await open(server, { prompt: 'remember me' })
  await eventually(async () => (await replies(server, session.id)).length === 1)
  await rm(join(server.dataDir, 'demo-agent', 'conversations'), { recursive: true })
  for (const pid of processesOf(session.id)) process.kill(pid, 'SIGKILL')
  await inState(server, session.id, 'suspended')
  const late = await send(server, session.id, 'hello again')
  expect(late.status).toBe(202)
  expect(await inState(server, session.id, 'ended')).toMatchObject({ reason: 'not_resumable' })
  expect(await delivery(server, session.id, late.body.deliveryId)).toMatchObject({
    status: 'failed',
    reason: 'session_ended',
  })
})

test('a conversation that lost its first message, and heard another, is not begun again', async () => {
  await using server = await startTestServer({ config: { maxSessions: 1 } })
  const wsId = await server.workspace()
  const session = await open(server, { wsId })
  await inState(server, session.id, 'idle')
  for (const pid of processesOf(session.id)) process.kill(pid, 'SIGKILL')
  await inState(server, session.id, 'suspended')
  const other = await open(server, { wsId })
  const { token, grantId } = await mint(server, { sessionId: session.id })
  const first = await knock(server, token, 'never delivered') // there is no place for it
  expect(first.status).toBe(202)
  await server.call('DELETE', `/api/channels/${grantId}`, undefined, { token: true })
  await server.call('POST', `/api/sessions/${other.id}/end`, undefined, { token: true })
  const heard = await send(server, session.id, 'remember me')
  await confirmed(server, session.id, heard.body.deliveryId)
  expect(await delivery(server, session.id, first.body.deliveryId)).toMatchObject({ status: 'failed' })

  await inState(server, session.id, 'idle')
  await rm(join(server.dataDir, 'demo-agent', 'conversations'), { recursive: true })
  for (const pid of processesOf(session.id)) process.kill(pid, 'SIGKILL')
  await inState(server, session.id, 'suspended')
  await send(server, session.id, 'hello again')
  expect(await inState(server, session.id, 'ended')).toMatchObject({ reason: 'not_resumable' })
})

test('at the limit of live sessions opening one is refused, and a resume waits for its turn', async () => {
  await using server = await startTestServer({ config: { maxSessions: 1 } })
  const wsId = await server.workspace()
  const first = await open(server, { wsId, prompt: 'hello' })
  const refused = await server.call('POST', '/api/sessions', { wsId, agent: 'demo' }, { token: true })
  expect(refused).toMatchObject({ status: 429, body: { code: 'capacity_reached' } })
  await eventually(async () => (await replies(server, first.id)).length === 1)
  for (const pid of processesOf(first.id)) process.kill(pid, 'SIGKILL')
  await inState(server, first.id, 'suspended')
  const second = await open(server, { wsId })
  await inState(server, second.id, 'idle')
  expect((await send(server, first.id, 'when there is room')).status).toBe(202)
  expect((await get(server, first.id)).state).toBe('suspended')
  await server.call('POST', `/api/sessions/${second.id}/end`, undefined, { token: true })
  await eventually(async () => (await replies(server, first.id)).length === 2)
})

test('a session that is ended while it waits for a place waits no more, and its end is its last event', async () => {
  await using server = await startTestServer({ config: { maxSessions: 1 } })
  const wsId = await server.workspace()
  const first = await open(server, { wsId })
  await inState(server, first.id, 'idle')
  for (const pid of processesOf(first.id)) process.kill(pid, 'SIGKILL')
  await inState(server, first.id, 'suspended')
  const second = await open(server, { wsId })
  expect((await send(server, first.id, 'when there is room')).status).toBe(202)
  for (const { id } of [first, second]) await server.call('POST', `/api/sessions/${id}/end`, undefined, { token: true })
  const third = await open(server, { wsId })
  await inState(server, third.id, 'idle')
  const log = await events(server, first.id)
  expect(log.findIndex(({ state }) => state === 'ended')).toBe(log.length - 1)
})

test('one key opens one session and sends one message, also after a restart', async () => {
  await using directory = await temporaryDirectory()
  const headers = { 'idempotency-key': 'once' }
  let wsId: string
  let session: Session
  let receipt: Receipt
  {
    await using server = await startTestServer({ dataDir: directory.path })
    wsId = await server.workspace()
    const body = { wsId, agent: 'demo' }
    const first = await server.call<Session>('POST', '/api/sessions', body, { token: true, headers })
    const second = await server.call<Session>('POST', '/api/sessions', body, { token: true, headers })
    session = first.body
    expect(second.status).toBe(201)
    expect(second.body.id).toBe(session.id)
    expect(second.headers.get('idempotency-replayed')).toBe('true')
    await inState(server, session.id, 'idle')
    const path = `/api/sessions/${session.id}/input`
    const sent = await server.call<Receipt>('POST', path, { message: 'once' }, { token: true, headers })
    expect(sent.status).toBe(200)
    receipt = sent.body
    await eventually(async () => (await replies(server, session.id)).length === 1)
  }
  await using server = await startTestServer({ dataDir: directory.path })
  const path = `/api/sessions/${session.id}/input`
  const again = await server.call<Receipt>('POST', path, { message: 'once' }, { token: true, headers })
  expect(again).toMatchObject({ status: 200, body: receipt })
  const other = await server.call('POST', path, { message: 'twice' }, { token: true, headers })
  expect(other.status).toBe(422)
  expect(await replies(server, session.id)).toHaveLength(1)
})

test.each([
  ['key', 1],
  ['first message', 2],
  ['record', 3],
])(
  'D3: a session whose %s the disk did not take leaves nothing; asked again it hears its first message once',
  async (_, nth) => {
    await using directory = await temporaryDirectory()
    const faulty = faultyDisk()
    let id = ''
    {
      await using server = await startTestServer({ dataDir: directory.path, disk: faulty.disk })
      const body = { wsId: await server.workspace(), agent: 'demo', prompt: 'hello' }
      let syncs = 0
      faulty.onCall = (name) => {
        if (name === 'datasync' && ++syncs === nth) throw diskError('ENOSPC')
        return undefined
      }
      const options = { token: true, headers: { 'idempotency-key': 'k' } }
      const refused = await server.call('POST', '/api/sessions', body, options)
      expect(refused).toMatchObject({ status: 503, body: { code: 'storage_unavailable' } })
      ;({ id } = (await server.call<Session>('POST', '/api/sessions', body, options)).body)
      await eventually(async () => (await replies(server, id)).length === 1)
    }
    await using server = await startTestServer({ dataDir: directory.path })
    const { body } = await send(server, id, 'next')
    await confirmed(server, id, body.deliveryId)
    const found = await server.call<{ deliveries: Delivery[] }>('GET', `/api/sessions/${id}/deliveries`)
    expect(found.body.deliveries.map(({ message }) => message)).toEqual(['next', 'hello'])
  },
)

test('a session in a workspace that is not ready for it is refused by name', async () => {
  await using server = await startTestServer({ config: faulty })
  const wsId = await server.workspace({ agents: ['demo'] })
  const cases = [
    [{ wsId: 'ws-none' }, 404, 'workspace_not_found'],
    [{ wsId, agent: 'shell' }, 400, 'agent_not_live'],
    [{ wsId, agent: 'faulty' }, 400, 'agent_not_enabled'],
    [{ wsId, agent: 'nobody' }, 400, 'unknown_agent'],
    [{ wsId, model: 'x' }, 400, 'model_not_supported'],
    [{ wsId, prompt: '' }, 400, 'validation_failed'],
    [{ wsId, prompts: 'x' }, 400, 'unknown_field'],
  ] as const
  for (const [body, status, code] of cases) {
    expect(await server.call('POST', '/api/sessions', body, { token: true }), code).toMatchObject({
      status,
      body: { code },
    })
  }
  expect((await server.call('POST', '/api/sessions', { wsId })).status).toBe(401)
})
