import { randomBytes } from 'node:crypto'
import { checksum } from './checksum.ts'

/** What a token is for: the operator, or one agent process. Source: docs/security.md 2.1. */
export type TokenPrefix = 'pstn_adm1_' | 'pstn_run1_'

/** A new token: prefix, 32 random bytes as base64url, CRC-32 in base62 (for secret scanners, not for security). */
export function newToken(prefix: TokenPrefix): string {
  const body = prefix + randomBytes(32).toString('base64url')
  return body + checksum(body)
}

/** True for a text that some server could have made with that prefix. */
export function isTokenShaped(prefix: TokenPrefix, text: string): boolean {
  const rest = text.slice(prefix.length)
  return (
    text.startsWith(prefix) &&
    /^[A-Za-z0-9_-]{43}[0-9A-Za-z]{6}$/.test(rest) &&
    checksum(text.slice(0, -6)) === text.slice(-6)
  )
}
