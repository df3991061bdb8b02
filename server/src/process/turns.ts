import type { Clock } from '../clock.ts'

/** Milliseconds that one start may keep the next one waiting. */
export const TURN_MS = 3_000

/** Starts that must not overlap take turns, in the order in which they came. */
export interface Turns {
  /**
   * Resolves when no other start with this key is at work. The turn ends by calling the function, or after `TURN_MS`.
   * Aborted while it waits, it resolves at once with a function that does nothing: who starts looks at the signal anyway.
   */
  take(key: string, signal: AbortSignal): Promise<() => void>
}

/**
 * Programs that share a directory of settings rewrite them when they start, and not all of them with care: two at once
 * leave half a file. Source: docs/agents.md 3
 */
export function createTurns(deps: { clock: Clock }): Turns {
  const last = new Map<string, Promise<void>>()

  return {
    async take(key, signal) {
      const before = last.get(key)
      const over = Promise.withResolvers<void>()
      const mine = (before ?? Promise.resolve()).then(() => over.promise)
      last.set(key, mine)
      void mine.then(() => {
        if (last.get(key) === mine) last.delete(key)
      })
      const done = new AbortController()
      const end = (): void => {
        done.abort()
        over.resolve()
      }
      const aborted = Promise.withResolvers<void>()
      const onAbort = (): void => {
        end()
        aborted.resolve()
      }
      if (signal.aborted) onAbort()
      signal.addEventListener('abort', onAbort, { once: true })
      await Promise.race([before, aborted.promise])
      signal.removeEventListener('abort', onAbort)
      void deps.clock.sleep(TURN_MS, done.signal).then(end, () => undefined)
      return end
    },
  }
}
