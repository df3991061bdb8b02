import type { AgentEvent, Counting } from '../agents/agent.ts'
import { createFold } from '../agents/fold.ts'
import { isoTime, type Clock } from '../clock.ts'
import type { EventLog } from '../events/types.ts'
import type { Redactor } from '../events/redactor.ts'
import { isTerminal, TERMINAL_EVENT, type RunRow } from '../model.ts'
import type { Processes } from '../process/supervise.ts'
import type { Disk } from '../store/disk.ts'
import type { Table } from '../store/table.ts'
import type { LiveFiles } from '../store/live-files.ts'
import type { LiveRun } from './types.ts'
import type { RunGit } from './ports.ts'
import { lastEventOf } from './end.ts'
import { outcomeOf } from './nudge.ts'
import { ownUsage, totalsBefore } from './totals.ts'
import { discardSnapshots, endChanges, type Begun } from './changes.ts'

/** Events read at once. */
const EVENT_PAGE = 500

export interface Recovered {
  /** Runs that were at work when the server died, now `interrupted`. */
  interrupted: number
  /** Processes of theirs that were still alive and were ended. */
  ended: number
  survivors: number
  /** Runs that were waiting for a place, oldest first. */
  queued: RunRow[]
}

/**
 * Brings the runs of a server that died to their end, before anybody is served: its processes first, then the records.
 * A run is never repeated: it may have pushed or paid something (decision 0010).
 */
export async function recoverRuns(deps: {
  runs: Table<RunRow>
  events: EventLog
  processes: Processes
  git: RunGit
  disk: Disk
  clock: Clock
  liveFiles: LiveFiles<LiveRun>
  runDirectory: (taskId: string) => string
  worktreePath(taskId: string): string
  /** How an agent counts what it uses; undefined: anew in each run. */
  countingOf(agentId: string): { tokens: Counting; cost: Counting } | undefined
  /** Takes out of what a run left what it was given in secret. */
  redactorFor(row: RunRow): Promise<Redactor>
  /** Ids of the Inbox entries that a run pushed since a moment, oldest first. */
  pushedBy(taskId: string, since: string): Promise<string[]>
}): Promise<Recovered> {
  const { runs, events, processes, liveFiles, clock } = deps
  const left = await liveFiles.left()
  const running = await runs.list({ where: { status: 'running' } })
  const marks = new Set([...left.keys(), ...running.map((row) => row.id)])
  const reaped = await processes.reap([...marks].map((mark) => ({ mark, identity: left.get(mark)?.identity })))

  for (const row of running) {
    const changed = await endChanges(
      { git: deps.git, disk: deps.disk, runDirectory: deps.runDirectory(row.id) },
      row.id,
      left.get(row.id)?.begun ?? unknown(row),
      async (patch) => (await deps.redactorFor(row)).bytes(patch),
    )
    const finishedAt = clock.now()
    const inboxIds = await deps.pushedBy(row.id, row.createdAt)
    await runs.update(
      row.id,
      {
        status: 'interrupted',
        reason: 'server_died',
        detail: 'the server died while the run was at work; its files may be half written',
        finishedAt: isoTime(finishedAt),
        durationMs: Math.max(0, finishedAt - Date.parse(row.startedAt ?? row.createdAt)),
        lastSeq: (await events.lastSeq(row.id)) + 1,
        inboxIds,
        outcome: outcomeOf(inboxIds, row.silentWhy),
        // A log that cannot be read is no reason not to start: then nobody knows what was used.
        ...(await usageOf(row).catch(() => ({}))),
        ...changed,
      },
      { status: 'running' },
    )
  }
  // Also those whose record was ended just before the server died, without their last event.
  for (const id of marks) {
    const row = await runs.get(id)
    if (row && isTerminal(row.status)) await endLog(row)
    await discardSnapshots(deps.disk, deps.runDirectory(id))
    await liveFiles.remove(id)
  }
  return {
    interrupted: running.length,
    ...reaped,
    queued: await runs.list({ where: { status: 'queued' }, order: 'oldest' }),
  }

  async function endLog(row: RunRow): Promise<void> {
    const lastSeq = await events.lastSeq(row.id)
    const [last] = lastSeq > 0 ? await events.read(row.id, lastSeq - 1, 1) : []
    if (last?.type !== TERMINAL_EVENT) {
      await events.append(row.id, [lastEventOf(row)])
      await events.close(row.id)
    }
  }

  /** What it had reported up to then: it was used, whatever became of the run. */
  async function usageOf(row: RunRow): Promise<Pick<RunRow, 'usage' | 'totals'>> {
    const counting = deps.countingOf(row.agent) ?? { tokens: 'total', cost: 'total' }
    const fold = createFold(counting)
    for (let after = 0; ;) {
      const page = await events.read(row.id, after, EVENT_PAGE)
      for (const event of page) if (event.type === 'usage') fold.add(event as unknown as AgentEvent)
      if (page.length < EVENT_PAGE) break
      after = page.at(-1)?.seq ?? after
    }
    const conversationId = row.resume ? ((await runs.get(row.resume))?.conversationId ?? null) : null
    const before = conversationId === null ? undefined : await totalsBefore(runs, conversationId, row.id)
    return ownUsage(fold.state, counting, before)
  }

  /** Of a run whose beginning was not on disk yet: nobody knows what is in its worktree. */
  function unknown({ id, isolation, worktreeOf }: RunRow): Begun {
    const directory = deps.worktreePath(worktreeOf ?? id)
    return { directory, worktree: isolation === 'worktree' ? directory : null, base: null }
  }
}
