import {
  AuthError,
  BadRequestError,
  CapacityError,
  ConflictError,
  ConnectionError,
  ForbiddenError,
  GoneError,
  IdempotencyError,
  NotFoundError,
  PosternError,
  ReplyTimeoutError,
  WaitTimeoutError,
} from '@postern/sdk'
import type { Context } from './context.ts'
import { CliExit, EXIT } from './exit.ts'
import { inert } from './text.ts'

/** Exit code of an error, by what the caller has to do about it. */
export function codeOf(error: unknown): number {
  if (error instanceof CliExit) return error.code
  if (error instanceof WaitTimeoutError || error instanceof ReplyTimeoutError) return EXIT.ownDeadline
  if (error instanceof ConnectionError) return EXIT.notReachable
  if (error instanceof AuthError || error instanceof ForbiddenError) return EXIT.notAuthorised
  if (error instanceof NotFoundError) return EXIT.notFound
  if (error instanceof ConflictError || error instanceof GoneError || error instanceof IdempotencyError)
    return EXIT.wrongState
  if (error instanceof CapacityError) return EXIT.capacity
  if (error instanceof BadRequestError) return EXIT.usage
  return EXIT.unexpected
}

/** Shows an error as its code, its sentence and the next step; returns the exit code. */
export function explain(context: Context, error: unknown): number {
  const { screen } = context
  const code = codeOf(error)
  if (error instanceof CliExit) {
    if (error.message) screen.complain(`${screen.style('red', '✗')} ${error.message}`)
    if (error.hint) screen.complain(`  ${runnable(context, error.hint)}`)
  } else if (error instanceof PosternError) {
    screen.complain(`${screen.style('red', `✗ ${error.code}`)}  ${inert(error.detail, true)}`)
    for (const { pointer, detail } of error.errors) {
      if (!error.detail.includes(detail)) screen.complain(`  ${pointer || '(body)'}: ${inert(detail, true)}`)
    }
    const hint = hintOf(error)
    if (hint !== undefined) screen.complain(`  ${runnable(context, inert(hint, true))}`)
    const source = [
      ...(error.requestId === undefined ? [] : [`request ${error.requestId}`]),
      ...(error.status === undefined || !context.url ? [] : [`${context.url}/docs#${error.code}`]),
    ]
    if (source.length > 0) screen.complain(screen.style('gray', `  ${source.join(' · ')}     (exit ${code})`))
  } else {
    const text = error instanceof Error ? (error.stack ?? error.message) : String(error)
    screen.complain(`${screen.style('red', '✗ unexpected')}  ${inert(text)}`)
  }
  return code
}

/** The next step, in the words of the command line. */
function hintOf(error: PosternError): string | undefined {
  if (error instanceof WaitTimeoutError) return `postern runs watch ${error.taskId}`
  if (error instanceof ReplyTimeoutError) return `postern session attach ${error.sessionId}`
  return error.hint?.replace('send whenBusy: "queue"', 'postern run … --queue')
}

/** A hint with our commands as they can be typed here: `npx postern` in a checkout. */
export const runnable = (context: Context, hint: string): string =>
  hint.replace(
    /(?<![\w/.-])postern (?=(serve|tour|doctor|run|runs|workspace|ws|cred|agents|issue|inbox|report|session|channel|requests|listen|trigger|keys)\b)/g,
    `${context.me} `,
  )
