import type { Clock } from '../clock.ts'
import type { Grants } from './grants.ts'

const DAY_MS = 24 * 60 * 60 * 1000
/** Milliseconds between two writes of what came through grants. */
const FLUSH_MS = 30_000
/** Days for which a record outlives its grant at least: longer than any key that minted it is remembered. */
const MIN_DAYS = 2

/**
 * Writes the counts of grants every half minute, and once a day removes the records of grants that ended more than
 * `keepDays` days ago, until the signal aborts. A token of a removed grant is refused like any that never existed.
 */
export async function keepGrants(deps: {
  grants: Grants
  clock: Clock
  keepDays: number
  onError(message: string, error: unknown): void
  signal: AbortSignal
}): Promise<void> {
  const { grants, clock, keepDays, onError, signal } = deps
  let retireAt = clock.monotonic()
  while (!signal.aborted) {
    try {
      await grants.flush()
      if (clock.monotonic() >= retireAt) {
        retireAt = clock.monotonic() + DAY_MS
        await grants.retire(clock.now() - Math.max(keepDays, MIN_DAYS) * DAY_MS)
      }
    } catch (error) {
      onError('records of grants could not be written; tried again in half a minute', error) // the loop must live
    }
    await clock.sleep(FLUSH_MS, signal).catch(() => undefined)
  }
}
