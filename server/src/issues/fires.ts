import { isoTime, type Clock } from '../clock.ts'
import { DomainError, ERRORS } from '../errors.ts'
import { isTerminal, type CreateRun, type Run, type Trigger } from '../model.ts'
import type { FireRow } from '../model/issues.ts'
import type { Runs } from '../runs/types.ts'
import type { Table } from '../store/table.ts'
import type { LoadedIssue } from './library.ts'
import type { IssueRef } from './types.ts'

/** Milliseconds between two tries while every place is taken, and while something has to be put right first. */
export const CAPACITY_RETRY_MS = 2_000
export const REFUSED_RETRY_MS = 60_000
/** Milliseconds of one wait for the end of a run, and before asking again for one that nobody attends to. */
const WAIT_MS = 600_000
const STRAY_MS = 15_000
const PAGE = 200

/** A fire that brought nothing. */
export interface FireFailure extends IssueRef {
  dueAt: string
  /** Null: no run could be started. */
  taskId: string | null
  /** The reason or status of the run, `no_report`, or the code of the refusal. */
  reason: string
  detail: string
}

/** What became of a due time. */
export type Verdict =
  | { kind: 'fired'; run: Run }
  /** Let go, by a rule that the issue states. */
  | { kind: 'miss'; code: string; detail: string }
  /** It stays due, and is tried again after `retryMs`, or when `over` resolves. */
  | { kind: 'wait'; code: string; detail: string; retryMs: number; over?: Promise<void> }

export interface Fires {
  /** The last run that was accepted for a due time from `from` to `until`, both inclusive, in ms; undefined: none was. */
  find(ref: IssueRef, from: number, until: number): Promise<Run | undefined>
  /** Starts the run of a due time that has none. One at a time for each issue. Never throws for a refusal. */
  fire(loaded: LoadedIssue, dueAt: number): Promise<Verdict>
  /** Waits for the end of the last fire of this row, and does what follows from it. */
  attend(ref: IssueRef, row: FireRow): void
  /** Resolves when nothing is attended to any more. Call after the signal has aborted. */
  settled(): Promise<void>
}

/** The request that a run of this issue is. */
export function requestOf(
  { wsId, issueId, issue }: LoadedIssue,
  dueAt?: string,
): {
  wsId: string
  body: CreateRun
  trigger: Trigger
} {
  const { body: prompt, agent, timeoutMs } = issue
  const trigger: Trigger = {
    kind: 'issue',
    grantId: null,
    issueId,
    parentTaskId: null,
    ...(dueAt !== undefined && { dueAt }),
  }
  const body = { prompt, ...(agent !== undefined && { agent }), ...(timeoutMs !== undefined && { timeoutMs }) }
  return { wsId, body, trigger }
}

/** See `Fires`. `signal` ends every wait. */
export function createFires(deps: {
  runs: Runs
  rows: Table<FireRow>
  clock: Clock
  signal: AbortSignal
  /** A scheduled `at` has succeeded: the issue is done. */
  markDone(ref: IssueRef, dueAt: string): Promise<void>
  reportFailure(failure: FireFailure): Promise<void>
  onError(message: string, error: unknown): void
}): Fires {
  const { runs, rows, clock, signal, markDone, reportFailure, onError } = deps
  const attended = new Map<string, Promise<void>>()
  /** Fires that were refused and told of: once is enough. */
  const told = new Set<string>()

  async function atWork({ wsId, issueId }: IssueRef): Promise<Run | undefined> {
    for (const status of ['running', 'queued'] as const) {
      for (let cursor: string | undefined; ;) {
        const page = await runs.list({ wsId, status, limit: PAGE, ...(cursor !== undefined && { cursor }) })
        const found = page.tasks.find(({ trigger }) => trigger.issueId === issueId)
        if (found) return found
        if (page.nextCursor === null) break
        cursor = page.nextCursor
      }
    }
    return undefined
  }

  async function refused(loaded: LoadedIssue, dueAt: number, { code, message }: DomainError): Promise<Verdict> {
    // A place comes free by itself, in a moment; a budget does at midnight.
    if (ERRORS[code].retryable && code !== 'budget_reached')
      return { kind: 'wait', code, detail: message, retryMs: CAPACITY_RETRY_MS }
    const { wsId, issueId } = loaded
    const id = `${wsId}/${issueId}/${dueAt}`
    if (!told.has(id)) {
      await reportFailure({ wsId, issueId, dueAt: isoTime(dueAt), taskId: null, reason: code, detail: message })
      told.add(id)
    }
    return { kind: 'wait', code, detail: message, retryMs: REFUSED_RETRY_MS }
  }

  async function endOf(taskId: string): Promise<Run> {
    for (;;) {
      const asked = clock.monotonic()
      const run = await runs.wait(taskId, WAIT_MS, signal)
      signal.throwIfAborted()
      if (isTerminal(run.status)) return run
      if (clock.monotonic() - asked < STRAY_MS) await clock.sleep(STRAY_MS, signal)
    }
  }

  async function follow({ wsId, issueId }: IssueRef, row: FireRow): Promise<void> {
    const fire = row.lastFire
    if (!fire) return
    let end: Pick<Run, 'status' | 'reason' | 'detail' | 'outcome'>
    try {
      end = await endOf(fire.taskId)
    } catch (error) {
      if (!(error instanceof DomainError) || error.code !== 'run_not_found') throw error
      end = { status: 'interrupted', reason: 'run_not_found', detail: error.message, outcome: null }
    }
    const { status, reason, detail, outcome } = end
    if (status === 'succeeded') await markDone({ wsId, issueId }, fire.dueAt)
    const isSilentFailure = status === 'succeeded' && outcome === 'no_report'
    if (isSilentFailure || (status !== 'succeeded' && status !== 'canceled')) {
      await reportFailure({
        wsId,
        issueId,
        dueAt: fire.dueAt,
        taskId: fire.taskId,
        reason: isSilentFailure ? 'no_report' : (reason ?? status),
        detail: isSilentFailure ? 'it ended without a report' : (detail ?? status),
      })
    }
    // Last, so that a server that died before does all of it again.
    await rows.update(row.id, { lastFire: { ...fire, status, reason, outcome } }, { lastFire: fire })
  }

  async function attendTo(ref: IssueRef, row: FireRow): Promise<void> {
    for (;;) {
      try {
        return await follow(ref, row)
      } catch (error) {
        if (signal.aborted) return
        // Lives on: a disk that is full now has room later.
        onError(`what follows from the last fire of ${row.id} could not be done and is tried again`, error)
        await clock.sleep(REFUSED_RETRY_MS, signal).catch(() => undefined)
      }
    }
  }

  return {
    find: (ref, from, until) => runs.scheduled(ref, isoTime(from), isoTime(until)),

    async fire(loaded, dueAt) {
      const busy = await atWork(loaded)
      if (busy) {
        const detail = `${busy.taskId} is ${busy.status}`
        if (loaded.issue.overlap === 'skip') return { kind: 'miss', code: 'overlap', detail }
        const over = endOf(busy.taskId).then(
          () => undefined,
          () => undefined,
        )
        return { kind: 'wait', code: 'overlap', detail, retryMs: REFUSED_RETRY_MS, over }
      }
      try {
        return { kind: 'fired', run: (await runs.start(requestOf(loaded, isoTime(dueAt)))).run }
      } catch (error) {
        if (error instanceof DomainError) return await refused(loaded, dueAt, error)
        throw error
      }
    },

    attend(ref, row) {
      const { lastFire } = row
      if (!lastFire || lastFire.status !== null || attended.has(lastFire.taskId) || signal.aborted) return
      const work = attendTo(ref, row).finally(() => attended.delete(lastFire.taskId))
      attended.set(lastFire.taskId, work)
    },

    async settled() {
      await Promise.all(attended.values())
    },
  }
}
