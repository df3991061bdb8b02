import { z } from 'zod'

/** Text that may go into a live session, and the name of its sender. Source: docs/security.md 3.3. */

/** UTF-16 units of one message, as it was sent. */
export const MESSAGE_UNITS = 16_000

/**
 * What is not part of any honest message: control characters but line break and tab, and characters that are invisible
 * or turn the direction of what follows, by which a text looks like another one to the person who reads it.
 */
const REFUSED = new RegExp(
  [
    String.raw`[\0-\x08\x0b-\x1f\x7f-\x9f]`,
    String.raw`[\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufeff\ufff9-\ufffb]`,
    String.raw`[\u{e0000}-\u{e0fff}]`,
    // Joiners and variation selectors carry hidden data in rows; one alone has its use, and one row is in many emoji.
    String.raw`(?!\ufe0f\u200d)[\u200c\u200d\ufe00-\ufe0f](?=[\u200c\u200d\ufe00-\ufe0f])`,
  ].join('|'),
  'u',
)

const withoutReturns = (text: string): string => text.replaceAll('\r\n', '\n')

/** The first character that a message may not hold, as `U+202E at 12` (UTF-16 units from 0); undefined: there is none. */
export function refusedCharacter(text: string): string | undefined {
  const found = REFUSED.exec(withoutReturns(text))
  if (!found) return undefined
  const code = (found[0].codePointAt(0) ?? 0).toString(16).toUpperCase().padStart(4, '0')
  return `U+${code} at ${found.index}`
}

/**
 * Any text as a message may hold it: what is refused of senders becomes U+FFFD, and what is too long is cut. For texts that
 * Postern passes on itself, such as the reply of a run.
 *
 * @param units UTF-16 units at most
 */
export function asMessage(text: string, units = MESSAGE_UNITS): string {
  const allowed = withoutReturns(text.slice(0, units).toWellFormed()).replaceAll(new RegExp(REFUSED, 'gu'), '\ufffd')
  return /\S/.test(allowed) ? allowed : '(nothing)'
}

/**
 * 1 to 16,000 UTF-16 units, well-formed, not only white space, without control or invisible characters. CRLF becomes
 * LF.
 */
export const MessageText = z
  .string()
  .min(1, { error: 'must not be empty' })
  .refine((text) => text.length <= MESSAGE_UNITS, {
    error: ({ input }) => `${String(input).length} characters; the limit is ${MESSAGE_UNITS}`,
  })
  .refine((text) => text === '' || /\S/.test(text), { error: 'must not be only white space' })
  .refine((text) => text.isWellFormed(), { error: 'must not contain half of a surrogate pair' })
  .refine((text) => refusedCharacter(text) === undefined, {
    error: ({ input }) =>
      `must not contain ${refusedCharacter(String(input)) ?? 'it'}: no control, invisible or direction characters but line break and tab`,
  })
  .overwrite(withoutReturns)
  .meta({
    maxLength: MESSAGE_UNITS,
    description: `1 to ${MESSAGE_UNITS} characters (UTF-16 units), not only white space; no control or invisible characters but line break and tab.`,
    example: 'deploy finished, look at the logs',
  })

/** Who a sender says it is: one line of 1 to 64 letters, digits and ordinary punctuation. */
export const SenderName = z
  .string()
  .regex(/^[\p{L}\p{M}\p{N} ._@:/+#&(),'=-]{1,64}$/u, {
    error: "must be 1 to 64 letters, digits, spaces or ._@:/+#&(),'=-",
  })
  .refine((text) => text.trim() === text, { error: 'must not begin or end with a space' })
  .meta({ description: 'Who the sender says it is.', example: 'ci' })
