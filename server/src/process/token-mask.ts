import { maskTokens } from '../log.ts'

/** What may be the beginning of a token, or a token that goes on, at the end of a text. */
const OPEN = /(?:p|ps|pst|pstn|pstn_[a-z0-9]{0,4}|pstn_(?:h1|adm1|run1)_[A-Za-z0-9_-]{0,200})$/

/**
 * Takes the secret part of our tokens out of a stream of bytes, also of one that is cut in two; every other byte passes
 * as it is. Up to 210 bytes that may become a token wait for what follows. Source: docs/security.md 7, C5.
 */
export function createTokenMask(): { push(chunk: Buffer): Buffer; end(): Buffer } {
  let held = ''
  const masked = (text: string): Buffer => Buffer.from(maskTokens(text), 'latin1')
  return {
    push(chunk) {
      const tail = chunk.toString('latin1', Math.max(0, chunk.length - 216))
      if (held === '' && chunk.indexOf('pstn_') === -1 && !OPEN.test(tail)) return chunk
      const text = held + chunk.toString('latin1')
      held = OPEN.exec(text.slice(-216))?.[0] ?? ''
      return masked(held === '' ? text : text.slice(0, -held.length))
    },
    end() {
      const rest = masked(held)
      held = ''
      return rest
    },
  }
}
