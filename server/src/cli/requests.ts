import { parseCount, type Context } from './context.ts'
import { CliExit, EXIT } from './exit.ts'
import { resolveRequest, resolveSession } from './ids.ts'
import { age, inert, table } from './text.ts'

const PAGE = 200
/** Characters of what a tool would be given that a list shows. */
const INPUT_SHOWN = 120

/** `postern requests`: what waits for an answer; with --all, what was answered too. */
export async function listRequests(
  context: Context,
  flags: { session?: string; all?: boolean; limit: string },
): Promise<number> {
  const { screen, options, me } = context
  const limit = parseCount(flags.limit, '--limit')
  const postern = await context.connect()
  const listing = postern.requests.list({
    pageSize: Math.min(limit, PAGE),
    ...(!flags.all && { status: 'pending' }),
    ...(flags.session !== undefined && { sessionId: await resolveSession(postern, flags.session) }),
  })
  if (options.json) {
    screen.printJson(await listing.page())
    return EXIT.ok
  }
  const requests = await listing.toArray({ limit })
  const rows = requests.map((request) => [
    request.id,
    request.status,
    request.agent,
    age(request.createdAt),
    inert(request.title, true) + (request.kind === null ? '' : ` (${inert(request.kind, true)})`),
    request.input === undefined ? '' : inert(JSON.stringify(request.input), true).slice(0, INPUT_SHOWN),
    request.sessionId,
  ])
  screen.print(table(screen, ['ID', 'STATUS', 'AGENT', 'AGE', 'ASKS', 'INPUT', 'SESSION'], rows))
  const first = requests.find(({ status }) => status === 'pending')
  screen.note(first ? `next: ${me} requests answer ${first.id} allow` : 'nothing waits for an answer')
  return EXIT.ok
}

/** `postern requests answer`. */
export async function answerRequest(
  context: Context,
  given: string,
  answer: string,
  flags: { option?: string },
): Promise<number> {
  const { screen, options } = context
  if (answer !== 'allow' && answer !== 'deny')
    throw new CliExit(EXIT.usage, `"${answer}" is no answer`, 'allow or deny')
  const postern = await context.connect()
  const request = await postern.requests.answer(await resolveRequest(postern, given), answer, {
    optionId: flags.option,
  })
  if (options.json) screen.printJson(request)
  else screen.print(`${request.id}\t${request.status}`)
  screen.note(`${inert(request.title, true)}: ${request.status}`)
  return EXIT.ok
}
