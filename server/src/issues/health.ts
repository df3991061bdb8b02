import { isoTime } from '../clock.ts'
import type { FireRow, IssueSchedule, When } from '../model/issues.ts'
import type { LoadedIssue } from './library.ts'
import { nextFires } from './schedule.ts'

/** The schedule of an issue while its status lets it run; undefined: it does not run by itself. */
export function activeWhen({ issue }: LoadedIssue): When | undefined {
  return issue.status === 'done' || issue.status === 'canceled' ? undefined : issue.when
}

/** How a schedule goes, as of `now`. */
export function scheduleOf(loaded: LoadedIssue, row: FireRow | undefined, now: number, count: number): IssueSchedule {
  const { wsId, issueId, issue } = loaded
  const when = activeWhen(loaded)
  const from = Math.max(now, row ? Date.parse(row.settledUntil) : now)
  const fires = when ? nextFires(when, from, count).map(isoTime) : []
  const last = row?.lastFire ?? null
  const waiting = (when && row?.waiting) ?? null
  const failed = last !== null && last.status !== null && last.status !== 'succeeded'
  const health = !issue.when
    ? 'none'
    : !when
      ? 'stopped'
      : waiting
        ? 'waiting'
        : failed
          ? 'failing'
          : fires.length === 0
            ? 'over'
            : 'ok'
  return {
    wsId,
    issueId,
    when: issue.when ?? null,
    health,
    nextFires: fires,
    waiting,
    lastFire: last,
    lastMiss: row?.lastMiss ?? null,
  }
}
