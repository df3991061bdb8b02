import { addToDay, dayOf, spentOf, type DaySpent } from '../model/budget.ts'
import type { EventLog } from '../events/types.ts'
import type { NewEvent, Usage } from '../model.ts'
import {
  addUsage,
  NO_USAGE,
  SESSION_LIMITS,
  type DeliveryRow,
  type PermissionRequest,
  type SessionRow,
} from '../model/sessions.ts'
import type { Table } from '../store/table.ts'

export const DIED = {
  reason: 'server_died',
  detail: 'the server died; the next input resumes the conversation',
} as const

/** Newest messages of a session that are looked at; what waited is looked at whole. */
const NEWEST = 2 * SESSION_LIMITS.bufferedMessages

/** What the log of a session says, as far as rows say it too. */
interface Told {
  accepted: Set<string>
  /** Messages and whether they were sent as a possible duplicate, see `handOverOf`. */
  delivered: Set<string>
  /** Messages that failed or are uncertain. */
  ended: Set<string>
  /** Messages whose turn has begun and not ended. */
  turns: Set<string>
  /** Requests without an answer. */
  asked: Set<string>
  state: string | undefined
  lastSeq: number
  /** What the turn at work has used. */
  usage: Usage
  /** What all turns have used, and on the last day that one reported. */
  used: Usage
  spent: DaySpent | undefined
}

/**
 * Adds to the log of a session what its rows say and a server that died did not get to tell: rows go before events. What
 * the turn at work had used stands in the log alone, and is counted. Safe to repeat.
 *
 * @throws DamagedStateError, and what the disk says
 */
export async function mendLog(
  deps: {
    sessions: Table<SessionRow>
    deliveries: Table<DeliveryRow>
    requests: Table<PermissionRequest>
    events: EventLog
  },
  row: SessionRow,
): Promise<void> {
  const { sessions, deliveries, requests, events } = deps
  const { id, state } = row
  const told = await readLog(events, id)
  const wasLive = state === 'suspended' && told.state !== undefined && told.state !== state
  const { reason, detail } = wasLive ? DIED : row
  if (told.state !== 'ended') {
    const missing = await ofDeliveries()
    missing.push(...(await ofRequests()))
    for (const deliveryId of told.turns) {
      const error = { kind: 'agent', message: 'the server died in the turn; what became of it is not known' }
      missing.push({ type: 'turn.ended', deliveryId, status: 'failed', text: '', error, usage: told.usage })
    }
    if (told.state !== state && (told.state !== undefined || reason !== null))
      missing.push({ type: 'session.state', state, reason, detail })
    if (missing.length > 0) told.lastSeq = await events.append(id, missing)
    await events.close(id)
  }
  const [counted, used] = [spentOf(row.usage), spentOf(told.used)]
  const isUncounted = used.tokens > counted.tokens || used.costUsd > counted.costUsd
  await sessions.update(id, {
    lastSeq: told.lastSeq,
    ...(wasLive && DIED),
    ...(state === 'ended' && { isEnding: false }),
    ...(isUncounted && { usage: told.used, spent: told.spent }),
  })

  async function ofDeliveries(): Promise<NewEvent[]> {
    const open = await deliveries.list({ where: { sessionId: id, endedAt: null } })
    const newest = await deliveries.list({ where: { sessionId: id }, limit: NEWEST })
    const rows = new Map([...open, ...newest.toReversed()].map((each) => [each.id, each]))
    return [...rows.values()].flatMap(ofDelivery)
  }

  function ofDelivery(delivery: DeliveryRow): NewEvent[] {
    const { id: deliveryId, grantId, label, taskId, from, mode, message: text, possibleDuplicate } = delivery
    const missing: NewEvent[] = []
    if (!told.accepted.has(deliveryId))
      missing.push({ type: 'input.accepted', deliveryId, grantId, label, taskId, from, mode, text })
    if (delivery.deliveredAt !== null && !told.delivered.has(handOverOf(deliveryId, possibleDuplicate))) {
      const isSteered = mode === 'steer' && delivery.deliveredAt === delivery.confirmedAt
      missing.push({ type: 'input.delivered', deliveryId, possibleDuplicate, ...(isSteered && { mode }) })
      if (!isSteered) told.turns.add(deliveryId)
    }
    if (told.ended.has(deliveryId)) return missing
    if (delivery.status === 'failed') missing.push({ type: 'input.failed', deliveryId, reason: delivery.reason })
    if (delivery.status === 'uncertain') missing.push({ type: 'input.uncertain', deliveryId })
    return missing
  }

  async function ofRequests(): Promise<NewEvent[]> {
    const asked = await Promise.all([...told.asked].map((requestId) => requests.get(requestId)))
    return asked.flatMap((request) => {
      if (!request || request.status === 'pending') return []
      const { id: requestId, status, answer, answeredBy } = request
      return [{ type: 'permission.answered', requestId, status, answer, answeredBy }]
    })
  }
}

/** There are two hand-overs of a message at most, the second marked. */
const handOverOf = (deliveryId: string, possibleDuplicate: boolean): string => `${deliveryId} ${possibleDuplicate}`

async function readLog(events: EventLog, id: string): Promise<Told> {
  const told: Told = {
    accepted: new Set(),
    delivered: new Set(),
    ended: new Set(),
    turns: new Set(),
    asked: new Set(),
    state: undefined,
    lastSeq: 0,
    usage: NO_USAGE,
    used: NO_USAGE,
    spent: undefined,
  }
  const turnOver = (): void => {
    told.turns.clear()
    told.usage = NO_USAGE
  }
  for await (const event of events.past(id, 0)) {
    told.lastSeq = event.seq
    const deliveryId = String(event['deliveryId'])
    switch (event.type) {
      case 'input.accepted':
        told.accepted.add(deliveryId)
        break
      case 'input.delivered':
        told.delivered.add(handOverOf(deliveryId, event['possibleDuplicate'] === true))
        if (event['mode'] !== 'steer') told.turns.add(deliveryId)
        break
      case 'input.failed':
      case 'input.uncertain':
        told.ended.add(deliveryId)
        break
      case 'turn.ended':
        // The next one may have begun: an agent that was steered at the end of a turn says so first.
        told.turns.delete(deliveryId)
        told.usage = NO_USAGE
        break
      case 'usage': {
        const usage: Usage = { ...(event as unknown as Usage), source: 'agent_reported' }
        told.usage = addUsage(told.usage, usage)
        told.used = addUsage(told.used, usage)
        told.spent = addToDay(told.spent, spentOf(usage), dayOf(Date.parse(event.at)))
        break
      }
      case 'permission.requested':
        told.asked.add(String(event['requestId']))
        break
      case 'permission.answered':
        told.asked.delete(String(event['requestId']))
        break
      case 'session.state':
        told.state = String(event['state'])
        // In these nothing is at work: what the agent remembered of an earlier turn had no turn of its own.
        if (told.state !== 'busy' && told.state !== 'waiting') turnOver()
        break
    }
  }
  return told
}
