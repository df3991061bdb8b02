import { createBuckets } from '../channels/buckets.ts'
import type { Channels } from '../channels/types.ts'
import type { Clock } from '../clock.ts'
import { DomainError } from '../errors.ts'
import { CHANNEL_LIMITS, HookBody, type ChannelLimits, type GrantRow } from '../model/channels.ts'
import { readJsonBody } from './body.ts'
import { addressForLimits } from './caller.ts'
import { gather, refusalOf, shapeOf } from './input.ts'
import { keyOf } from './preferences.ts'
import { send, sendJson, type Exchange, type Headers } from './respond.ts'

/** The one answer to whatever is no good token: its length and bytes never say why. 139 bytes. */
export const FORBIDDEN =
  '{"type":"about:blank","title":"Forbidden","status":403,"detail":"This address or token is not valid.","code":"forbidden","retryable":false}'

/** Sources of bad tokens that are told apart; each by its address. */
const MAX_SOURCES = 4_096
const SHAPE = shapeOf('/hook', HookBody, true)

/** True for a path that only the hook answers; it may hold a token, and so is logged as `SHOWN_PATH`. */
export const isHookPath = (path: string): boolean => path === '/hook' || path.startsWith('/hook/')
export const SHOWN_PATH = '/hook/…'

/**
 * `POST /hook/{token}` and `POST /hook` with `Authorization: Bearer`: the token is the authority, so this stands before
 * the check of the caller. The order of checks is part of the contract. Source: docs/security.md 2.3.
 */
export function createHook(deps: {
  channels: Pick<Channels, 'verify' | 'take' | 'deliver'>
  clock: Clock
  trustedProxies: readonly string[]
  isDraining(): boolean
  limits?: Partial<ChannelLimits>
}): (exchange: Exchange) => Promise<void> {
  const { channels, clock, trustedProxies, isDraining } = deps
  const limits: ChannelLimits = { ...CHANNEL_LIMITS, ...deps.limits }
  const perSource = createBuckets({
    size: limits.failuresPerSource,
    perMinute: 60 * limits.failuresPerSource,
    clock,
    maxBuckets: MAX_SOURCES,
  })
  const inAll = createBuckets({ size: limits.failuresInAll, perMinute: 60 * limits.failuresInAll, clock })

  /** A failure of checks 2 to 5 costs its sender; a good token is never counted. @throws DomainError `too_many_failures` */
  function countFailure({ request, facts }: Exchange): void {
    const source = perSource.take(addressForLimits(request.socket, facts, trustedProxies))
    const all = source.isTaken ? inAll.take('') : source
    if (all.isTaken) return
    throw new DomainError('too_many_failures', 'too many bad tokens; a good one always passes', {
      retryAfterSeconds: Math.max(source.nextMs, all.nextMs) / 1_000,
    })
  }

  /** The grant of the request's one credential; undefined: it was answered. */
  async function authorize(exchange: Exchange): Promise<GrantRow | undefined> {
    let token: string | undefined
    try {
      token = credentialOf(exchange)
    } catch (error) {
      countFailure(exchange)
      throw error
    }
    const found = token === undefined ? { refusal: 'malformed' as const } : await channels.verify(token)
    if ('grant' in found) return found.grant
    exchange.log.debug({ requestId: exchange.id, reason: found.refusal }, 'a knock was refused')
    countFailure(exchange)
    forbid(exchange)
    return undefined
  }

  function limitRate(grant: GrantRow): Headers {
    const { isTaken, left, nextMs, fullMs } = channels.take(grant.id)
    // Source: draft-ietf-httpapi-ratelimit-headers: what is left, and seconds until it is whole again.
    const headers: Record<string, string> = {
      RateLimit: `"grant";r=${left};t=${Math.ceil(fullMs / 1_000)}`,
      'RateLimit-Policy': `"grant";q=${limits.burst};w=${Math.ceil((60 * limits.burst) / limits.perMinute)}`,
    }
    if (isTaken) return headers
    const { burst, perMinute } = limits
    throw new DomainError(
      'too_many_messages',
      `${burst} messages at once and ${perMinute} a minute are the limit of one address`,
      { retryAfterSeconds: nextMs / 1_000, headers },
    )
  }

  return async (exchange) => {
    const { request, response } = exchange
    response.setHeader('Referrer-Policy', 'no-referrer')
    if (request.method !== 'POST') {
      throw new DomainError('method_not_allowed', `${request.method} is not possible here; possible: POST`, {
        headers: { Allow: 'POST' },
      })
    }
    const grant = await authorize(exchange)
    if (!grant) return
    if (isDraining()) throw new DomainError('draining', 'the server is stopping', { retryAfterSeconds: 5 })
    const headers = limitRate(grant)
    const body = await readJsonBody(exchange, { limitBytes: CHANNEL_LIMITS.hookBodyBytes, isRequired: true })
    const input = gather(SHAPE, {}, '', body)
    const parsed = HookBody.safeParse(input)
    if (!parsed.success) throw refusalOf(parsed.error, SHAPE, input)
    const key = idempotencyKey(exchange, parsed.data.idempotency_key)
    try {
      const { receipt, replayed } = await channels.deliver(grant, parsed.data, key)
      if (replayed) headers['Idempotency-Replayed'] = 'true'
      sendJson(exchange, receipt.status === 'delivered' ? 200 : 202, receipt, headers)
    } catch (error) {
      // Revoked since it was verified: from then on it is like any other bad token.
      if (error instanceof DomainError && error.code === 'forbidden') forbid(exchange)
      else throw error
    }
  }
}

function forbid(exchange: Exchange): void {
  send(exchange, 403, { 'Content-Type': 'application/problem+json' }, FORBIDDEN)
}

/**
 * The token in the path or in `Authorization: Bearer`; undefined: there is none that could be one.
 *
 * @throws DomainError `bad_request` when there is more than one
 */
function credentialOf({ request, facts, path }: Exchange): string | undefined {
  const inPath = path === '/hook' ? undefined : path.slice('/hook/'.length)
  const { authorizations } = facts
  const count = authorizations.length + (inPath === undefined ? 0 : 1)
  if (count > 1) {
    throw new DomainError(
      'bad_request',
      `${count} credentials; send the token in the path or in one Authorization header`,
    )
  }
  // A token in a query is written to logs by every proxy on the way.
  if (request.url?.includes('?')) return undefined
  return inPath ?? /^Bearer ([^\s]+)$/i.exec(authorizations[0] ?? '')?.[1]
}

/** @throws DomainError `idempotency_key_invalid` */
function idempotencyKey({ facts }: Exchange, inBody: string | undefined): string | undefined {
  const { idempotencyKeys } = facts
  if (idempotencyKeys.length > 1) {
    throw new DomainError('idempotency_key_invalid', `${idempotencyKeys.length} Idempotency-Key headers; one is needed`)
  }
  const [header] = idempotencyKeys.map(keyOf)
  const field = inBody === undefined ? undefined : keyOf(inBody)
  if (header !== undefined && field !== undefined && header !== field) {
    throw new DomainError('idempotency_key_invalid', 'Idempotency-Key and idempotency_key name different keys')
  }
  return header ?? field
}
