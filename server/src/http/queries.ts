import { z } from 'zod'
import { LIMITS } from '../model.ts'
import type { Workspaces } from '../workspaces/types.ts'

/** How many of something a page may hold, as a query parameter. */
export const limitOf = (what: string): z.ZodInt =>
  z
    .int()
    .min(1)
    .max(LIMITS.listLimit)
    .meta({ description: `${what} on a page, 1 to ${LIMITS.listLimit}; default ${LIMITS.defaultListLimit}.` })

/** Where a page begins, as a query parameter. */
export const PAGE_CURSOR = z.string().max(256).meta({ description: '`nextCursor` of the page before.' })

/**
 * A page of a list that may be narrowed to one workspace. A name that is neither a workspace nor that of any record here
 * is an error; what a workspace left behind that was removed stays listed by its name.
 *
 * @throws DomainError `workspace_not_found`, and as `list` does
 */
export async function inWorkspace<Query extends { wsId?: string; limit?: number }, Page>(
  workspaces: Workspaces,
  query: Query,
  list: (query: Query | { wsId: string; limit: number }) => Promise<Page>,
  rows: (page: Page) => readonly unknown[],
): Promise<Page> {
  const page = await list(query)
  const { wsId } = query
  if (wsId === undefined || rows(page).length > 0) return page
  try {
    await workspaces.get(wsId)
  } catch (error) {
    if (rows(await list({ wsId, limit: 1 })).length === 0) throw error
  }
  return page
}

/** Without the keys whose value is undefined. */
export function defined<T extends object>(value: T): { [K in keyof T]: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(value).filter(([, inner]) => inner !== undefined)) as {
    [K in keyof T]: Exclude<T[K], undefined>
  }
}
