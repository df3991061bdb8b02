import type { Agents } from '../agents/types.ts'
import type { Budgets } from '../budgets/types.ts'
import { isoTime, type Clock } from '../clock.ts'
import type { Dispatch, Place } from '../dispatch/dispatch.ts'
import { DomainError } from '../errors.ts'
import type { EventLog } from '../events/types.ts'
import type { RunRow, Workspace } from '../model.ts'
import { insist } from '../store/insist.ts'
import type { Table } from '../store/table.ts'
import type { Workspaces } from '../workspaces/types.ts'
import type { Control } from './attend.ts'
import { seqOfEnd, type EndRun } from './end.ts'
import type { Verdict } from './outcome.ts'
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
  budgets: Budgets
  clock: Clock
  worker: ReturnType<typeof createWorker>
  endRun: EndRun
  tellEnd(ended: RunRow): Promise<void>
  onError(message: string, error: unknown): void
}) {
  const { runs, events, workspaces, agents, dispatch, budgets, clock, worker, endRun, tellEnd, onError } = deps
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
          if (dispatch.leave(row.id)) return await endUnstarted(row, control, CANCELED)
          mine = await place // it came in the same moment
        }
        if (control.abort.signal.aborted) return await endUnstarted(row, control, CANCELED)
      } else mine = place
      const agent = agents.find(row.agent)
      const workspace = await workspaces.get(row.wsId).catch(() => undefined)
      if (!agent || !workspace) return await endUnstarted(row, control, goneFor(row))
      if (row.status === 'queued') {
        // The day may have used its budget while it waited.
        const reached = await insist(clock, control.giveUp.signal, () => overBudget(workspace))
        if (reached !== undefined)
          return await endUnstarted(row, control, { status: 'failed', reason: 'budget_exceeded', detail: reached })
        row = await markRunning(row, control)
      }
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

  async function overBudget({ id, budget }: Workspace): Promise<string | undefined> {
    await budgets.ready(id, budget)
    try {
      budgets.check(id, budget)
    } catch (error) {
      if (error instanceof DomainError) return error.message
      throw error
    }
    return undefined
  }

  /** A run that ends without having had a program. */
  async function endUnstarted(row: RunRow, control: Control, verdict: Verdict): Promise<RunRow> {
    if (control.abort.signal.reason === 'server_stopped') return row // stays queued for the next server
    const finishedAt = isoTime(clock.now())
    const patch = async (): Promise<Partial<RunRow>> => ({
      ...verdict,
      finishedAt,
      outcome: 'no_report',
      lastSeq: await seqOfEnd(events, row),
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

const CANCELED: Verdict = {
  status: 'canceled',
  reason: 'canceled_by_caller',
  detail: 'canceled before it started',
}
const goneFor = ({ agent, wsId }: RunRow): Verdict => ({
  status: 'failed',
  reason: 'agent_not_found',
  detail: `agent "${agent}" or workspace ${wsId} is not there any more`,
})

function onAbort(signal: AbortSignal): Promise<undefined> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve(undefined)
    else signal.addEventListener('abort', () => resolve(undefined), { once: true })
  })
}
