import { chooseAgent } from '../agents/choose.ts'
import type { Agents } from '../agents/types.ts'
import type { Budgets } from '../budgets/types.ts'
import { newId, type Clock } from '../clock.ts'
import type { Dispatch, Place } from '../dispatch/dispatch.ts'
import { DomainError } from '../errors.ts'
import type { EventLog } from '../events/types.ts'
import {
  isTerminal,
  type Capacity,
  type CreateRun,
  type IdempotencyScope,
  type Run,
  type RunRow,
  type Trigger,
} from '../model.ts'
import { fingerprintOf, once, type Claim, type Claims } from '../store/claims.ts'
import type { Disk } from '../store/disk.ts'
import type { Table } from '../store/table.ts'
import type { Workspaces } from '../workspaces/types.ts'
import { API_TRIGGER, checkResumable, newRow, whyNotResumable } from './admission.ts'
import type { EndRun } from './end.ts'
import { createFamily } from './family.ts'
import { createInside, type CleanerFor, type News } from './inside.ts'
import { createLauncher, type Admitted } from './launch.ts'
import { createRunReader } from './reader.ts'
import type { Runs, StartRun, Started } from './types.ts'
import { asAccepted, keepText, PROMPT_FILE, toRun } from './view.ts'
import type { Control } from './attend.ts'
import type { createWorker } from './work.ts'

/** Milliseconds that a cancel waits for the end of the run. */
export const CANCEL_WAIT_MS = 15_000
/** Milliseconds that stopping the server waits for its runs. */
const STOP_WAIT_MS = 6_500
/** Seconds of `Retry-After` at capacity, within which a guess from recent runs is kept. */
const RETRY_AFTER_SECONDS = { least: 1, most: 60, unknown: 5 }

export interface RunsDeps {
  runs: Table<RunRow>
  claims: Claims
  workspaces: Workspaces
  agents: Agents
  events: EventLog
  dispatch: Dispatch
  budgets: Budgets
  disk: Disk
  clock: Clock
  worker: ReturnType<typeof createWorker>
  endRun: EndRun
  runDirectory: (taskId: string) => string
  /** Ids of the Inbox entries that a run pushed since a moment, oldest first. */
  pushedBy(taskId: string, since: string): Promise<string[]>
  /** Hands news from a run to the session that started it. */
  reportToSession?: (sessionId: string, news: News) => Promise<void>
  cleanerFor: CleanerFor
  onError(message: string, error: unknown): void
}

interface Active {
  control: Control
  wsId: string
  ended: Promise<RunRow>
}

/** See `Runs`. `adopt` puts queued runs of an earlier server back in the queue, and tells the ends that it had not told. */
export function createRuns(deps: RunsDeps): Runs & {
  adopt(queued: RunRow[]): Promise<void>
  activeIn(wsId: string): number
  isActive(taskId: string): boolean
  /** Cancels the runs that a run or session started, and what those started; resolves when they have ended. */
  cancelStartedBy(id: string): Promise<void>
} {
  const { runs, claims, workspaces, agents, events, dispatch, disk, clock, runDirectory } = deps
  const active = new Map<string, Active>()
  let stopping = false
  const canResume = (row: RunRow): boolean => {
    const agent = agents.find(row.agent)
    return agent !== undefined && isTerminal(row.status) && whyNotResumable(row, agent) === undefined
  }
  const live = (taskId: string) => active.get(taskId)?.control.live
  const { find, view, ...reading } = createRunReader({
    runs,
    events,
    runDirectory,
    live,
    canResume,
    capacity,
    pushedBy: deps.pushedBy,
  })
  const family = createFamily({ runs, active, now: () => clock.now() })
  const { reportToSession, onError } = deps
  const { tellEnd, stopTelling, ...inside } = createInside({
    runs,
    active,
    find,
    view,
    cleanerFor: deps.cleanerFor,
    reportToSession,
    clock,
    onError,
  })
  const launcher = createLauncher({
    runs,
    events,
    workspaces,
    agents,
    dispatch,
    budgets: deps.budgets,
    clock,
    worker: deps.worker,
    endRun: deps.endRun,
    tellEnd,
    onError,
  })

  /** It is among those at work until its end is recorded. */
  function launch(admitted: Admitted, control: Control, place: Place | Promise<Place>): Promise<RunRow> {
    return launcher.launch(admitted, control, place).finally(() => active.delete(admitted.row.id))
  }

  async function start(request: StartRun, retryOf: string | null): Promise<Started> {
    const { wsId, idempotency, sent, trigger = API_TRIGGER } = request
    if (stopping) throw notRecorded('the server is stopping')
    const body = await cleaned(request.body, trigger)
    const claim = idempotency && claimOf(idempotency, sent ?? { wsId, body, retryOf })
    let release = (): void => claim?.release()
    try {
      const known = claim?.recordId === undefined ? undefined : await runs.get(claim.recordId)
      if (known) return { run: await replayOf(known, body), replayed: true }

      const workspace = await workspaces.get(wsId)
      const continued = body.resume === undefined ? undefined : await runs.get(body.resume)
      const agent = chooseAgent(agents, workspace, body, 'headless', continued?.agent)
      if (body.resume !== undefined)
        checkResumable(continued, { taskId: body.resume, wsId, agent, isolation: body.isolation })
      const ancestors = await family.ancestors(trigger)
      await deps.budgets.ready(wsId, workspace.budget)
      const id = claim?.recordId ?? newId('headless', clock)
      const candidate = { id, wsId, workspaceLimit: workspace.maxRuns }

      // From here to the registration nothing awaits: a place and a conversation are found and taken in one step.
      checkConversationFree(body.resume, continued)
      family.checkParent(trigger)
      const taken = deps.budgets.take(wsId, workspace.budget)
      const place = dispatch.take(candidate)
      const later = Promise.withResolvers<Place>()
      const accepted = place !== undefined || (body.whenBusy === 'queue' && dispatch.queue(candidate, later.resolve))
      if (!accepted) {
        taken.giveBack()
        throw capacityReached(body)
      }
      const control = newControl(continued?.conversationId ?? null, ancestors)
      const done = Promise.withResolvers<RunRow>()
      done.promise.catch(() => undefined) // a server that gave up: nobody may be waiting
      active.set(id, { control, wsId, ended: done.promise })
      try {
        const promptInRow = await keepText(disk, runDirectory(id), PROMPT_FILE, body.prompt)
        const acceptedAs = place ? 'running' : 'queued'
        const row = newRow({ id, wsId, agent, body, continued, promptInRow, acceptedAs, trigger, retryOf, clock })
        if (!(await once(claim, id, () => runs.insert(row)))) throw new Twin()
        const admitted = { row, prompt: body.prompt, conversationId: control.conversationId }
        void launch(admitted, control, place ?? later.promise).then(done.resolve, done.reject)
        if (body.wait) {
          // In flight until it ends: a second request with the key is told so.
          const whenEnded = release
          release = () => undefined
          void done.promise.then(whenEnded, whenEnded)
        }
        return {
          // With the prompt at hand: nothing is read that could fail now that it is at work.
          run: await toRun({ ...row, prompt: body.prompt }, runDirectory(id), { live: undefined, canResume: false }),
          replayed: false,
        }
      } catch (error) {
        active.delete(id)
        taken.giveBack()
        place?.free()
        if (!place && !dispatch.leave(id)) void later.promise.then((given) => given.free())
        done.reject(error)
        if (error instanceof Twin) return { run: await replayOf(await find(id), body), replayed: true }
        throw notRecorded('the run could not be written to disk', error)
      }
    } finally {
      release()
    }
  }

  const claimOf = ({ caller, method, path, key }: IdempotencyScope, sent: unknown): Claim =>
    claims.begin([caller, method, path, key], fingerprintOf(sent))

  /** What an agent asks may hold what it was given in secret, and is kept and shown like all it says. */
  async function cleaned(body: CreateRun, { parentTaskId, parentSessionId }: Trigger): Promise<CreateRun> {
    if (parentTaskId === null && parentSessionId === undefined) return body
    const { value } = await deps.cleanerFor({ taskId: parentTaskId, sessionId: parentSessionId ?? null })
    return value(body)
  }

  /** The answer that the first request with the key got; of one that waited, the run as it ended. */
  async function replayOf(row: RunRow, { wait }: Pick<CreateRun, 'wait'>): Promise<Run> {
    if (wait) return await view(row)
    return await toRun(asAccepted(row), runDirectory(row.id), { live: undefined, canResume: false })
  }

  function checkConversationFree(resume: string | undefined, continued: RunRow | undefined): void {
    if (resume === undefined) return
    const conversation = continued?.conversationId ?? null
    for (const [taskId, { control }] of active) {
      if (taskId !== resume && (conversation === null || control.conversationId !== conversation)) continue
      throw new DomainError('resume_busy', `the conversation of ${resume} is at work in ${taskId}`, {
        retryAfterSeconds: RETRY_AFTER_SECONDS.unknown,
        hint: `postern runs watch ${taskId}`,
      })
    }
  }

  function capacityReached(body: CreateRun): DomainError {
    const { running, queued, limit, queueLimit } = dispatch.counts()
    const full =
      body.whenBusy === 'queue' ? `; ${queued} of ${queueLimit} places in the queue are taken` : `, ${queued} queued`
    const recentDurationMs = launcher.recentDurationMs()
    const seconds =
      recentDurationMs === undefined ? RETRY_AFTER_SECONDS.unknown : Math.ceil(recentDurationMs / limit / 1000)
    const retryAfterSeconds = Math.min(RETRY_AFTER_SECONDS.most, Math.max(RETRY_AFTER_SECONDS.least, seconds))
    const where =
      running < limit
        ? `${running} of ${limit} runs are active, and the workspace has its own limit`
        : `${running} of ${limit} runs are active`
    return new DomainError('capacity_reached', `${where}${full}`, {
      retryAfterSeconds,
      hint: `retry after ${retryAfterSeconds} s${body.whenBusy === 'queue' ? '' : ', or send whenBusy: "queue"'}`,
    })
  }

  async function wait(taskId: string, waitMs: number, signal?: AbortSignal): Promise<Run> {
    const row = await find(taskId)
    const running = active.get(taskId)
    if (!isTerminal(row.status) && running) {
      const over = new AbortController()
      const limits = signal ? AbortSignal.any([signal, over.signal]) : over.signal
      await Promise.race([running.ended.catch(() => undefined), clock.sleep(waitMs, limits).catch(() => undefined)])
      over.abort()
    }
    return await view(await find(taskId))
  }

  /** Cancels runs at work; resolves when they have ended, or after 15 s. */
  async function endAll(taskIds: string[]): Promise<void> {
    const mine = taskIds.flatMap((taskId) => active.get(taskId) ?? [])
    for (const { control } of mine) control.abort.abort('canceled')
    const over = new AbortController()
    const ended = Promise.allSettled(mine.map(({ ended }) => ended))
    await Promise.race([ended, clock.sleep(CANCEL_WAIT_MS, over.signal).catch(() => undefined)])
    over.abort()
  }

  return {
    ...reading,
    ...inside,
    async start(request) {
      const started = await start(request, null)
      return started
    },
    async replay(idempotency, sent) {
      const claim = claimOf(idempotency, sent)
      claim.release()
      const known = claim.recordId === undefined ? undefined : await runs.get(claim.recordId)
      return known && { run: await replayOf(known, {}), replayed: true }
    },
    wait,
    async cancel(taskId) {
      await find(taskId)
      await endAll([taskId, ...family.descendants(taskId)])
      return await view(await find(taskId))
    },
    cancelStartedBy: (id) => endAll(family.descendants(id)),
    async children(taskId) {
      const rows = await family.children(await find(taskId))
      return await Promise.all(rows.map(view))
    },
    async retry(taskId, idempotency) {
      const row = await find(taskId)
      if (!isTerminal(row.status)) {
        throw new DomainError('not_retryable', `${taskId} is ${row.status}; only a run that has ended can be retried`, {
          hint: `postern runs cancel ${taskId}`,
        })
      }
      const { prompt, agent, timeoutMs, idleTimeoutMs, model, isolation, resume, metadata } = await view(row)
      if (prompt === '') throw new DomainError('log_retired', `the prompt of ${taskId} was removed after its time`)
      const body: CreateRun = {
        prompt,
        agent,
        timeoutMs,
        isolation,
        metadata,
        ...(idleTimeoutMs !== null && { idleTimeoutMs }),
        ...(model !== null && { model }),
        ...(resume !== null && { resume }),
      }
      return await start({ wsId: row.wsId, body, ...(idempotency && { idempotency }) }, taskId)
    },
    capacity,
    endedCounts: launcher.endedCounts,
    activeIn: (wsId) => [...active.values()].filter((each) => each.wsId === wsId).length,
    isActive: (taskId) => active.has(taskId),
    async adopt(queued) {
      for (const row of await runs.list({ where: { untold: true } })) if (isTerminal(row.status)) void tellEnd(row)
      for (const row of queued) {
        const prompt = (await view(row)).prompt
        const workspace = await workspaces.get(row.wsId).catch(() => undefined)
        const continued = row.resume ? await runs.get(row.resume) : undefined
        const ancestors = await family.ancestors(row.trigger)
        const control = newControl(continued?.conversationId ?? null, ancestors)
        if (await family.isOrphan(ancestors)) control.abort.abort('canceled')
        const later = Promise.withResolvers<Place>()
        dispatch.queue({ id: row.id, wsId: row.wsId, workspaceLimit: workspace?.maxRuns ?? null }, later.resolve, true)
        const ended = launch({ row, prompt, conversationId: control.conversationId }, control, later.promise)
        active.set(row.id, { control, wsId: row.wsId, ended })
        ended.catch(() => undefined)
      }
    },
    async stop() {
      stopping = true
      stopTelling()
      const all = [...active.values()]
      for (const { control } of all) control.abort.abort('server_stopped')
      const over = new AbortController()
      const everyEnd = Promise.allSettled(all.map(({ ended }) => ended))
      await Promise.race([everyEnd, clock.sleep(STOP_WAIT_MS, over.signal).catch(() => undefined)])
      over.abort()
      for (const { control } of all) control.giveUp.abort()
    },
  }

  function capacity(): Capacity {
    const { running, queued, limit } = dispatch.counts()
    return { running, queued, limit }
  }
}

/** The run of this claim exists already: another request finished it first. */
class Twin extends Error {}

function newControl(conversationId: string | null, ancestors: string[]): Control {
  const live = { lastActivityAt: null }
  return {
    abort: new AbortController(),
    giveUp: new AbortController(),
    live,
    conversationId,
    ancestors,
    note: undefined,
  }
}

function notRecorded(detail: string, cause?: unknown): DomainError {
  return new DomainError('run_not_recorded', `${detail}; nothing was started`, { retryAfterSeconds: 1, cause })
}
