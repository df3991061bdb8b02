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
import { inert, inertJson } from './text.ts'

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

/**
 * Shows an error as its code, its sentence and the next step, with --json as an object with the names of the API; returns
 * the exit code.
 */
export function explain(context: Context, error: unknown): number {
  const { screen } = context
  const code = codeOf(error)
  if (context.options.json) {
    const problem = problemOf(context, error)
    if (problem.detail !== '') screen.complain(inertJson(problem))
  } else if (error instanceof CliExit) {
    if (error.message) screen.complain(`${screen.style('red', '✗')} ${error.message}`)
    if (error.hint) screen.complain(`  ${runnable(context, error.hint)}`)
  } else if (error instanceof PosternError) {
    screen.complain(`${screen.style('red', `✗ ${error.code}`)}  ${inCliWords(inert(error.detail, true))}`)
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

function problemOf(context: Context, error: unknown): { detail: string; [field: string]: unknown } {
  const told = (hint: string | undefined): string | undefined => hint && runnable(context, hint)
  if (error instanceof PosternError) {
    const { code, status, requestId, errors } = error
    const fields = errors.length > 0 ? { errors } : {}
    return { code, detail: inCliWords(error.detail), hint: told(hintOf(error)), status, requestId, ...fields }
  }
  const code = Object.entries(EXIT).find(([, number]) => number === codeOf(error))?.[0] ?? 'unexpected'
  const hint = error instanceof CliExit ? told(error.hint) : undefined
  // As the codes of the API are written.
  return {
    code: code.replace(/[A-Z]/g, (capital) => `_${capital.toLowerCase()}`),
    detail: (error as Error).message,
    hint,
  }
}

/** The next step, in the words of the command line. */
function hintOf(error: PosternError): string | undefined {
  if (error instanceof WaitTimeoutError) return `postern runs watch ${error.taskId}`
  if (error instanceof ReplyTimeoutError) return `postern session attach ${error.sessionId}`
  if (error.code === 'server_not_running' && process.env['POSTERN_URL']) return 'postern serve, or mend POSTERN_URL'
  return error.hint === undefined ? undefined : inCliWords(error.hint)
}

/** What the API and the SDK say, and what it is called here. */
const CLI_WORDS: [theirs: string, ours: string][] = [
  ['the option `url`', '--server'],
  ['send whenBusy: "queue"', 'postern run … --queue'],
  [
    'send the token in admin-token under the data directory as Authorization: Bearer',
    'name the admin-token file of the server with --token-file, or set POSTERN_TOKEN',
  ],
  ['send it with delivery "queue", or "interrupt"', 'send it without --steer, or with --interrupt'],
  ['leave "model" out', 'leave --model out'],
  ['rotate with "drop": true', 'postern keys rotate --drop'],
  ['choose another issueId', 'choose another --id'],
  [' to agents, or leave defaultAgent out', ' to --agents, or leave --default-agent out'],
]
const inCliWords = (text: string): string => CLI_WORDS.reduce((all, [theirs, ours]) => all.replace(theirs, ours), text)

/** A hint with our commands as they can be typed here: `npx postern` in a checkout. */
export const runnable = (context: Context, hint: string): string =>
  hint.replace(
    /(?<![\w/.-])postern (?=(serve|tour|doctor|run|runs|workspace|ws|cred|agents|issue|inbox|report|session|channel|requests|listen|trigger|keys)\b)/g,
    `${context.me} `,
  )
