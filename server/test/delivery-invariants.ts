import { expect } from 'vitest'
import type { Delivery, DeliveryStatus } from '../src/model/sessions.ts'
import { deliveriesOf, eventsOf, heard, untilState, type ServerLike } from './channels.ts'

/** One message that a scenario sent again and again until it was answered, and what it was told. */
export interface Sent {
  grantId: string
  sessionId: string
  /** Who sent it: one client sends one message after the other, so they are heard in that order. */
  client: string
  message: string
  /** Of the first 2xx; undefined: it was never acknowledged. */
  deliveryId?: string
  /** True when some request for it was never answered, so that it may have been accepted. */
  isUnknown: boolean
}

/** Where a delivery may stand when nothing is on its way any more. */
const FINAL: DeliveryStatus[] = ['delivered', 'confirmed', 'failed', 'uncertain']

/** A message as an agent heard it. */
interface Heard {
  deliveryId: string
  isCopy: boolean
  message: string
}

const FRAME =
  /^<postern-hook delivery="(dlv_\w{26})"[^>]*?( possible-duplicate="true")? n="\w{16}">\n[^\n]*\n([^]*)\n<\/postern-hook n="\w{16}">$/

export async function heardDeliveries(server: ServerLike, dataDir: string, sessionId: string): Promise<Heard[]> {
  return (await heard({ ...server, dataDir }, sessionId)).flatMap((text) => {
    const [, deliveryId, copy, message] = FRAME.exec(text) ?? []
    return deliveryId === undefined ? [] : [{ deliveryId, isCopy: copy !== undefined, message: message ?? '' }]
  })
}

/**
 * The promises about deliveries, looked at after a scenario and once nothing is on its way (docs/security.md 8): I-1 to
 * I-4 and I-6. Returns the figures.
 */
export async function checkDeliveries(
  server: ServerLike,
  dataDir: string,
  sent: Sent[],
): Promise<{ acknowledged: number; lost: number; copies: number; uncertain: number; failed: number }> {
  const deliveries = new Map<string, Delivery>()
  for (const grantId of new Set(sent.map((each) => each.grantId))) {
    for (const delivery of await deliveriesOf(server, grantId)) deliveries.set(delivery.id, delivery)
  }
  const acknowledged = sent.filter(({ deliveryId }) => deliveryId !== undefined)
  const lost = acknowledged.filter(({ deliveryId = '' }) => !deliveries.has(deliveryId))
  expect(lost, 'I-1: acknowledged messages that are gone').toEqual([])
  for (const { id, status, reason } of deliveries.values()) {
    expect(FINAL, `I-1: ${id} is ${status}`).toContain(status)
    if (status === 'failed') expect(reason, `I-1: reason of ${id}`).not.toBeNull()
  }
  const byText = new Map(sent.map((each) => [`${each.grantId} ${each.message}`, each]))
  for (const { id, grantId, message } of deliveries.values()) {
    const asked = byText.get(`${grantId ?? ''} ${message}`)
    expect(asked?.deliveryId !== undefined || asked?.isUnknown, `I-2, I-4: ${id} was not accepted`).toBe(true)
  }
  const perMessage = Map.groupBy(deliveries.values(), ({ grantId, message }) => `${grantId ?? ''} ${message}`)
  for (const [message, group] of perMessage) expect(group.length, `I-3: deliveries of ${message}`).toBe(1)

  let copies = 0
  for (const sessionId of new Set(sent.map((each) => each.sessionId))) {
    const turns = await heardDeliveries(server, dataDir, sessionId)
    const perDelivery = Map.groupBy(turns, ({ deliveryId }) => deliveryId)
    for (const [id, group] of perDelivery) {
      const delivery = deliveries.get(id)
      expect(delivery?.sessionId, `I-2: ${id} was handed over`).toBe(sessionId)
      const first = group.filter(({ isCopy }) => !isCopy)
      expect(first.length, `I-3: unmarked hand-overs of ${id}`).toBeLessThanOrEqual(1)
      copies += group.length - first.length
      for (const { message } of group) expect(message, id).toBe(delivery?.message)
    }
    await checkTold(
      server,
      sessionId,
      [...deliveries.values()].filter((delivery) => delivery.sessionId === sessionId),
    )
    checkHeard(
      [...deliveries.values()].filter((delivery) => delivery.sessionId === sessionId),
      new Set(perDelivery.keys()),
    )
    const order = [...perDelivery.keys()].map((id) => deliveries.get(id)?.message)
    const heardBy = Map.groupBy(
      sent.filter((each) => each.sessionId === sessionId),
      ({ client }) => client,
    )
    for (const [client, messages] of heardBy) {
      const mine = messages.map(({ message }) => order.indexOf(message)).filter((at) => at !== -1)
      expect(mine, `I-6: order of ${client}`).toEqual(mine.toSorted((a, b) => a - b))
    }
  }
  const count = (status: DeliveryStatus): number =>
    [...deliveries.values()].filter((each) => each.status === status).length
  return {
    acknowledged: acknowledged.length,
    lost: lost.length,
    copies,
    uncertain: count('uncertain'),
    failed: count('failed'),
  }
}

/** That the records say of each delivery of a session what its agent heard: I-1 and I-5. */
export function checkHeard(deliveries: Delivery[], heardIds: ReadonlySet<string>): void {
  for (const { id, status, reason, deliveredAt } of deliveries) {
    if (status === 'confirmed') expect(heardIds.has(id), `I-1: ${id} is confirmed and was never heard`).toBe(true)
    if (status === 'failed' && deliveredAt === null)
      expect(heardIds.has(id), `I-5: ${id} failed (${reason}) and was heard`).toBe(false)
  }
}

/** That the log of a session tells of each delivery what its record says, and of its coming once. */
async function checkTold(server: ServerLike, sessionId: string, deliveries: Delivery[]): Promise<void> {
  const told = Map.groupBy(await eventsOf(server, sessionId), ({ type, deliveryId }) => `${type} ${String(deliveryId)}`)
  for (const { id, status } of deliveries) {
    expect(told.get(`input.accepted ${id}`)?.length, `how often ${id} was accepted`).toBe(1)
    const end = { confirmed: 'input.delivered', failed: 'input.failed', uncertain: 'input.uncertain' }[status as string]
    if (end !== undefined) expect(told.has(`${end} ${id}`), `${id} is ${status}, and its log says so`).toBe(true)
  }
}

/** Waits until nothing of these grants is on its way. */
export async function allSettled(server: ServerLike, sent: Sent[]): Promise<void> {
  for (const grantId of new Set(sent.map((each) => each.grantId))) {
    for (;;) {
      const waiting = (await deliveriesOf(server, grantId)).filter(
        ({ status }) => !FINAL.includes(status) || status === 'delivered',
      )
      if (waiting.length === 0) break
      await new Promise((resolve) => setTimeout(resolve, 50))
    }
  }
  for (const sessionId of new Set(sent.map((each) => each.sessionId))) await untilState(server, sessionId, 'idle')
}
