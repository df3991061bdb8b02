import { join } from 'node:path'
import { decodeTime } from 'ulid'
import type { Clock } from '../clock.ts'
import type { Disk } from '../store/disk.ts'

const DAY_MS = 24 * 60 * 60 * 1000

/**
 * Removes events, output and patches of runs made more than `outputDays` days ago, now and once a day, until the signal
 * aborts. Records stay; asking for what was removed answers 410.
 */
export async function retireOldLogs(deps: {
  disk: Disk
  clock: Clock
  directory: string
  outputDays: number
  isActive(taskId: string): boolean
  onError(message: string, error: unknown): void
  signal: AbortSignal
}): Promise<void> {
  const { disk, clock, directory, outputDays, signal } = deps
  while (!signal.aborted) {
    try {
      const oldest = clock.now() - outputDays * DAY_MS
      for (const name of await disk.readdir(directory).catch(() => [] as string[])) {
        if (madeAt(name) < oldest && !deps.isActive(name))
          await disk.rm(join(directory, name), { recursive: true, force: true })
        if (signal.aborted) return
      }
    } catch (error) {
      deps.onError('old logs could not be removed; tried again tomorrow', error) // the loop must live
    }
    await clock.sleep(DAY_MS, signal).catch(() => undefined)
  }
}

function madeAt(taskId: string): number {
  try {
    return decodeTime(taskId.slice(taskId.indexOf('_') + 1))
  } catch {
    return Infinity // not ours: left alone
  }
}
