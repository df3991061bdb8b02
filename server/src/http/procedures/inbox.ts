import { z } from 'zod'
import { DomainError, type ErrorCode } from '../../errors.ts'
import { Event, EventPage, LIMITS, Run, WorkspaceId } from '../../model.ts'
import {
  INBOX_LIMITS,
  InboxEntry,
  InboxId,
  type InboxOrigin,
  PushInbox,
  ReadInbox,
  ReplyInbox,
} from '../../model/inbox.ts'
import { defined, inWorkspace } from '../queries.ts'
import { operation, procedure, router, type Context } from '../trpc.ts'
import { accepted, recorded, START_ERRORS } from './starting.ts'

const InboxList = z
  .object({
    entries: z.array(InboxEntry),
    nextCursor: z.string().nullable().meta({ description: 'Pass as `cursor` for the next page; null on the last.' }),
    unread: z.int().min(0).meta({ description: 'Unread entries in all, whatever the query.' }),
    damaged: z
      .array(z.object({ id: z.string(), detail: z.string() }))
      .meta({ description: 'Entries on disk that cannot be read, and why: they hide no other.' }),
  })
  .meta({ id: 'InboxList', description: 'One page of Inbox entries, newest first.' })

const InboxMarked = z
  .object({ marked: z.int().min(0).meta({ description: 'Entries that were unread before.' }) })
  .meta({ id: 'InboxMarked', description: 'How many entries changed.' })

const InboxRemoved = z.object({ id: InboxId }).meta({ id: 'InboxRemoved', description: 'The entry that is gone.' })

const id = { id: InboxId }
const CHANGE_ERRORS: ErrorCode[] = ['inbox_entry_not_found', 'storage_unavailable', 'draining']

/** Results that last. Source: docs/contract.md 5. */
export const inboxProcedures = router({
  list: procedure
    .meta(
      operation(
        'inbox.list',
        'GET',
        '/api/inbox',
        {
          summary: 'List Inbox entries',
          description: 'Newest first, read ones included. An entry that cannot be read is named and hides no other.',
        },
        {
          answers: { 200: { description: 'One page of entries.' } },
          errors: ['invalid_cursor', 'workspace_not_found'],
          exempt: true,
        },
      ),
    )
    .input(
      z.strictObject({
        wsId: WorkspaceId.meta({ description: 'Only entries about this workspace.' }).optional(),
        unread: z.boolean().meta({ description: '`true`: only unread ones; `false`: only read ones.' }).optional(),
        q: z
          .string()
          .min(1)
          .max(INBOX_LIMITS.queryUnits)
          .meta({
            description: 'Only entries with this text in title, body or the name of a document; case is ignored.',
          })
          .optional(),
        limit: z
          .int()
          .min(1)
          .max(LIMITS.listLimit)
          .meta({ description: `Entries on a page, 1 to ${LIMITS.listLimit}; default ${LIMITS.defaultListLimit}.` })
          .optional(),
        cursor: z.string().max(256).meta({ description: '`nextCursor` of the page before.' }).optional(),
      }),
    )
    .output(InboxList)
    .query(({ ctx, input }) =>
      inWorkspace(
        ctx.workspaces,
        defined(input),
        (query) => ctx.inbox.list(query),
        ({ entries }) => entries,
      ),
    ),

  push: procedure
    .meta(
      operation(
        'inbox.push',
        'POST',
        '/api/inbox',
        {
          summary: 'Push an Inbox entry',
          description:
            'Who pushes is stamped by the server. Documents are copied as they are now; the entry is on disk when this answers.',
        },
        {
          answers: { 201: { description: 'The new entry.', headers: ['Location', 'Idempotency-Replayed'] } },
          errors: [
            'document_not_usable',
            'workspace_not_found',
            'path_not_usable',
            'idempotency_key_invalid',
            'idempotency_in_flight',
            'idempotency_mismatch',
            'inbox_entry_removed',
            'too_many_keys',
            'storage_unavailable',
            'draining',
          ],
          exempt: false,
          runScope: 'inbox',
          bodyName: 'PushInbox',
          headers: ['Idempotency-Key'],
        },
      ),
    )
    .input(PushInbox)
    .output(InboxEntry)
    .mutation(async ({ ctx, input: { wsId, ...input } }) => {
      const origin = await originOf(ctx, wsId)
      const { entry, replayed } = await ctx.inbox.push(input, origin, ctx.idempotency)
      ctx.reply.status = 201
      ctx.reply.headers['Location'] = `/api/inbox/${entry.id}`
      if (replayed) ctx.reply.headers['Idempotency-Replayed'] = 'true'
      return entry
    }),

  mark: procedure
    .meta(
      operation(
        'inbox.mark',
        'POST',
        '/api/inbox/read',
        {
          summary: 'Mark many entries as read',
          description: 'By id, or all of them. Ids that name nothing are passed over.',
        },
        {
          answers: { 200: { description: 'How many changed.' } },
          errors: ['storage_unavailable', 'draining'],
          exempt: false,
          bodyName: 'ReadInbox',
        },
      ),
    )
    .input(ReadInbox)
    .output(InboxMarked)
    .mutation(async ({ ctx, input }) => ({ marked: await ctx.inbox.markMany(input) })),

  events: procedure
    .meta(
      operation(
        'inbox.events',
        'GET',
        '/api/inbox/events',
        {
          summary: 'Read or follow what happens to the Inbox',
          description:
            '`inbox.pushed` (with origin and title), `inbox.read`, `inbox.unread`, `inbox.removed`. A page as JSON; or, with ' +
            '`Accept: text/event-stream`, as they happen, without an end. `Last-Event-ID` or `after` resumes without gap or duplicate.',
        },
        {
          answers: {
            200: { description: 'One page of events, or the stream of them.', other: { 'text/event-stream': Event } },
          },
          errors: [],
          exempt: true,
          headers: ['Last-Event-ID'],
        },
      ),
    )
    .input(
      z.strictObject({
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
    .query(({ ctx, input }) => ctx.inbox.events(input.after ?? 0, input.limit ?? LIMITS.eventPageLimit)),

  get: procedure
    .meta(
      operation(
        'inbox.get',
        'GET',
        '/api/inbox/{id}',
        { summary: 'Get an Inbox entry', description: 'Reading it does not mark it as read.' },
        {
          answers: { 200: { description: 'The entry.' } },
          errors: ['inbox_entry_not_found'],
          exempt: true,
          notFound: 'inbox_entry_not_found',
        },
      ),
    )
    .input(z.strictObject(id))
    .output(InboxEntry)
    .query(({ ctx, input }) => ctx.inbox.get(input.id)),

  read: procedure
    .meta(
      operation(
        'inbox.read',
        'POST',
        '/api/inbox/{id}/read',
        { summary: 'Mark an entry as read', description: 'Safe to repeat.' },
        {
          answers: { 200: { description: 'The entry, read.' } },
          errors: CHANGE_ERRORS,
          exempt: false,
          notFound: 'inbox_entry_not_found',
        },
      ),
    )
    .input(z.strictObject(id))
    .output(InboxEntry)
    .mutation(({ ctx, input }) => ctx.inbox.mark(input.id, 'read')),

  unread: procedure
    .meta(
      operation(
        'inbox.unread',
        'POST',
        '/api/inbox/{id}/unread',
        { summary: 'Mark an entry as unread', description: 'Safe to repeat.' },
        {
          answers: { 200: { description: 'The entry, unread.' } },
          errors: CHANGE_ERRORS,
          exempt: false,
          notFound: 'inbox_entry_not_found',
        },
      ),
    )
    .input(z.strictObject(id))
    .output(InboxEntry)
    .mutation(({ ctx, input }) => ctx.inbox.mark(input.id, 'unread')),

  reply: procedure
    .meta(
      operation(
        'inbox.reply',
        'POST',
        '/api/inbox/{id}/reply',
        {
          summary: 'Reply to an entry',
          description: 'Starts a run that continues the conversation of the run that pushed it, and marks it as read.',
        },
        {
          answers: {
            200: {
              description: 'The run has ended in time for `Prefer: wait=n`.',
              headers: ['Location', 'Idempotency-Replayed', 'Preference-Applied'],
            },
            202: {
              description: 'The run is accepted.',
              headers: ['Location', 'Idempotency-Replayed', 'Preference-Applied'],
            },
          },
          errors: [...START_ERRORS, 'inbox_entry_not_found', 'prompt_too_long'],
          exempt: false,
          bodyName: 'ReplyInbox',
          headers: ['Idempotency-Key', 'Prefer'],
          notFound: 'inbox_entry_not_found',
        },
      ),
    )
    .input(ReplyInbox.extend(id))
    .output(Run)
    .mutation(async ({ ctx, input: { id, ...body } }) => {
      const started = await recorded(() => ctx.inbox.reply(id, body, ctx.idempotency))
      return await accepted(ctx, started, ctx.waitMs)
    }),

  remove: procedure
    .meta(
      operation(
        'inbox.remove',
        'DELETE',
        '/api/inbox/{id}',
        { summary: 'Remove an entry', description: 'With its documents, for good; also one that cannot be read.' },
        {
          answers: { 200: { description: 'It is gone.' } },
          errors: CHANGE_ERRORS,
          exempt: false,
          notFound: 'inbox_entry_not_found',
        },
      ),
    )
    .input(z.strictObject(id))
    .output(InboxRemoved)
    .mutation(async ({ ctx, input }) => {
      await ctx.inbox.remove(input.id)
      return { id: input.id }
    }),
})

/** Who pushes, by the token of the push. @throws DomainError `workspace_not_found`, `insufficient_scope` */
async function originOf({ caller, workspaces, runs }: Context, wsId: string | undefined): Promise<InboxOrigin> {
  if (typeof caller === 'string') {
    if (wsId !== undefined) await workspaces.get(wsId)
    return { from: 'operator', wsId: wsId ?? null, taskId: null, sessionId: null, issueId: null }
  }
  const { taskId, sessionId } = caller
  if (wsId !== undefined && wsId !== caller.wsId) {
    throw new DomainError('insufficient_scope', `a run pushes for its own workspace, ${caller.wsId}, not for ${wsId}`)
  }
  const issueId = taskId === null ? null : (await runs.get(taskId)).trigger.issueId
  return { from: taskId === null ? 'session' : 'run', wsId: caller.wsId, taskId, sessionId, issueId }
}
