import { isoTime, newId, type Clock } from '../clock.ts'
import { DomainError } from '../errors.ts'
import type { KeyRing } from '../keys/keys.ts'
import { LIMITS } from '../model.ts'
import { CHANNEL_LIMITS, type ChannelLimits, type Grant, type GrantRow, type Minted } from '../model/channels.ts'
import { channelOf } from '../model/sessions.ts'
import type { Sessions } from '../sessions/types.ts'
import { fingerprintOf, once, type Claims } from '../store/claims.ts'
import { decodeCursor, encodeCursor } from '../store/cursor.ts'
import type { Table } from '../store/table.ts'
import { createBuckets } from './buckets.ts'
import type { Grants } from './grants.ts'
import { createRotation } from './rotation.ts'
import { channelHash, readToken, signToken, VERBS } from './token.ts'
import type { Channels, Refusal } from './types.ts'

/** A grant that does not exist: it is looked up, so that a text without a grant costs what one with a grant costs. */
const NO_GRANT = 'grant_00000000000000000000000000'

/** Capability channels. Source: docs/contract.md 4; docs/security.md 2 and 3; decision 0021. */
export function createChannels(deps: {
  table: Table<GrantRow>
  grants: Grants
  claims: Claims
  sessions: Pick<Sessions, 'get' | 'deliver' | 'receipt' | 'delivery' | 'deliveries' | 'revoke'>
  keys: KeyRing
  clock: Clock
  ttl: { defaultTtlSeconds: number; maxTtlSeconds: number }
  /** Where callers reach this server, without a slash at the end. */
  baseUrl(): string
  /** Seals everything again with the current key, before older ones go. */
  reseal(): Promise<void>
  limits?: Partial<ChannelLimits>
}): Channels {
  const { table, grants, claims, sessions, keys, clock, ttl, baseUrl } = deps
  const limits: ChannelLimits = { ...CHANNEL_LIMITS, ...deps.limits }
  const rate = createBuckets({ size: limits.burst, perMinute: limits.perMinute, clock })
  const rotation = createRotation({ ...deps, revoke })

  function view(found: GrantRow): Grant {
    const { exp, kid: _kid, createdBy: _createdBy, ...row } = { ...found, ...grants.usage(found) }
    return { ...row, revoked: row.revokedAt !== null, expiresAt: isoTime(exp * 1_000) }
  }

  function tokenOf(row: GrantRow): string {
    const { id, kid, verb, exp, channel } = row
    const key = keys.deriveKey('hook-token', kid)
    if (!key || row.revokedAt !== null || grants.isRevoked(id)) {
      throw new DomainError('grant_revoked', `${id}, which this key minted, was revoked`, {
        hint: 'mint again, with another key',
      })
    }
    return signToken({ kid, verb: VERBS[verb], expiresAt: exp, grantId: id, channelHash: channelHash(channel) }, key)
  }

  function mintedOf(row: GrantRow): Minted {
    const token = tokenOf(row)
    return {
      grantId: row.id,
      channel: row.channel,
      webhook: `${baseUrl()}/hook/${token}`,
      token,
      verb: row.verb,
      label: row.label,
      expiresAt: isoTime(row.exp * 1_000),
    }
  }

  function secondsOf(asked: number | undefined): number {
    const { defaultTtlSeconds, maxTtlSeconds } = ttl
    if (asked === undefined || asked === 0) return Math.min(defaultTtlSeconds, maxTtlSeconds)
    if (asked <= maxTtlSeconds) return asked
    const detail = `${asked} seconds; the limit is ${maxTtlSeconds}`
    throw new DomainError('validation_failed', `ttlSeconds: ${detail}`, {
      errors: [{ pointer: '/ttlSeconds', detail }],
      hint: 'channels.maxTtlSeconds in config.json sets the limit',
    })
  }

  async function revoke(id: string): Promise<Grant> {
    const row = await grants.revoke(id)
    await sessions.revoke(id)
    return view(row)
  }

  function refusalOf(row: GrantRow | undefined, token: ReturnType<typeof readToken>): Refusal | undefined {
    if (!token) return 'malformed'
    if (!token.isGenuine) return 'forged'
    if (!row) return 'unknown'
    if (row.revokedAt !== null || grants.isRevoked(row.id)) return 'revoked'
    const isSame =
      row.kid === token.kid &&
      VERBS[row.verb] === token.verb &&
      row.exp === token.expiresAt &&
      channelHash(row.channel).equals(token.channelHash)
    if (!isSame) return 'mismatched'
    return clock.now() < row.exp * 1_000 ? undefined : 'expired'
  }

  return {
    async mint({ body, idempotency }) {
      const claim =
        idempotency &&
        claims.begin([idempotency.caller, idempotency.method, idempotency.path, idempotency.key], fingerprintOf(body))
      try {
        const earlier = claim?.recordId === undefined ? undefined : await table.get(claim.recordId)
        if (earlier) return { minted: mintedOf(earlier), replayed: true }
        const seconds = secondsOf(body.ttlSeconds)
        const session = await sessions.get(body.sessionId)
        if (session.state === 'ended') {
          throw new DomainError('session_ended', `${session.id} has ended`, {
            hint: `postern session start -w ${session.wsId} (an ended one never returns)`,
          })
        }
        const id = claim?.recordId ?? newId('grant', clock)
        const row = await rotation.minting(async (kid) => {
          const made: GrantRow = {
            id,
            channel: channelOf(session.id),
            sessionId: session.id,
            verb: body.verb ?? 'send_input',
            label: body.label ?? null,
            revokedAt: null,
            createdAt: isoTime(clock.now()),
            exp: Math.floor(clock.now() / 1_000) + seconds,
            createdBy: idempotency?.caller ?? 'admin',
            kid,
            lastUsedAt: null,
            deliveries: 0,
          }
          return (await once(claim, id, () => table.insert(made))) ? made : await grants.find(id)
        })
        return { minted: mintedOf(row), replayed: claim?.recordId !== undefined }
      } finally {
        claim?.release()
      }
    },
    get: async (id) => view(await grants.find(id)),
    async list({ sessionId, limit = LIMITS.defaultListLimit, cursor }) {
      const rows = await table.list({
        ...(sessionId !== undefined && { where: { sessionId } }),
        limit: limit + 1,
        ...(cursor !== undefined && { after: decodeCursor('grant', cursor) }),
      })
      const page = rows.slice(0, limit)
      const last = rows.length > limit ? page.at(-1) : undefined
      return { grants: page.map(view), nextCursor: last ? encodeCursor(last.id) : null }
    },
    revoke,
    async deliveries(id, query) {
      await grants.find(id)
      return await sessions.deliveries({ grantId: id, ...query })
    },
    delivery: (id) => sessions.delivery(id),

    async verify(text) {
      const token = readToken(text, (kid) => keys.deriveKey('hook-token', kid))
      const row = await table.get(token?.grantId ?? NO_GRANT)
      const refusal = refusalOf(row, token)
      return refusal === undefined && row ? { grant: row } : { refusal: refusal ?? 'unknown' }
    },
    take: (grantId) => rate.take(grantId),
    async deliver(grant, { message, from = null }, key) {
      const { id: grantId, sessionId, label } = grant
      const group = { id: grantId, limit: limits.keysPerGrant }
      const claim =
        key === undefined ? undefined : claims.begin(['hook', grantId, key], fingerprintOf({ message, from }), group)
      try {
        const earlier = claim?.recordId === undefined ? undefined : await sessions.receipt(claim.recordId)
        if (earlier) return { receipt: earlier, replayed: true }
        // Its body may have come slowly.
        if (clock.now() >= grant.exp * 1_000) throw new DomainError('forbidden', 'the grant has expired')
        const { receipt } = await sessions.deliver({ sessionId, grantId, label, message, from, claim })
        grants.used(grant)
        return { receipt, replayed: false }
      } finally {
        claim?.release()
      }
    },
    rotateKeys: rotation.rotate,
  }
}
