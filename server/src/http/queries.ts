import { z } from 'zod'
import { LIMITS } from '../model.ts'

/** How many of something a page may hold, as a query parameter. */
export const limitOf = (what: string): z.ZodInt =>
  z
    .int()
    .min(1)
    .max(LIMITS.listLimit)
    .meta({ description: `${what} on a page, 1 to ${LIMITS.listLimit}; default ${LIMITS.defaultListLimit}.` })

/** Where a page begins, as a query parameter. */
export const PAGE_CURSOR = z.string().max(256).meta({ description: '`nextCursor` of the page before.' })

/** Without the keys whose value is undefined. */
export function defined<T extends object>(value: T): { [K in keyof T]: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(value).filter(([, inner]) => inner !== undefined)) as {
    [K in keyof T]: Exclude<T[K], undefined>
  }
}
