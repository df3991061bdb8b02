import type { Agents } from '../agents/types.ts'
import type { PermissionAsk } from '../agents/live.ts'
import { isoTime } from '../clock.ts'
import { DomainError } from '../errors.ts'
import type { Budgets } from '../budgets/types.ts'
import { addToDay, dayOf, spentOf } from '../model/budget.ts'
import type { EventLog } from '../events/types.ts'
import type { NewEvent, Usage } from '../model.ts'
import {
  addUsage,
  shownOf,
  type DeliveryRow,
  type PermissionRequest,
  type Session,
  type SessionRow,
  type SessionState,
} from '../model/sessions.ts'
import type { Table } from '../store/table.ts'
import { createSessionLog } from './log.ts'
import { NotLive, startLive, type Live, type LiveDeps } from './live.ts'
import { hasHeard, isExpected, isUnknownConversation, msUntilResumable, openConversation } from './opening.ts'
import { createMailbox, type NewMessage } from './mailbox.ts'
import { FINAL, gone, NEEDS_A_PERSON, whyOf, type Why } from './why.ts'

/** Milliseconds that an agent may take to end a turn it was asked to cancel; then its process is ended. */
export const CANCEL_MS = 10_000
/** Milliseconds that ending a session waits for its process. */
const END_WAIT_MS = 15_000
/** Milliseconds that a server which stops waits for the log of a session. */
const STOP_LOG_MS = 1_000
/** Deaths in a row, without a turn that ended, after which a session stays suspended until its next input. */
const MAX_STRIKES = 3
/** Milliseconds before the next start after a death; doubled for each further one. */
const RESTART_MS = 250
export interface ActorDeps extends LiveDeps {
  sessions: Table<SessionRow>
  deliveries: Table<DeliveryRow>
  agents: Agents
  budgets: Budgets
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
  /** The session has ended for good. */
  onEnded(id: string): void
  onError(message: string, error: unknown): void
}

/** One session that has not ended: its line of messages, and its process while it has one. */
export interface Actor {
  readonly row: SessionRow
  readonly isLive: boolean
  readonly waiting: number
  view(): Promise<Session>
  /** @throws DomainError `session_ended`, `buffer_full`, `steer_not_supported`, `forbidden`, `storage_unavailable` */
  accept(message: NewMessage): Promise<DeliveryRow>
  /** Tells the log of the message that the session is opened with. */
  announce(first: DeliveryRow): void
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
  const giveUp = new AbortController()
  const log = createSessionLog({ sessionId: id, events, clock, giveUp: giveUp.signal, onError: deps.onError })
  let row = initial
  let state: SessionState = 'suspended'
  let live: Live | undefined
  let steerable: boolean | undefined
  let asking = 0
  let isWaiting = false
  /** Aborted when the session ends for good. */
  const over = new AbortController()
  /** Settles once there is a process, or there will be none. */
  let launching: Promise<unknown> | undefined
  let isStopping = false
  let ending: Promise<void> | undefined
  let failure: Why | undefined
  let strikes = 0
  /** Settles once the end of the process was dealt with. */
  let exiting: Promise<void> | undefined

  function become(next: SessionState, why?: Why): void {
    if (state === next) return
    state = next
    void log.add({ type: 'session.state', state, ...why })
  }
  async function save(patch: Partial<SessionRow>): Promise<void> {
    row = { ...row, ...patch }
    await sessions.update(id, patch)
  }
  const saveLater = (patch: Partial<SessionRow>): void =>
    void save(patch).catch((error: unknown) => deps.onError(`session ${id} could not be recorded`, error))

  const mailbox = createMailbox(
    {
      sessionId: id,
      deliveries,
      clock,
      log: log.add,
      giveUp: giveUp.signal,
      mayHandOver: deps.mayHandOver,
      onError: deps.onError,
    },
    {
      agent: row.agent,
      get connection() {
        return live?.connection
      },
      get canSteer() {
        return steerable
      },
      get isIdle() {
        return state === 'idle' && live !== undefined
      },
      assertOpen() {
        if (ending) throw gone(row)
        if (isStopping) throw new DomainError('draining', 'the server is stopping', { retryAfterSeconds: 5 })
      },
      isOpen: () => ending === undefined && !isStopping,
      begin: () => become('busy'),
      rest,
      wake,
      turnEnded(usage) {
        strikes = 0
        const lastActivityAt = live?.lastActivityAt ?? null
        saveLater({ turns: row.turns + 1, ...counted(usage), lastActivityAt })
      },
      interrupt: (by) => void interrupt(by),
    },
    left,
  )

  /** The row with what a turn used, which counts for the day whatever became of the turn. */
  function counted(usage: Usage): Pick<SessionRow, 'usage' | 'spent'> {
    const spent = spentOf(usage)
    deps.budgets.spend(row.wsId, spent)
    return { usage: addUsage(row.usage, usage), spent: addToDay(row.spent, spent, dayOf(clock.now())) }
  }

  function rest(): void {
    if (live) become('idle')
  }

  // The process

  function wake(): void {
    if (state !== 'suspended' || isWaiting || live || ending || isStopping) return
    isWaiting = true
    void untilResumable().then(
      () => deps.places.wait(id, () => void start()),
      () => undefined,
    )
  }

  /** Rejects when it will not be continued. */
  async function untilResumable(): Promise<void> {
    const waitMs = msUntilResumable(row, deps.agents.find(row.agent)?.live, clock.now())
    if (waitMs <= 0) return
    const seconds = Math.ceil(waitMs / 1000)
    const message = `"${row.agent}" can continue this conversation in ${seconds} s: messages wait`
    void log.add({ type: 'log', message })
    await clock.sleep(waitMs, AbortSignal.any([giveUp.signal, over.signal]))
  }

  /** Has a place, and gives it back when the process is gone. */
  async function start(): Promise<void> {
    isWaiting = !ending
    if (ending) return deps.places.free(id)
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
    const entering = enter(live)
    exiting = live.ended.then((end) => entering.then(() => exited(end)))
    await entering
  }

  /** Opens its conversation, the same one as before. Never rejects. */
  async function enter({ connection, stop }: Live): Promise<void> {
    try {
      const opened = await openConversation(clock, connection, row, mailbox.sought())
      steerable = opened.canSteer
      const { conversationId } = opened
      const isNew = row.conversationId === null
      const begun = isNew ? { conversationSince: isoTime(clock.now()) } : {}
      await save({ conversationId, ...begun, reason: null, detail: null })
      await mailbox.heard(opened.heard)
      if (ending || isStopping) return
      become('idle')
      mailbox.pump()
    } catch (error) {
      failure ??= await judge(error).catch(() => undefined) // the disk is full: the next start finds the same
      stop('canceled')
    }
  }

  async function launch(): Promise<Live> {
    const agent = deps.agents.find(row.agent)
    if (!agent) throw new NotLive('agent_not_found', `there is no agent "${row.agent}" any more`)
    const cwd = await deps.workspaceDirectory(row.wsId)
    if (cwd !== row.cwd) throw new NotLive('workspace_moved', `${row.wsId} was in another directory`)
    await log.open()
    if (ending || isStopping) throw new NotLive('server_stopped', 'stopped before it was started')
    return await startLive(deps, { row, agent, onEvent, onRequest })
  }

  /** Why it could not be opened. A conversation that never heard anything is begun again; no other is replaced by a stranger. */
  async function judge(error: unknown): Promise<Why | undefined> {
    if (!isUnknownConversation(error)) return isExpected(error) ? whyOf(error, row) : undefined
    if (await hasHeard(deliveries, row)) return { reason: 'not_resumable', detail: error.message }
    await save({ conversationId: null })
    return { reason: 'agent_exited', detail: 'its conversation was empty and is begun again' }
  }

  async function onEvent(event: NewEvent): Promise<void> {
    if (event.type === 'agent.session' || event.type === 'agent.end') return // what they say is in the record
    if (event.type === 'log' && event['code'] === 'unknown_record') deps.agents.noteUnknown(row.agent)
    const { atWork } = mailbox
    if (event.type === 'usage' && atWork)
      atWork.usage = addUsage(atWork.usage, { ...(event as unknown as Usage), source: 'agent_reported' })
    await log.add(event)
  }

  async function onRequest(ask: PermissionAsk, signal: AbortSignal): Promise<string | undefined> {
    asking++
    try {
      const { request, answered } = await deps.ask({ session: row, ask }, signal)
      if (state === 'busy') become('waiting')
      const { id: requestId, title, kind, toolCallId, options, expiresAt } = request
      void log.add({ type: 'permission.requested', requestId, title, kind, toolCallId, options, expiresAt })
      const { status, answer, answeredBy } = await answered
      void log.add({ type: 'permission.answered', requestId, status, answer, answeredBy })
      return status === 'canceled' ? undefined : (answer ?? undefined)
    } catch (error) {
      deps.onError(`a permission request of session ${id} could not be recorded; it was denied`, error)
      return ask.options.find(({ kind }) => kind === 'reject_once')?.id
    } finally {
      if (--asking === 0 && state === 'waiting') become('busy')
    }
  }

  async function exited(end: Why): Promise<void> {
    const lastActivityAt = live?.lastActivityAt ?? row.lastActivityAt
    live = undefined
    steerable = undefined
    const usage = await mailbox.cutOff(end.detail)
    if (usage) saveLater(counted(usage))
    const why = failure ?? end
    failure = undefined
    deps.places.free(id)
    if (!ending) await died(why, lastActivityAt)
  }

  /** Without a process: suspended, ended when nothing can bring it back, or started again when messages wait. */
  async function died(why: Why, lastActivityAt = row.lastActivityAt): Promise<void> {
    if (ending) return
    if (FINAL.has(why.reason)) return await end(why).catch((error: unknown) => deps.onError(`session ${id}`, error))
    become('suspended', why)
    await log.settle()
    if (state !== 'suspended') return
    await save({ ...why, lastActivityAt, lastSeq: await log.lastSeq(row.lastSeq) }).catch((error: unknown) =>
      deps.onError(`session ${id}`, error),
    )
    if (mailbox.size > 0 && !isStopping && !NEEDS_A_PERSON.has(why.reason) && ++strikes <= MAX_STRIKES) {
      void clock.sleep(RESTART_MS * 2 ** (strikes - 1), giveUp.signal).then(mailbox.pump, () => undefined)
    } else if (state === 'suspended') await log.close()
  }

  // From outside

  /** @param by the message that takes the place of the turn: its own is left alone */
  async function interrupt(by?: string): Promise<void> {
    await mailbox.handing // a message that is being handed over is a turn in a moment
    const { atWork } = mailbox
    if (!atWork || !live || atWork.deliveryId === by) return
    atWork.isInterrupted = true
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
      mailbox.pump()
      throw error
    })
    return ending
  }

  async function finish(why: Why): Promise<void> {
    const endedAt = isoTime(clock.now())
    await sessions.update(id, { state: 'ended', ...why, endedAt, isEnding: true })
    row = { ...row, state: 'ended', ...why, endedAt }
    over.abort()
    if (isWaiting && state === 'suspended') deps.places.free(id)
    await mailbox.failAll('session_ended')
    await launching
    if (live) {
      const waited = new AbortController()
      live.close()
      await Promise.race([exiting, clock.sleep(END_WAIT_MS, waited.signal).catch(() => undefined)])
      waited.abort()
      await mailbox.failAll('session_ended') // what was cut off
    }
    become('ended', why)
    const isEnding = !(await log.settle())
    await save({ lastSeq: await log.lastSeq(row.lastSeq), isEnding }).catch(() => undefined)
    await log.close()
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
      return mailbox.size
    },
    async view() {
      const lastActivityAt = live?.lastActivityAt ?? row.lastActivityAt
      return {
        ...shownOf(row),
        state: ending && row.state === 'ended' ? 'ended' : state,
        steerable: steerable ?? false,
        waiting: mailbox.size,
        lastActivityAt,
        lastSeq: await log.lastSeq(row.lastSeq),
      }
    },
    accept: mailbox.accept,
    announce: mailbox.announce,
    interrupt: () => interrupt(),
    end,
    revoke: mailbox.revoke,
    start,
    wake: mailbox.pump,
    async stop() {
      isStopping = true
      await launching
      live?.stop('server_stopped')
      await exiting
      await log.settle(STOP_LOG_MS)
      giveUp.abort()
    },
  }
}
