import {
  ForbiddenError,
  type DeliveryId,
  type GrantId,
  type InboxId,
  type Postern,
  type RequestId,
  type SessionId,
  type TaskId,
  type WorkspaceId,
} from '@postern/sdk'
import { CliExit, EXIT } from './exit.ts'

/** Digits of a ULID, which every id but a workspace's ends with. */
const ULID = 26
/** Records looked through for a prefix, newest first. */
const LOOKED_THROUGH = 1_000
/** Matches of an ambiguous prefix that are listed. */
const LISTED = 10

/** Things with ids: how they begin, what they are called, and the commands that list them and take one. */
const KINDS = {
  run: { prefix: 'headless_', what: 'run', command: 'postern runs', takes: 'postern runs show' },
  session: { prefix: 'sess_', what: 'session', command: 'postern session ls', takes: 'postern session show' },
  grant: { prefix: 'grant_', what: 'grant', command: 'postern channel ls', takes: 'postern channel deliveries' },
  request: {
    prefix: 'perm_',
    what: 'permission request',
    command: 'postern requests --all',
    takes: 'postern requests answer',
  },
  delivery: { prefix: 'dlv_', what: 'delivery', command: 'postern listen', takes: 'postern listen --replay' },
  inbox: { prefix: 'inb_', what: 'inbox entry', command: 'postern inbox ls', takes: 'postern inbox read' },
} as const

/**
 * The run id that a prefix means: whole ids are taken as they are, `01M7…` without the kind will do.
 *
 * @throws CliExit 5 when there is none, 2 when there are several (they are listed) or it is the id of something else
 */
export async function resolveRun(postern: Postern, given: string): Promise<TaskId> {
  const runs = postern.runs.list({ pageSize: 200 })
  return await resolve('run', given, async () => (await runs.toArray({ limit: LOOKED_THROUGH })).map((r) => r.taskId))
}

/** As `resolveRun`, for sessions. */
export async function resolveSession(postern: Postern, given: string): Promise<SessionId> {
  const sessions = postern.sessions.list({ pageSize: 200 })
  return await resolve('session', given, async () => (await sessions.toArray({ limit: LOOKED_THROUGH })).map(idOf))
}

/** As `resolveRun`, for grants; all of them are looked through, since what is revoked must be the one that was meant. */
export async function resolveGrant(postern: Postern, given: string): Promise<GrantId> {
  return await resolve('grant', given, async () => (await postern.channels.list({ pageSize: 200 }).toArray()).map(idOf))
}

/** As `resolveRun`, for what agents ask. */
export async function resolveRequest(postern: Postern, given: string): Promise<RequestId> {
  const requests = postern.requests.list({ pageSize: 200 })
  return await resolve('request', given, async () => (await requests.toArray({ limit: LOOKED_THROUGH })).map(idOf))
}

/** A delivery must be named by its whole id. @throws CliExit 2 */
export async function wholeDelivery(given: string): Promise<DeliveryId> {
  const none = (): never => {
    throw new CliExit(EXIT.usage, `"${given}" is not the whole id of a delivery`, KINDS.delivery.command)
  }
  return await resolve<DeliveryId>('delivery', given, none)
}

const idOf = <Id extends string>({ id }: { id: Id }): Id => id

async function resolve<Id extends string>(
  kind: keyof typeof KINDS,
  given: string,
  known: () => Promise<Id[]>,
): Promise<Id> {
  const { prefix, what, command } = KINDS[kind]
  const other = Object.values(KINDS).find((each) => each.prefix !== prefix && given.startsWith(each.prefix))
  if (other) throw new CliExit(EXIT.usage, `"${given}" is a ${other.what}, not a ${what}`, `${other.takes} ${given}`)
  const wanted = given.startsWith(prefix) ? given : `${prefix}${given}`
  if (wanted.length >= prefix.length + ULID) return wanted as Id
  if (wanted === prefix) throw new CliExit(EXIT.usage, `an empty id names no ${what}`, command)
  const ids = await known()
  const found = ids.filter((id) => id.toLowerCase().startsWith(wanted.toLowerCase()))
  const only = theOnly(found, given, what.endsWith('y') ? `${what.slice(0, -1)}ies` : `${what}s`)
  if (only !== undefined) return only
  throw new CliExit(EXIT.notFound, `no ${what} among the newest ${ids.length} begins with "${given}"`, command)
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
  const entries = postern.inbox.list({ pageSize: 200 })
  return await resolve('inbox', given, async () => (await entries.toArray({ limit: LOOKED_THROUGH })).map(idOf))
}

/** The only one found, if there is one. @throws CliExit 2 when there are several (they are listed) */
export function theOnly<Id extends string>(found: Id[], given: string, what: string): Id | undefined {
  if (found.length < 2) return found[0]
  const listed = found.slice(0, LISTED).map((id) => `  ${id}`)
  const more = found.length > LISTED ? [`  and ${found.length - LISTED} more`] : []
  throw new CliExit(EXIT.usage, [`"${given}" means ${found.length} ${what}:`, ...listed, ...more].join('\n'))
}
