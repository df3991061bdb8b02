import type { Agents } from '../agents/types.ts'
import { AgentRefused, type PermissionAsk, type TurnEnd } from '../agents/live.ts'
import { isoTime, newId } from '../clock.ts'
import { DomainError } from '../errors.ts'
import { createRecorder } from '../events/recorder.ts'
import type { EventLog } from '../events/types.ts'
import type { NewEvent, Usage } from '../model.ts'
import type {
  DeliveryRow,
  InputMode,
  PermissionRequest,
  Session,
  SessionReason,
  SessionRow,
  SessionState,
} from '../model/sessions.ts'
import type { Claim } from '../store/claims.ts'
import type { Table } from '../store/table.ts'
import { handOver, type HandOver } from './hand-over.ts'
import { createLine } from './line.ts'
import { NotLive, startLive, type Live, type LiveDeps } from './live.ts'

/** Milliseconds that an agent may take to end a turn it was asked to cancel; then its process is ended. */
export const CANCEL_MS = 10_000
/** Milliseconds that ending a session waits for its process. */
const END_WAIT_MS = 15_000
/** Deaths in a row, without a turn that ended, after which a session stays suspended until its next input. */
const MAX_STRIKES = 3
/** Milliseconds before the next start after a death; doubled for each further one. */
const RESTART_MS = 250
/** Milliseconds before a record that could not be written is tried again. */
const RETRY_MS = 500
/** Hand-overs of one message: the second, after one that was cut off, is marked; there is no third. */
const MAX_ATTEMPTS = 2
/** What no resume can mend. */
const FINAL: ReadonlySet<SessionReason> = new Set(['not_resumable', 'resume_mismatch', 'workspace_removed'])
/** What a person has to mend first: not tried again until the next input. */
const NEEDS_A_PERSON: ReadonlySet<SessionReason> = new Set([
  'agent_not_found',
  'agent_not_logged_in',
  'agent_not_startable',
  'workspace_moved',
])

export interface Why {
  reason: SessionReason
  detail: string
}

export interface ActorDeps extends LiveDeps {
  sessions: Table<SessionRow>
  deliveries: Table<DeliveryRow>
  agents: Agents
  events: EventLog
  /** The directory of a workspace, checked to be the registered one. @throws DomainError */
  workspaceDirectory(wsId: string): Promise<string>
  /** Puts a question of the agent to whoever answers for the workspace. */
  ask(
    asked: { session: SessionRow; ask: PermissionAsk },
    signal: AbortSignal,
  ): Promise<{ request: PermissionRequest; answered: Promise<PermissionRequest> }>
  /** False: the grant was revoked, nothing of it may be handed over any more. Decides at once. */
  mayHandOver(grantId: string): boolean
  /** Calls `start` once there is a place among the live sessions; `free` gives it back. */
  places: { wait(id: string, start: () => void): void; free(id: string): void }
  onEnded(id: string): void
  onError(message: string, error: unknown): void
}

/** A message that passed every check but those of the session. */
export interface NewMessage {
  message: string
  from: string | null
  mode: InputMode
  grantId: string | null
  label: string | null
  claim?: Claim | undefined
}

/** The turn at work. */
interface AtWork extends HandOver {
  deliveryId: string
  usage: Usage
  /** Settles once the end of the turn was dealt with; stays pending when its process ends first. */
  over: Promise<void>
}

/** One session that has not ended: its line of messages, and its process while it has one. */
export interface Actor {
  readonly row: SessionRow
  readonly isLive: boolean
  readonly waiting: number
  view(): Promise<Session>
  /** @throws DomainError `session_ended`, `buffer_full`, `steer_not_supported`, `forbidden`, `storage_unavailable` */
  accept(message: NewMessage): Promise<DeliveryRow>
  interrupt(): Promise<void>
  /** Ends it for good; resolves when its process is gone or after 15 s. @throws DomainError `storage_unavailable` */
  end(why: Why): Promise<void>
  revoke(grantId: string): Promise<void>
  /** Starts the process; the caller has taken a place for it. */
  start(): Promise<void>
  /** Has it started when messages wait. */
  wake(): void
  /** Suspends it: the server stops. */
  stop(): Promise<void>
}

/**
 * One session. Whatever happens to it happens here, one thing after another: a message is handed over only when the one
 * before it is through. Source: docs/security.md 3.2; decision 0019.
 */
export function createActor(deps: ActorDeps, initial: SessionRow, left: DeliveryRow[]): Actor {
  const { clock, sessions, deliveries, events } = deps
  const { id } = initial
  const line = createLine(left)
  const giveUp = new AbortController()
  const recorder = createRecorder({ events, clock, log: id, signal: giveUp.signal })
  /** Accepted and not yet on disk. */
  const unwritten = new Set<string>()
  let row = initial
  let state: SessionState = 'suspended'
  let isLogOpen = false
  let live: Live | undefined
  let steerable = false
  /** A hand-over that is being prepared or made: the next one waits. */
  let handing: Promise<unknown> | undefined
  let atWork: AtWork | undefined
  let asking = 0
  let isWaiting = false
  /** Settles once there is a process, or there will be none. */
  let launching: Promise<unknown> | undefined
  let isStopping = false
  let ending: Promise<void> | undefined
  let failure: Why | undefined
  let strikes = 0
  /** Settles once the end of the process was dealt with. */
  let exiting: Promise<void> | undefined

  function log(event: NewEvent): Promise<void> {
    isLogOpen = true
    return recorder.add([event])
  }
  function become(next: SessionState, why?: Why): void {
    if (state === next) return
    state = next
    void log({ type: 'session.state', state, ...why })
  }
  async function save(patch: Partial<SessionRow>): Promise<void> {
    row = { ...row, ...patch }
    await sessions.update(id, patch)
  }
  const saveLater = (patch: Partial<SessionRow>): void =>
    void save(patch).catch((error: unknown) => deps.onError(`session ${id} could not be recorded`, error))

  // What comes in

  async function accept({ claim, ...message }: NewMessage): Promise<DeliveryRow> {
    if (ending) throw gone(row)
    if (isStopping) throw new DomainError('draining', 'the server is stopping', { retryAfterSeconds: 5 })
    if (message.mode === 'steer' && live && !steerable) throw cannotSteer(row.agent)
    const isSteered = message.mode === 'steer' && atWork !== undefined
    const isDirect = !isSteered && state === 'idle' && line.size === 0 && handing === undefined
    const accepted: DeliveryRow = {
      id: claim?.recordId ?? newId('dlv', clock),
      sessionId: id,
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
    unwritten.add(accepted.id)
    const written = write(accepted, claim)
    if (isDirect) return await tracked(direct(accepted, written))
    await written.finally(pump)
    if (isSteered) return await steer(accepted)
    if (message.mode === 'interrupt') void interrupt(accepted.id)
    return accepted
  }

  async function write(accepted: DeliveryRow, claim: Claim | undefined): Promise<void> {
    try {
      await claim?.commit(accepted.id)
      if (accepted.grantId !== null && !deps.mayHandOver(accepted.grantId)) throw revoked()
      if (ending) throw gone(row)
      await deliveries.insert(accepted)
    } catch (error) {
      line.remove(accepted.id)
      throw error
    } finally {
      unwritten.delete(accepted.id)
    }
    const { id: deliveryId, grantId, label, from, message: text, mode } = accepted
    void log({ type: 'input.accepted', deliveryId, grantId, label, from, mode, text })
  }

  /** To an idle agent: that it is accepted and that it is about to be handed over are one record. */
  async function direct(accepted: DeliveryRow, written: Promise<void>): Promise<DeliveryRow> {
    become('busy')
    try {
      await written
    } catch (error) {
      if (live) become('idle')
      throw error
    }
    return await inject(accepted, true)
  }

  /** Into the turn at work; where that fails it waits like any other. */
  async function steer(accepted: DeliveryRow): Promise<DeliveryRow> {
    const injecting = await deliveries.update(accepted.id, { status: 'injecting', attempts: 1 }, { status: 'accepted' })
    if (!injecting || !live || !atWork) return accepted
    line.remove(accepted.id)
    try {
      await live.connection.steer(accepted.from === null ? accepted.message : `[${accepted.from}] ${accepted.message}`)
    } catch (error) {
      void log({ type: 'log', message: `could not steer: ${(error as Error).message}`, deliveryId: accepted.id })
      const back = await deliveries.update(accepted.id, { status: 'accepted', attempts: 0, mode: 'queue' })
      line.putBack(back ?? accepted)
      pump()
      return back ?? accepted
    }
    const at = isoTime(clock.now())
    const patch = { status: 'confirmed' as const, deliveredAt: at, confirmedAt: at, endedAt: at }
    const steered = await deliveries.update(accepted.id, { ...patch, answeredAs: 'delivered' })
    void log({ type: 'input.delivered', deliveryId: accepted.id, possibleDuplicate: false, mode: 'steer' })
    return steered ?? accepted
  }

  // What goes to the agent

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
    if (!next || ending || isStopping || handing || unwritten.has(next.id)) return
    if (state === 'suspended') wake()
    else if (state === 'idle' && live) void tracked(take(next))
  }

  async function take(next: DeliveryRow): Promise<void> {
    if (next.grantId !== null && !deps.mayHandOver(next.grantId)) return await fail(next, 'grant_revoked')
    become('busy')
    const attempts = next.attempts + 1
    const patch = { status: 'injecting' as const, attempts, possibleDuplicate: attempts > 1 }
    try {
      const injecting = await deliveries.update(next.id, patch, { status: next.status })
      if (injecting) return void (await inject(injecting, false))
      line.remove(next.id) // it was failed meanwhile
    } catch {
      await clock.sleep(RETRY_MS, giveUp.signal).catch(() => undefined) // the disk is full: it keeps its place
    }
    if (live) become('idle')
  }

  /** Resolves when the message was written whole, or its sender has waited long enough. */
  async function inject(injecting: DeliveryRow, isAwaited: boolean): Promise<DeliveryRow> {
    line.remove(injecting.id)
    if (!live) {
      // The agent died in this moment: nothing was handed over, and that is written down.
      const patch = { status: 'accepted' as const, attempts: injecting.attempts - 1 }
      const back = (await deliveries.update(injecting.id, patch).catch(() => undefined)) ?? injecting
      line.putBack(back)
      return back
    }
    const made = handOver({ deliveries, clock, log, giveUp: giveUp.signal }, live.connection, injecting, isAwaited)
    const usage: Usage = { inputTokens: 0, outputTokens: 0, costUsd: null, source: 'none' }
    const over = Promise.withResolvers<void>()
    const mine: AtWork = Object.assign(made, { deliveryId: injecting.id, usage, over: over.promise })
    atWork = mine
    made.turn.ended.then(
      (end) => void turnEnded(mine, end).then(over.resolve),
      () => undefined, // the end of the process tells
    )
    return await made.answered
  }

  async function turnEnded(mine: AtWork, end: TurnEnd): Promise<void> {
    const { id: deliveryId } = await mine.settled()
    if (atWork !== mine) return
    atWork = undefined
    strikes = 0
    const { status, text, error } = end
    void log({ type: 'turn.ended', deliveryId, status, text, ...(error && { error }), usage: mine.usage })
    saveLater({ turns: row.turns + 1, usage: add(row.usage, mine.usage), lastActivityAt: live?.lastActivityAt ?? null })
    if (live) become('idle')
    pump()
  }

  async function fail(failed: DeliveryRow, reason: string): Promise<void> {
    line.remove(failed.id)
    const patch = { status: 'failed' as const, reason, endedAt: isoTime(clock.now()) }
    await deliveries.update(failed.id, patch, { status: failed.status })
    void log({ type: 'input.failed', deliveryId: failed.id, reason })
  }

  // The process

  function wake(): void {
    if (isWaiting || live || ending || isStopping) return
    isWaiting = true
    deps.places.wait(id, () => void start())
  }

  /** Has a place, and gives it back when the process is gone. */
  async function start(): Promise<void> {
    isWaiting = true
    become('starting')
    try {
      const launched = launch()
      launching = launched.catch(() => undefined)
      live = await launched
    } catch (error) {
      isWaiting = false
      deps.places.free(id)
      return await died(whyOf(error, row))
    }
    isWaiting = false
    const { ended, connection } = live
    exiting = ended.then(exited)
    try {
      const task = { cwd: row.cwd, permissions: row.permissions, model: row.model }
      const opened = await connection.open(task, row.conversationId)
      if (row.conversationId !== null && opened.conversationId !== row.conversationId) {
        const detail = `"${row.agent}" answered in conversation ${opened.conversationId}, not in ${row.conversationId}`
        throw new NotLive('resume_mismatch', detail)
      }
      steerable = opened.canSteer
      await save({ conversationId: opened.conversationId, reason: null, detail: null })
      if (ending || isStopping) return
      become('idle')
      pump()
    } catch (error) {
      failure ??= await judge(error)
      live?.stop('canceled')
    }
  }

  async function launch(): Promise<Live> {
    const agent = deps.agents.find(row.agent)
    if (!agent) throw new NotLive('agent_not_found', `there is no agent "${row.agent}" any more`)
    const cwd = await deps.workspaceDirectory(row.wsId)
    if (cwd !== row.cwd) throw new NotLive('workspace_moved', `${row.wsId} was in another directory`)
    if (ending || isStopping) throw new NotLive('server_stopped', 'stopped before it was started')
    return await startLive(deps, { row, agent, onEvent, onRequest })
  }

  /** Why it could not be opened. A conversation that never heard anything is begun again; no other is replaced by a stranger. */
  async function judge(error: unknown): Promise<Why | undefined> {
    if (!(error instanceof AgentRefused)) return error instanceof NotLive ? whyOf(error, row) : undefined
    if (error.kind !== 'unknown_conversation') return whyOf(error, row)
    const [first] = await deliveries.list({ where: { sessionId: id }, order: 'oldest', limit: 1 })
    if (first && first.deliveredAt !== null) return { reason: 'not_resumable', detail: error.message }
    await save({ conversationId: null })
    return { reason: 'agent_exited', detail: 'its conversation was empty and is begun again' }
  }

  async function onEvent(event: NewEvent): Promise<void> {
    if (event.type === 'agent.session' || event.type === 'agent.end') return // what they say is in the record
    if (event.type === 'log' && event['code'] === 'unknown_record') deps.agents.noteUnknown(row.agent)
    if (event.type === 'usage' && atWork)
      atWork.usage = add(atWork.usage, { ...(event as unknown as Usage), source: 'agent_reported' })
    await log(event)
  }

  async function onRequest(ask: PermissionAsk, signal: AbortSignal): Promise<string | undefined> {
    asking++
    if (state === 'busy') become('waiting')
    try {
      const { request, answered } = await deps.ask({ session: row, ask }, signal)
      const { id: requestId, title, kind, toolCallId, options, expiresAt } = request
      void log({ type: 'permission.requested', requestId, title, kind, toolCallId, options, expiresAt })
      const { status, answer, answeredBy } = await answered
      void log({ type: 'permission.answered', requestId, status, answer, answeredBy })
      return status === 'canceled' ? undefined : (answer ?? undefined)
    } catch (error) {
      deps.onError(`a permission request of session ${id} could not be recorded; it was denied`, error)
      return ask.options.find(({ kind }) => kind === 'reject_once')?.id
    } finally {
      if (--asking === 0 && state === 'waiting') become('busy')
    }
  }

  async function exited(end: Why): Promise<void> {
    const cut = atWork
    const lastActivityAt = live?.lastActivityAt ?? row.lastActivityAt
    live = undefined
    atWork = undefined
    steerable = false
    await handing
    if (cut) await cutOff(cut, end)
    const why = failure ?? end
    failure = undefined
    deps.places.free(id)
    if (!ending) await died(why, lastActivityAt)
  }

  /** The message at hand: handed over once more, unless it was confirmed or cut off before. */
  async function cutOff(cut: AtWork, why: Why): Promise<void> {
    const last = await cut.settled()
    const error = { kind: 'agent', message: why.detail }
    void log({ type: 'turn.ended', deliveryId: last.id, status: 'failed', text: '', error, usage: cut.usage })
    saveLater({ usage: add(row.usage, cut.usage) })
    if (last.status === 'confirmed' || last.endedAt !== null) return
    if (last.attempts < MAX_ATTEMPTS) return line.putBack(last)
    const patch = { status: 'uncertain' as const, endedAt: isoTime(clock.now()) }
    await deliveries.update(last.id, patch).catch((error: unknown) => deps.onError(`delivery ${last.id}`, error))
    void log({ type: 'input.uncertain', deliveryId: last.id })
  }

  /** Without a process: suspended, ended when nothing can bring it back, or started again when messages wait. */
  async function died(why: Why, lastActivityAt = row.lastActivityAt): Promise<void> {
    if (ending) return
    if (FINAL.has(why.reason)) return await end(why).catch((error: unknown) => deps.onError(`session ${id}`, error))
    become('suspended', why)
    await recorder.settle(giveUp.signal)
    if (state !== 'suspended') return
    const lastSeq = await events.lastSeq(id)
    await save({ ...why, lastActivityAt, lastSeq }).catch((error: unknown) => deps.onError(`session ${id}`, error))
    if (line.size > 0 && !isStopping && !NEEDS_A_PERSON.has(why.reason) && ++strikes <= MAX_STRIKES) {
      void clock.sleep(RESTART_MS * 2 ** (strikes - 1), giveUp.signal).then(pump, () => undefined)
    } else if (state === 'suspended') await closeLog()
  }

  async function closeLog(): Promise<void> {
    isLogOpen = false
    await events.close(id)
  }

  // From outside

  /** @param by the message that takes the place of the turn: its own is left alone */
  async function interrupt(by?: string): Promise<void> {
    await handing // a message that is being handed over is a turn in a moment
    if (!atWork || !live || atWork.deliveryId === by) return
    const waited = new AbortController()
    const late = clock.sleep(CANCEL_MS, waited.signal).then(
      () => 'late' as const,
      () => undefined,
    )
    const stopped = Promise.race([atWork.over, live.ended])
    void live.connection.cancel().catch(() => undefined)
    const { ended } = live
    if ((await Promise.race([stopped, late])) === 'late') {
      live.stop('canceled')
      await ended
    }
    waited.abort()
  }

  function end(why: Why): Promise<void> {
    ending ??= finish(why).catch((error: unknown) => {
      ending = undefined
      throw error
    })
    return ending
  }

  async function finish(why: Why): Promise<void> {
    const endedAt = isoTime(clock.now())
    await sessions.update(id, { state: 'ended', ...why, endedAt })
    row = { ...row, state: 'ended', ...why, endedAt }
    const failWaiting = async (): Promise<void> => {
      for (const waiting of line.rows()) await fail(waiting, 'session_ended').catch(() => undefined) // the next start does
    }
    await failWaiting()
    await launching
    if (live) {
      const over = new AbortController()
      live.close()
      await Promise.race([exiting, clock.sleep(END_WAIT_MS, over.signal).catch(() => undefined)])
      over.abort()
      await failWaiting() // what was cut off
    }
    await recorder.settle(giveUp.signal)
    await save({ lastSeq: (await events.lastSeq(id)) + 1 }).catch(() => undefined)
    become('ended', why)
    await recorder.settle(giveUp.signal)
    await closeLog()
    deps.onEnded(id)
  }

  return {
    get row() {
      return row
    },
    get isLive() {
      return live !== undefined || state === 'starting'
    },
    get waiting() {
      return line.size
    },
    async view() {
      const { cwd: _, credentials: __, ...shown } = row
      const lastSeq = isLogOpen ? Math.max(row.lastSeq, await events.lastSeq(id)) : row.lastSeq
      const lastActivityAt = live?.lastActivityAt ?? row.lastActivityAt
      return {
        ...shown,
        state: ending && row.state === 'ended' ? 'ended' : state,
        steerable,
        waiting: line.size,
        lastActivityAt,
        lastSeq,
      }
    },
    accept,
    interrupt: () => interrupt(),
    end,
    async revoke(grantId) {
      const failed = line.rows().filter((waiting) => waiting.grantId === grantId && !unwritten.has(waiting.id))
      await Promise.all(failed.map((waiting) => fail(waiting, 'grant_revoked').catch(() => undefined)))
      await handing // what was begun before is through before the answer
    },
    start,
    wake: pump,
    async stop() {
      isStopping = true
      await launching
      live?.stop('server_stopped')
      await exiting
      await recorder.settle(AbortSignal.timeout(1_000))
      giveUp.abort()
    },
  }
}

export const gone = (row: Pick<SessionRow, 'id' | 'wsId' | 'endedAt'>): DomainError =>
  new DomainError('session_ended', `${row.id} ended${row.endedAt === null ? '' : ` at ${row.endedAt}`}`, {
    hint: `postern session start -w ${row.wsId}`,
  })

const revoked = (): DomainError => new DomainError('forbidden', 'the grant was revoked')

const cannotSteer = (agent: string): DomainError =>
  new DomainError('steer_not_supported', `"${agent}" takes no message in the middle of a turn`, {
    hint: 'send it with delivery "queue", or "interrupt"',
  })

function add(a: Usage, b: Usage): Usage {
  return {
    inputTokens: a.inputTokens + b.inputTokens,
    outputTokens: a.outputTokens + b.outputTokens,
    costUsd: a.costUsd === null && b.costUsd === null ? null : (a.costUsd ?? 0) + (b.costUsd ?? 0),
    source: a.source === 'agent_reported' || b.source === 'agent_reported' ? 'agent_reported' : 'none',
  }
}

function whyOf(error: unknown, row: SessionRow): Why {
  if (error instanceof NotLive) return { reason: error.reason, detail: error.message }
  if (error instanceof AgentRefused) {
    return { reason: error.kind === 'auth' ? 'agent_not_logged_in' : 'agent_error', detail: error.message }
  }
  if (error instanceof DomainError) {
    const removed = error.code === 'workspace_not_found'
    return { reason: removed ? 'workspace_removed' : 'workspace_moved', detail: error.message }
  }
  return { reason: 'agent_error', detail: `session ${row.id} could not be started` }
}
