import type * as wire from './generated/types.gen.ts'
import type { AgentId, Event, Open, WorkspaceId } from './types.ts'

/** Id of a session: `sess_<ulid>`, time-ordered. */
export type SessionId = `sess_${string}`
/** Id of the right to knock on one session: `grant_<ulid>`. */
export type GrantId = `grant_${string}`
/** Id of one message for a session: `dlv_<ulid>`. */
export type DeliveryId = `dlv_${string}`
/** Id of what a live agent asks: `perm_<ulid>`. */
export type RequestId = `perm_${string}`

export type SessionState = Open<wire.SessionState>
export type DeliveryStatus = Open<wire.DeliveryStatus>
/** How a turn ended. */
export type TurnStatus = Open<'completed' | 'canceled' | 'failed'>

/** Why a session is suspended or ended. */
export type SessionReason = Open<
  | 'ended_by_caller'
  | 'agent_exited'
  | 'agent_not_found'
  | 'agent_not_startable'
  | 'agent_not_logged_in'
  | 'agent_error'
  | 'not_resumable'
  | 'resume_mismatch'
  | 'workspace_moved'
  | 'credential_not_found'
  | 'log_damaged'
  | 'workspace_removed'
  | 'output_limit'
  | 'process_limit'
  | 'server_stopped'
  | 'server_died'
>

/** A live agent process that accepts input again and again. */
export interface Session extends Omit<wire.Session, 'id' | 'wsId' | 'agent' | 'state' | 'reason' | 'permissions'> {
  id: SessionId
  wsId: WorkspaceId
  agent: AgentId
  state: SessionState
  reason: SessionReason | null
  permissions: Open<wire.Session['permissions']>
}

/** A session to open. `wsId` names the workspace; everything else has a default. */
export interface CreateSession extends Omit<wire.CreateSession, 'wsId' | 'agent'> {
  wsId: WorkspaceId
  agent?: AgentId
}

export interface SessionQuery {
  wsId?: WorkspaceId
  state?: SessionState
  agent?: AgentId
  /** Sessions asked for at a time, 1 to 200; the list itself does not end there. */
  pageSize?: number
}

/** One page of sessions, newest first, as the API answers it. */
export interface SessionPage {
  sessions: Session[]
  nextCursor: string | null
}

/** A message for a session. `delivery`: after what waits (default), into the turn at work, or instead of it. */
export type SessionInput = wire.SessionInput

/** The answer to a message. `delivered`: handed to the agent. `buffered`: on disk; the agent gets it in order. */
export interface Receipt extends Omit<wire.Receipt, 'status' | 'deliveryId' | 'sessionId'> {
  status: Open<wire.Receipt['status']>
  deliveryId: DeliveryId
  sessionId: SessionId
}

/** What an agent made of one message. */
export interface Reply {
  deliveryId: DeliveryId
  status: TurnStatus
  /** The agent's words after its last tool call; empty when it said nothing. */
  text: string
  /** What went wrong, for a turn that failed. */
  error?: { kind: Open<'auth' | 'rate_limit' | 'provider' | 'agent'>; message: string }
}

/** One message for a session, from a knock on a channel or from the operator, and what became of it. */
export interface Delivery extends Omit<wire.Delivery, 'id' | 'sessionId' | 'grantId' | 'mode' | 'status'> {
  id: DeliveryId
  sessionId: SessionId
  /** The grant it came through; null: the operator sent it. */
  grantId: GrantId | null
  mode: Open<wire.Delivery['mode']>
  status: DeliveryStatus
}

/** One page of deliveries, newest first, as the API answers it. */
export interface DeliveryPage {
  deliveries: Delivery[]
  nextCursor: string | null
}

/** The right to do one verb on one channel until a moment. Never shows its token. */
export interface Grant extends Omit<wire.Grant, 'id' | 'sessionId' | 'verb'> {
  id: GrantId
  sessionId: SessionId
  verb: Open<wire.Verb>
}

/** One page of grants, newest first, as the API answers it. */
export interface GrantPage {
  grants: Grant[]
  nextCursor: string | null
}

/** An address to mint. */
export interface CreateGrant extends Omit<wire.MintRequest, 'sessionId' | 'verb'> {
  sessionId: SessionId
  verb?: Open<wire.Verb>
}

/** A new channel address: the only time its token is shown. */
export interface Minted extends Omit<wire.Minted, 'grantId' | 'verb'> {
  grantId: GrantId
  verb: Open<wire.Verb>
}

/** A live agent asks whether it may do something. */
export interface PermissionRequest extends Omit<
  wire.PermissionRequest,
  'id' | 'sessionId' | 'wsId' | 'agent' | 'status' | 'answeredBy'
> {
  id: RequestId
  sessionId: SessionId
  wsId: WorkspaceId
  agent: AgentId
  status: Open<wire.PermissionRequest['status']>
  answeredBy: Open<'caller' | 'policy' | 'deadline'> | null
}

export interface RequestQuery {
  status?: PermissionRequest['status']
  sessionId?: SessionId
  wsId?: WorkspaceId
  /** Requests asked for at a time, 1 to 200; the list itself does not end there. */
  pageSize?: number
}

/** One page of permission requests, newest first, as the API answers it. */
export interface RequestPage {
  requests: PermissionRequest[]
  nextCursor: string | null
}

/** What a rotation of the root keys changed. */
export interface KeyRotation extends Omit<wire.KeyRotation, 'revoked'> {
  /** Grants that were revoked because their key was dropped. */
  revoked: GrantId[]
}

/** True for a session that takes no more input, also in a state this version does not know. */
export const isOver = (session: Pick<Session, 'endedAt'>): boolean => session.endedAt !== null

/** True for text shaped like the id of a session; whether there is such a session, the server says. */
export const isSessionId = (text: string): text is SessionId => text.startsWith('sess_')
/** True for text shaped like the id of a grant. */
export const isGrantId = (text: string): text is GrantId => text.startsWith('grant_')

/** True for the event behind which the log of a session grows no more. */
export const isSessionEnd = (event: Event): boolean => event.type === 'session.state' && event['state'] === 'ended'
