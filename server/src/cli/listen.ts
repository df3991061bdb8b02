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
    const hearing: Hearing = { context, postern, curl: flags.curl === true, signal }
    if (only !== undefined) {
      const ear = await openEar(hearing, only, last > 0)
      showEarlier(hearing, [ear], last)
      await listenOn(hearing, ear)
    } else await listenToAll(hearing, last)
    return EXIT.ok
  })
}

interface Hearing {
  context: Context
  postern: Postern
  curl: boolean
  signal: AbortSignal
}
/** A session that is listened to. */
interface Ear {
  id: SessionId
  /** From here on nothing is missed. */
  lastSeq: number
  /** What was sent up to there, if it was asked for. */
  earlier: Event[]
}

async function listenToAll(hearing: Hearing, last: number): Promise<never> {
  const { context, postern, signal } = hearing
  const heard = new Set<SessionId>()
  let isFirst = true
  const failed = Promise.withResolvers<never>()
  failed.promise.catch(() => undefined)
  for (;;) {
    const newest = await postern.sessions.list({ pageSize: MAX_SESSIONS }, { signal }).page()
    const ears: Ear[] = []
    for (const session of newest.sessions) {
      if (isOver(session) || heard.has(session.id)) continue
      heard.add(session.id)
      ears.push(await openEar(hearing, session.id, !isFirst || last > 0))
    }
    // Of a session that was opened while we listened, nothing is missed.
    showEarlier(hearing, ears, isFirst ? last : Infinity)
    for (const ear of ears) void listenOn(hearing, ear).catch(failed.reject)
    if (isFirst)
      context.screen.note(`listening to ${heard.size} sessions, and to those that are opened · Ctrl-C leaves`)
    isFirst = false
    await Promise.race([delay(LOOK_MS, undefined, { signal }), failed.promise])
  }
}

async function openEar({ postern, signal }: Hearing, id: SessionId, asksEarlier: boolean): Promise<Ear> {
  const { lastSeq } = await postern.sessions.get(id, { signal })
  return { id, lastSeq, earlier: asksEarlier ? await messagesUpTo(postern, id, lastSeq, signal) : [] }
}

/** Shows the last messages of all together that came before, and what became of them, in the order of time. */
function showEarlier({ context, curl }: Hearing, ears: Ear[], last: number): void {
  if (last === 0) return
  const all = ears
    .flatMap(({ id, earlier }) => earlier.map((event) => ({ id, event })))
    .toSorted((one, other) => Date.parse(one.event.at) - Date.parse(other.event.at))
  const accepted = all.filter(({ event }) => event.type === 'input.accepted').slice(-last)
  const shown = new Set(accepted.map(({ event }) => deliveryOf(event)))
  for (const { id, event } of all) if (shown.has(deliveryOf(event))) print(context, id, event, curl)
}

/** Shows what comes, until the session has ended. */
async function listenOn({ context, postern, curl, signal }: Hearing, { id, lastSeq }: Ear): Promise<void> {
  for await (const event of postern.sessions.events(id, { after: lastSeq, signal })) {
    if (isAboutDelivery(event)) print(context, id, event, curl)
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
