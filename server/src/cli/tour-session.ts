import { randomUUID } from 'node:crypto'
import { ForbiddenError, hooks, isOver, type DeliveryId, type Postern, type SessionId } from '@postern/sdk'
import { inert } from './text.ts'
import { STEP_LIMIT_MS, WORKSPACE, type Stage } from './tour-stage.ts'

/** By it the next tour finds the session that this one left. */
const TITLE = 'tour'
/** Seconds that the address lives which is shown. */
const TTL_SECONDS = 3_600
const KNOCK = { message: 'deploy finished', from: 'ci' }

/** A live agent, idle: what the hook leads to. Sessions of earlier tours are ended. */
export async function showSession({ postern, signal, line, left }: Stage): Promise<void> {
  await endTourSessions(postern)
  const { id } = await postern.sessions.create({ wsId: WORKSPACE, agent: 'demo', title: TITLE })
  for await (const event of postern.sessions.events(id, {
    signal: AbortSignal.any([signal, AbortSignal.timeout(STEP_LIMIT_MS)]),
  })) {
    if (event.type === 'session.state' && event['state'] === 'idle') break
  }
  left.session = await postern.sessions.get(id)
  line('session', `${id} agent ${left.session.agent}, ${left.session.state}`)
}

export async function endTourSessions(postern: Postern): Promise<void> {
  for await (const session of postern.sessions.list({ wsId: WORKSPACE, agent: 'demo', pageSize: 200 })) {
    if (session.title === TITLE && !isOver(session)) await postern.sessions.end(session.id)
  }
}

/** An address to the session: a knock and its answer, the same knock again, and an address that was revoked. */
export async function showHook(stage: Stage): Promise<void> {
  const { postern, line, more, left } = stage
  if (!left.session) throw new Error('there is no session to knock on')
  const { id } = left.session
  const door = await postern.channels.create({ sessionId: id, label: 'tour', ttlSeconds: TTL_SECONDS })
  left.door = door
  line('hook', `${door.grantId} ${door.verb}, expires ${door.expiresAt.replace(/\.\d+Z$/, 'Z')}`)

  const key = `tour-${randomUUID()}`
  const since = performance.now()
  const first = await hooks.send(door.webhook, { ...KNOCK, key }).withResponse()
  const tookMs = Math.round(performance.now() - since)
  if (first.data.status !== 'delivered') throw new Error(`the knock on an idle session was ${first.data.status}`)
  more(`knock "${KNOCK.message}" from ${KNOCK.from}  → ${first.status} ${first.data.status}, ${tookMs} ms`)
  more(`agent: ${inert(await replyTo(stage, id, first.data.deliveryId), true)}`)

  const again = await hooks.send(door.webhook, { ...KNOCK, key }).withResponse()
  const { deliveries } = await postern.channels.get(door.grantId)
  if (again.headers.get('Idempotency-Replayed') !== 'true' || again.data.deliveryId !== first.data.deliveryId)
    throw new Error(`one key was delivered as ${first.data.deliveryId} and ${again.data.deliveryId}`)
  if (deliveries !== 1) throw new Error(`one key was delivered ${deliveries} times`)
  more(`same Idempotency-Key again       → ${again.status} replayed, delivered once`)

  const second = await postern.channels.create({ sessionId: id, label: 'tour', ttlSeconds: TTL_SECONDS })
  await postern.channels.revoke(second.grantId)
  const refused = await hooks.send(second.webhook, KNOCK, { retries: 0 }).catch((error: unknown) => error)
  if (!(refused instanceof ForbiddenError)) throw new Error('an address that was revoked still answers')
  more(`an address minted and revoked    → ${refused.status}`)
}

async function replyTo({ postern, signal }: Stage, id: SessionId, deliveryId: DeliveryId): Promise<string> {
  for await (const event of postern.sessions.events(id, {
    signal: AbortSignal.any([signal, AbortSignal.timeout(STEP_LIMIT_MS)]),
  })) {
    if (event.type === 'turn.ended' && event['deliveryId'] === deliveryId) return event.text ?? ''
  }
  throw new Error(`${id} ended without an answer`)
}

/** What to type to try the address that is left open. The one time that a tour shows it. */
export function hookToTry({ left, context }: Stage): string[] {
  if (!left.door) return []
  const body = `-H 'Content-Type: application/json' -d '{"message": "hello"}'`
  return [
    `curl -X POST ${left.door.webhook} ${body}`,
    `${context.me} session attach ${left.door.channel.split('/').at(-1) ?? ''}   talk to it, and see the knock arrive`,
    `${context.me} channel revoke ${left.door.grantId}   then knock again: 403`,
  ]
}
