import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect } from 'vitest'
import { hkdfSync } from 'node:crypto'
import type { Event } from '../src/model.ts'
import type { Minted } from '../src/model/channels.ts'
import type { Delivery, Receipt, Session, SessionState } from '../src/model/sessions.ts'
import { startTestServer, type Answer, type TestServer } from './harness.ts'
import { eventually } from './temporary.ts'

/** Sessions with the demo agent, addresses for them, and what the agent has heard. */

/** So many that no test meets them by accident. */
export const NO_LIMITS = { perMinute: 60_000_000, burst: 1_000_000, failuresPerSource: 1e6, failuresInAll: 1e6 }

export type ServerLike = Pick<TestServer, 'call'>

/** A server without limits on knocks, and a session that is idle. */
export async function startWithSession(
  options: Parameters<typeof startTestServer>[0] = {},
): Promise<{ server: TestServer; sessionId: string } & AsyncDisposable> {
  const server = await startTestServer({ channelLimits: NO_LIMITS, ...options })
  const sessionId = await openSession(server, await server.workspace())
  return { server, sessionId, [Symbol.asyncDispose]: () => server[Symbol.asyncDispose]() }
}

/** A session with the demo agent, once it is idle. */
export async function openSession(server: ServerLike, wsId: string): Promise<string> {
  const opened = await server.call<Session>('POST', '/api/sessions', { wsId, agent: 'demo' }, { token: true })
  if (opened.status !== 201) throw new Error(`session: ${opened.status} ${opened.text}`)
  await untilState(server, opened.body.id, 'idle')
  return opened.body.id
}

export async function sessionOf(server: ServerLike, sessionId: string): Promise<Session> {
  return (await server.call<Session>('GET', `/api/sessions/${sessionId}`, undefined, { token: true })).body
}

export async function untilState(server: ServerLike, sessionId: string, state: SessionState): Promise<void> {
  await eventually(async () => {
    const session = await sessionOf(server, sessionId)
    if (session.state === 'ended' && state !== 'ended') throw new Error(`session ended: ${session.detail ?? ''}`)
    return session.state === state
  })
}

/** Sends what the operator would, and waits until the agent is at work on it. */
export async function keepBusy(server: ServerLike, sessionId: string): Promise<void> {
  const sent = await server.call('POST', `/api/sessions/${sessionId}/input`, { message: '/sleep 600' }, { token: true })
  expect([200, 202]).toContain(sent.status)
  await untilState(server, sessionId, 'busy')
}

/** Ends the turn at work, so that what waits is handed over. */
export async function interrupt(server: ServerLike, sessionId: string): Promise<void> {
  const answer = await server.call('POST', `/api/sessions/${sessionId}/interrupt`, undefined, { token: true })
  expect(answer.status, answer.text).toBe(200)
}

export async function mint(server: ServerLike, body: Record<string, unknown>): Promise<Minted> {
  const minted = await server.call<Minted>('POST', '/api/channels', body, { token: true })
  if (minted.status !== 201) throw new Error(`mint: ${minted.status} ${minted.text}`)
  return minted.body
}

/** One knock; a text is sent as `message`. */
export function knock(
  server: ServerLike,
  token: string,
  body: string | Record<string, unknown>,
  headers: Record<string, string> = {},
): Promise<Answer<Receipt & { code?: string }>> {
  return server.call('POST', `/hook/${token}`, typeof body === 'string' ? { message: body } : body, { headers })
}

export async function deliveryOf(server: ServerLike, id: string): Promise<Delivery> {
  return (await server.call<Delivery>('GET', `/api/deliveries/${id}`, undefined, { token: true })).body
}

/** Every delivery of a grant, oldest first. */
export async function deliveriesOf(server: ServerLike, grantId: string): Promise<Delivery[]> {
  const all: Delivery[] = []
  for (let cursor = ''; ;) {
    const path = `/api/channels/${grantId}/deliveries?limit=200${cursor && `&cursor=${cursor}`}`
    const page = await server.call<{ deliveries: Delivery[]; nextCursor: string | null }>('GET', path, undefined, {
      token: true,
    })
    expect(page.status, page.text).toBe(200)
    all.push(...page.body.deliveries)
    if (page.body.nextCursor === null) return all.reverse()
    cursor = page.body.nextCursor
  }
}

export async function eventsOf(server: ServerLike, sessionId: string): Promise<Event[]> {
  const events: Event[] = []
  for (let after = 0; ;) {
    const page = await server.call<{ events: Event[]; nextAfter: number }>(
      'GET',
      `/api/sessions/${sessionId}/events?after=${after}`,
      undefined,
      { token: true },
    )
    if (page.body.events.length === 0) return events
    events.push(...page.body.events)
    after = page.body.nextAfter
  }
}

/**
 * What came through channels to the demo agent, whole and in order. By the agent's own record, which it writes before it
 * shows a sign: what the server has seen of it may be lost with the server.
 */
export async function heard(server: ServerLike & { dataDir: string }, sessionId: string): Promise<string[]> {
  const { conversationId } = await sessionOf(server, sessionId)
  const path = join(server.dataDir, 'demo-agent', 'conversations', `${conversationId ?? ''}.jsonl`)
  const said = (await readFile(path, 'utf8'))
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line) as { role: string; text: string })
  return said.flatMap(({ role, text }) => (role === 'user' && text.startsWith('<postern-hook ') ? [text] : []))
}

/** Ids of the deliveries that were handed over, in order. */
export async function handedOver(server: ServerLike & { dataDir: string }, sessionId: string): Promise<string[]> {
  return (await heard(server, sessionId)).flatMap(
    (text) => /^<postern-hook delivery="(dlv_\w{26})"/.exec(text)?.[1] ?? [],
  )
}

/** Waits until nothing of a grant is on its way any more, and the agent is through with what it was handed. */
export async function settled(server: ServerLike, grantId: string): Promise<Delivery[]> {
  const all = await eventually(async () => {
    const found = await deliveriesOf(server, grantId)
    return found.every(({ status }) => status === 'confirmed' || status === 'failed' || status === 'uncertain') && found
  })
  const confirmed = all.filter(({ status }) => status === 'confirmed')
  for (const sessionId of new Set(confirmed.map((each) => each.sessionId))) {
    await eventually(async () => {
      const events = await eventsOf(server, sessionId)
      const over = new Set(events.flatMap(({ type, deliveryId }) => (type === 'turn.ended' ? [deliveryId] : [])))
      return confirmed.every((each) => each.sessionId !== sessionId || over.has(each.id))
    })
  }
  return all
}

/** The key that signs tokens of a data directory. */
export async function signingKey(dataDir: string, kid = 1): Promise<Buffer> {
  const ring = JSON.parse(await readFile(join(dataDir, 'keys.json'), 'utf8')) as {
    keys: Record<string, { secret: string }>
  }
  const secret = Buffer.from(ring.keys[kid]?.secret ?? '', 'base64url')
  return Buffer.from(hkdfSync('sha256', secret, '', `postern/hook-token/v1/kid${kid}`, 32))
}
