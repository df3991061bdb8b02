import { ForbiddenError, type InboxId, type Postern, type TaskId, type WorkspaceId } from '@postern/sdk'
import { CliExit, EXIT } from './exit.ts'

/** Length of a whole run id. */
const WHOLE = 'headless_'.length + 26
/** Runs looked through for a prefix, newest first. */
const LOOKED_THROUGH = 1_000
/** Matches of an ambiguous prefix that are listed. */
const LISTED = 10

/**
 * The run id that a prefix means: whole ids are taken as they are, `01M7…` without the kind will do.
 *
 * @throws CliExit 5 when there is none, 2 when there are several (they are listed)
 */
export async function resolveRun(postern: Postern, given: string): Promise<TaskId> {
  const prefix = given.startsWith('headless_') ? given : `headless_${given}`
  if (prefix.length >= WHOLE) return prefix as TaskId
  const recent = await postern.runs.list({ pageSize: 200 }).toArray({ limit: LOOKED_THROUGH })
  const found = recent.map((run) => run.taskId).filter((id) => id.toLowerCase().startsWith(prefix.toLowerCase()))
  const only = theOnly(found, given, 'runs')
  if (only === undefined)
    throw new CliExit(EXIT.notFound, `no run among the newest ${recent.length} begins with "${given}"`, 'postern runs')
  return only
}

/**
 * The workspace id that a prefix means, with or without its `ws-`. What begins none is taken for a whole id: the server
 * says which is the nearest.
 *
 * @throws CliExit 2 when there are several (they are listed)
 */
export async function resolveWorkspace(postern: Postern, given: string): Promise<WorkspaceId> {
  const prefix = given.startsWith('ws-') ? given : `ws-${given}`
  let ids: WorkspaceId[]
  try {
    ids = (await postern.workspaces.list().toArray()).map(({ id }) => id)
  } catch (error) {
    // Inside a run nobody may list them: what is given is the whole id.
    if (error instanceof ForbiddenError) return prefix as WorkspaceId
    throw error
  }
  const exact = ids.find((id) => id === prefix)
  const found = ids.filter((id) => id.startsWith(prefix))
  return exact ?? theOnly(found, given, 'workspaces') ?? (prefix as WorkspaceId)
}

/**
 * The Inbox entry that a prefix means, with or without its `inb_`.
 *
 * @throws CliExit 5 when there is none, 2 when there are several (they are listed)
 */
export async function resolveInbox(postern: Postern, given: string): Promise<InboxId> {
  const prefix = given.startsWith('inb_') ? given : `inb_${given}`
  if (prefix.length >= 'inb_'.length + 26) return prefix as InboxId
  const recent = await postern.inbox.list({ pageSize: 200 }).toArray({ limit: LOOKED_THROUGH })
  const found = recent.map(({ id }) => id).filter((id) => id.toLowerCase().startsWith(prefix.toLowerCase()))
  const only = theOnly(found, given, 'inbox entries')
  if (only === undefined) throw new CliExit(EXIT.notFound, `no inbox entry begins with "${given}"`, 'postern inbox ls')
  return only
}

/** The only one found, if there is one. @throws CliExit 2 when there are several (they are listed) */
export function theOnly<Id extends string>(found: Id[], given: string, what: string): Id | undefined {
  if (found.length < 2) return found[0]
  const listed = found.slice(0, LISTED).map((id) => `  ${id}`)
  const more = found.length > LISTED ? [`  and ${found.length - LISTED} more`] : []
  throw new CliExit(EXIT.usage, [`"${given}" means ${found.length} ${what}:`, ...listed, ...more].join('\n'))
}
