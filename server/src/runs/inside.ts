import { DomainError } from '../errors.ts'
import type { Run, RunRow } from '../model.ts'
import type { Table } from '../store/table.ts'
import type { Kin } from './family.ts'
import type { Runs } from './types.ts'

/** What a run says of itself while it is at work: that it has nothing to report, and news for whoever started it. */
export function createInside(deps: {
  runs: Table<RunRow>
  active: ReadonlyMap<string, Kin>
  find(taskId: string): Promise<RunRow>
  view(row: RunRow): Promise<Run>
  /** Takes out of a text what the run was given in secret. */
  clean(row: RunRow): Promise<(text: string) => string>
  /** Hands news from a run to the session that started it. Absent: there are no sessions. */
  reportToSession?: ((sessionId: string, news: { taskId: string; message: string }) => Promise<void>) | undefined
}): Pick<Runs, 'silent' | 'report'> {
  const { runs, active, find, view } = deps
  const ended = (taskId: string): DomainError => new DomainError('run_ended', `${taskId} is not at work any more`)

  return {
    async silent(taskId, given) {
      const why = (await deps.clean(await find(taskId)))(given)
      const note = active.get(taskId)?.control.note
      if (!note) throw ended(taskId)
      const row = await runs.update(taskId, { silentWhy: why }, { status: 'running' })
      if (!row) throw ended(taskId)
      await note({ type: 'run.silent', why })
      return await view(row)
    },
    async report(taskId, given) {
      const row = await find(taskId)
      const { parentTaskId, parentSessionId } = row.trigger
      const message = (await deps.clean(row))(given)
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
