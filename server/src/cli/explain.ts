import {
  AuthError,
  CapacityError,
  ConflictError,
  ConnectionError,
  ForbiddenError,
  GoneError,
  IdempotencyError,
  NotFoundError,
  PosternError,
  WaitTimeoutError,
} from '@postern/sdk'
import { programName } from './context.ts'
import { CliExit, EXIT } from './exit.ts'
import type { Screen } from './text.ts'

/** Exit code of an error, by what the caller has to do about it. */
export function codeOf(error: Error): number {
  if (error instanceof CliExit) return error.code
  if (error instanceof WaitTimeoutError) return EXIT.ownDeadline
  if (error instanceof ConnectionError) return EXIT.notReachable
  if (error instanceof AuthError || error instanceof ForbiddenError) return EXIT.notAuthorised
  if (error instanceof NotFoundError) return EXIT.notFound
  if (error instanceof ConflictError || error instanceof GoneError || error instanceof IdempotencyError)
    return EXIT.wrongState
  if (error instanceof CapacityError) return EXIT.capacity
  if (error instanceof PosternError && error.status === 400) return EXIT.usage
  return EXIT.unexpected
}

/** Shows an error as its code, its sentence and the next step; returns the exit code. */
export function explain(screen: Screen, error: Error): number {
  const code = codeOf(error)
  if (error instanceof CliExit) {
    if (error.message) screen.complain(`${screen.style('red', '✗')} ${error.message}`)
    if (error.hint) screen.complain(`  ${error.hint}`)
  } else if (error instanceof PosternError) {
    screen.complain(`${screen.style('red', `✗ ${error.code}`)}  ${error.detail}`)
    for (const { pointer, detail } of error.errors) screen.complain(`  ${pointer || '(body)'}: ${detail}`)
    if (error.hint) screen.complain(`  ${runnable(error.hint)}`)
    if (error.requestId) screen.complain(screen.style('gray', `  request ${error.requestId}`))
  } else {
    screen.complain(`${screen.style('red', '✗ unexpected')}  ${error.stack ?? error.message}`)
  }
  return code
}

/** A hint that is a command of ours, as it can be typed here. */
const runnable = (hint: string): string =>
  hint.startsWith('postern ') ? `${programName()}${hint.slice('postern'.length)}` : hint
