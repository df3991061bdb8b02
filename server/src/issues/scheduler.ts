import { isoTime, type Clock } from '../clock.ts'
import { ISSUE_FOLDER, type FireRow, type IssueMiss, type When } from '../model/issues.ts'
import type { Table } from '../store/table.ts'
import type { Fires, Verdict } from './fires.ts'
import { fileOf } from './folder.ts'
import { activeWhen } from './health.ts'
import type { LoadedIssue, Shelf } from './library.ts'
import { latestDue, nextDue } from './schedule.ts'
import type { IssueRef } from './types.ts'

/** Milliseconds that a timer is set for at most: a sleep of the machine or a jump of its clock is noticed within it. */
export const LONGEST_SLEEP_MS = 30_000
/** Milliseconds after which a due time that nobody saw counts as missed, and `catchUp` decides. */
export const LATE_MS = 60_000

/** Milliseconds before a file that could not be made out is looked at again. */
const REREAD_MS = 1_000

/** What a row says of an issue that does not run by itself. */
const STOPPED = 'null'

export const keyOf = ({ wsId, issueId }: IssueRef): string => `${wsId}/${issueId}`

interface Entry {
  loaded: LoadedIssue
  when: When
  row: FireRow
  /** Wall time of the next fire; null: there is none. Of a fire that waits: `retryAt`. */
  next: number | null
  /** Monotonic time at which a fire that waits is tried again. */
  retryAt: number | undefined
  /** The due time that was refused, and so has no run. */
  refused: number | undefined
}

/**
 * Fires issues when they fall due. What it remembers is one row for each issue: up to when due times are settled, what
 * waits, and how the last fire went. Source: docs/contract.md 5; decision 0020.
 */
export function createScheduler(deps: {
  rows: Table<FireRow>
  fires: Fires
  clock: Clock
  /** The revision of the file now; undefined: it is gone, or broken. */
  revisionOf(ref: IssueRef): Promise<string | undefined>
  /** Reads the files of a workspace again; `shelve` is called with what they say. */
  reread(wsId: string): Promise<void>
  onError(message: string, error: unknown): void
}) {
  const { rows, fires, clock, revisionOf, reread, onError } = deps
  const entries = new Map<string, Entry>()
  /** Issues of which a due time is being decided: one at a time, also of a file that went and came back meanwhile. */
  const busy = new Set<string>()
  let wake = new AbortController()
  const working = new Set<Promise<void>>()

  const wakeUp = (): void => wake.abort()

  /** The row as it has to be for a file that says this; the past is let be when the schedule is another than before. */
  async function rowFor(loaded: LoadedIssue, when: When | undefined, since: number): Promise<FireRow | undefined> {
    const { wsId, issueId } = loaded
    const id = keyOf(loaded)
    const schedule = when ? JSON.stringify(when) : STOPPED
    const row = await rows.get(id)
    const now = clock.now()
    // The file was written in this form no later than now: what fell due before that is not its own.
    const written = (least: number): string => isoTime(Math.min(now, Math.max(least, Math.floor(loaded.updatedAtMs))))
    if (!row) {
      if (!when) return undefined
      const settledUntil = written(since)
      const fresh = { id, wsId, issueId, schedule, settledUntil }
      const made: FireRow = { ...fresh, waiting: null, lastFire: null, lastMiss: null }
      await rows.insert(made)
      return made
    }
    if (row.schedule === schedule) return row
    const patch = when ? { settledUntil: written(Date.parse(row.settledUntil)) } : {}
    return await rows.update(id, { schedule, waiting: null, ...patch })
  }

  /** Files that are gone, not only broken, stop their schedule: when they come back, the past is not theirs. */
  async function letGo(wsId: string, { issues, problems }: Shelf): Promise<void> {
    const there = new Set([...issues.map(({ issueId }) => fileOf(issueId)), ...problems.map(({ file }) => file)])
    if (there.has(ISSUE_FOLDER)) return // not all of it could be read
    for (const { id, issueId, schedule } of await rows.list({ where: { wsId } })) {
      if (schedule === STOPPED || there.has(fileOf(issueId))) continue
      await rows.update(id, { schedule: STOPPED, waiting: null })
    }
  }

  function plan(entry: Entry): void {
    const { row, when } = entry
    entry.next = row.waiting ? Date.parse(row.waiting.dueAt) : nextDue(when, Date.parse(row.settledUntil))
    if (!row.waiting) entry.retryAt = undefined
  }

  /** Milliseconds until the entry wants something; not positive: now. */
  function until(entry: Entry): number {
    if (busy.has(keyOf(entry.loaded))) return Infinity
    if (isAhead(entry.row)) return 0
    if (entry.next === null) return Infinity
    return entry.retryAt === undefined ? entry.next - clock.now() : entry.retryAt - clock.monotonic()
  }

  /** The wall clock was set back by more than a little: what was settled under the wrong one is yet to come. */
  const isAhead = ({ settledUntil }: FireRow): boolean => Date.parse(settledUntil) > clock.now() + LATE_MS

  async function decide(entry: Entry, dueAt: number, now: number): Promise<Verdict> {
    const { loaded, row, refused } = entry
    entry.refused = undefined
    const isLate = !row.waiting && now - dueAt > LATE_MS
    // A server that died after a start, or a clock that was set back, left a run that the row does not know; of what is
    // noticed late it may be an earlier one. What was refused here has none.
    const from = isLate ? Date.parse(row.settledUntil) + 1 : dueAt
    const before = refused === dueAt ? undefined : await fires.find(loaded, from, dueAt)
    if (before) return { kind: 'fired', run: before }
    if (isLate && loaded.issue.catchUp === 'skip')
      return { kind: 'miss', code: 'missed', detail: `noticed ${Math.round((now - dueAt) / 1000)} s late` }
    return await fires.fire(loaded, dueAt)
  }

  async function settle(entry: Entry): Promise<void> {
    const { loaded, when, row } = entry
    if (isAhead(row)) {
      // Whatever fired already has its run.
      const settledUntil = isoTime(clock.now())
      entry.row = (await rows.update(row.id, { settledUntil, waiting: null }, { schedule: row.schedule })) ?? entry.row
      return plan(entry)
    }
    if ((await revisionOf(loaded)) !== loaded.revision) {
      // Somebody wrote to it, and the watch has not told us yet: what the file says now is what counts.
      await reread(loaded.wsId)
      if (entry.loaded === loaded) entry.retryAt = clock.monotonic() + REREAD_MS
      return
    }
    const now = clock.now()
    const dueAt = row.waiting ? Date.parse(row.waiting.dueAt) : latestDue(when, Date.parse(row.settledUntil), now)
    if (dueAt === null || dueAt > now) {
      entry.retryAt = undefined // of one that waited while the clock was set back
      return plan(entry)
    }
    const verdict = await decide(entry, dueAt, now)
    const miss = (code: string, detail: string): IssueMiss => ({
      dueAt: isoTime(dueAt),
      at: isoTime(now),
      code,
      detail,
    })
    // What fell due while this one waited joins it.
    const settledUntil = isoTime(latestDue(when, dueAt, clock.now()) ?? dueAt)
    let patch: Partial<FireRow>
    if (verdict.kind === 'wait') {
      if (verdict.code !== 'run_not_recorded') entry.refused = dueAt
      entry.retryAt = clock.monotonic() + verdict.retryMs
      void verdict.over?.then(() => {
        entry.retryAt = clock.monotonic()
        wakeUp()
      })
      const { waiting } = row
      if (waiting?.code === verdict.code && waiting.detail === verdict.detail) return
      patch = { waiting: miss(verdict.code, verdict.detail) }
    } else if (verdict.kind === 'miss') {
      patch = { settledUntil, waiting: null, lastMiss: miss(verdict.code, verdict.detail) }
    } else {
      const { run } = verdict
      const firedFor = run.trigger.dueAt ?? isoTime(dueAt)
      const lastFire = {
        dueAt: firedFor,
        at: run.createdAt,
        taskId: run.taskId,
        status: null,
        reason: null,
        outcome: null,
      }
      // Behind a run of an earlier due time this one is still to be decided.
      patch = { settledUntil: firedFor < isoTime(dueAt) ? firedFor : settledUntil, waiting: null, lastFire }
    }
    // Of a file that was changed meanwhile, its new row stands.
    const updated = await rows.update(row.id, patch, { schedule: row.schedule })
    if (updated) entry.row = updated
    else if (patch.lastFire) entry.row = (await rows.update(row.id, { lastFire: patch.lastFire })) ?? entry.row
    if (verdict.kind === 'fired') fires.attend(loaded, entry.row)
    plan(entry)
  }

  function begin(entry: Entry): void {
    const key = keyOf(entry.loaded)
    busy.add(key)
    const work = settle(entry)
      .catch((error: unknown) => {
        entry.retryAt = clock.monotonic() + LONGEST_SLEEP_MS
        onError(`issue ${key} could not be fired and is tried again`, error)
      })
      .finally(() => {
        busy.delete(key)
        working.delete(work)
        wakeUp()
      })
    working.add(work)
  }

  return {
    /** The issues of one workspace as they are now. @param since when it was registered, in ms */
    async shelve(wsId: string, shelf: Shelf, since: number): Promise<void> {
      const { issues } = shelf
      await letGo(wsId, shelf)
      const here = new Set<string>()
      for (const loaded of issues) {
        const key = keyOf(loaded)
        const when = activeWhen(loaded)
        const before = entries.get(key)
        if (before?.loaded.revision === loaded.revision) {
          here.add(key)
          if (before.row.waiting) before.retryAt = undefined // what it waits for may have been put right
          continue
        }
        const row = await rowFor(loaded, when, since)
        if (!when || !row) continue
        here.add(key)
        const entry = before ?? { loaded, when, row, next: null, retryAt: undefined, refused: undefined }
        Object.assign(entry, { loaded, when, row })
        plan(entry)
        entries.set(key, entry)
      }
      for (const [key, { loaded }] of entries) if (loaded.wsId === wsId && !here.has(key)) entries.delete(key)
      wakeUp()
    },

    /** The workspace is gone, with its rows; or one issue was removed. */
    async forget(what: { wsId: string; issueId?: string }): Promise<void> {
      const where = { wsId: what.wsId, ...(what.issueId !== undefined && { issueId: what.issueId }) }
      for (const row of await rows.list({ where })) {
        entries.delete(row.id)
        await rows.remove(row.id)
      }
    },

    rowOf: (ref: IssueRef): Promise<FireRow | undefined> => rows.get(keyOf(ref)),

    /** Sleeps until something is due, until the signal aborts; then waits for what is being decided. */
    async run(signal: AbortSignal): Promise<void> {
      signal.addEventListener('abort', () => {
        wakeUp()
      })
      while (!signal.aborted) {
        wake = new AbortController()
        let shortest = LONGEST_SLEEP_MS
        for (const entry of entries.values()) {
          const ms = until(entry)
          if (ms <= 0) begin(entry)
          else shortest = Math.min(shortest, ms)
        }
        // A millisecond less would wake up just before the moment: timers are cut to whole ones.
        await clock.sleep(Math.ceil(shortest), wake.signal).catch(() => undefined)
      }
      await Promise.all(working)
    },
  }
}
export type Scheduler = ReturnType<typeof createScheduler>
