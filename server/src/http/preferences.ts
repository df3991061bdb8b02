import { DomainError } from '../errors.ts'
import { LIMITS, type IdempotencyScope } from '../model.ts'
import { callerName, type Caller } from './caller.ts'
import type { Exchange } from './respond.ts'

/**
 * The scope of the request's `Idempotency-Key`; undefined when it carries none. Outer quotes are not part of the key.
 *
 * @throws DomainError `idempotency_key_invalid`
 */
export function idempotencyOf({ request, facts, path }: Exchange, caller: Caller): IdempotencyScope | undefined {
  const { idempotencyKeys } = facts
  if (idempotencyKeys.length === 0) return undefined
  if (idempotencyKeys.length > 1) {
    throw new DomainError('idempotency_key_invalid', `${idempotencyKeys.length} Idempotency-Key headers; one is needed`)
  }
  const key = keyOf(idempotencyKeys[0] ?? '')
  return { caller: callerName(caller), method: request.method ?? '', path: decodeURIComponent(path), key }
}

/** The key in a text, without outer quotes. @throws DomainError `idempotency_key_invalid` */
export function keyOf(text: string): string {
  const key = text.replace(/^"(.*)"$/, '$1')
  if (key.length > LIMITS.idempotencyKeyLength) {
    const { idempotencyKeyLength } = LIMITS
    throw new DomainError('idempotency_key_invalid', `${key.length} characters; the limit is ${idempotencyKeyLength}`)
  }
  if (!/^[\x21-\x7e]+$/.test(key)) {
    throw new DomainError('idempotency_key_invalid', 'the key must be 1 to 255 visible ASCII characters')
  }
  return key
}

/**
 * Milliseconds that `Prefer: wait=n` asks for, at most 60 s; undefined when it asks for none. Other preferences are
 * ignored. Source: RFC 7240.
 *
 * @throws DomainError `validation_failed` for a wait that is not a number of seconds
 */
export function waitOf({ facts }: Exchange): number | undefined {
  const preferences = facts.prefers.join(',').split(/[,;]/)
  for (const preference of preferences) {
    const [name, value = ''] = preference.split('=', 2).map((part) => part.trim())
    if (name?.toLowerCase() !== 'wait') continue
    const text = value.replace(/^"(.*)"$/, '$1')
    if (!/^\d{1,9}$/.test(text) || Number(text) < 1) {
      throw new DomainError('validation_failed', `Prefer: wait needs seconds from 1 to ${LIMITS.waitSeconds}`)
    }
    return Math.min(Number(text), LIMITS.waitSeconds) * 1_000
  }
  return undefined
}

/** True when the caller asks for Server-Sent Events. */
export function wantsEventStream({ request }: Exchange): boolean {
  return /(?:^|[,\s])text\/event-stream(?:$|[,;\s])/i.test(request.headers.accept ?? '')
}
