import type { Clock } from '../src/clock.ts'

export interface JumpingClock extends Clock {
  /** Lets so many milliseconds pass at once, for timers too. */
  pass(ms: number): void
  /** Lets time pass up to that moment, at once. */
  passTo(moment: number): void
  /** The machine sleeps: the wall clock goes on and timers do not. Negative: somebody sets the clock back. */
  suspend(ms: number): void
}

/** The machine's clock, from another moment on, and able to jump. */
export function createJumpingClock(startAt: number): JumpingClock {
  let wallOffset = startAt - Date.now()
  let monotonicOffset = 0
  const sleepers = new Set<() => void>()
  const monotonic = (): number => performance.now() + monotonicOffset
  const now = (): number => Date.now() + wallOffset
  const pass = (ms: number): void => {
    wallOffset += ms
    monotonicOffset += ms
    for (const look of sleepers) look()
  }
  return {
    now,
    monotonic,
    pass,
    passTo: (moment) => pass(Math.max(0, moment - now())),
    suspend(ms) {
      wallOffset += ms
    },
    sleep(ms, signal) {
      const until = monotonic() + ms
      return new Promise((resolve, reject) => {
        let timer: NodeJS.Timeout | undefined
        const end = (): void => {
          clearTimeout(timer)
          sleepers.delete(look)
          signal?.removeEventListener('abort', abort)
        }
        const abort = (): void => {
          end()
          reject(signal?.reason as Error)
        }
        const look = (): void => {
          clearTimeout(timer)
          const left = until - monotonic()
          if (left > 0) {
            timer = setTimeout(look, Math.min(left, 2 ** 31 - 1))
            return
          }
          end()
          resolve()
        }
        if (signal?.aborted) return abort()
        signal?.addEventListener('abort', abort)
        sleepers.add(look)
        look()
      })
    },
  }
}
