import type { Clock } from '../clock.ts'

/** Milliseconds before a record that could not be written is tried again. */
export const RETRY_MS = 500

/**
 * Writes until the disk takes it: the agent has the message already, and nothing can call it back. Undefined: the server
 * could wait no longer.
 */
export async function insist<T>(
  { clock, giveUp }: { clock: Clock; giveUp: AbortSignal },
  write: () => Promise<T>,
): Promise<T | undefined> {
  for (;;) {
    try {
      return await write()
    } catch {
      if (giveUp.aborted) return undefined
      await clock.sleep(RETRY_MS, giveUp).catch(() => undefined)
    }
  }
}
