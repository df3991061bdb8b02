import { WaitTimeoutError, type TaskId } from '@postern/sdk'
import { parseSpan, type Context } from './context.ts'
import { EXIT } from './exit.ts'

/**
 * Looks at a run until `work` is done, Ctrl-C, or the caller's own deadline; the run goes on in any case. The second
 * Ctrl-C does what the system does.
 *
 * @param deadline a span such as `90s`
 * @returns the exit code of `work`, or 130 after Ctrl-C
 * @throws WaitTimeoutError when the deadline passed
 */
export async function untilLeft(
  context: Context,
  taskId: TaskId,
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
      context.screen.note(`left; ${taskId} goes on: ${context.me} runs watch ${taskId}`)
      return EXIT.interruptedByUser
    }
    if (passed?.aborted) throw new WaitTimeoutError(taskId, deadlineMs ?? 0, undefined)
    throw error
  } finally {
    process.off('SIGINT', leave)
  }
}
