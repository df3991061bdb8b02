export { Postern, type ConnectOptions, type PosternOptions, type RawOptions } from './client.ts'
export type { Answer, Call, CallOptions, Listing, PostOptions } from './call.ts'
export type { Runs, WaitOptions } from './runs.ts'
export type { Workspaces } from './workspaces.ts'
export type { Agents } from './agents.ts'
export type { AskOptions, Sessions } from './sessions.ts'
export type { Channels, Deliveries, Keys } from './channels.ts'
export type { Requests } from './requests.ts'
export * as hooks from './hooks.ts'
export type { Knock, KnockOptions } from './hooks.ts'
export type { Logger } from './transport.ts'
export {
  AuthError,
  BadRequestError,
  CapacityError,
  ConflictError,
  ConnectionError,
  ForbiddenError,
  GoneError,
  IdempotencyError,
  NotFoundError,
  PosternError,
  ReplyTimeoutError,
  RunFailedError,
  ServerError,
  WaitTimeoutError,
  type ErrorCode,
  type FieldError,
} from './errors.ts'
export {
  hasEnded,
  isTaskId,
  isWorkspaceId,
  type Agent,
  type AgentId,
  type AgentProbe,
  type Capacity,
  type CreateRun,
  type CreateWorkspace,
  type Event,
  type EventPage,
  type EventType,
  type Health,
  type Open,
  type Run,
  type RunOutcome,
  type RunPage,
  type RunQuery,
  type RunReason,
  type RunStatus,
  type TaskId,
  type UpdateWorkspace,
  type Workspace,
  type WorkspaceId,
} from './types.ts'
export {
  isGrantId,
  isOver,
  isSessionId,
  type CreateGrant,
  type CreateSession,
  type Delivery,
  type DeliveryId,
  type DeliveryPage,
  type DeliveryStatus,
  type Grant,
  type GrantId,
  type GrantPage,
  type KeyRotation,
  type Minted,
  type PermissionRequest,
  type Receipt,
  type Reply,
  type RequestId,
  type RequestPage,
  type RequestQuery,
  type Session,
  type SessionId,
  type SessionInput,
  type SessionPage,
  type SessionQuery,
  type SessionReason,
  type SessionState,
  type TurnStatus,
} from './live-types.ts'
