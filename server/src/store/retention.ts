import { join } from 'node:path'
import { decodeTime } from 'ulid'
import type { Clock } from '../clock.ts'
import type { Disk } from './disk.ts'

const DAY_MS = 24 * 60 * 60 * 1000

/**
 * Removes the directories of logs and output that are older than `days`, now and once a day, until the signal aborts.
 * Records stay; asking for what was removed answers 410.
 */
export async function retireOldLogs(deps: {
  disk: Disk
  clock: Clock
  /** Holds one directory for each run, or for each session. */
  directory: string
  days: number
  /** Since when nothing is added to what belongs to this id, in milliseconds since the epoch; undefined: it still may be. */
  doneSince(id: string): number | undefined | Promise<number | undefined>
  onError(message: string, error: unknown): void
  signal: AbortSignal
}): Promise<void> {
  const { disk, clock, directory, days, signal } = deps
  while (!signal.aborted) {
    try {
      const oldest = clock.now() - days * DAY_MS
      for (const name of await disk.readdir(directory).catch(() => [] as string[])) {
        const since = await deps.doneSince(name)
        if (since !== undefined && since < oldest)
          await disk.rm(join(directory, name), { recursive: true, force: true })
        if (signal.aborted) return
      }
    } catch (error) {
      deps.onError('old logs could not be removed; tried again tomorrow', error) // the loop must live
    }
    await clock.sleep(DAY_MS, signal).catch(() => undefined)
  }
}

/** When an id was made, in milliseconds since the epoch; undefined: it is not one of ours. */
export function madeAt(id: string): number | undefined {
  try {
    return decodeTime(id.slice(id.indexOf('_') + 1))
  } catch {
    return undefined
  }
}
