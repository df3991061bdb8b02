import { DomainError, type ErrorCode } from '../errors.ts'
import type { Run, RunRow } from '../model.ts'
import type { Table } from '../store/table.ts'
import type { Kin } from './family.ts'
import type { Runs } from './types.ts'

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
  onError(message: string, error: unknown): void
}): Pick<Runs, 'silent' | 'report'> & {
  /**
   * Tells the session that started a run how it ended, unless that waits for the answer itself. Once, however often it is
   * called: so it may be called again for what a server that died had not told.
   */
  tellEnd(row: RunRow): Promise<void>
} {
  const { runs, active, find, view } = deps
  const ended = (taskId: string): DomainError => new DomainError('run_ended', `${taskId} is not at work any more`)

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
        const { taskId, status, reason, result } = await view(row)
        const message = `${taskId} ${status}${reason === null ? '' : ` (${reason})`}\n${result.text ?? ''}`
        await deps
          .reportToSession(parentSessionId, { taskId, message, once: ['ended', taskId] })
          .catch((error: unknown) => {
            if (!(error instanceof DomainError && GONE.has(error.code))) throw error
          })
        await runs.update(row.id, { untold: false })
      } catch (error) {
        deps.onError(`the end of ${row.id} could not be told to its session; the next start tries again`, error)
      }
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
