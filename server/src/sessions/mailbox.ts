import type { AgentConnection, Turn, TurnEnd } from '../agents/live.ts'
import { isoTime, newId, type Clock } from '../clock.ts'
import type { NewEvent, Usage } from '../model.ts'
import { NO_USAGE, type DeliveryRow, type InputMode } from '../model/sessions.ts'
import { once, type Claim } from '../store/claims.ts'
import { RETRY_MS } from '../store/insist.ts'
import type { Table } from '../store/table.ts'
import { handOver, isFramed, type HandOver } from './hand-over.ts'
import { createLine } from './line.ts'
import { steerInto } from './steer.ts'
import { cannotSteer, revoked, twin } from './why.ts'

/** Hand-overs of one message: the second, after one that was cut off, is marked; there is no third. */
export const MAX_ATTEMPTS = 2

/** A message that passed every check but those of the session. */
export interface NewMessage {
  message: string
  from: string | null
  mode: InputMode
  grantId: string | null
  label: string | null
  taskId: string | null
  claim?: Claim | undefined
}

/** The turn at work. */
export interface AtWork extends HandOver {
  readonly deliveryId: string
  usage: Usage
  /** Somebody wants it to end: it does not begin again. */
  isInterrupted: boolean
  /** The agent has ended the turn, which is dealt with once the disk has what went before. */
  hasEnded: boolean
  /** Settles once the end of the turn was dealt with; stays pending when its process ends first. */
  readonly over: Promise<void>
}

/** The agent of a session, as its messages see it. */
export interface Receiver {
  readonly agent: string
  /** Of the live agent; undefined without one. */
  readonly connection: AgentConnection | undefined
  /** Undefined until it has said so. */
  readonly canSteer: boolean | undefined
  /** True when it takes a message at once. */
  readonly isIdle: boolean
  /** @throws DomainError `session_ended`, `draining` */
  assertOpen(): void
  isOpen(): boolean
  /** A message is on its way to it. */
  begin(): void
  /** It is free again; nothing happens when it is gone. */
  rest(): void
  /** Messages wait, and it may be without a process. */
  wake(): void
  /** A turn has ended, and what it used; it may go on with another. */
  turnEnded(usage: Usage): void
  /** Ends the turn at work, unless it is that of this message. */
  interrupt(by: string): void
}

/** The messages for one session: they come in, wait in a line, and are handed over one after another. */
export interface Mailbox {
  /** Messages that wait. */
  readonly size: number
  readonly atWork: AtWork | undefined
  /** A hand-over that is being prepared or made; settles when it is through. */
  readonly handing: Promise<unknown> | undefined
  /** On disk when it resolves. @throws DomainError `session_ended`, `draining`, `buffer_full`, `steer_not_supported`, `forbidden`, `storage_unavailable` */
  accept(message: NewMessage): Promise<DeliveryRow>
  /** Tells the log of a message that was on disk, and in the line, from the beginning: the one a session is opened with. */
  announce(first: DeliveryRow): void
  /** Hands the next one over if the agent is free. */
  pump(): void
  /**
   * The process has ended: what it was handed and did not confirm goes back to its place, or is `uncertain`: the second
   * time, and when the turn was interrupted. Resolves with what the turn that it cut off had used.
   */
  cutOff(detail: string): Promise<Usage | undefined>
  /** Marks of messages that may have reached the agent before it was cut off, to be looked for in what it remembers. */
  sought(): string[]
  /** The agent remembers messages with these marks: they are through. */
  heard(marks: string[]): Promise<void>
  /** Fails everything that waits. What cannot be written now is failed by the next start. */
  failAll(reason: string): Promise<void>
  /** Fails what came through a grant, and waits for what is being handed over. */
  revoke(grantId: string): Promise<void>
}

/** See `Mailbox`. Source: docs/security.md 3.2; decision 0019. */
export function createMailbox(
  deps: {
    sessionId: string
    deliveries: Table<DeliveryRow>
    clock: Clock
    log(event: NewEvent): unknown
    giveUp: AbortSignal
    /** False: the grant was revoked, nothing of it may be handed over any more. Decides at once. */
    mayHandOver(grantId: string): boolean
    onError(message: string, error: unknown): void
  },
  receiver: Receiver,
  left: DeliveryRow[],
): Mailbox {
  const { sessionId, deliveries, clock, log, giveUp } = deps
  const line = createLine(left)
  /** Messages on their way to the disk; what settles once they are there, or are refused. */
  const unwritten = new Map<string, Promise<void>>()
  let handing: Promise<unknown> | undefined
  let atWork: AtWork | undefined
  /** Messages that are being put into the turn at work, and the turn that the agent began with one of them after it. */
  const steering = new Set<Promise<unknown>>()
  let following: { made: HandOver; deliveryId: string } | undefined
  /** A turn that the agent began with a message that was taken back already: nothing is handed over before its end. */
  let stray: Turn | undefined
  const isFree = (): boolean => receiver.isIdle && stray === undefined

  async function accept({ claim, ...message }: NewMessage): Promise<DeliveryRow> {
    receiver.assertOpen()
    if (message.mode === 'steer' && receiver.canSteer === false) throw cannotSteer(receiver.agent)
    if (claim?.recordId !== undefined && unwritten.has(claim.recordId)) throw twin()
    const isSteered = message.mode === 'steer' && atWork !== undefined
    const isDirect = !isSteered && isFree() && line.size === 0 && handing === undefined
    const accepted: DeliveryRow = {
      id: claim?.recordId ?? newId('dlv', clock),
      sessionId,
      ...message,
      status: isDirect ? 'injecting' : 'accepted',
      reason: null,
      possibleDuplicate: false,
      createdAt: isoTime(clock.now()),
      deliveredAt: null,
      confirmedAt: null,
      endedAt: null,
      order: line.place(message.mode === 'interrupt' ? 'front' : 'end'),
      answeredAs: 'buffered',
      attempts: isDirect ? 1 : 0,
    }
    // From the look at the session to here nothing awaits: a place in the line is found and taken in one step.
    line.take(accepted)
    const written = write(accepted, claim)
    unwritten.set(accepted.id, written)
    if (isDirect) return await tracked(direct(accepted, written))
    await written.finally(pump)
    if (isSteered) return await steer(accepted)
    if (message.mode === 'interrupt') receiver.interrupt(accepted.id)
    return accepted
  }

  async function write(accepted: DeliveryRow, claim: Claim | undefined): Promise<void> {
    try {
      const isMine = await once(claim, accepted.id, async () => {
        if (accepted.grantId !== null && !deps.mayHandOver(accepted.grantId)) throw revoked()
        receiver.assertOpen()
        return await deliveries.insert(accepted)
      })
      if (!isMine) throw twin()
      // What is handed over now waits no more: in the line a revocation would fail what the agent is about to get.
      if (accepted.status === 'injecting') line.remove(accepted.id)
    } catch (error) {
      line.remove(accepted.id)
      throw error
    } finally {
      unwritten.delete(accepted.id)
    }
    announce(accepted)
  }

  function announce({ id: deliveryId, grantId, label, taskId, from, message: text, mode }: DeliveryRow): void {
    void log({ type: 'input.accepted', deliveryId, grantId, label, taskId, from, mode, text })
  }

  /** To an idle agent: that it is accepted and that it is about to be handed over are one record. */
  async function direct(accepted: DeliveryRow, written: Promise<void>): Promise<DeliveryRow> {
    receiver.begin()
    try {
      await written
    } catch (error) {
      receiver.rest()
      throw error
    }
    return await inject(accepted, true)
  }

  /** Into the turn at work; where that fails it waits like any other. */
  async function steer(accepted: DeliveryRow): Promise<DeliveryRow> {
    const { connection } = receiver
    if (!connection || !atWork) return accepted // the turn is over: it waits like any other
    const patch = { status: 'injecting' as const, attempts: 1 }
    const injecting = await deliveries.update(accepted.id, patch, { status: 'accepted' }).catch(() => undefined)
    if (!injecting) return accepted // it was failed meanwhile, or the disk is full
    line.remove(accepted.id)
    const during = atWork
    const onLateTurn = (begun: Turn): void => void sitOut(begun)
    const work = steerInto({ deliveries, clock, log, giveUp, onLateTurn }, connection, injecting).then((steered) => {
      const { row, turn } = steered
      const made = { answered: Promise.resolve(row), through: Promise.resolve(), settled: async () => row }
      if (turn && atWork === during) following = { made: { turn, ...made }, deliveryId: row.id }
      return steered
    })
    steering.add(work)
    const { row, isThrough } = await work
    steering.delete(work)
    if (!isThrough) {
      line.putBack(row)
      pump()
    }
    return row
  }

  async function sitOut(begun: Turn): Promise<void> {
    stray = begun
    await begun.ended.catch(() => undefined)
    if (stray !== begun) return
    stray = undefined
    pump()
  }

  function tracked<T>(work: Promise<T>): Promise<T> {
    const mine = work
      .then(
        () => undefined,
        () => undefined,
      )
      .then(() => {
        if (handing === mine) handing = undefined
        pump()
      })
    handing = mine
    return work
  }

  function pump(): void {
    const next = line.first()
    if (!next || !receiver.isOpen() || handing || unwritten.has(next.id)) return
    if (isFree()) void tracked(take(next))
    else if (!stray) receiver.wake()
  }

  async function take(next: DeliveryRow): Promise<void> {
    if (next.grantId !== null && !deps.mayHandOver(next.grantId)) return await fail(next, 'grant_revoked')
    receiver.begin()
    const attempts = next.attempts + 1
    // When it was delivered, is said of this hand-over alone.
    const patch = { status: 'injecting' as const, attempts, possibleDuplicate: attempts > 1, deliveredAt: null }
    try {
      const injecting = await deliveries.update(next.id, patch, { status: next.status })
      line.remove(next.id)
      if (injecting) return void (await inject(injecting, false)) // else it was failed meanwhile
    } catch {
      await clock.sleep(RETRY_MS, giveUp).catch(() => undefined) // the disk is full: it keeps its place
    }
    receiver.rest()
  }

  /** Resolves when the message was written whole, or its sender has waited long enough. */
  async function inject(injecting: DeliveryRow, isAwaited: boolean): Promise<DeliveryRow> {
    const { connection } = receiver
    if (!connection) return await takeBack(injecting) // the agent died in this moment
    let made: HandOver
    try {
      made = handOver({ deliveries, clock, log, giveUp }, connection, injecting, isAwaited)
    } catch {
      // It works at something that nobody here knows of.
      const back = await takeBack(injecting)
      void clock.sleep(RETRY_MS, giveUp).then(
        () => {
          receiver.rest()
          pump()
        },
        () => undefined,
      )
      return back
    }
    attend(made, injecting.id)
    return await made.answered
  }

  /** Nothing was handed over, and that is written down. */
  async function takeBack(injecting: DeliveryRow): Promise<DeliveryRow> {
    const patch = { status: 'accepted' as const, attempts: injecting.attempts - 1 }
    const back = (await deliveries.update(injecting.id, patch).catch(() => undefined)) ?? injecting
    line.putBack(back)
    return back
  }

  function attend(made: HandOver, deliveryId: string): void {
    const over = Promise.withResolvers<void>()
    const state = { usage: NO_USAGE, isInterrupted: false, hasEnded: false }
    const mine: AtWork = Object.assign(made, { deliveryId, ...state, over: over.promise })
    atWork = mine
    made.turn.ended.then(
      (end) => {
        mine.hasEnded = true
        void turnEnded(mine, end).then(over.resolve)
      },
      () => undefined, // the end of the process tells
    )
  }

  async function turnEnded(mine: AtWork, end: TurnEnd): Promise<void> {
    const { id: deliveryId } = await mine.settled()
    // An answer that is still out may say that the agent works on, at what it was to be steered with.
    await Promise.all(steering)
    if (atWork !== mine) return
    atWork = undefined
    const { status, text, error } = end
    void log({ type: 'turn.ended', deliveryId, status, text, ...(error && { error }), usage: mine.usage })
    receiver.turnEnded(mine.usage)
    const next = following
    following = undefined
    if (next) return attend(next.made, next.deliveryId)
    receiver.rest()
    pump()
  }

  async function fail(failed: DeliveryRow, reason: string): Promise<void> {
    line.remove(failed.id)
    const patch = { status: 'failed' as const, reason, endedAt: isoTime(clock.now()) }
    if (await deliveries.update(failed.id, patch, { status: failed.status }))
      void log({ type: 'input.failed', deliveryId: failed.id, reason })
  }

  return {
    get size() {
      return line.size
    },
    get atWork() {
      return atWork
    },
    get handing() {
      return handing
    },
    accept,
    announce,
    pump,
    async cutOff(detail) {
      for (let ended = atWork; ended?.hasEnded; ended = atWork) await ended.over
      const cut = atWork
      atWork = following = stray = undefined
      await handing
      if (!cut) return undefined
      const last = await cut.settled()
      const error = { kind: 'agent', message: detail }
      void log({ type: 'turn.ended', deliveryId: last.id, status: 'failed', text: '', error, usage: cut.usage })
      if (last.status === 'confirmed' || last.endedAt !== null) return cut.usage
      if (last.attempts < MAX_ATTEMPTS && !cut.isInterrupted) {
        line.putBack(last)
        return cut.usage
      }
      const patch = { status: 'uncertain' as const, endedAt: isoTime(clock.now()) }
      await deliveries.update(last.id, patch).catch((failed: unknown) => deps.onError(`delivery ${last.id}`, failed))
      void log({ type: 'input.uncertain', deliveryId: last.id })
      return cut.usage
    },
    // Our envelope carries the id; what the operator says goes without one.
    sought: () => line.rows().flatMap((row) => (row.attempts > 0 && isFramed(row) ? row.id : [])),
    async heard(marks) {
      for (const row of line.rows()) {
        if (!marks.includes(row.id)) continue
        line.remove(row.id)
        const at = isoTime(clock.now())
        const patch = { status: 'confirmed' as const, deliveredAt: row.deliveredAt ?? at, confirmedAt: at, endedAt: at }
        try {
          await deliveries.update(row.id, patch, { status: row.status })
        } catch (error) {
          line.putBack(row)
          throw error
        }
        const deliveryId = row.id
        if (row.deliveredAt === null) void log({ type: 'input.delivered', deliveryId, possibleDuplicate: false })
        void log({ type: 'log', message: 'the agent remembers this message: it is not sent again', deliveryId })
      }
    },
    async failAll(reason) {
      await Promise.allSettled(unwritten.values()) // what was let in before waits now, or is being handed over
      for (const waiting of line.rows()) await fail(waiting, reason).catch(() => undefined)
    },
    async revoke(grantId) {
      const waiting = (): DeliveryRow[] => line.rows().filter((each) => each.grantId === grantId)
      // What was let in before the revocation and is on its way to the disk fails once it is there.
      await Promise.allSettled(waiting().flatMap(({ id }) => unwritten.get(id) ?? []))
      await Promise.all(waiting().map((each) => fail(each, 'grant_revoked').catch(() => undefined)))
      await handing // what was begun before is through before the answer
    },
  }
}
