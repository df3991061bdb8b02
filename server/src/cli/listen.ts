import { setTimeout as delay } from 'node:timers/promises'
import { isOver, type Event, type Postern, type SessionId } from '@postern/sdk'
import { parseCount, type Context } from './context.ts'
import { curlToRepeat } from './curl.ts'
import { CliExit, EXIT } from './exit.ts'
import { sender, textOf } from './follow.ts'
import { resolveSession, wholeDelivery } from './ids.ts'
import { untilLeft } from './leaving.ts'
import { inert } from './text.ts'
import { knockOnce } from './trigger.ts'

/** Milliseconds between two looks for sessions that were opened meanwhile. */
const LOOK_MS = 2_000
/** Sessions listened to at once, the newest. */
const MAX_SESSIONS = 50

export interface ListenFlags {
  last: string
  curl?: boolean
  replay?: string
}

/**
 * `postern listen`: what is sent into one session, or into all that have not ended, as it arrives and as it is taken.
 * With --last, first what arrived before; with --curl, a command that sends it again; --replay sends one again itself.
 */
export async function listen(context: Context, given: string | undefined, flags: ListenFlags): Promise<number> {
  const last = parseCount(flags.last, '--last', 0)
  const postern = await context.connect()
  if (flags.replay !== undefined) return await replay(context, postern, given, flags.replay)
  const only = given === undefined ? undefined : await resolveSession(postern, given)
  if (only !== undefined) {
    const { endedAt, lastSeq } = await postern.sessions.get(only)
    if (endedAt !== null && last === 0)
      throw new CliExit(EXIT.wrongState, `${only} ended: nothing will arrive`, `postern listen ${only} --last 20`)
    context.screen.note(`listening to ${only}, event ${lastSeq} · Ctrl-C leaves`)
  }

  const goesOn = 'sessions go on'
  return await untilLeft(context, { goesOn }, undefined, async (signal) => {
    if (only !== undefined) await (await begin(context, postern, only, last, flags.curl === true, signal))()
    else await listenToAll(context, postern, last, flags.curl === true, signal)
    return EXIT.ok
  })
}

async function listenToAll(
  context: Context,
  postern: Postern,
  last: number,
  curl: boolean,
  signal: AbortSignal,
): Promise<never> {
  const heard = new Set<SessionId>()
  let isFirst = true
  const failed = Promise.withResolvers<never>()
  failed.promise.catch(() => undefined)
  for (;;) {
    const newest = await postern.sessions.list({ pageSize: MAX_SESSIONS }, { signal }).page()
    for (const session of newest.sessions) {
      if (isOver(session) || heard.has(session.id)) continue
      heard.add(session.id)
      // Of a session that was opened while we listened, nothing is missed.
      const listenOn = await begin(context, postern, session.id, isFirst ? last : Infinity, curl, signal)
      void listenOn().catch(failed.reject)
    }
    if (isFirst)
      context.screen.note(`listening to ${heard.size} sessions, and to those that are opened · Ctrl-C leaves`)
    isFirst = false
    await Promise.race([delay(LOOK_MS, undefined, { signal }), failed.promise])
  }
}

/**
 * Shows what came before; from then on nothing is missed.
 *
 * @param last how many of the messages that came before to show
 * @returns what shows the rest, until the session has ended
 */
async function begin(
  context: Context,
  postern: Postern,
  id: SessionId,
  last: number,
  curl: boolean,
  signal: AbortSignal,
): Promise<() => Promise<void>> {
  const { lastSeq } = await postern.sessions.get(id, { signal })
  const earlier = last === 0 ? [] : await messagesUpTo(postern, id, lastSeq, signal)
  const shown = new Set(
    earlier
      .filter(({ type }) => type === 'input.accepted')
      .slice(-last)
      .map(deliveryOf),
  )
  for (const event of earlier) if (shown.has(deliveryOf(event))) print(context, id, event, curl)
  return async () => {
    for await (const event of postern.sessions.events(id, { after: lastSeq, signal })) {
      if (isAboutDelivery(event)) print(context, id, event, curl)
    }
  }
}

const deliveryOf = (event: Event): unknown => event['deliveryId']
const isAboutDelivery = ({ type }: Event): boolean => type.startsWith('input.') || type === 'turn.ended'

async function messagesUpTo(postern: Postern, id: SessionId, lastSeq: number, signal: AbortSignal): Promise<Event[]> {
  const found: Event[] = []
  for (let after = 0; after < lastSeq;) {
    const page = await postern.sessions.eventsPage(id, { after, signal })
    if (page.events.length === 0) break
    found.push(...page.events.filter((event) => isAboutDelivery(event) && event.seq <= lastSeq))
    after = page.nextAfter
  }
  return found
}

/** One line for each change: time, session, delivery, what became of it, and of a new one who sent what. */
function print(context: Context, id: SessionId, event: Event, curl: boolean): void {
  const { screen, options } = context
  if (options.json) return screen.printJson({ sessionId: id, ...event })
  const at = screen.isTerminal ? event.at.slice(11, 19) : event.at
  const what = event.type === 'turn.ended' ? `turn ${textOf(event['status'])}` : event.type.slice('input.'.length)
  const text = inert(event.text ?? '', true)
  const isNew = event.type === 'input.accepted'
  const words = isNew
    ? `${sender(event)}${text.slice(0, 200)}`
    : event.type === 'turn.ended'
      ? `→ ${text.slice(0, 200)}`
      : ''
  screen.print([at, id, textOf(deliveryOf(event)), inert(what, true), words].join(screen.isTerminal ? '  ' : '\t'))
  if (!curl || !isNew) return
  const from = event['from']
  screen.print(curlToRepeat({ message: event.text ?? '', ...(typeof from === 'string' && { from }) }))
}

/** Sends the message of a delivery once more, as a knock, with the sender and the label it had. */
async function replay(
  context: Context,
  postern: Postern,
  given: string | undefined,
  deliveryId: string,
): Promise<number> {
  const { screen, options, me } = context
  const earlier = await postern.deliveries.get(await wholeDelivery(deliveryId))
  const sessionId = given === undefined ? earlier.sessionId : await resolveSession(postern, given)
  const knock = { message: earlier.message, ...(earlier.from !== null && { from: earlier.from }) }
  const receipt = await knockOnce(postern, sessionId, earlier.label ?? 'replay', knock)
  if (options.json) screen.printJson(receipt)
  else screen.print(`${receipt.deliveryId}\t${receipt.status}`)
  screen.note(`${earlier.id} was sent again · next: ${me} session attach ${receipt.sessionId}`)
  return EXIT.ok
}
