import { z } from 'zod'

/** Text that may go into a live session, and the name of its sender. Source: docs/security.md 3.3. */

/** UTF-16 units of one message. */
export const MESSAGE_UNITS = 16_000

/** 1 to 16,000 UTF-16 units, well-formed, not only white space, without control or invisible characters. */
export const MessageText = z
  .string()
  .min(1, { error: 'must not be empty' })
  .refine((text) => text.length <= MESSAGE_UNITS, {
    error: ({ input }) => `${String(input).length} characters; the limit is ${MESSAGE_UNITS}`,
  })
  .refine((text) => text === '' || /\S/.test(text), { error: 'must not be only white space' })
  .refine((text) => text.isWellFormed(), { error: 'must not contain half of a surrogate pair' })
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
