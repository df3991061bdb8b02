import type { Clock } from '../clock.ts'

/** What taking one from a bucket found. */
export interface Taken {
  /** False: the bucket was empty, and nothing was taken. */
  isTaken: boolean
  /** Whole ones left. */
  left: number
  /** Milliseconds until there is one again; 0 when there is. */
  nextMs: number
  /** Milliseconds until the bucket is full. */
  fullMs: number
}

/** Buckets by name, each of which holds so many and fills steadily. */
export interface Buckets {
  take(name: string): Taken
}

/** Buckets remembered at a time; a full one is like one that was never used, and is forgotten first. */
const MAX_BUCKETS = 10_000

/**
 * Buckets of the given size, full at first.
 *
 * @param perMinute how many come back in 60 s, by the monotonic clock
 */
export function createBuckets({
  size,
  perMinute,
  clock,
  maxBuckets = MAX_BUCKETS,
}: {
  size: number
  perMinute: number
  clock: Pick<Clock, 'monotonic'>
  maxBuckets?: number
}): Buckets {
  const msEach = 60_000 / perMinute
  // Kept as the moment when the bucket is full: one number says both when and how much.
  const fullAt = new Map<string, number>()

  function forget(now: number): void {
    for (const [name, at] of fullAt) if (at <= now) fullAt.delete(name)
    // Still too many: the longest unused go, which is a little too kind to them.
    for (const name of fullAt.keys()) {
      if (fullAt.size < maxBuckets) return
      fullAt.delete(name)
    }
  }

  return {
    take(name) {
      const now = clock.monotonic()
      const missing = Math.max(0, (fullAt.get(name) ?? 0) - now) / msEach
      const has = size - missing
      const isTaken = has >= 1 - 1e-9
      const after = isTaken ? has - 1 : has
      if (isTaken) {
        fullAt.delete(name)
        if (fullAt.size >= maxBuckets) forget(now)
        fullAt.set(name, now + (size - after) * msEach)
      }
      return {
        isTaken,
        left: Math.floor(after + 1e-9),
        nextMs: Math.max(0, (1 - after) * msEach),
        fullMs: (size - after) * msEach,
      }
    },
  }
}
