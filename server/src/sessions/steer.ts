import { AgentRefused, type AgentConnection, type Turn } from '../agents/live.ts'
import { isoTime, type Clock } from '../clock.ts'
import type { NewEvent } from '../model.ts'
import type { DeliveryRow } from '../model/sessions.ts'
import { insist } from '../store/insist.ts'
import type { Table } from '../store/table.ts'

/** Milliseconds that an agent may take to say whether it was steered; fewer than it has to end a turn (`CANCEL_MS`). */
export const STEER_MS = 5_000

/** What became of a message for the turn at work. */
export interface Steered {
  row: DeliveryRow
  /** False: it waits like any other. */
  isThrough: boolean
  /** The turn that the agent began with it, as the one at work had just ended. */
  turn: Turn | undefined
}

/**
 * Puts one message into the turn at work: its row is `injecting` on disk when this is called. One that was refused was not
 * heard; one that got no answer in time may have been, and its next hand-over is marked as a possible duplicate. Never
 * rejects. Decision 0019.
 */
export async function steerInto(
  deps: {
    deliveries: Table<DeliveryRow>
    clock: Clock
    log(event: NewEvent): unknown
    giveUp: AbortSignal
    /** The agent said after all, too late, that it began a turn. */
    onLateTurn(turn: Turn): void
  },
  connection: AgentConnection,
  injecting: DeliveryRow,
): Promise<Steered> {
  const { deliveries, clock, log } = deps
  const { id: deliveryId, from, message } = injecting
  const store = (patch: Partial<DeliveryRow>): Promise<DeliveryRow | undefined> =>
    deliveries.update(deliveryId, patch, { status: 'injecting' })
  const waited = new AbortController()
  let isLate = false
  const late = clock.sleep(STEER_MS, waited.signal).then(() => {
    isLate = true
    throw new Error(`the agent did not say within ${STEER_MS / 1000} s whether it took the message`)
  })
  late.catch(() => undefined)
  let turn: Turn | undefined
  try {
    const steering = connection.steer(from === null ? message : `[${from}] ${message}`)
    void steering.then(
      (begun) => isLate && begun && deps.onLateTurn(begun),
      () => undefined,
    )
    turn = await Promise.race([steering, late])
  } catch (error) {
    log({ type: 'log', message: `could not steer: ${(error as Error).message}`, deliveryId })
    const attempts = error instanceof AgentRefused ? 0 : injecting.attempts
    // What the disk does not take now stays `injecting` there, and its next hand-over is marked.
    const row = await store({ status: 'accepted', attempts, mode: 'queue' }).catch(() => undefined)
    return { row: row ?? injecting, isThrough: false, turn }
  } finally {
    waited.abort()
  }

  const at = isoTime(clock.now())
  const confirmed = { status: 'confirmed' as const, deliveredAt: at, confirmedAt: at, endedAt: at }
  const tell = (): unknown =>
    log({ type: 'input.delivered', deliveryId, possibleDuplicate: false, ...(!turn && { mode: 'steer' }) })
  let { answeredAs } = injecting
  try {
    await store({ ...confirmed, answeredAs: 'delivered' })
    answeredAs = 'delivered'
    tell()
  } catch {
    // The agent has it, and its sender is told what is on disk.
    void insist(clock, deps.giveUp, () => store(confirmed)).then(tell, () => undefined)
  }
  return { row: { ...injecting, ...confirmed, answeredAs }, isThrough: true, turn }
}
