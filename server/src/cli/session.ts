import { text as readAll } from 'node:stream/consumers'
import { ReplyTimeoutError, type Event, type Session, type SessionId } from '@postern/sdk'
import { parseCount, type Context } from './context.ts'
import { explain } from './explain.ts'
import { CliExit, EXIT } from './exit.ts'
import { createEventPrinter, follow } from './follow.ts'
import { resolveSession, resolveWorkspace } from './ids.ts'
import { untilLeft, type LookedAt } from './leaving.ts'
import { age, inert, shortIds, sessionState, table } from './text.ts'

/** Most sessions a page of the API holds. */
const PAGE = 200

export const sessionLookedAt = ({ me }: Context, id: SessionId): LookedAt => ({
  goesOn: `${id} goes on: ${me} session attach ${id}`,
  tooLate: (deadlineMs) => new ReplyTimeoutError(id, deadlineMs, undefined),
})

export interface StartFlags {
  workspace: string
  agent?: string
  title?: string
  model?: string
  key?: string
  attach?: boolean
}

/** `postern session start`: prints the id, or goes on to `attach`. */
export async function startSession(context: Context, prompt: string | undefined, flags: StartFlags): Promise<number> {
  const { screen, options, me } = context
  const postern = await context.connect()
  const { agent, title, model, key } = flags
  const first = prompt === '-' ? await readAll(process.stdin) : prompt
  const session = await postern.sessions.create(
    {
      wsId: await resolveWorkspace(postern, flags.workspace),
      ...(first !== undefined && { prompt: first }),
      ...(agent !== undefined && { agent }),
      ...(title !== undefined && { title }),
      ...(model !== undefined && { model }),
    },
    // Places of sessions are seldom free again soon: people are told at once.
    { retries: 0, idempotencyKey: key },
  )
  screen.note(`${screen.style('green', '✓')} opened ${session.id} · ${session.wsId} · ${session.agent}`)
  if (flags.attach)
    return await (await import('./attach.ts')).attach(context, session.id, { after: 0, isAsked: first !== undefined })
  if (options.json) screen.printJson(session)
  else screen.print(session.id)
  screen.note(`next: ${me} session attach ${session.id}, or ${me} channel expose --session ${session.id}`)
  return EXIT.ok
}

export interface ListFlags {
  workspace?: string
  state?: string
  agent?: string
  limit: string
}

/** `postern session ls`. */
export async function listSessions(context: Context, flags: ListFlags): Promise<number> {
  const { screen, options, me } = context
  const limit = parseCount(flags.limit, '--limit')
  const postern = await context.connect()
  const listing = postern.sessions.list({
    pageSize: Math.min(limit, PAGE),
    ...(flags.workspace !== undefined && { wsId: await resolveWorkspace(postern, flags.workspace) }),
    ...(flags.state !== undefined && { state: flags.state }),
    ...(flags.agent !== undefined && { agent: flags.agent }),
  })
  if (options.json) {
    screen.printJson(await listing.page())
    return EXIT.ok
  }
  const sessions = await listing.toArray({ limit })
  const short = shortIds(sessions.map(({ id }) => id))
  const rows = sessions.map((session) => [
    screen.isTerminal ? (short.get(session.id) ?? session.id) : session.id,
    sessionState(screen, session.state),
    session.wsId,
    session.agent,
    age(session.lastActivityAt ?? session.createdAt),
    String(session.turns),
    String(session.waiting),
    inert(session.title ?? '', true),
  ])
  screen.print(table(screen, ['ID', 'STATE', 'WS', 'AGENT', 'QUIET', 'TURNS', 'WAIT', 'TITLE'], rows))
  const open = sessions.find(({ endedAt }) => endedAt === null)
  screen.note(`next: ${me} ${open ? `session attach ${open.id}` : 'session start -w <workspace>'}`)
  return EXIT.ok
}

/** `postern session show`. */
export async function showSession(context: Context, given: string): Promise<number> {
  const postern = await context.connect()
  return show(context, await postern.sessions.get(await resolveSession(postern, given)))
}

function show({ screen, options }: Context, session: Session): number {
  if (options.json) {
    screen.printJson(session)
    return EXIT.ok
  }
  const { usage, reason, detail } = session
  const fields: [string, string | null][] = [
    ['session', session.id],
    ['state', `${sessionState(screen, session.state)}${reason === null ? '' : ` (${reason})`}`],
    ['detail', detail === null ? null : inert(detail)],
    ['title', session.title === null ? null : inert(session.title, true)],
    ['workspace', session.wsId],
    ['agent', session.agent + (session.model === null ? '' : ` · ${inert(session.model, true)}`)],
    ['may', session.permissions],
    ['created', `${session.createdAt} (${age(session.createdAt)} ago)`],
    ['turns', `${session.turns}, ${session.waiting} waiting`],
    ['usage', usage.source === 'none' ? null : `${usage.inputTokens} in, ${usage.outputTokens} out`],
    ['channel', `postern:/sessions/${session.id}`],
  ]
  for (const [name, value] of fields) {
    if (value !== null)
      screen.print(`${screen.style('gray', name.padEnd(10))} ${value.replaceAll('\n', `\n${' '.repeat(11)}`)}`)
  }
  return EXIT.ok
}

export interface SendFlags {
  from?: string
  steer?: boolean
  interrupt?: boolean
  wait?: boolean
  follow?: boolean
  deadline?: string
  key?: string
}

/** `postern session send`: prints the id of the delivery; with --wait the reply, with --follow all of the turn. */
export async function sendToSession(context: Context, given: string, text: string, flags: SendFlags): Promise<number> {
  const { screen, options, me } = context
  const waits = flags.wait === true || flags.follow === true
  if (flags.steer && (flags.interrupt || waits))
    throw new CliExit(EXIT.usage, '--steer goes with neither --interrupt, --wait nor --follow')
  if (flags.deadline !== undefined && !waits) throw new CliExit(EXIT.usage, '--deadline needs --wait or --follow')
  const message = text === '-' ? await readAll(process.stdin) : text
  const postern = await context.connect()
  const id = await resolveSession(postern, given)
  const key = flags.key === undefined ? {} : { idempotencyKey: flags.key }
  const input = { message, ...(flags.from !== undefined && { from: flags.from }) }
  if (!waits) {
    const delivery = flags.steer ? 'steer' : flags.interrupt ? 'interrupt' : 'queue'
    const receipt = await postern.sessions.send(id, { ...input, delivery }, key)
    if (options.json) screen.printJson(receipt)
    else screen.print(`${receipt.deliveryId}\t${receipt.status}`)
    screen.note(`next: ${me} session attach ${id}`)
    return EXIT.ok
  }
  const printer = createEventPrinter(context)
  return await untilLeft(context, sessionLookedAt(context, id), flags.deadline, async (signal) => {
    const reply = await postern.sessions.ask(
      id,
      { ...input, delivery: flags.interrupt ? 'interrupt' : 'queue' },
      {
        signal,
        ...key,
        onEvent: (event) => {
          if (flags.follow) printer.print(event)
          else if (event.type === 'permission.requested') screen.note(howToAnswer(context, event))
        },
      },
    )
    printer.endLine()
    if (!flags.follow) {
      if (options.json) screen.printJson(reply)
      else if (reply.text !== '') screen.print(inert(reply.text.replace(/\n$/, '')))
      if (reply.error) screen.complain(`${screen.style('red', '✗')} ${inert(reply.error.message, true)}`)
    }
    return exitOfTurn(reply.status)
  })
}

/** What to type when an agent waits for a permission and nobody sits before it. */
export function howToAnswer({ me }: Context, event: Event): string {
  return `it asks: ${inert(String(event['title']), true)} · ${me} requests answer ${String(event['requestId'])} allow|deny`
}

/** Exit code by how a turn ended. */
export function exitOfTurn(status: string): number {
  if (status === 'completed') return EXIT.ok
  return status === 'canceled' ? EXIT.canceled : EXIT.failed
}

/** `postern session events`: JSON Lines, so far or until the session ends. */
export async function printSessionEvents(
  context: Context,
  given: string,
  flags: { after: string; follow?: boolean },
): Promise<number> {
  const after = parseCount(flags.after, '--after', 0)
  const postern = await context.connect()
  const id = await resolveSession(postern, given)
  const asJson: Context = { ...context, options: { ...context.options, json: true } }
  if (flags.follow) {
    return await untilLeft(context, sessionLookedAt(context, id), undefined, async (signal) => {
      await follow(asJson, postern.sessions.events(id, { after, signal }))
      return EXIT.ok
    })
  }
  for (let seq = after; ;) {
    const page = await postern.sessions.eventsPage(id, { after: seq })
    page.events.forEach((event) => context.screen.printJson(event))
    if (page.events.length === 0 || page.nextAfter >= page.lastSeq) return EXIT.ok
    seq = page.nextAfter
  }
}

/** `postern session interrupt`: the turn at work ends, what waits goes on. */
export async function interruptSession(context: Context, given: string): Promise<number> {
  const { screen, options } = context
  const postern = await context.connect()
  const session = await postern.sessions.interrupt(await resolveSession(postern, given))
  if (options.json) screen.printJson(session)
  else screen.print(`${session.id}\t${session.state}`)
  return EXIT.ok
}

/** `postern session end`, of one or several. */
export async function endSessions(context: Context, given: string[]): Promise<number> {
  const { screen, options } = context
  const postern = await context.connect()
  let code: number = EXIT.ok
  for (const each of given) {
    try {
      const session = await postern.sessions.end(await resolveSession(postern, each))
      if (options.json) screen.printJson(session)
      else screen.print(`${session.id}\t${session.state}`)
    } catch (error) {
      code = explain(context, error)
    }
  }
  return code
}
