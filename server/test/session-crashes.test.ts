import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import type { Delivery, Receipt, Session } from '../src/model/sessions.ts'
import { OPEN_MS } from '../src/sessions/opening.ts'
import { mint } from './channels.ts'
import { heldDisk } from './faulty-disk.ts'
import { startTestServer, type TestServer } from './harness.ts'
import { createJumpingClock } from './jumping-clock.ts'
import { startKillable } from './killable.ts'
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

/** What a death in the middle does to a session and to the messages for it. */

test('a server killed between 202 and the hand-over delivers once, in order, when it is back', async () => {
  await using directory = await temporaryDirectory()
  const first = await startKillable(directory.path)
  const { id } = await open(first, { prompt: '/sleep 60' })
  await inState(first, id, 'busy')
  const accepted: Receipt[] = []
  for (let i = 0; i < 5; i++) {
    const answer = await send(first, id, `message ${i}`)
    expect(answer.status).toBe(202)
    accepted.push(answer.body)
  }
  const { conversationId } = await get(first, id)
  await first.process.end('SIGKILL')

  const second = await startKillable(directory.path)
  await eventually(async () => (await replies(second, id)).length >= 5)
  const said = (await replies(second, id)).filter((text) => text.includes('message'))
  expect(said.map((text) => /message (\d)/.exec(text)?.[1])).toEqual(['0', '1', '2', '3', '4'])
  for (const { deliveryId } of accepted) {
    expect(await confirmed(second, id, deliveryId)).toMatchObject({ possibleDuplicate: false })
  }
  expect((await get(second, id)).conversationId).toBe(conversationId)
  expect((await events(second, id)).map(({ seq }) => seq)).toEqual((await events(second, id)).map((_, i) => i + 1))
  expect(await events(second, id)).toContainEqual(
    expect.objectContaining({ type: 'session.state', state: 'suspended', reason: 'server_died' }),
  )
  await second.process.end('SIGTERM')
  expect(processesOf(id)).toEqual([])
})

test('I9: what was delivered and not confirmed is handed over once more, marked; a second cut ends it as uncertain', async () => {
  await using directory = await temporaryDirectory()
  const config = faulty
  let server = await startKillable(directory.path, config)
  const { id } = await open(server, { agent: 'faulty' })
  await inState(server, id, 'idle')
  const { body: cut } = await send(server, id, '/mute') // works without a sign of life
  const atHand = (): Promise<Delivery | undefined> => delivery(server, id, cut.deliveryId)
  await eventually(async () => (await atHand())?.status === 'delivered')
  const { body: next } = await send(server, id, 'next')
  await server.process.end('SIGKILL')

  server = await startKillable(directory.path)
  await eventually(async () => {
    const now = await atHand()
    return now?.status === 'delivered' && now.possibleDuplicate
  })
  await server.process.end('SIGKILL')

  server = await startKillable(directory.path)
  await confirmed(server, id, next.deliveryId)
  expect(await atHand()).toMatchObject({ status: 'uncertain', possibleDuplicate: true })
  const told = (await events(server, id)).filter(({ deliveryId }) => deliveryId === cut.deliveryId)
  expect(told.map(({ type, status, possibleDuplicate }) => [type, status ?? possibleDuplicate])).toEqual([
    ['input.accepted', undefined],
    ['input.delivered', false],
    ['turn.ended', 'failed'],
    ['input.delivered', true],
    ['input.uncertain', undefined],
    ['turn.ended', 'failed'],
  ])
  await server.process.end('SIGTERM')
})

test('I9: what the agent remembers was not cut off: no second copy, whether the server or the agent was killed', async () => {
  await using directory = await temporaryDirectory()
  const program = `${import.meta.dirname}/agents/remembering-agent.mjs`
  const config = { agents: { keeper: { command: [process.execPath, program], acp: true } } }
  let server = await startKillable(directory.path, config)
  const { id } = await open(server, { agent: 'keeper' })
  await inState(server, id, 'idle')
  const { token } = await mint(server, { sessionId: id })
  const handedOver = async (message: string): Promise<string> => {
    const answer = await server.call<Receipt>(
      'POST',
      '/hook',
      { message },
      { headers: { authorization: `Bearer ${token}` } },
    )
    expect(answer, answer.text).toMatchObject({ status: 200, body: { status: 'delivered' } })
    return answer.body.deliveryId
  }

  const noted = await handedOver('work on this')
  await server.process.end('SIGKILL')
  server = await startKillable(directory.path)
  expect(await confirmed(server, id, noted)).toMatchObject({ possibleDuplicate: false })
  await inState(server, id, 'idle')

  const unheard = await handedOver('work on this, unheard')
  for (const pid of processesOf(id)) process.kill(pid, 'SIGKILL')
  expect(await confirmed(server, id, unheard)).toMatchObject({ possibleDuplicate: true })
  await inState(server, id, 'idle')

  const noted2 = await handedOver('work on that')
  for (const pid of processesOf(id)) process.kill(pid, 'SIGKILL')
  expect(await confirmed(server, id, noted2)).toMatchObject({ possibleDuplicate: false })
  const remembered = (await events(server, id)).filter(({ type, deliveryId }) => type === 'log' && deliveryId)
  expect(remembered.map(({ deliveryId }) => deliveryId)).toEqual([noted, noted2])
  await server.process.end('SIGTERM')
})

test('a turn that had ended when its agent died stays ended, also when the disk is late with what went before', async () => {
  const held = heldDisk('"status":"delivered"')
  const program = `${import.meta.dirname}/agents/parting-agent.mjs`
  const config = { agents: { parting: { command: [process.execPath, program], acp: true } } }
  await using server = await startTestServer({ disk: held.disk, config })
  const { id } = await open(server, { agent: 'parting' })
  await inState(server, id, 'idle')
  const sent = send(server, id, 'and the answer?')
  await eventually(() => held.isHeld && processesOf(id).length === 0)
  held.release()
  const { body } = await sent
  await confirmed(server, id, body.deliveryId)
  const ended = await eventually(async () => (await events(server, id)).find(({ type }) => type === 'turn.ended'))
  expect(ended).toMatchObject({ status: 'completed', text: 'the answer' })
  expect(await inState(server, id, 'suspended')).toMatchObject({ turns: 1 })
})

test('a message that kills its agent is tried twice, and does not keep the others from being delivered', async () => {
  await using server = await startTestServer({ config: faulty })
  const { id } = await open(server, { agent: 'faulty' })
  await inState(server, id, 'idle')
  const { body: deadly } = await send(server, id, '/crash')
  const { body: next } = await send(server, id, 'still here?')
  await confirmed(server, id, next.deliveryId)
  expect(await delivery(server, id, deadly.deliveryId)).toMatchObject({ status: 'uncertain', possibleDuplicate: true })
  const states = (await events(server, id)).filter(({ type }) => type === 'session.state')
  expect(states.filter(({ state }) => state === 'suspended')).toMatchObject([
    { reason: 'agent_exited', detail: expect.stringContaining('SIGKILL') as string },
    { reason: 'agent_exited' },
  ])
})

test('a line that nobody can deal with ends neither the turn nor the session', async () => {
  await using server = await startTestServer({ config: faulty })
  const { id } = await open(server, { agent: 'faulty', prompt: '/deep' })
  await inState(server, id, 'idle')
  expect(await replies(server, id)).toEqual([expect.stringContaining('That was deep.')])
  const logs = (await events(server, id)).filter(({ type }) => type === 'log')
  expect(logs).toEqual([
    expect.objectContaining({ message: expect.stringMatching(/^{"type":"tool.started"/) as string }),
  ])
})

test.each(['/close-output', '/close-input'])(
  'an agent that does %s and stays is ended; what waits goes to the next one',
  async (fault) => {
    await using server = await startTestServer({ config: faulty })
    const { id } = await open(server, { agent: 'faulty' })
    await inState(server, id, 'idle')
    const [deaf = 0] = processesOf(id)
    await send(server, id, fault)
    const { body: next } = await send(server, id, 'still here?')
    await confirmed(server, id, next.deliveryId)
    expect(processesOf(id)).not.toContain(deaf)
    expect(await events(server, id)).toContainEqual(
      expect.objectContaining({
        state: 'suspended',
        reason: 'agent_error',
        detail: '"faulty" closed its input or output and stayed; it was ended',
      }),
    )
  },
)

test('an agent that does not obey an interrupt is ended, and what waits goes to the next one', async () => {
  await using server = await startTestServer()
  const { id } = await open(server, { prompt: '/sleep 60' })
  await eventually(async () => (await events(server, id)).some(({ type }) => type === 'tool.started'))
  const { body: next } = await send(server, id, 'after it')
  for (const pid of processesOf(id)) process.kill(pid, 'SIGSTOP')
  const answer = await server.call<Session>('POST', `/api/sessions/${id}/interrupt`, undefined, { token: true })
  expect(answer.status).toBe(200)
  await confirmed(server, id, next.deliveryId)
})

test.each([
  [
    'an interrupt',
    (server: TestServer, id: string) =>
      server.call('POST', `/api/sessions/${id}/interrupt`, undefined, { token: true }),
  ],
  ['a message', (server: TestServer, id: string) => send(server, id, 'this instead', { delivery: 'interrupt' })],
])('a turn that %s cuts off does not begin again, also when the agent showed no sign of it', async (_, interrupt) => {
  const clock = createJumpingClock(Date.now())
  await using server = await startTestServer({ clock })
  const { id } = await open(server)
  await inState(server, id, 'idle')
  for (const pid of processesOf(id)) process.kill(pid, 'SIGSTOP')
  const { body: cut } = await send(server, id, '/sleep 60')
  await eventually(async () => (await delivery(server, id, cut.deliveryId))?.status === 'delivered')
  const passing = setInterval(() => clock.pass(1_000), 50)
  const answer = await interrupt(server, id)
  expect(answer.status, answer.text).toBeLessThan(300)
  await eventually(async () => (await delivery(server, id, cut.deliveryId))?.status !== 'delivered')
  clearInterval(passing)
  const { body: next } = await send(server, id, 'next')
  await confirmed(server, id, next.deliveryId)
  expect(await delivery(server, id, cut.deliveryId)).toMatchObject({ status: 'uncertain', possibleDuplicate: false })
  const ended = (await events(server, id)).flatMap(({ type, deliveryId }) =>
    type === 'turn.ended' ? [deliveryId] : [],
  )
  expect(ended.filter((deliveryId) => deliveryId === cut.deliveryId)).toHaveLength(1)
})

test('what an agent leaves behind is gone when its session has ended', async () => {
  await using server = await startTestServer({ config: faulty })
  const { id } = await open(server, { agent: 'faulty', prompt: '/orphan' })
  await eventually(async () => (await replies(server, id)).length === 1)
  expect(processesOf(id).length).toBeGreaterThan(1)
  const ended = await server.call<Session>('POST', `/api/sessions/${id}/end`, undefined, { token: true })
  expect(ended.body.state).toBe('ended')
  expect(processesOf(id)).toEqual([])
})

test('what the agent gets in the moment in which its session ends is not called failed', async () => {
  const held = heldDisk('hold the disk')
  await using server = await startTestServer({ disk: held.disk })
  const [{ id }, other] = [await open(server), await open(server)]
  await inState(server, id, 'idle')
  await inState(server, other.id, 'idle')
  const holding = send(server, other.id, 'hold the disk')
  await eventually(() => held.isHeld)
  // Both come to the disk with one sync: that it has the message and that the session has ended.
  const sent = send(server, id, 'now')
  await inState(server, id, 'busy')
  const ended = server.call<Session>('POST', `/api/sessions/${id}/end`, undefined, { token: true })
  await new Promise((resolve) => setTimeout(resolve, 100))
  held.release()
  const [{ body }] = await Promise.all([sent, ended, holding])
  const found = await delivery(server, id, body.deliveryId)
  const wasHandedOver = (await events(server, id)).some(({ type }) => type === 'input.delivered')
  expect([found?.status === 'failed' && found.deliveredAt === null, wasHandedOver]).toEqual([false, true])
})

test('a session that is ended while it starts leaves no process', async () => {
  await using server = await startTestServer()
  const wsId = await server.workspace()
  const opened = await Promise.all(Array.from({ length: 4 }, () => open(server, { wsId })))
  await Promise.all(opened.map(({ id }) => server.call('POST', `/api/sessions/${id}/end`, undefined, { token: true })))
  for (const { id } of opened) {
    expect(await get(server, id)).toMatchObject({ state: 'ended' })
    expect(processesOf(id)).toEqual([])
  }
  const again = await open(server, { wsId })
  await inState(server, again.id, 'idle')
})

test('an agent that hangs before its conversation is open is ended after two minutes, and the message waits', async () => {
  const clock = createJumpingClock(Date.now())
  await using server = await startTestServer({
    clock,
    config: {
      agents: { silent: { command: [process.execPath, '-e', 'setInterval(() => undefined, 1000)'], acp: true } },
    },
  })
  const { id } = await open(server, { agent: 'silent', prompt: 'hello' })
  const [pid = 0] = await eventually(() => processesOf(id).length > 0 && processesOf(id))
  clock.pass(OPEN_MS - 10_000)
  expect(await get(server, id)).toMatchObject({ state: 'starting', waiting: 1 })
  clock.pass(20_000)
  const states = await eventually(async () => {
    const found = (await events(server, id)).filter(({ type }) => type === 'session.state')
    return found.some(({ state }) => state === 'suspended') && found
  })
  expect(states.find(({ state }) => state === 'suspended')).toMatchObject({
    reason: 'agent_error',
    detail: '"silent" did not open its conversation within 120 s',
  })
  expect(processesOf(id)).not.toContain(pid)
  expect((await get(server, id)).waiting).toBe(1)
})

test('a conversation that cannot be continued yet is continued later, and messages wait; also after a restart', async () => {
  const clock = createJumpingClock(Date.now())
  await using directory = await temporaryDirectory()
  const program = `${import.meta.dirname}/agents/remembering-agent.mjs`
  const script = `#!/bin/sh\nexec '${process.execPath}' '${program}'\n`
  await writeFile(join(directory.path, 'gemini'), script, { mode: 0o755 })
  const environment = { HOME: directory.path, PATH: `${directory.path}:${process.env['PATH']}` }
  const options = { clock, environment, dataDir: join(directory.path, 'data') }
  const first = await startTestServer(options)
  const { id } = await open(first, { agent: 'gemini' })
  await inState(first, id, 'idle')
  clock.pass(20_000)
  const waits = async (server: TestServer): Promise<unknown[]> =>
    (await events(server, id)).flatMap(({ type, message }) => (type === 'log' ? [message] : []))
  for (const pid of processesOf(id)) process.kill(pid, 'SIGKILL')
  await inState(first, id, 'suspended')
  expect((await send(first, id, 'hello')).status).toBe(202)
  await eventually(async () => (await waits(first)).length === 1)
  expect(await waits(first)).toEqual([expect.stringMatching(/^"gemini" can continue this conversation in (39|40) s/)])
  await first[Symbol.asyncDispose]()

  await using second = await startTestServer(options)
  await eventually(async () => (await waits(second)).length === 2)
  expect(await get(second, id)).toMatchObject({ state: 'suspended', waiting: 1 })
  expect(processesOf(id)).toEqual([])
  clock.pass(40_000)
  expect(await eventually(async () => (await replies(second, id)).at(0))).toBe('heard hello')
})

test('an agent program that is not there suspends the session and says so; the message waits for it', async () => {
  await using server = await startTestServer({
    config: { agents: { gone: { command: ['/nonexistent/agent'], acp: true } } },
  })
  const { id } = await open(server, { agent: 'gone', prompt: 'hello' })
  expect(await inState(server, id, 'suspended')).toMatchObject({ waiting: 1 })
  const session = await eventually(async () => {
    const now = await get(server, id)
    return now.reason !== null && now
  })
  expect(session).toMatchObject({ reason: 'agent_not_found', waiting: 1 })
})
