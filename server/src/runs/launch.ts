import type { Agents } from '../agents/types.ts'
import { isoTime, type Clock } from '../clock.ts'
import type { Dispatch, Place } from '../dispatch/dispatch.ts'
import type { EventLog } from '../events/types.ts'
import type { RunRow } from '../model.ts'
import type { Table } from '../store/table.ts'
import type { Workspaces } from '../workspaces/types.ts'
import type { Control } from './attend.ts'
import { insist, type EndRun } from './end.ts'
import type { createWorker } from './work.ts'

/** A candidate for work: everything that was decided when it was admitted. */
export interface Admitted {
  row: RunRow
  prompt: string
  /** The conversation it will continue; null: a new one. */
  conversationId: string | null
}

/** What becomes of a run once it is admitted: from the queue or at once, through its work, to the row as it ended. */
export function createLauncher(deps: {
  runs: Table<RunRow>
  events: EventLog
  workspaces: Workspaces
  agents: Agents
  dispatch: Dispatch
  clock: Clock
  worker: ReturnType<typeof createWorker>
  endRun: EndRun
  tellEnd(ended: RunRow): Promise<void>
  onError(message: string, error: unknown): void
}) {
  const { runs, events, workspaces, agents, dispatch, clock, worker, endRun, tellEnd, onError } = deps
  const endedCounts = { succeeded: 0, failed: 0, timed_out: 0, canceled: 0, interrupted: 0, queued: 0, running: 0 }
  let recentDurationMs: number | undefined

  /** From the queue or at once, through its work, to the row as it ended. */
  async function launch(admitted: Admitted, control: Control, place: Place | Promise<Place>): Promise<RunRow> {
    let { row } = admitted
    let mine: Place | undefined
    try {
      if (place instanceof Promise) {
        await events.append(row.id, [{ type: 'run.queued' }]).catch(() => undefined)
        const canceled = onAbort(control.abort.signal)
        mine = await Promise.race([place, canceled])
        if (!mine) {
          if (dispatch.leave(row.id)) return await endUnstarted(row, control)
          mine = await place // it came in the same moment
        }
        if (control.abort.signal.aborted) return await endUnstarted(row, control)
        row = await markRunning(row, control)
      } else mine = place
      const agent = agents.find(row.agent)
      const workspace = await workspaces.get(row.wsId).catch(() => undefined)
      if (!agent || !workspace) return await endUnstarted(row, control)
      const ended = await worker({ row, prompt: admitted.prompt, agent, workspace, control })
      endedCounts[ended.status]++
      void tellEnd(ended)
      recentDurationMs = ((recentDurationMs ?? ended.durationMs ?? 0) + (ended.durationMs ?? 0)) / 2
      return ended
    } catch (error) {
      onError(`run ${row.id} could not be brought to its end; the next start will`, error)
      throw error
    } finally {
      mine?.free()
    }
  }

  async function markRunning(row: RunRow, control: Control): Promise<RunRow> {
    const patch = { status: 'running' as const, startedAt: isoTime(clock.now()) }
    const update = async () => (await runs.update(row.id, patch, { status: 'queued' })) ?? row
    return await insist(clock, control.giveUp.signal, update)
  }

  /** A run that ends without having had a program: canceled in the queue, or its agent or workspace is gone. */
  async function endUnstarted(row: RunRow, control: Control): Promise<RunRow> {
    if (control.abort.signal.reason === 'server_stopped') return row // stays queued for the next server
    const canceled = control.abort.signal.aborted
    const finishedAt = isoTime(clock.now())
    const patch = async (): Promise<Partial<RunRow>> => ({
      status: canceled ? 'canceled' : 'failed',
      reason: canceled ? 'canceled_by_caller' : 'agent_not_found',
      detail: canceled
        ? 'canceled before it started'
        : `agent "${row.agent}" or workspace ${row.wsId} is not there any more`,
      finishedAt,
      outcome: 'no_report',
      lastSeq: (await events.lastSeq(row.id)) + 1,
    })
    const ended = await endRun({ row, patch, hadProgram: false, giveUp: control.giveUp.signal })
    endedCounts[ended.status]++
    void tellEnd(ended)
    return ended
  }

  return {
    launch,
    /** Runs that have ended, by status. */
    endedCounts() {
      const { queued: _, running: __, ...ended } = endedCounts
      return ended
    },
    /** Milliseconds that runs take of late; undefined while none has ended. */
    recentDurationMs: () => recentDurationMs,
  }
}

function onAbort(signal: AbortSignal): Promise<undefined> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve(undefined)
    else signal.addEventListener('abort', () => resolve(undefined), { once: true })
  })
}
