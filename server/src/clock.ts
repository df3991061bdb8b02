import { setTimeout as delay } from 'node:timers/promises'
import { monotonicFactory } from 'ulid'

/** The time as the rest of the server may know it. Wall time for expiry and records, monotonic for timeouts. */
export interface Clock {
  /** Milliseconds since the epoch; may jump. */
  now(): number
  /** Milliseconds from an arbitrary start; never jumps. */
  monotonic(): number
  /** Resolves after `ms` milliseconds; rejects with the signal's reason when it aborts first. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>
}

/** The machine's own clock. */
export const systemClock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  async sleep(ms, signal) {
    try {
      await delay(ms, undefined, { signal })
    } catch (error) {
      signal?.throwIfAborted()
      throw error
    }
  },
}

export type IdPrefix = 'headless' | 'sess' | 'grant' | 'dlv' | 'perm' | 'inb'

const ulid = monotonicFactory()

/** A new id, `<prefix>_<ulid>`: ids made later sort later, also within one millisecond. */
export function newId<P extends IdPrefix>(prefix: P, clock: Clock = systemClock): `${P}_${string}` {
  return `${prefix}_${ulid(clock.now())}`
}

/** An ISO 8601 UTC time, as all times on the wire are. */
export const isoTime = (ms: number): string => new Date(ms).toISOString()
