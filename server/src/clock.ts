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

/** Milliseconds a timer of Node can last; a longer one would end at once. Source: Node's `setTimeout`. */
const LONGEST_TIMER_MS = 0x7fffffff

/** The machine's own clock. */
export const systemClock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  async sleep(ms, signal) {
    try {
      let left = ms
      do await delay(Math.min(left, LONGEST_TIMER_MS), undefined, { signal })
      while ((left -= LONGEST_TIMER_MS) > 0)
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
