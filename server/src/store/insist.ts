import type { Clock } from '../clock.ts'

/** Milliseconds before what the disk did not take is tried again. */
export const RETRY_MS = 500

/**
 * Repeats one step until the disk takes it: of what happened already, and nothing can call back. @throws what the disk
 * said, once the server cannot wait any longer
 */
export async function insist<T>(clock: Clock, giveUp: AbortSignal, step: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await step()
    } catch (error) {
      if (giveUp.aborted) throw error
      await clock.sleep(RETRY_MS, giveUp).catch(() => undefined)
    }
  }
}
