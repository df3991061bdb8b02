import { setTimeout as delay } from 'node:timers/promises'
import { ForbiddenError, hooks, type Delivery, type Grant, type Minted, type Postern } from '@postern/sdk'
import { parseCount, parseSpan, type Context } from './context.ts'
import { CliExit, EXIT } from './exit.ts'
import { resolveGrant, resolveSession } from './ids.ts'
import { untilLeft } from './leaving.ts'
import { curlOf } from './curl.ts'
import { age, inert, table } from './text.ts'

/** Seconds that an address lives which is minted only to be tried at once. */
const TEST_TTL_SECONDS = 120
/** Milliseconds between two looks at deliveries that may change. */
const POLL_MS = 500
const PAGE = 200

export interface ExposeFlags {
  session: string
  verb: string
  ttl: string
  label?: string
}

/** `postern channel expose`: four lines; the only ones that ever hold the token. */
export async function exposeChannel(context: Context, flags: ExposeFlags): Promise<number> {
  const { screen, options, me } = context
  const door = await mint(context, flags)
  if (options.json) screen.printJson(door)
  else {
    screen.print(`Channel: ${door.channel}`)
    screen.print(`Grant ID: ${door.grantId}`)
    screen.print(`Webhook: ${door.webhook}`)
    screen.print(`Expires: ${inSeconds(door.expiresAt)}`)
  }
  screen.note(shownOnce(door.webhook))
  screen.note(`next: ${me} channel test ${door.grantId}, or ${me} channel revoke ${door.grantId}`)
  return EXIT.ok
}

async function mint(context: Context, flags: ExposeFlags): Promise<Minted> {
  const ttlSeconds = parseTtl(flags.ttl)
  const postern = await context.connect()
  return await postern.channels.create({
    sessionId: await resolveSession(postern, flags.session),
    verb: flags.verb,
    ttlSeconds,
    ...(flags.label !== undefined && { label: flags.label }),
  })
}

/** Whole seconds, or a span such as `24h`; 0 is the server's default. @throws CliExit 2 */
function parseTtl(text: string): number {
  if (/^\d+$/.test(text)) return Number(text)
  const seconds = parseSpan(text, '--ttl') / 1_000
  if (!Number.isInteger(seconds)) throw new CliExit(EXIT.usage, `--ttl "${text}" is not a whole number of seconds`)
  return seconds
}

function shownOnce(webhook: string): string {
  const { hostname } = new URL(webhook)
  const isLocal = /^(localhost|127\.|\[::1\])/.test(hostname)
  return `  shown this once${isLocal ? ` · ${hostname} is this machine only; set publicUrl for remote callers` : ''}`
}

/** A moment without its milliseconds: addresses expire on a whole second. */
const inSeconds = (iso: string): string => iso.replace(/\.\d+Z$/, 'Z')

/** What a grant is worth now. */
function stateOf(grant: Grant): string {
  if (grant.revoked) return 'revoked'
  return Date.parse(grant.expiresAt) <= Date.now() ? 'expired' : 'live'
}

/** `postern channel ls`: whole ids, as `revoke` takes them. */
export async function listChannels(context: Context, flags: { session?: string; limit: string }): Promise<number> {
  const { screen, options, me } = context
  const limit = parseCount(flags.limit, '--limit')
  const postern = await context.connect()
  const listing = postern.channels.list({
    pageSize: Math.min(limit, PAGE),
    ...(flags.session !== undefined && { sessionId: await resolveSession(postern, flags.session) }),
  })
  if (options.json) {
    screen.printJson(await listing.page())
    return EXIT.ok
  }
  const grants = await listing.toArray({ limit })
  const rows = grants.map((grant) => [
    grant.id,
    stateOf(grant),
    grant.verb,
    inert(grant.label ?? '-', true),
    inSeconds(grant.expiresAt),
    grant.lastUsedAt === null ? 'never' : `${age(grant.lastUsedAt)} ago`,
    String(grant.deliveries),
    grant.channel,
  ])
  screen.print(table(screen, ['GRANT ID', 'STATE', 'VERB', 'LABEL', 'EXPIRES', 'USED', 'SENT', 'CHANNEL'], rows))
  const live = grants.find((grant) => stateOf(grant) === 'live')
  screen.note(`next: ${me} ${live ? `channel revoke ${live.id}` : 'channel expose --session <id>'}`)
  return EXIT.ok
}

/** `postern channel revoke`: a prefix will do, as long as it means one grant alone. */
export async function revokeChannel(context: Context, given: string): Promise<number> {
  const { screen, options } = context
  const postern = await context.connect()
  const grant = await postern.channels.revoke(await resolveGrant(postern, given))
  if (options.json) screen.printJson(grant)
  else screen.print(`${grant.id}\trevoked`)
  screen.note('its address answers 403 from now on; what the agent took stays taken')
  return EXIT.ok
}

/** `postern channel deliveries`: what came through a grant, newest first; with --follow, oldest first and on. */
export async function listDeliveries(
  context: Context,
  given: string,
  flags: { follow?: boolean; limit: string },
): Promise<number> {
  const { screen, options, me } = context
  const limit = parseCount(flags.limit, '--limit')
  const postern = await context.connect()
  const grantId = await resolveGrant(postern, given)
  const listing = postern.channels.deliveries(grantId, { pageSize: Math.min(limit, PAGE) })
  const headings = ['DELIVERY', 'STATUS', 'AGE', 'FROM', 'MESSAGE']
  if (!flags.follow) {
    if (options.json) screen.printJson(await listing.page())
    else screen.print(table(screen, headings, (await listing.toArray({ limit })).map(rowOf)))
    return EXIT.ok
  }
  const goesOn = `deliveries go on arriving: ${me} channel deliveries ${grantId}`
  return await untilLeft(context, { goesOn }, undefined, async (signal) => {
    const shown = new Map<string, string>()
    for (;;) {
      for (const delivery of (await listing.toArray({ limit })).toReversed()) {
        if (shown.get(delivery.id) === delivery.status) continue
        shown.set(delivery.id, delivery.status)
        if (options.json) screen.printJson(delivery)
        else screen.print(rowOf(delivery).join('\t'))
      }
      await delay(POLL_MS, undefined, { signal })
    }
  })
}

const rowOf = (delivery: Delivery): string[] => [
  delivery.id,
  delivery.status + (delivery.reason === null ? '' : ` (${delivery.reason})`),
  age(delivery.createdAt),
  inert(delivery.from ?? '-', true),
  inert(delivery.message, true).slice(0, 200),
]

/** `postern channel curl`: a command to copy, with a fresh address in it. */
export async function curlForChannel(context: Context, flags: ExposeFlags & { message: string }): Promise<number> {
  const { screen, options, me } = context
  const door = await mint(context, flags)
  const curl = curlOf(door.webhook, { message: flags.message, ...(flags.label !== undefined && { from: flags.label }) })
  if (options.json) screen.printJson({ ...door, curl })
  else screen.print(curl)
  screen.note(shownOnce(door.webhook))
  screen.note(`${door.grantId}, expires ${inSeconds(door.expiresAt)} · next: ${me} channel revoke ${door.grantId}`)
  return EXIT.ok
}

/**
 * `postern channel test`: tokens are not kept, so the address itself cannot be tried. What stands behind it can: an
 * address of our own on the same session is minted, knocked on, revoked, and knocked on again.
 */
export async function testChannel(
  context: Context,
  given: string,
  flags: { message: string; deadline: string },
): Promise<number> {
  const { screen, options } = context
  const deadlineMs = parseSpan(flags.deadline, '--deadline')
  const postern = await context.connect()
  const grant = await postern.channels.get(await resolveGrant(postern, given))
  const state = stateOf(grant)
  const say = (ok: boolean, text: string): void =>
    screen.note(`${ok ? screen.style('green', '✓') : screen.style('red', '✗')} ${text}`)
  say(state === 'live', `${grant.id} is ${state}, until ${inSeconds(grant.expiresAt)}`)
  if (state !== 'live') {
    throw new CliExit(
      EXIT.wrongState,
      `${grant.id} is ${state}: its address answers 403`,
      `postern channel expose --session ${grant.sessionId}`,
    )
  }
  const door = await postern.channels.create({
    sessionId: grant.sessionId,
    ttlSeconds: TEST_TTL_SECONDS,
    label: 'channel test',
  })
  let delivery: Delivery
  try {
    const { data, status } = await hooks
      .send(door.webhook, { message: flags.message, from: 'postern' }, { retries: 1 })
      .withResponse()
    say(true, `knock on an address of our own → ${status} ${data.status}`)
    delivery = await settled(postern, data.deliveryId, deadlineMs)
  } finally {
    await postern.channels.revoke(door.grantId)
  }
  const isThrough = delivery.status === 'confirmed'
  // What still waited in the line goes with its address; what was handed over stays so.
  if (!isThrough) delivery = await postern.deliveries.get(delivery.id)
  say(isThrough, `${delivery.id} is ${delivery.status}${delivery.reason === null ? '' : ` (${delivery.reason})`}`)
  if (options.json) screen.printJson(delivery)
  else screen.print(`${delivery.id}\t${delivery.status}`)
  if (!isThrough) {
    const fate =
      delivery.status === 'failed'
        ? 'it waited in line, and was dropped with its address'
        : 'it was handed over, and may yet be taken'
    throw new CliExit(
      EXIT.ownDeadline,
      `the agent has not taken it within ${flags.deadline}; ${fate}`,
      `postern session show ${grant.sessionId}`,
    )
  }
  const refused = await hooks
    .send(door.webhook, { message: flags.message }, { retries: 0 })
    .catch((error: unknown) => error)
  if (!(refused instanceof ForbiddenError)) throw new CliExit(EXIT.unexpected, 'the revoked address still answers')
  say(true, 'revoked, knocked again → 403')
  return EXIT.ok
}

/** The delivery once nothing more becomes of it, or as it is after so long. */
async function settled(postern: Postern, id: Delivery['id'], withinMs: number): Promise<Delivery> {
  const until = performance.now() + withinMs
  for (;;) {
    const delivery = await postern.deliveries.get(id)
    if (delivery.endedAt !== null || performance.now() >= until) return delivery
    await delay(Math.min(POLL_MS, Math.max(1, until - performance.now())))
  }
}
