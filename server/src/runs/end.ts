import type { Clock } from '../clock.ts'
import type { EventLog } from '../events/types.ts'
import { TERMINAL_EVENT, type NewEvent, type RunRow } from '../model.ts'
import { DamagedStateError } from '../store/disk.ts'
import { insist } from '../store/insist.ts'
import type { LiveFiles } from '../store/live-files.ts'
import type { Table } from '../store/table.ts'
import type { LiveRun } from './types.ts'

/** The last event of the log of a run that has ended. */
export const lastEventOf = ({ status, reason, detail, exitCode, signal, outcome }: RunRow): NewEvent => {
  return { type: TERMINAL_EVENT, status, reason, detail, exitCode, signal, outcome }
}

const isDamage = (error: unknown): boolean => error instanceof DamagedStateError || error instanceof SyntaxError

/** A log that cannot be read takes nothing more, and nobody waits for it. */
async function unlessDamaged(work: Promise<unknown>): Promise<void> {
  await work.catch((error: unknown) => {
    if (!isDamage(error)) throw error
  })
}

/** The seq of the last event that is yet to come; of a log that cannot be read, as far as the row knows. */
export async function seqOfEnd(events: EventLog, { id, lastSeq }: RunRow): Promise<number> {
  const last = await events.lastSeq(id).catch((error: unknown) => {
    if (isDamage(error)) return lastSeq
    throw error
  })
  return last + 1
}

/** See `createEnding`. */
export type EndRun = ReturnType<typeof createEnding>

/**
 * Writes how a run ended: its row, whose guard decides who ends it, then its last event; each once, when the disk takes it.
 * By its live file a start after a crash finds the log that is to be ended; a run that never had a program gets one for that.
 *
 * @throws what the disk said, once the server cannot wait any longer: the next start completes it
 */
export function createEnding(deps: {
  runs: Table<RunRow>
  events: EventLog
  liveFiles: LiveFiles<LiveRun>
  clock: Clock
}) {
  const { runs, events, liveFiles, clock } = deps

  return async (options: {
    row: RunRow
    patch: () => Promise<Partial<RunRow>>
    hadProgram: boolean
    giveUp: AbortSignal
  }): Promise<RunRow> => {
    const { row, patch, hadProgram, giveUp } = options
    const step = <T>(work: () => Promise<T>): Promise<T> => insist(clock, giveUp, work)
    const { id, status } = row
    if (!hadProgram) await step(() => liveFiles.write(id, {}))
    const ended = await step(
      async () => (await runs.update(id, await patch(), { status })) ?? (await runs.get(id)) ?? row,
    )
    await step(() => unlessDamaged(events.append(id, [lastEventOf(ended)])))
    await step(() => unlessDamaged(events.close(id)))
    await step(() => liveFiles.remove(id))
    return ended
  }
}
