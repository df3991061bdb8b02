import type { RunRow } from '../model.ts'
import type { Table } from '../store/table.ts'

/** What runs pushed to the Inbox, also what people have removed since: that a run has reported stays true. */
export function createPushed(deps: {
  runs: Table<RunRow>
  /** Ids of the entries in the Inbox that a run pushed since a moment. */
  inInbox(taskId: string, since: string): Promise<string[]>
}) {
  const { runs, inInbox } = deps
  return {
    /** Ids of the entries that a run pushed since a moment (ISO 8601), oldest first. */
    async by(taskId: string, since: string): Promise<string[]> {
      const there = await inInbox(taskId, since)
      // In this order: of one that is removed meanwhile the row knows before it is gone.
      const removed = (await runs.get(taskId))?.inboxIds ?? []
      return [...new Set([...removed, ...there])].toSorted()
    },

    /** An entry of a run is about to be removed: while that is at work, its row keeps the id. On disk when it resolves. */
    async keep(taskId: string, id: string): Promise<void> {
      for (;;) {
        const row = await runs.get(taskId)
        if (row?.status !== 'running' || row.inboxIds.includes(id)) return
        const { status, inboxIds } = row
        if (await runs.update(taskId, { inboxIds: [...inboxIds, id] }, { status, inboxIds })) return
      }
    },
  }
}
