import { WaitTimeoutError, type TaskId } from '@postern/sdk'
import { parseSpan, type Context } from './context.ts'
import { EXIT } from './exit.ts'

/** What is looked at, and goes on when nobody looks. */
export interface LookedAt {
  /** Said after Ctrl-C: `headless_… goes on: postern runs watch headless_…`. */
  goesOn: string
  /** What to throw once the caller's own deadline has passed. */
  tooLate?: (deadlineMs: number) => Error
}

export const runLookedAt = (context: Context, taskId: TaskId): LookedAt => ({
  goesOn: `${taskId} goes on: ${context.me} runs watch ${taskId}`,
  tooLate: (deadlineMs) => new WaitTimeoutError(taskId, deadlineMs, undefined),
})

/**
 * Looks at something until `work` is done, Ctrl-C, or the caller's own deadline; it goes on in any case. The second
 * Ctrl-C does what the system does.
 *
 * @param deadline a span such as `90s`
 * @returns the exit code of `work`, or 130 after Ctrl-C
 * @throws what `tooLate` makes, when the deadline passed
 */
export async function untilLeft(
  context: Context,
  lookedAt: LookedAt,
  deadline: string | undefined,
  work: (signal: AbortSignal) => Promise<number>,
): Promise<number> {
  const deadlineMs = deadline === undefined ? undefined : parseSpan(deadline, '--deadline')
  const interrupted = new AbortController()
  const leave = (): void => interrupted.abort()
  const passed = deadlineMs === undefined ? undefined : AbortSignal.timeout(deadlineMs)
  process.once('SIGINT', leave)
  try {
    return await work(passed ? AbortSignal.any([interrupted.signal, passed]) : interrupted.signal)
  } catch (error) {
    if (interrupted.signal.aborted) {
      context.screen.note(`left; ${lookedAt.goesOn}`)
      return EXIT.interruptedByUser
    }
    if (passed?.aborted) throw lookedAt.tooLate?.(deadlineMs ?? 0) ?? error
    throw error
  } finally {
    process.off('SIGINT', leave)
  }
}
