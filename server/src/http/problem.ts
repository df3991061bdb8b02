import { z } from 'zod'
import { ERRORS, type ErrorCode } from '../errors.ts'
import { PROBLEMS } from './problem-texts.ts'

/** The body of every failure. Source: RFC 9457; RFC 6901 for the pointers. */
export const Problem = z
  .object({
    type: z.string().meta({ description: 'Where the code is explained, relative to the server.' }),
    title: z.string().meta({ description: 'The code in words; the same for every failure with it.' }),
    status: z.int().meta({ description: 'The HTTP status.' }),
    detail: z.string().meta({ description: 'What went wrong: the thing, its value and the limit.' }),
    code: z.string().meta({ description: 'Stable; open-ended. Decide by it, not by the text.' }),
    retryable: z.boolean().meta({ description: 'True when the same request may succeed later.' }),
    hint: z.string().meta({ description: 'One next step.' }).optional(),
    requestId: z
      .string()
      .meta({
        description: 'As in `X-Request-Id`; name it when you ask for help. Absent from the constant 403 of the hook.',
      })
      .optional(),
    errors: z
      .array(
        z.object({
          pointer: z.string().meta({ description: 'JSON Pointer to the broken field.', example: '/timeoutMs' }),
          detail: z.string(),
        }),
      )
      .meta({ description: 'What is wrong, field by field.' })
      .optional(),
  })
  .meta({ id: 'Problem', description: 'A failure, as RFC 9457 has it.' })
export type Problem = z.infer<typeof Problem>

/** A URI reference to the page that explains a code. Stable. */
export const problemType = (code: ErrorCode): string => `/docs#${code}`

/** Codes of requests that are wrong in their form: what to do is the same for each. */
const ADVISED: ReadonlySet<ErrorCode> = new Set([
  'validation_failed',
  'method_not_allowed',
  'not_acceptable',
  'unsupported_media_type',
])

/** @param detail names the thing, its value and the limit; shown to callers as it is */
export function problemOf(
  code: ErrorCode,
  requestId: string,
  detail: string,
  more: Pick<Problem, 'hint' | 'errors'> = {},
): Problem {
  const { status, title, retryable } = ERRORS[code]
  const { hint = ADVISED.has(code) ? PROBLEMS[code].advice : undefined, errors } = more
  return {
    type: problemType(code),
    title,
    status,
    detail,
    code,
    retryable,
    ...(hint !== undefined && { hint }),
    requestId,
    ...(errors && errors.length > 0 && { errors }),
  }
}
