import { readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { encodeTime } from 'ulid'
import { DomainError } from '../errors.ts'
import type { EventLog } from '../events/types.ts'
import { isTerminal, LIMITS, type Capacity, type Run, type RunRow } from '../model.ts'
import { decodeCursor, encodeCursor } from '../store/cursor.ts'
import type { Table } from '../store/table.ts'
import { PATCH_FILE } from './changes.ts'
import { outputName, tailName } from '../store/output.ts'
import type { Runs } from './types.ts'
import { toRun } from './view.ts'

/** Rows looked through at once for the run of a due time. */
const SCHEDULED_PAGE = 100

/** The reading side of `Runs`: records, lists, events, raw output and patches, hot or archived. Changes nothing. */
export interface RunReader extends Pick<Runs, 'get' | 'list' | 'scheduled' | 'events' | 'follow' | 'output' | 'diff'> {
  /** The stored row. @throws DomainError `run_not_found` */
  find(taskId: string): Promise<RunRow>
  /** The run as callers see it now. */
  view(row: RunRow): Promise<Run>
}

export function createRunReader(deps: {
  runs: Table<RunRow>
  events: EventLog
  runDirectory: (taskId: string) => string
  /** What is known of a run at work in this process; undefined when it is not. */
  live: (taskId: string) => { lastActivityAt: string | null } | undefined
  canResume: (row: RunRow) => boolean
  capacity: () => Capacity
  /** Ids of the Inbox entries that a run pushed since a moment, oldest first. */
  pushedBy(taskId: string, since: string): Promise<string[]>
}): RunReader {
  const { runs, events, runDirectory, live, canResume, capacity, pushedBy } = deps

  async function view(row: RunRow): Promise<Run> {
    const known = live(row.id)
    const now =
      known && !isTerminal(row.status)
        ? { ...known, lastSeq: await events.lastSeq(row.id), inboxIds: await pushedBy(row.id, row.createdAt) }
        : undefined
    return await toRun(row, runDirectory(row.id), { live: now, canResume: canResume(row) })
  }

  async function find(taskId: string): Promise<RunRow> {
    const row = await runs.get(taskId)
    if (!row) throw new DomainError('run_not_found', `there is no run ${taskId}`, { hint: 'postern runs' })
    return row
  }

  async function kept(taskId: string, file: string): Promise<{ path: string; sizeBytes: number } | undefined> {
    const path = join(runDirectory(taskId), file)
    const found = await stat(path).catch(() => undefined)
    return found && { path, sizeBytes: found.size }
  }
  /** @throws DomainError `log_retired` when the run's files are gone */
  async function assertKept(row: RunRow): Promise<void> {
    if (!isTerminal(row.status) || live(row.id) || (await kept(row.id, 'events.ndjson'))) return
    throw new DomainError(
      'log_retired',
      `events and output of ${row.id} were removed after their time; the run's record stays`,
    )
  }

  return {
    find,
    view,
    async get(taskId) {
      return await view(await find(taskId))
    },
    async list({ wsId, status, agent, limit = LIMITS.defaultListLimit, cursor }) {
      const where = {
        ...(wsId !== undefined && { wsId }),
        ...(status && { status }),
        ...(agent !== undefined && { agent }),
      }
      const rows = await runs.list({
        where,
        limit: limit + 1,
        ...(cursor !== undefined && { after: decodeCursor('headless', cursor) }),
      })
      const page = rows.slice(0, limit)
      const last = rows.length > limit ? page.at(-1) : undefined
      return {
        tasks: await Promise.all(page.map(view)),
        nextCursor: last ? encodeCursor(last.id) : null,
        capacity: capacity(),
      }
    },
    async scheduled({ wsId, issueId }, from, until) {
      // Whatever the clock did, the id of a run is no older than the due time that it was started for.
      const first = `headless_${encodeTime(Date.parse(from))}`
      const isIt = ({ wsId: of, trigger: { issueId: by, dueAt } }: RunRow): boolean =>
        of === wsId && by === issueId && dueAt !== undefined && dueAt >= from && dueAt <= until
      for (let after: string | undefined; ;) {
        const rows = await runs.list({ limit: SCHEDULED_PAGE, ...(after !== undefined && { after }) })
        for (const row of rows) {
          if (row.id < first) return undefined
          if (isIt(row)) return await view(row)
        }
        after = rows.at(-1)?.id
        if (rows.length < SCHEDULED_PAGE) return undefined
      }
    },
    async events(taskId, after, limit) {
      const row = await find(taskId)
      await assertKept(row)
      const page = await events.read(taskId, after, limit)
      const lastSeq = Math.max(row.lastSeq, await events.lastSeq(taskId))
      return { events: page, nextAfter: page.at(-1)?.seq ?? after, lastSeq }
    },
    async *follow(taskId, after, signal) {
      const row = await find(taskId)
      await assertKept(row)
      if (isTerminal(row.status) && after >= row.lastSeq) return
      yield* events.follow(taskId, after, signal)
    },
    async output(taskId, stream) {
      const row = await find(taskId)
      await assertKept(row)
      const file = await kept(taskId, outputName(stream))
      const tail = await kept(taskId, tailName(stream))
      const complete = isTerminal(row.status)
      return {
        path: join(runDirectory(taskId), outputName(stream)),
        sizeBytes: file?.sizeBytes ?? 0,
        truncated: tail !== undefined,
        complete,
        ...(tail && { tail }),
      }
    },
    async diff(taskId) {
      const row = await find(taskId)
      if (!isTerminal(row.status)) {
        throw new DomainError('diff_not_available', `${taskId} is ${row.status}; its diff is made when it ends`, {
          hint: `postern runs watch ${taskId}`,
        })
      }
      await assertKept(row)
      const file = await kept(taskId, PATCH_FILE)
      if (!file) {
        const { diffTrouble } = row
        const why = diffTrouble === undefined ? 'it did not work in a git repository, or never started' : diffTrouble
        throw new DomainError('diff_not_available', `there is no diff of ${taskId}: ${why}`)
      }
      return await readFile(file.path)
    },
  }
}
