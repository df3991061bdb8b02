export { Postern, type ConnectOptions, type PosternOptions, type RawOptions } from './client.ts'
export type { Answer, Call, CallOptions, Listing, PostOptions } from './call.ts'
export type { Runs, WaitOptions } from './runs.ts'
export type { Workspaces } from './workspaces.ts'
export type { Agents } from './agents.ts'
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
