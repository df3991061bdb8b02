import { randomBytes } from 'node:crypto'
import type { AgentConnection, Turn } from '../agents/live.ts'
import { isoTime, type Clock } from '../clock.ts'
import type { NewEvent } from '../model.ts'
import type { DeliveryRow } from '../model/sessions.ts'
import { insist } from '../store/insist.ts'
import type { Table } from '../store/table.ts'
import { frame } from './frame.ts'

/** Milliseconds that a sender waits for an idle agent to take its message; then the answer is `buffered`. */
export const HAND_OVER_MS = 2_000

/** One message on its way into a live agent. */
export interface HandOver {
  readonly turn: Turn
  /** The row as the sender is to be told: `delivered` and on disk, or as it was when the wait was over. Never rejects. */
  readonly answered: Promise<DeliveryRow>
  /** Resolves once the message was written whole or the agent is gone. Never rejects. */
  readonly through: Promise<void>
  /** The row as it ended up, once the agent has shown a sign of the turn or is gone; never rejects. */
  settled(): Promise<DeliveryRow>
}

/**
 * Hands one message over: its row is `injecting` on disk when this is called; it becomes `delivered` when the whole line
 * was written, `confirmed` at the agent's first sign, each on disk before anybody is told.
 * Source: docs/security.md 3.2.
 *
 * @param isAwaited true: a sender waits for the answer of this hand-over
 */
export function handOver(
  deps: {
    deliveries: Table<DeliveryRow>
    clock: Clock
    log(event: NewEvent): unknown
    /** Aborted when the server cannot wait for the disk any longer. */
    giveUp: AbortSignal
  },
  connection: AgentConnection,
  injecting: DeliveryRow,
  isAwaited: boolean,
): HandOver {
  const { deliveries, clock, log, giveUp } = deps
  const { id: deliveryId, possibleDuplicate } = injecting
  const began = clock.monotonic()
  let row = injecting
  const turn = connection.prompt(textOf(injecting))
  turn.ended.catch(() => undefined)

  /** The change that is on its way to the disk; never rejects. */
  let queued: Promise<unknown> | undefined

  async function store(patch: () => Partial<DeliveryRow>, from: DeliveryRow['status']): Promise<void> {
    await insist(clock, giveUp, () => {
      const update = deliveries.update(deliveryId, patch(), { status: from })
      queued = update.then(
        (stored) => void (row = stored ?? row),
        () => void (isAwaited = false),
      )
      return update
    }).catch(() => undefined)
  }
  async function delivered(): Promise<DeliveryRow> {
    const deliveredAt = isoTime(clock.now())
    // Decided when it is queued: an answer that was `buffered` must never be replayed as `delivered`.
    // And what was answered `delivered` stays so, when a second copy is handed over.
    const inTime = (): boolean =>
      injecting.answeredAs === 'delivered' || (isAwaited && clock.monotonic() - began < HAND_OVER_MS)
    await store(
      () => ({ status: 'delivered', deliveredAt, answeredAs: inTime() ? 'delivered' : 'buffered' }),
      'injecting',
    )
    log({ type: 'input.delivered', deliveryId, possibleDuplicate })
    return row
  }
  async function confirmed(): Promise<void> {
    const at = isoTime(clock.now())
    await through
    await store(() => ({ status: 'confirmed', confirmedAt: at, endedAt: at }), 'delivered')
  }

  const handed = turn.written.then(delivered)
  const through = handed.then(
    () => undefined,
    () => undefined, // the agent is gone: its end decides what becomes of the message
  )
  const signed = turn.confirmed.then(confirmed, () => undefined)

  async function answer(): Promise<DeliveryRow> {
    const wait = new AbortController()
    const late = clock.sleep(HAND_OVER_MS, wait.signal).catch(() => undefined)
    await Promise.race([through, late])
    wait.abort()
    await queued // in time, and late on the disk: it says which answer it was
    return row.answeredAs === 'delivered' ? row : { ...injecting, answeredAs: 'buffered' }
  }

  return {
    turn,
    answered: answer(),
    through,
    async settled() {
      await signed
      await through
      return row
    },
  }
}

/** True: it reaches the agent in our envelope, which carries its id. */
export const isFramed = ({ taskId, grantId }: DeliveryRow): boolean => taskId !== null || grantId !== null

/** What the agent gets: from a channel or a run our envelope, from the operator the message as it stands. */
function textOf(row: DeliveryRow): string {
  const origin = row.taskId !== null ? 'run' : row.grantId !== null ? 'channel' : undefined
  if (origin === undefined) return row.from === null ? row.message : `[${row.from}] ${row.message}`
  return frame(
    {
      origin,
      deliveryId: row.id,
      label: row.taskId ?? row.label,
      from: row.from,
      message: row.message,
      possibleDuplicate: row.possibleDuplicate,
    },
    randomBytes(8).toString('hex'),
  )
}
