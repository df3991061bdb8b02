import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { FORBIDDEN } from '../../src/http/hook.ts'
import { newId } from '../../src/clock.ts'
import { census } from '../../src/process/census.ts'
import type { Minted } from '../../src/model/channels.ts'
import type { Delivery, Receipt, Session } from '../../src/model/sessions.ts'
import { channelHash, signToken } from '../../src/channels/token.ts'
import { channelOf } from '../../src/model/sessions.ts'
import {
  deliveriesOf,
  keepBusy,
  interrupt,
  knock,
  mint,
  openSession,
  settled,
  signingKey,
  startWithSession,
  type ServerLike,
} from '../channels.ts'
import { allSettled, checkDeliveries, checkHeard, heardDeliveries, type Sent } from '../delivery-invariants.ts'
import { checkState, figures } from '../invariants.ts'
import { rawJson } from '../raw-http.ts'
import { adminToken, call, serve, type ServerProcess } from '../server-process.ts'
import { temporaryDirectory } from '../temporary.ts'

/** A server in a process of its own, called as one in this process is. */
async function likeHere(process: ServerProcess, dataDir: string): Promise<ServerLike> {
  const authorization = `Bearer ${await adminToken(dataDir)}`
  return {
    call: <T>(
      method: string,
      path: string,
      body?: unknown,
      { token = false, headers = {} }: { token?: boolean; headers?: Record<string, string> } = {},
    ) => call<T>(process.url, method, path, body, { ...(token && { authorization }), ...headers }),
  }
}

interface Door {
  sessionId: string
  grantId: string
  token: string
}

/** So many sessions, each with so many addresses, all of which take ten messages at once. */
async function doors(server: ServerLike, sessions: number, each: number): Promise<Door[][]> {
  const workspace = await server.call<{ id: string }>('POST', '/api/workspaces', { tag: 'load' }, { token: true })
  const made: Door[][] = []
  for (let i = 0; i < sessions; i++) {
    const sessionId = await openSession(server, workspace.body.id)
    const grants: Minted[] = []
    for (let n = 0; n < each; n++) grants.push(await mint(server, { sessionId }))
    made.push(grants.map(({ grantId, token }) => ({ sessionId, grantId, token })))
  }
  return made
}

/** What is on its way when a server is stopped, or must be tried again. */
const AGAIN = [0, 409, 429, 503]

test('F12: ten thousand knocks, a fifth of them repeated, some with another body, over two restarts', async () => {
  await using directory = await temporaryDirectory()
  const dataDir = directory.path
  const KNOCKS = 10_000
  const SESSIONS = 8
  const PER_GRANT = 10 // what an address takes at once, so that no limit is met
  await writeFile(join(dataDir, 'config.json'), JSON.stringify({ maxSessions: SESSIONS }))
  let process = await serve({ dataDir })
  let server = await likeHere(process, dataDir)
  const all = await doors(server, SESSIONS, KNOCKS / SESSIONS / PER_GRANT)
  const sent: Sent[] = []
  const times: number[] = []
  let repeated = 0
  let conflicts = 0
  let answered = 0
  let restart = Promise.resolve()
  const restartAt = [
    { after: KNOCKS / 3, signal: 'SIGTERM' as const },
    { after: (2 * KNOCKS) / 3, signal: 'SIGKILL' as const },
  ]

  function maybeRestart(): void {
    const [next] = restartAt
    if (!next || answered < next.after) return
    restartAt.shift()
    restart = restart.then(async () => {
      await process.end(next.signal)
      process = await serve({ dataDir })
      server = await likeHere(process, dataDir)
    })
  }

  async function post(
    token: string,
    body: object,
    each: Sent,
  ): Promise<{ status: number; body: Receipt; headers: Headers }> {
    for (;;) {
      await restart
      const from = performance.now()
      const answer = await knock(server, token, { ...body })
      if (answer.status === 200 || answer.status === 202) times.push(performance.now() - from)
      if (answer.status === 0) each.isUnknown = true
      if (!AGAIN.includes(answer.status)) {
        answered++
        maybeRestart()
        return answer
      }
      await new Promise((resolve) => setTimeout(resolve, Number(answer.headers.get('retry-after') ?? 0) > 0 ? 250 : 20))
    }
  }

  /** One client for one session: addresses in turn, ten requests for each. */
  async function client(name: string, mine: Door[]): Promise<void> {
    for (const [at, { sessionId, grantId, token }] of mine.entries()) {
      const keys: Sent[] = []
      for (let n = 0; n < PER_GRANT; n++) {
        // Of ten two repeat an earlier one, and of every other ten one comes with another body.
        const isConflict = n === 9 && at % 2 === 0
        const kind = n === 4 || n === 8 ? 'repeat' : isConflict ? 'conflict' : 'new'
        const earlier = keys[n % Math.max(1, keys.length)]
        if (kind === 'new' || !earlier) {
          const each: Sent = { grantId, sessionId, client: name, message: `${name} ${sent.length}`, isUnknown: false }
          sent.push(each)
          keys.push(each)
          const answer = await post(
            token,
            { message: each.message, idempotency_key: each.message.replaceAll(' ', '-') },
            each,
          )
          expect([200, 202], `${answer.status} ${JSON.stringify(answer.body)}`).toContain(answer.status)
          each.deliveryId = answer.body.deliveryId
        } else if (kind === 'repeat') {
          repeated++
          const answer = await post(
            token,
            { message: earlier.message, idempotency_key: earlier.message.replaceAll(' ', '-') },
            earlier,
          )
          expect(answer.body.deliveryId).toBe(earlier.deliveryId)
          expect(answer.headers.get('idempotency-replayed')).toBe('true')
        } else {
          conflicts++
          const answer = await post(
            token,
            { message: 'another', idempotency_key: earlier.message.replaceAll(' ', '-') },
            earlier,
          )
          expect(answer.status).toBe(422)
        }
      }
    }
  }
  await Promise.all(all.map((mine, i) => client(`c${i}`, mine)))
  await restart
  await allSettled(server, sent)
  const result = await checkDeliveries(server, dataDir, sent)
  await process.end('SIGTERM')
  await checkState(dataDir)
  const sorted = times.toSorted((a, b) => a - b)
  figures('F12', {
    knocks: answered,
    repeated,
    conflicts,
    ...result,
    'p50 ms': sorted[Math.floor(sorted.length / 2)] ?? 0,
    'p99 ms': sorted[Math.floor(sorted.length * 0.99)] ?? 0,
  })
  expect(result.acknowledged).toBe(sent.length)
}, 600_000)

test('F13, T20, I-5: in a thousand interleavings of knock and revoke nothing is handed over after the revocation was answered', async () => {
  await using made = await startWithSession()
  const { server } = made
  const ROUNDS = 1_000
  const AT_ONCE = [1, 2, 10]
  const busy = made.sessionId
  const idle = await openSession(server, await server.workspace())
  const standing = (delivery: Delivery): string => `${delivery.status} ${delivery.reason ?? ''}`
  const seen: Record<string, number> = {}
  const afterRevoke = new Map<string, string>()
  const grantIds: string[] = []
  const turns = (count: number): Promise<void> =>
    new Promise((resolve) => (count === 0 ? resolve() : setImmediate(() => void turns(count - 1).then(resolve))))

  async function round(i: number): Promise<void> {
    // Every third on a session that is at work: its messages wait, and are handed over while they are revoked.
    const sessionId = i % 3 === 0 ? busy : idle
    const { token, grantId } = await mint(server, { sessionId })
    grantIds.push(grantId)
    const knocks = [knock(server, token, `${i} a`), turns(i % 7).then(() => knock(server, token, `${i} b`))]
    await turns(i % 40)
    const revoked = await server.call('DELETE', `/api/channels/${grantId}`, undefined, { token: true })
    expect(revoked.status).toBe(200)
    const late = await knock(server, token, `${i} late`)
    expect([late.status, late.text]).toEqual([403, FORBIDDEN])
    for (const delivery of await deliveriesOf(server, grantId)) {
      expect(['delivered', 'confirmed', 'failed'], standing(delivery)).toContain(delivery.status)
      afterRevoke.set(delivery.id, delivery.status === 'failed' ? 'failed' : 'handed over')
    }
    for (const answer of await Promise.all(knocks)) {
      expect([200, 202, 403, 429]).toContain(answer.status)
      seen[answer.status] = (seen[answer.status] ?? 0) + 1
    }
    for (const delivery of await deliveriesOf(server, grantId)) {
      // What was accepted before is there, and what became of it is what had become of it then.
      const before = afterRevoke.get(delivery.id)
      expect(before, `${delivery.id} appeared after the revocation`).toBeDefined()
      expect(delivery.status === 'failed' ? 'failed' : 'handed over').toBe(before)
    }
  }
  await keepBusy(server, busy)
  for (let i = 0, lap = 0; i < ROUNDS; lap++) {
    const count = Math.min(AT_ONCE[lap % AT_ONCE.length] ?? 1, ROUNDS - i)
    await Promise.all(Array.from({ length: count }, (_, n) => round(i + n)))
    i += count
    if (lap % 20 === 0) {
      await interrupt(server, busy)
      await keepBusy(server, busy)
    }
  }
  await interrupt(server, busy)
  const deliveries = (await Promise.all(grantIds.map((grantId) => settled(server, grantId)))).flat()
  for (const sessionId of [busy, idle]) {
    const heardIds = (await heardDeliveries(server, server.dataDir, sessionId)).map(({ deliveryId }) => deliveryId)
    checkHeard(
      deliveries.filter((delivery) => delivery.sessionId === sessionId),
      new Set(heardIds),
    )
  }
  const fates = Object.fromEntries(
    [...Map.groupBy(afterRevoke.values(), (fate) => fate)].map(([fate, group]) => [fate, group.length]),
  )
  figures('F13', {
    rounds: ROUNDS,
    ...Object.fromEntries(Object.entries(seen).map(([status, n]) => [`answered ${status}`, n])),
    ...fates,
  })
  // A test in which nothing was handed over, or nothing revoked in time, would have shown nothing.
  expect(fates['handed over']).toBeGreaterThan(0)
  expect(fates['failed']).toBeGreaterThan(0)
})

test('F1, I9: killed at any moment of a hand-over, no acknowledged message is lost, and at most one copy more is sent, marked', async () => {
  await using directory = await temporaryDirectory()
  const dataDir = directory.path
  const CYCLES = 25
  const BUDGET_MS = 45_000
  const sent: Sent[] = []
  let process = await serve({ dataDir })
  let server = await likeHere(process, dataDir)
  const workspace = await server.call<{ id: string }>('POST', '/api/workspaces', { tag: 'crash' }, { token: true })
  const sessions = [await openSession(server, workspace.body.id), await openSession(server, workspace.body.id)]
  const from = performance.now()
  let cycles = 0

  async function client(name: string, sessionId: string, count: number): Promise<void> {
    // Each life of a server has addresses of its own, which take ten messages.
    const minted = await server.call<Minted>('POST', '/api/channels', { sessionId }, { token: true })
    if (minted.status !== 201) return
    const { grantId, token } = minted.body
    for (let n = 0; n < count; n++) {
      const each: Sent = { grantId, sessionId, client: name, message: `${name} ${n}`, isUnknown: false }
      sent.push(each)
      const answer = await knock(server, token, { message: each.message, idempotency_key: `${name}-${n}` })
      if (answer.status === 200 || answer.status === 202) each.deliveryId = answer.body.deliveryId
      else if (answer.status === 0) {
        each.isUnknown = true
        return
      }
    }
  }
  for (; cycles < CYCLES && performance.now() - from < BUDGET_MS; cycles++) {
    // Until the agents are back and through with what the last life left: then messages are handed over at once.
    await Promise.all(sessions.map((sessionId, i) => client(`w${cycles}-${i}`, sessionId, 1)))
    await allSettled(server, sent)
    const clients = Array.from({ length: 4 }, (_, i) => client(`c${cycles}-${i}`, sessions[i % 2] ?? '', 10))
    await new Promise((resolve) => setTimeout(resolve, 10 + Math.random() * 80))
    await process.end('SIGKILL')
    await Promise.all(clients)
    process = await serve({ dataDir })
    server = await likeHere(process, dataDir)
  }
  // A message resumes its session, and what was cut off goes before it.
  for (const sessionId of sessions) {
    const { grantId, token } = await mint(server, { sessionId })
    const each: Sent = {
      grantId,
      sessionId,
      client: `last ${sessionId}`,
      message: `last ${sessionId}`,
      isUnknown: false,
    }
    sent.push(each)
    each.deliveryId = (await knock(server, token, each.message)).body.deliveryId
  }
  await allSettled(server, sent)
  const result = await checkDeliveries(server, dataDir, sent)
  for (const sessionId of sessions) {
    const session = await server.call<Session>('GET', `/api/sessions/${sessionId}`, undefined, { token: true })
    expect(session.body.state).not.toBe('ended')
  }
  await process.end('SIGTERM')
  await checkState(dataDir)
  figures('F1 (channels)', { cycles, sent: sent.length, ...result })
  expect(cycles).toBeGreaterThan(3)
})

test('I1, I9: killed after its 200 and before the agent showed a sign: one copy more, marked, and the same answer', async () => {
  await using directory = await temporaryDirectory()
  const dataDir = directory.path
  const first = await serve({ dataDir })
  let server = await likeHere(first, dataDir)
  const [door] = (await doors(server, 1, 1)).flat()
  const { sessionId, grantId, token } = door ?? { sessionId: '', grantId: '', token: '' }
  const agents = census().get(sessionId) ?? []
  expect(agents.length).toBeGreaterThan(0)
  // Stopped, it takes what is written to it, and says nothing.
  for (const pid of agents) globalThis.process.kill(pid, 'SIGSTOP')
  const body = { message: 'deploy finished', idempotency_key: 'k' }
  const answer = await knock(server, token, body)
  expect([answer.status, answer.body.status]).toEqual([200, 'delivered'])
  await first.end('SIGKILL')
  const second = await serve({ dataDir })
  server = await likeHere(second, dataDir)
  const [delivery, ...more] = await settled(server, grantId)
  expect([delivery?.id, delivery?.status, delivery?.possibleDuplicate, more]).toEqual([
    answer.body.deliveryId,
    'confirmed',
    true,
    [],
  ])
  const again = await knock(server, token, body)
  expect([again.status, again.text, again.headers.get('idempotency-replayed')]).toEqual([200, answer.text, 'true'])
  const copies = (await heardDeliveries(server, dataDir, sessionId)).map(({ isCopy }) => isCopy)
  expect(copies).toEqual([true])
  await second.end('SIGTERM')
})

test('F16, T15: no hostile form of an address is accepted over HTTP, none makes the server stumble', async () => {
  await using made = await startWithSession()
  const { server, sessionId } = made
  const { token, grantId, expiresAt } = await mint(server, { sessionId })
  const key = await signingKey(server.dataDir)
  const claims = {
    kid: 1,
    verb: 1,
    expiresAt: Math.floor(Date.parse(expiresAt) / 1_000),
    grantId,
    channelHash: channelHash(channelOf(sessionId)),
  }
  const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_%./=+~!\'"<>'
  const pick = (n: number): number => Math.floor(Math.random() * n)
  const edited = (): string => {
    const at = pick(token.length)
    const more = Array.from({ length: pick(4) }, () => alphabet[pick(alphabet.length)]).join('')
    return token.slice(0, at) + more + token.slice(at + pick(4))
  }
  const forms = [
    ...Array.from({ length: 1_500 }, edited),
    // Signed by us, and of a grant, verb, channel or moment that was not granted.
    ...Array.from({ length: 100 }, () => signToken({ ...claims, grantId: newId('grant') }, key)),
    ...Array.from({ length: 100 }, (_, i) => signToken({ ...claims, verb: 2 + i }, key)),
    ...Array.from({ length: 100 }, (_, i) => signToken({ ...claims, expiresAt: claims.expiresAt + i + 1 }, key)),
    ...Array.from({ length: 100 }, (_, i) => signToken({ ...claims, kid: 2 + i }, key)),
  ].filter((form) => form !== token)
  const statuses: Record<number, number> = {}
  for (let i = 0; i < forms.length; i += 20) {
    await Promise.all(
      forms.slice(i, i + 20).map(async (form, n) => {
        const inHeader = n % 4 === 0 && /^[\x21-\x7e]*$/.test(form)
        const answer = inHeader
          ? await rawJson(server.port, 'POST /hook', '{"message":"x"}', [`Authorization: Bearer ${form}`])
          : await rawJson(server.port, `POST /hook/${form}`, '{"message":"x"}')
        statuses[answer.status] = (statuses[answer.status] ?? 0) + 1
        expect([400, 403, 404], form).toContain(answer.status)
        if (answer.status === 403) expect(answer.body).toBe(FORBIDDEN)
      }),
    )
  }
  expect(await deliveriesOf(server, grantId)).toEqual([])
  expect((await knock(server, token, 'good')).status).toBe(200)
  figures('F16', {
    forms: forms.length,
    ...Object.fromEntries(Object.entries(statuses).map(([status, n]) => [`answered ${status}`, n])),
  })
})
