import { callTRPCProcedure, TRPCError } from '@trpc/server'
import { ZodError, type z } from 'zod'
import { DomainError } from '../errors.ts'
import { isTerminal, LIMITS, type Run } from '../model.ts'
import { hasBody, readJsonBody } from './body.ts'
import type { Caller } from './caller.ts'
import type { EventSource, EventStream } from './events.ts'
import type { Route } from './front.ts'
import { gather, refusalOf, shapeOf, type InputShape } from './input.ts'
import type { PlainOperation } from './plain.ts'
import { idempotencyOf, waitOf, wantsEventStream } from './preferences.ts'
import { sendJson, type Exchange } from './respond.ts'
import { appRouter, mountables, type Mountable } from './router.ts'
import type { Context, Meta, Nouns } from './trpc.ts'

/** The events of a run. */
const runEvents = ({ runs }: Nouns, { taskId }: { taskId: string }): EventSource => ({
  page: (after, limit) => runs.events(taskId, after, limit),
  follow: (after, signal) => runs.follow(taskId, after, signal),
  isOver: async () => isTerminal((await runs.get(taskId)).status),
})

/** What happens to the Inbox, without an end. */
const inboxEvents = ({ inbox }: Nouns): EventSource => ({
  page: (after, limit) => inbox.events(after, limit),
  follow: (after, signal) => inbox.follow(after, signal),
  isOver: () => Promise.resolve(false),
  endsWithServer: true,
})

/** The events of a session. */
const sessionEvents = ({ sessions }: Nouns, { id }: { id: string }): EventSource => ({
  page: (after, limit) => sessions.events(id, after, limit),
  follow: (after, signal) => sessions.follow(id, after, signal),
  isOver: async () => (await sessions.get(id)).state === 'ended',
})

/** What procedures answer with when they are asked for an event stream. */
const SOURCES: Record<string, (nouns: Nouns, input: never) => EventSource> = {
  'runs.events': runEvents,
  'inbox.events': inboxEvents,
  'sessions.events': sessionEvents,
}

/** A route for each procedure. */
export function procedureRoutes(nouns: Nouns, stream: EventStream): Route[] {
  return mountables().map((mountable) => {
    const { openapi, rest } = mountable.meta
    const source = SOURCES[mountable.path]
    const shape = shapeOf(openapi.path, mountable.input, takesBody(mountable.meta))
    const call = (exchange: Exchange, params: Record<string, string>, caller: Caller): Promise<void> =>
      callProcedure({ nouns, stream, mountable, shape }, exchange, params, caller)
    const follow = async (exchange: Exchange, params: Record<string, string>): Promise<void> => {
      const input = checked<{ after?: number }>(mountable, shape, exchange, params)
      if (source)
        await stream(exchange, source(nouns, input as never), { after: lastEventId(exchange) ?? input.after ?? 0 })
    }
    return {
      method: openapi.method,
      path: openapi.path,
      isExempt: rest.exempt,
      runScope: rest.runScope,
      handle: (exchange, params, caller) =>
        source && wantsEventStream(exchange) ? follow(exchange, params) : call(exchange, params, caller),
    }
  })
}

/** A route that is not a procedure, with its input checked in the same way. */
export function plainRoute<T>(
  operation: PlainOperation,
  handle: (exchange: Exchange, input: T) => Promise<void> | void,
): Route {
  const { openapi, rest } = operation
  const shape = shapeOf(openapi.path, operation.input, false)
  return {
    method: openapi.method,
    path: openapi.path,
    isExempt: rest.exempt,
    runScope: rest.runScope,
    handle: (exchange, params) =>
      handle(exchange, checked<T>({ input: operation.input, meta: operation }, shape, exchange, params)),
  }
}

const takesBody = ({ openapi }: Meta): boolean => openapi.method !== 'GET' && openapi.method !== 'DELETE'

/** The input of an operation without a body. @throws DomainError */
function checked<T>(
  operation: { input: z.ZodObject; meta: Meta },
  shape: InputShape,
  exchange: Exchange,
  params: Record<string, string>,
): T {
  refuseBody(exchange)
  const input = gather(shape, params, exchange.search, undefined)
  const parsed = operation.input.safeParse(input)
  if (!parsed.success) throw refusalOf(parsed.error, shape, input, operation.meta.rest.notFound)
  return parsed.data as T
}

function refuseBody({ request }: Exchange): void {
  if (hasBody(request)) throw new DomainError('bad_request', `${request.method} takes no body here`)
}

async function callProcedure(
  { nouns, stream, mountable, shape }: { nouns: Nouns; stream: EventStream; mountable: Mountable; shape: InputShape },
  exchange: Exchange,
  params: Record<string, string>,
  caller: Caller,
): Promise<void> {
  const { path, type, meta } = mountable
  const understands = meta.rest.headers
  let body: unknown
  if (exchange.request.method === 'GET' || exchange.request.method === 'HEAD') refuseBody(exchange)
  else body = await readJsonBody(exchange)
  const input = gather(shape, params, exchange.search, body)
  const streams = path === 'runs.create' && wantsEventStream(exchange)
  const context = contextOf(nouns, exchange, caller)
  if (understands?.includes('Idempotency-Key')) context.idempotency = idempotencyOf(exchange, caller)
  if (understands?.includes('Prefer') && !streams) context.waitMs = waitOf(exchange)
  context.streams = streams

  let value: unknown
  try {
    value = await callTRPCProcedure({
      router: appRouter,
      path,
      type,
      ctx: context,
      getRawInput: () => Promise.resolve(input),
      signal: undefined,
      batchIndex: 0,
    })
  } catch (error) {
    if (error instanceof TRPCError && error.code === 'BAD_REQUEST' && error.cause instanceof ZodError) {
      throw refusalOf(error.cause, shape, input, meta.rest.notFound)
    }
    throw error
  }
  const { status, headers } = context.reply
  if (streams) return await stream(exchange, runEvents(nouns, value as Run), { after: 0, headers })
  if (context.waitMs !== undefined) headers['Preference-Applied'] = `wait=${context.waitMs / 1_000}`
  sendJson(exchange, status, value, headers)
}

function contextOf(nouns: Nouns, exchange: Exchange, caller: Caller): Context {
  let hangUp: AbortController | undefined
  return {
    runs: nouns.runs,
    channels: nouns.channels,
    credentials: nouns.credentials,
    workspaces: nouns.workspaces,
    agents: nouns.agents,
    inbox: nouns.inbox,
    sessions: nouns.sessions,
    requests: nouns.requests,
    issues: nouns.issues,
    caller,
    probe: nouns.probe,
    // Made when it is asked for: most requests are answered before anyone could hang up.
    get signal() {
      hangUp ??= hangUpOf(exchange)
      return hangUp.signal
    },
    idempotency: undefined,
    waitMs: undefined,
    streams: false,
    reply: { status: 200, headers: {} },
  }
}

/** Aborts when the connection is gone before the answer was sent. */
export function hangUpOf({ response }: Exchange): AbortController {
  const controller = new AbortController()
  if (response.destroyed) controller.abort()
  response.once('close', () => {
    if (!response.writableFinished) controller.abort()
  })
  return controller
}

/** @throws DomainError `validation_failed` */
function lastEventId({ request }: Exchange): number | undefined {
  const text = request.headers['last-event-id']
  if (text === undefined) return undefined
  if (typeof text === 'string' && /^\d{1,15}$/.test(text)) return Number(text)
  throw new DomainError('validation_failed', 'Last-Event-ID must be the seq of an event', {
    hint: `or pass after=, with at most ${LIMITS.eventPageLimit} events a page`,
  })
}
