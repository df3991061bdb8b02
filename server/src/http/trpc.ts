import { initTRPC } from '@trpc/server'
import type { z } from 'zod'
import type { Agents } from '../agents/types.ts'
import type { Credentials } from '../credentials/types.ts'
import type { Channels } from '../channels/types.ts'
import type { ErrorCode } from '../errors.ts'
import type { Inbox } from '../inbox/types.ts'
import type { Issues } from '../issues/types.ts'
import type { IdempotencyScope } from '../model.ts'
import type { AgentProbe } from '../model/agents.ts'
import type { Requests } from '../requests/requests.ts'
import type { Runs, Started } from '../runs/types.ts'
import type { Sessions } from '../sessions/types.ts'
import type { Workspaces } from '../workspaces/types.ts'
import type { Caller } from './caller.ts'
import type { RunScope } from './run-scope.ts'

/** What procedures work with. Values and async iterables come back from it; it knows nothing of HTTP. */
export interface Nouns {
  runs: Runs
  workspaces: Workspaces
  agents: Agents
  inbox: Inbox<Started>
  channels: Channels
  credentials: Credentials
  sessions: Sessions
  requests: Requests
  issues: Issues
  /** Runs one fixed prompt with an agent. @throws DomainError `agent_not_found`, `agent_not_headless`, `capacity_reached` */
  probe(agentId: string, signal: AbortSignal): Promise<AgentProbe>
}

/** One request, as a procedure sees it. */
export interface Context extends Nouns {
  caller: Caller
  /** Aborts when the caller hangs up. */
  signal: AbortSignal
  /** From `Idempotency-Key`; undefined: the request carried none. */
  idempotency: IdempotencyScope | undefined
  /** From `Prefer: wait=n`, in milliseconds; undefined: no wait was asked for. */
  waitMs: number | undefined
  /** The caller wants the events of the run instead of the run: nothing is waited for. */
  streams: boolean
  /** What the answer says beside its body; the procedure fills it in. */
  reply: { status: number; headers: Record<string, string> }
}

export type Tag =
  | 'runs'
  | 'channels'
  | 'hook'
  | 'deliveries'
  | 'keys'
  | 'credentials'
  | 'workspaces'
  | 'agents'
  | 'inbox'
  | 'sessions'
  | 'requests'
  | 'issues'
  | 'server'

/** One success answer. */
export interface Answer {
  description: string
  /** Names of `RESPONSE_HEADERS` it may carry beside `X-Request-Id`. */
  headers?: string[]
  /** Media types it may have instead of JSON, by schema. */
  other?: Record<string, z.ZodType>
}

/** What the generator cannot say of an operation, and what the front needs to know of it. */
export interface Rest {
  answers: Record<number, Answer>
  /** Codes this operation answers beside those any operation may. */
  errors: ErrorCode[]
  /** True: local callers need no token. */
  exempt: boolean
  /** Of an operation whose authority is a channel token: where that stands. */
  hookToken?: 'path' | 'header'
  /** What of it the token of an agent process covers; absent: nothing. */
  runScope?: RunScope
  /** Component that holds the request body. */
  bodyName?: string
  /** Names of `REQUEST_HEADERS` it understands. */
  headers?: string[]
  /** The code for a path parameter that cannot name anything. */
  notFound?: ErrorCode
}

/** Carried by every procedure: the REST route and the documentation of it. */
export interface Meta extends Record<string, unknown> {
  openapi: {
    method: 'GET' | 'POST' | 'PATCH' | 'PUT' | 'DELETE'
    path: `/${string}`
    operationId: string
    summary: string
    description?: string
    tags: Tag[]
    protect: true
  }
  rest: Rest
}

const t = initTRPC.context<Context>().meta<Meta>().create()
export const { router, procedure, mergeRouters } = t

/** The meta of one operation. `id` is dotted (`runs.create`): generated clients nest their methods by it. */
export function operation(
  id: string,
  method: Meta['openapi']['method'],
  path: `/${string}`,
  text: { summary: string; description?: string },
  rest: Rest,
): Meta {
  const tag = id.slice(0, id.indexOf('.')) as Tag
  return { openapi: { method, path, operationId: id, tags: [tag], protect: true, ...text }, rest }
}
