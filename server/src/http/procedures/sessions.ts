import { z } from 'zod'
import type { ErrorCode } from '../../errors.ts'
import { AgentId, Event, EventPage, LIMITS, WorkspaceId } from '../../model.ts'
import {
  CreateSession,
  DeliveryList,
  Receipt,
  Session,
  SessionId,
  SessionInput,
  SessionState,
} from '../../model/sessions.ts'
import { defined, inWorkspace, limitOf, PAGE_CURSOR } from '../queries.ts'
import { operation, procedure, router } from '../trpc.ts'

const SessionList = z
  .object({ sessions: z.array(Session), nextCursor: z.string().nullable() })
  .meta({ id: 'SessionList', description: 'One page of sessions, newest first.' })

const id = { id: SessionId }
const KEY_ERRORS: ErrorCode[] = [
  'idempotency_key_invalid',
  'idempotency_in_flight',
  'idempotency_mismatch',
  'too_many_keys',
]
const CHANGE_ERRORS: ErrorCode[] = ['storage_unavailable', 'draining']

/** Live sessions. Source: docs/contract.md 5. */
export const sessionProcedures = router({
  create: procedure
    .meta(
      operation(
        'sessions.create',
        'POST',
        '/api/sessions',
        {
          summary: 'Open a session',
          description:
            'Starts an agent that stays and takes one message after another. It is on disk, and `starting`, when this answers.',
        },
        {
          answers: { 201: { description: 'The new session.', headers: ['Location', 'Idempotency-Replayed'] } },
          errors: [
            'workspace_not_found',
            'path_not_usable',
            'unknown_agent',
            'agent_not_enabled',
            'agent_not_live',
            'model_not_supported',
            'capacity_reached',
            'budget_reached',
            ...KEY_ERRORS,
            ...CHANGE_ERRORS,
          ],
          exempt: false,
          bodyName: 'CreateSession',
          headers: ['Idempotency-Key'],
        },
      ),
    )
    .input(CreateSession)
    .output(Session)
    .mutation(async ({ ctx, input }) => {
      const { session, replayed } = await ctx.sessions.open({
        body: input,
        ...(ctx.idempotency && { idempotency: ctx.idempotency }),
      })
      ctx.reply.status = 201
      ctx.reply.headers['Location'] = `/api/sessions/${session.id}`
      if (replayed) ctx.reply.headers['Idempotency-Replayed'] = 'true'
      return session
    }),

  list: procedure
    .meta(
      operation(
        'sessions.list',
        'GET',
        '/api/sessions',
        { summary: 'List sessions', description: 'Newest first, ended ones included.' },
        {
          answers: { 200: { description: 'One page of sessions.' } },
          errors: ['invalid_cursor', 'workspace_not_found'],
          exempt: true,
        },
      ),
    )
    .input(
      z.strictObject({
        wsId: WorkspaceId.meta({ description: 'Only sessions in this workspace.' }).optional(),
        state: SessionState.optional(),
        agent: AgentId.meta({ description: 'Only sessions with this agent.' }).optional(),
        limit: limitOf('Sessions').optional(),
        cursor: PAGE_CURSOR.optional(),
      }),
    )
    .output(SessionList)
    .query(({ ctx, input }) =>
      inWorkspace(
        ctx.workspaces,
        defined(input),
        (query) => ctx.sessions.list(query),
        ({ sessions }) => sessions,
      ),
    ),

  get: procedure
    .meta(
      operation(
        'sessions.get',
        'GET',
        '/api/sessions/{id}',
        { summary: 'Get a session' },
        {
          answers: { 200: { description: 'The session as it is now.' } },
          errors: ['session_not_found'],
          exempt: true,
          runScope: 'own-session',
          notFound: 'session_not_found',
        },
      ),
    )
    .input(z.strictObject(id))
    .output(Session)
    .query(({ ctx, input }) => ctx.sessions.get(input.id)),

  input: procedure
    .meta(
      operation(
        'sessions.input',
        'POST',
        '/api/sessions/{id}/input',
        {
          summary: 'Send a message into a session',
          description:
            'As the operator, without an envelope. 200: handed whole to the live, idle agent. 202: on disk; the agent gets it in order, ' +
            'and a suspended session is resumed for it.',
        },
        {
          answers: {
            200: { description: 'Stored and handed to the agent.', headers: ['Idempotency-Replayed'] },
            202: { description: 'Stored; the agent will get it, in order.', headers: ['Idempotency-Replayed'] },
          },
          errors: [
            'session_not_found',
            'session_ended',
            'buffer_full',
            'budget_reached',
            'steer_not_supported',
            ...KEY_ERRORS,
            ...CHANGE_ERRORS,
          ],
          exempt: false,
          bodyName: 'SessionInput',
          headers: ['Idempotency-Key'],
          notFound: 'session_not_found',
        },
      ),
    )
    .input(SessionInput.extend(id))
    .output(Receipt)
    .mutation(async ({ ctx, input: { id: sessionId, ...input } }) => {
      const { receipt, replayed } = await ctx.sessions.send(sessionId, input, ctx.idempotency)
      ctx.reply.status = receipt.status === 'delivered' ? 200 : 202
      if (replayed) ctx.reply.headers['Idempotency-Replayed'] = 'true'
      return receipt
    }),

  interrupt: procedure
    .meta(
      operation(
        'sessions.interrupt',
        'POST',
        '/api/sessions/{id}/interrupt',
        {
          summary: 'Interrupt the turn at work',
          description: 'What waits goes on afterwards. Answers when the turn has ended; safe to repeat.',
        },
        {
          answers: { 200: { description: 'The session; an idle one is returned as it is.' } },
          errors: ['session_not_found', 'session_ended'],
          exempt: false,
          notFound: 'session_not_found',
        },
      ),
    )
    .input(z.strictObject(id))
    .output(Session)
    .mutation(({ ctx, input }) => ctx.sessions.interrupt(input.id)),

  end: procedure
    .meta(
      operation(
        'sessions.end',
        'POST',
        '/api/sessions/{id}/end',
        {
          summary: 'End a session for good',
          description:
            'Its process and everything that it started is gone when this answers, or after 15 s; what waited is failed. Safe to repeat.',
        },
        {
          answers: { 200: { description: 'The session, ended.' } },
          errors: ['session_not_found', ...CHANGE_ERRORS],
          exempt: false,
          notFound: 'session_not_found',
        },
      ),
    )
    .input(z.strictObject(id))
    .output(Session)
    .mutation(({ ctx, input }) => ctx.sessions.end(input.id)),

  deliveries: procedure
    .meta(
      operation(
        'sessions.deliveries',
        'GET',
        '/api/sessions/{id}/deliveries',
        { summary: 'List what was sent into a session', description: 'Newest first, by channels and by the operator.' },
        {
          answers: { 200: { description: 'One page of deliveries.' } },
          errors: ['session_not_found', 'invalid_cursor'],
          exempt: true,
          runScope: 'own-session',
          notFound: 'session_not_found',
        },
      ),
    )
    .input(z.strictObject({ ...id, limit: limitOf('Deliveries').optional(), cursor: PAGE_CURSOR.optional() }))
    .output(DeliveryList)
    .query(async ({ ctx, input: { id: sessionId, ...page } }) => {
      await ctx.sessions.get(sessionId)
      return await ctx.sessions.deliveries({ sessionId, ...defined(page) })
    }),

  events: procedure
    .meta(
      operation(
        'sessions.events',
        'GET',
        '/api/sessions/{id}/events',
        {
          summary: 'Read or follow the events of a session',
          description:
            'As of a run: a page as JSON, or Server-Sent Events with `Accept: text/event-stream`. The stream ends when the session has ended and only then.',
        },
        {
          answers: {
            200: { description: 'One page of events, or the stream of them.', other: { 'text/event-stream': Event } },
            204: { description: 'For a stream: the session has ended, and its last event is the one you have.' },
          },
          errors: ['session_not_found', 'log_retired'],
          exempt: true,
          runScope: 'own-session',
          headers: ['Last-Event-ID'],
          notFound: 'session_not_found',
        },
      ),
    )
    .input(
      z.strictObject({
        ...id,
        after: z.int().min(0).meta({ description: 'Only events with a greater seq; default 0.' }).optional(),
        limit: z
          .int()
          .min(1)
          .max(LIMITS.eventPageLimit)
          .meta({ description: `Events on a page, 1 to ${LIMITS.eventPageLimit} (the default); not for streams.` })
          .optional(),
      }),
    )
    .output(EventPage)
    .query(({ ctx, input }) => ctx.sessions.events(input.id, input.after ?? 0, input.limit ?? LIMITS.eventPageLimit)),
})
