import { z } from 'zod'
import {
  AgentId,
  Capacity,
  CreateRun,
  Event,
  EventPage,
  LIMITS,
  ReportRun,
  Run,
  RunStatus,
  SilentRun,
  TaskId,
  WorkspaceId,
} from '../../model.ts'
import { defined, inWorkspace } from '../queries.ts'
import { createScopeCheck } from '../run-scope.ts'
import { operation, procedure, router } from '../trpc.ts'
import { accepted, recorded, shown, startedBy, START_ERRORS } from './starting.ts'

const RunList = z
  .object({
    tasks: z.array(Run),
    nextCursor: z.string().nullable().meta({ description: 'Pass as `cursor` for the next page; null on the last.' }),
    capacity: Capacity,
  })
  .meta({ id: 'RunList', description: 'One page of runs, newest first.' })

const RunChildren = z
  .object({ tasks: z.array(Run) })
  .meta({ id: 'RunChildren', description: 'The runs that a run started, oldest first.' })

const RunReported = z
  .object({ to: z.string().meta({ description: 'The run or session that got the report.' }) })
  .meta({ id: 'RunReported', description: 'Who got a report.' })

const taskId = { taskId: TaskId }
/** A wait without a limit of its own: the run's own limit ends it. */
const UNTIL_IT_ENDS = 2 ** 31 - 1

/** Headless runs. Source: docs/contract.md 3. */
export const runProcedures = router({
  create: procedure
    .meta(
      operation(
        'runs.create',
        'POST',
        '/api/workspaces/{id}/headless',
        {
          summary: 'Start a run',
          description:
            'Accepts one headless execution of one prompt; it is on disk when this answers. ' +
            '`wait: true` (or `Prefer: wait=n`) answers 200 with the ended run; hanging up does not cancel it. ' +
            'With `Accept: text/event-stream` the run is committed and its events are streamed from seq 1.',
        },
        {
          answers: {
            200: {
              description:
                'The run has ended (`wait: true`, or in time for `Prefer: wait=n`); or, with `Accept: text/event-stream`, its events.',
              headers: ['Location', 'Idempotency-Replayed', 'Preference-Applied'],
              other: { 'text/event-stream': Event },
            },
            202: {
              description: 'The run is accepted: `running`, or `queued` with `whenBusy: "queue"`.',
              headers: ['Location', 'Idempotency-Replayed', 'Preference-Applied'],
            },
          },
          errors: [...START_ERRORS, 'run_not_found', 'prompt_too_long', 'run_ended', 'nested_too_deep'],
          exempt: true,
          runScope: 'start',
          bodyName: 'CreateRun',
          headers: ['Idempotency-Key', 'Prefer'],
          notFound: 'workspace_not_found',
        },
      ),
    )
    .input(CreateRun.extend({ id: WorkspaceId }))
    .output(Run)
    .mutation(async ({ ctx, input: { id, ...body } }) => {
      // Who continues a conversation reads it.
      if (typeof ctx.caller !== 'string' && body.resume !== undefined)
        await createScopeCheck(ctx)(ctx.caller, 'own-run', { taskId: body.resume })
      const request = {
        wsId: id,
        body,
        ...(ctx.idempotency && { idempotency: ctx.idempotency }),
        ...(typeof ctx.caller !== 'string' && {
          trigger: startedBy(ctx.caller),
        }),
      }
      const started = await recorded(() => ctx.runs.start(request))
      return await accepted(ctx, started, body.wait === true ? UNTIL_IT_ENDS : ctx.waitMs)
    }),

  list: procedure
    .meta(
      operation(
        'runs.list',
        'GET',
        '/api/headless',
        { summary: 'List runs', description: 'Newest first, with the capacity as it is now. Old runs stay listed.' },
        {
          answers: { 200: { description: 'One page of runs.' } },
          errors: ['invalid_cursor', 'workspace_not_found'],
          exempt: true,
        },
      ),
    )
    .input(
      z.strictObject({
        wsId: WorkspaceId.meta({ description: 'Only runs of this workspace.' }).optional(),
        status: RunStatus.meta({ description: 'Only runs with this status.' }).optional(),
        agent: AgentId.meta({ description: 'Only runs of this agent.' }).optional(),
        limit: z
          .int()
          .min(1)
          .max(LIMITS.listLimit)
          .meta({ description: `Runs on a page, 1 to ${LIMITS.listLimit}; default ${LIMITS.defaultListLimit}.` })
          .optional(),
        cursor: z.string().max(256).meta({ description: '`nextCursor` of the page before.' }).optional(),
      }),
    )
    .output(RunList)
    .query(({ ctx, input }) =>
      inWorkspace(
        ctx.workspaces,
        defined(input),
        (query) => ctx.runs.list(query),
        ({ tasks }) => tasks,
      ),
    ),

  get: procedure
    .meta(
      operation(
        'runs.get',
        'GET',
        '/api/headless/{taskId}',
        {
          summary: 'Get a run',
          description: 'With `Prefer: wait=n` it answers when the run ends or n seconds pass, whichever comes first.',
        },
        {
          answers: { 200: { description: 'The run as it is now.', headers: ['Preference-Applied'] } },
          errors: ['run_not_found'],
          exempt: true,
          runScope: 'own-run',
          headers: ['Prefer'],
          notFound: 'run_not_found',
        },
      ),
    )
    .input(z.strictObject(taskId))
    .output(Run)
    .query(async ({ ctx, input: { taskId: id } }) =>
      shown(ctx, await (ctx.waitMs === undefined ? ctx.runs.get(id) : ctx.runs.wait(id, ctx.waitMs, ctx.signal))),
    ),

  cancel: procedure
    .meta(
      operation(
        'runs.cancel',
        'POST',
        '/api/headless/{taskId}/cancel',
        {
          summary: 'Cancel a run',
          description:
            'Ends every process of the run, and the runs it started. Answers when it has ended, or after 15 s. Safe to repeat; a finished run is returned as it is.',
        },
        {
          answers: { 200: { description: 'The run, ended (or still ending after 15 s).' } },
          errors: ['run_not_found', 'storage_unavailable'],
          exempt: true,
          runScope: 'started-run',
          notFound: 'run_not_found',
        },
      ),
    )
    .input(z.strictObject(taskId))
    .output(Run)
    .mutation(({ ctx, input }) => ctx.runs.cancel(input.taskId)),

  retry: procedure
    .meta(
      operation(
        'runs.retry',
        'POST',
        '/api/headless/{taskId}/retry',
        { summary: 'Retry a run', description: 'Starts the same request again, as a new run with `retryOf` set.' },
        {
          answers: {
            200: {
              description: 'The new run has ended in time for `Prefer: wait=n`.',
              headers: ['Location', 'Idempotency-Replayed', 'Preference-Applied'],
            },
            202: {
              description: 'The new run is accepted.',
              headers: ['Location', 'Idempotency-Replayed', 'Preference-Applied'],
            },
          },
          errors: [...START_ERRORS, 'run_not_found', 'not_retryable', 'log_retired'],
          exempt: true,
          headers: ['Idempotency-Key', 'Prefer'],
          notFound: 'run_not_found',
        },
      ),
    )
    .input(z.strictObject(taskId))
    .output(Run)
    .mutation(async ({ ctx, input }) => {
      const started = await recorded(() => ctx.runs.retry(input.taskId, ctx.idempotency))
      return await accepted(ctx, started, ctx.waitMs)
    }),

  children: procedure
    .meta(
      operation(
        'runs.children',
        'GET',
        '/api/headless/{taskId}/children',
        { summary: 'List the runs that a run started', description: 'Oldest first; not those that they started.' },
        {
          answers: { 200: { description: 'The runs it started.' } },
          errors: ['run_not_found'],
          exempt: true,
          runScope: 'own-run',
          notFound: 'run_not_found',
        },
      ),
    )
    .input(z.strictObject(taskId))
    .output(RunChildren)
    .query(async ({ ctx, input }) => ({ tasks: await ctx.runs.children(input.taskId) })),

  silent: procedure
    .meta(
      operation(
        'runs.silent',
        'POST',
        '/api/headless/{taskId}/silent',
        {
          summary: 'Declare that a run has nothing to report',
          description: 'Its outcome becomes `silent`, unless it pushes to the Inbox. Called from inside the run.',
        },
        {
          answers: { 200: { description: 'The run.' } },
          errors: ['run_not_found', 'run_ended', 'storage_unavailable', 'draining'],
          exempt: false,
          runScope: 'self',
          bodyName: 'SilentRun',
          notFound: 'run_not_found',
        },
      ),
    )
    .input(SilentRun.extend(taskId))
    .output(Run)
    .mutation(({ ctx, input }) => ctx.runs.silent(input.taskId, input.why)),

  report: procedure
    .meta(
      operation(
        'runs.report',
        'POST',
        '/api/headless/{taskId}/report',
        {
          summary: 'Report to the run or session that started this one',
          description:
            "Of a run: an event `run.reported` in that run's log. Of a session: input, from the run's id. Called from inside the run.",
        },
        {
          answers: { 200: { description: 'It is in the log.' } },
          errors: [
            'run_not_found',
            'run_ended',
            'no_parent',
            'session_not_found',
            'session_ended',
            'buffer_full',
            'budget_reached',
            'storage_unavailable',
            'draining',
          ],
          exempt: false,
          runScope: 'self',
          bodyName: 'ReportRun',
          notFound: 'run_not_found',
        },
      ),
    )
    .input(ReportRun.extend(taskId))
    .output(RunReported)
    .mutation(({ ctx, input }) => ctx.runs.report(input.taskId, input.message)),

  events: procedure
    .meta(
      operation(
        'runs.events',
        'GET',
        '/api/headless/{taskId}/events',
        {
          summary: 'Read or follow the events of a run',
          description:
            'A page as JSON; or, with `Accept: text/event-stream`, the events as they happen: `id` is the seq, `event` the type, ' +
            '`data` the whole event, a comment every 15 s. `Last-Event-ID` or `after` resumes without gap or duplicate. ' +
            'The stream ends after the terminal event and only then; a reader who falls behind is cut off and resumes.',
        },
        {
          answers: {
            200: { description: 'One page of events, or the stream of them.', other: { 'text/event-stream': Event } },
            204: { description: 'For a stream: the run has ended, and its last event is the one you have.' },
          },
          errors: ['run_not_found', 'log_retired'],
          exempt: true,
          runScope: 'own-run',
          headers: ['Last-Event-ID'],
          notFound: 'run_not_found',
        },
      ),
    )
    .input(
      z.strictObject({
        ...taskId,
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
    .query(({ ctx, input }) => ctx.runs.events(input.taskId, input.after ?? 0, input.limit ?? LIMITS.eventPageLimit)),
})
