/** When to try again, and with which key. Shared by the client and by `hooks`, which uses nothing else of it. */

/** A longer `Retry-After` is not waited for: the error says it, and the caller decides. */
export const MAX_RETRY_AFTER_MS = 60_000
/** The longest that a timer can be set to; a later deadline is as good as this one, which is 24 days away. */
export const MAX_TIMER_MS = 2 ** 31 - 1
const BACKOFF_MS = 300
const MAX_BACKOFF_MS = 10_000

/**
 * Milliseconds before the next try: doubling from 300 to 10,000, of which a random half, so that callers who failed
 * together do not return together.
 */
export function backoffMs(failures: number): number {
  return Math.min(MAX_BACKOFF_MS, BACKOFF_MS * 2 ** (failures - 1)) * (0.5 + Math.random() / 2)
}

/** Resolves after `ms` milliseconds. @throws the signal's reason, at once, when it aborts first */
export function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const onAbort = (): void => {
      clearTimeout(timer)
      reject(signal?.reason as Error)
    }
    const timer = setTimeout(() => {
      signal?.removeEventListener('abort', onAbort)
      resolve()
    }, ms)
    if (signal?.aborted) onAbort()
    else signal?.addEventListener('abort', onAbort, { once: true })
  })
}

/** 128 random bits. Not `randomUUID`: a page served without TLS does not have it. */
export function newKey(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16))
  return `sdk-${Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('')}`
}
