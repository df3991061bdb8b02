import type { Clock } from '../clock.ts'
import { DomainError, type ErrorCode } from '../errors.ts'
import type { Run, RunRow } from '../model.ts'
import type { Table } from '../store/table.ts'
import type { Kin } from './family.ts'
import type { Runs } from './types.ts'

/** Milliseconds after an end in which its session may still ask for it, before it is told. */
const TELL_AFTER_MS = 1_000
/** There is nobody to tell any more. */
const GONE: ReadonlySet<ErrorCode> = new Set(['session_ended', 'session_not_found'])

/** Takes out of what a run or session says what it was given in secret. */
export type CleanerFor = (speaker: { taskId: string | null; sessionId: string | null }) => Promise<{
  text(text: string): string
  value<T>(value: T): T
}>

/** What a session is told of a run that it started; `once` names what is told only once. */
export interface News {
  taskId: string
  message: string
  once?: string[]
}

/** What a run says of itself while it is at work: that it has nothing to report, and news for whoever started it. */
export function createInside(deps: {
  runs: Table<RunRow>
  active: ReadonlyMap<string, Kin>
  find(taskId: string): Promise<RunRow>
  view(row: RunRow): Promise<Run>
  cleanerFor: CleanerFor
  /** Hands news from a run to the session that started it. Absent: there are no sessions. */
  reportToSession?: ((sessionId: string, news: News) => Promise<void>) | undefined
  clock: Clock
  onError(message: string, error: unknown): void
}): Pick<Runs, 'silent' | 'report' | 'heard'> & {
  /**
   * Tells the session that started a run how it ended, unless that has heard of it by an answer. Once, however often it is
   * called: so it may be called again for what a server that died had not told.
   */
  tellEnd(row: RunRow): Promise<void>
  /** Leaves to the next server what is not told yet. */
  stopTelling(): void
} {
  const { runs, active, find, view, clock } = deps
  const stopped = new AbortController()
  const ended = (taskId: string): DomainError => new DomainError('run_ended', `${taskId} is not at work any more`)

  /** @returns milliseconds after which it may be tried again: the line is full, or the budget of the day used */
  async function tell(
    sessionId: string,
    row: RunRow,
    report: (sessionId: string, news: News) => Promise<void>,
  ): Promise<number | undefined> {
    const { taskId, status, reason, result } = await view(row)
    const message = `${taskId} ${status}${reason === null ? '' : ` (${reason})`}\n${result.text ?? ''}`
    try {
      await report(sessionId, { taskId, message, once: ['ended', taskId] })
    } catch (error) {
      if (!(error instanceof DomainError)) throw error
      if (GONE.has(error.code)) return undefined
      if (error.details.retryAfterSeconds === undefined) throw error
      return error.details.retryAfterSeconds * 1_000
    }
    return undefined
  }

  return {
    async silent(taskId, given) {
      await find(taskId)
      const why = (await deps.cleanerFor({ taskId, sessionId: null })).text(given)
      const note = active.get(taskId)?.control.note
      if (!note) throw ended(taskId)
      const row = await runs.update(taskId, { silentWhy: why }, { status: 'running' })
      if (!row) throw ended(taskId)
      await note({ type: 'run.silent', why })
      return await view(row)
    },
    async tellEnd(row) {
      const { parentSessionId } = row.trigger
      if (!row.untold || parentSessionId === undefined || !deps.reportToSession) return
      try {
        for (let waitMs: number | undefined = TELL_AFTER_MS; waitMs !== undefined;) {
          await clock.sleep(waitMs, stopped.signal)
          if (!(await runs.get(row.id))?.untold) return
          waitMs = await tell(parentSessionId, row, deps.reportToSession)
        }
        await runs.update(row.id, { untold: false })
      } catch (error) {
        if (stopped.signal.aborted) return
        deps.onError(`the end of ${row.id} could not be told to its session; the next start tries again`, error)
      }
    },
    stopTelling: () => stopped.abort(),
    async heard(taskId) {
      await runs.update(taskId, { untold: false }, { untold: true })
    },
    async report(taskId, given) {
      const row = await find(taskId)
      const { parentTaskId, parentSessionId } = row.trigger
      const message = (await deps.cleanerFor({ taskId, sessionId: null })).text(given)
      if (parentTaskId !== null) {
        const note = active.get(parentTaskId)?.control.note
        if (!note) throw ended(parentTaskId)
        await note({ type: 'run.reported', taskId, message })
        return { to: parentTaskId }
      }
      if (parentSessionId !== undefined && deps.reportToSession) {
        await deps.reportToSession(parentSessionId, { taskId, message })
        return { to: parentSessionId }
      }
      throw new DomainError('no_parent', `nobody who could be reported to started ${taskId}`, {
        hint: 'postern inbox push',
      })
    },
  }
}
