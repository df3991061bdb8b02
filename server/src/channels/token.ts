import { createHash, createHmac, timingSafeEqual } from 'node:crypto'
import { checksum } from '../keys/checksum.ts'

/** The token of a channel: what it says, signed. Pure; the record of the grant decides the rest. Source: docs/security.md 2.1. */

const PREFIX = 'pstn_h1_'
export const TOKEN_LENGTH = 111
const SHAPE = /^pstn_h1_[A-Za-z0-9_-]{97}[0-9A-Za-z]{6}$/
const PAYLOAD_BYTES = 40
const PAYLOAD_LENGTH = 54
const CRC_LENGTH = 6
const ULID_DIGITS = '0123456789ABCDEFGHJKMNPQRSTVWXYZ'
/** Signs nothing: the work for a key that does not exist is the same as for one that does. */
const NO_KEY = Buffer.alloc(32)

/** Verbs by their number in a token. */
export const VERBS = { send_input: 1 } as const

/** What a token says. */
export interface TokenClaims {
  /** Number of the key that signed it, 1 to 255. */
  kid: number
  /** Number of the verb, as in `VERBS`. */
  verb: number
  /** Unix seconds, never 0. */
  expiresAt: number
  /** `grant_<ulid>` */
  grantId: string
  /** First 16 bytes of the SHA-256 of the channel's address. */
  channelHash: Buffer
}

/** First 16 bytes of the SHA-256 of a channel's address, as tokens hold it. */
export const channelHash = (channel: string): Buffer => createHash('sha256').update(channel).digest().subarray(0, 16)

/** @param key the 32 bytes derived from the secret of `kid` */
export function signToken(claims: TokenClaims, key: Buffer): string {
  const payload = Buffer.alloc(PAYLOAD_BYTES)
  payload.writeUInt8(claims.kid, 0)
  payload.writeUInt8(claims.verb, 1)
  payload.writeUIntBE(claims.expiresAt, 2, 6)
  ulidBytes(claims.grantId.slice('grant_'.length)).copy(payload, 8)
  claims.channelHash.copy(payload, 24)
  const signed = PREFIX + payload.toString('base64url')
  const body = signed + macOf(signed, key).toString('base64url')
  return body + checksum(body)
}

/**
 * Reads a text as a token, in canonical form and with a good checksum; compares its signature in constant time.
 *
 * @param keyOf the key of a number; undefined: there is none, or it is out of date
 * @returns undefined: no token was ever written like that. Else what it says; `isGenuine` false: it was not signed by
 * that key, and what it says is worth nothing.
 */
export function readToken(
  text: string,
  keyOf: (kid: number) => Buffer | undefined,
): (TokenClaims & { isGenuine: boolean }) | undefined {
  if (text.length !== TOKEN_LENGTH || !SHAPE.test(text)) return undefined
  const payloadEnd = PREFIX.length + PAYLOAD_LENGTH
  const crcAt = TOKEN_LENGTH - CRC_LENGTH
  if (checksum(text.slice(0, crcAt)) !== text.slice(crcAt)) return undefined
  const payload = canonical(text.slice(PREFIX.length, payloadEnd))
  const mac = canonical(text.slice(payloadEnd, crcAt))
  if (!payload || !mac) return undefined
  const kid = payload.readUInt8(0)
  const expiresAt = payload.readUIntBE(2, 6)
  const key = kid === 0 ? undefined : keyOf(kid)
  const matches = timingSafeEqual(macOf(text.slice(0, payloadEnd), key ?? NO_KEY), mac)
  return {
    kid,
    verb: payload.readUInt8(1),
    expiresAt,
    grantId: `grant_${ulidText(payload.subarray(8, 24))}`,
    channelHash: payload.subarray(24),
    isGenuine: matches && key !== undefined && expiresAt !== 0,
  }
}

const macOf = (signed: string, key: Buffer): Buffer => createHmac('sha256', key).update(signed).digest()

/** The bytes, unless another text would decode to the same ones: Node reads many forms, we wrote one. */
function canonical(text: string): Buffer | undefined {
  const bytes = Buffer.from(text, 'base64url')
  return bytes.toString('base64url') === text ? bytes : undefined
}

/** The 128 bits of a ULID. Source: the ULID specification; Crockford's base 32. */
function ulidBytes(ulid: string): Buffer {
  let value = 0n
  for (const digit of ulid) value = value * 32n + BigInt(ULID_DIGITS.indexOf(digit))
  return Buffer.from(value.toString(16).padStart(32, '0'), 'hex')
}

function ulidText(bytes: Buffer): string {
  let value = BigInt(`0x${bytes.toString('hex')}`)
  let text = ''
  for (let i = 0; i < 26; i++) {
    text = (ULID_DIGITS[Number(value % 32n)] ?? '') + text
    value /= 32n
  }
  return text
}
