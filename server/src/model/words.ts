import { z } from 'zod'

type Issue = z.core.$ZodRawIssue

const TYPES: Record<string, string> = {
  string: 'text',
  number: 'a number',
  int: 'a whole number',
  boolean: 'true or false',
  object: 'an object',
  array: 'a list',
  record: 'an object',
  null: 'null',
}
const FORMATS: Record<string, string> = {
  datetime: 'a moment such as 2026-12-01T08:00:00Z',
  url: 'a URL',
}

function typeOf(value: unknown): string {
  if (value === null) return 'null'
  if (Array.isArray(value)) return 'a list'
  if (typeof value === 'number' && !Number.isInteger(value)) return `${value}`
  return typeof value === 'boolean' ? String(value) : (TYPES[typeof value] ?? typeof value)
}

/** `3 characters`, `1 entry`; of a number the number alone. */
function amount(count: number | bigint, origin: string): string {
  if (origin === 'string') return `${count} ${count === 1 ? 'character' : 'characters'}`
  return origin === 'array' ? `${count} ${count === 1 ? 'entry' : 'entries'}` : String(count)
}
const sizeOf = (value: unknown): number => (value as { length?: number } | undefined)?.length ?? 0

/**
 * What is wrong with a value, in words for the person or agent that sent it; a schema may say it better in its own
 * `error`. Read after the name of the field: `timeoutMs: must be a number, not text`.
 */
export function wordsOf(issue: Issue): string | undefined {
  switch (issue.code) {
    case 'invalid_type': {
      const wanted = TYPES[issue.expected] ?? issue.expected
      return issue.input === undefined
        ? `is missing; must be ${wanted}`
        : `must be ${wanted}, not ${typeOf(issue.input)}`
    }
    case 'invalid_value': {
      const values = issue.values.map(String)
      const given = typeof issue.input === 'string' ? `, not "${issue.input.slice(0, 40)}"` : ''
      return `must be ${values.length > 1 ? `one of ${values.join(', ')}` : values[0]}${given}`
    }
    case 'too_small':
      if (issue.origin === 'string' && issue.minimum === 1) return 'must not be empty'
      if (issue.origin === 'number' || issue.origin === 'int')
        return `must be ${issue.inclusive === false ? 'more than' : 'at least'} ${issue.minimum}`
      return `must have at least ${amount(issue.minimum, issue.origin)}`
    case 'too_big':
      if (issue.origin === 'number' || issue.origin === 'int')
        return `must be ${issue.inclusive === false ? 'less than' : 'at most'} ${issue.maximum}`
      return `has ${amount(sizeOf(issue.input), issue.origin)}; the limit is ${issue.maximum}`
    case 'invalid_format':
      return issue.format === 'regex'
        ? `must be of the form ${issue.pattern}`
        : `must be ${FORMATS[issue.format] ?? `a valid ${issue.format}`}`
    case 'not_multiple_of':
      return `must be a multiple of ${issue.divisor}`
    case 'invalid_union':
      return 'has none of the forms that are possible'
    default:
      return z.locales.en().localeError(issue) as string | undefined
  }
}
