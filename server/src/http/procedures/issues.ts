import { z } from 'zod'
import { DomainError, type ErrorCode } from '../../errors.ts'
import type { Starter } from '../../issues/types.ts'
import { Run, WorkspaceId, type Trigger } from '../../model.ts'
import {
  CreateComment,
  CreateIssue,
  CronText,
  Issue,
  IssueBoard,
  IssueComment,
  IssueId,
  IssueSchedule,
  IssueStatus,
  ISSUE_LIMITS,
  Revision,
  SchedulePreview,
  TimeZoneName,
  UpdateIssue,
  When,
} from '../../model/issues.ts'
import { callerName } from '../caller.ts'
import { operation, procedure, router } from '../trpc.ts'
import { accepted, recorded, startedBy, START_ERRORS } from './starting.ts'

const inWorkspace = { id: WorkspaceId }
const issue = { ...inWorkspace, issueId: IssueId }
const PATH = '/api/workspaces/{id}/issues'
const ONE = `${PATH}/{issueId}` as const

const READ_ERRORS: ErrorCode[] = ['workspace_not_found', 'path_not_usable', 'issue_not_found', 'issue_invalid']
const WRITE_ERRORS: ErrorCode[] = [...READ_ERRORS, 'storage_unavailable', 'draining']
const KEY_ERRORS: ErrorCode[] = [
  'idempotency_key_invalid',
  'idempotency_in_flight',
  'idempotency_mismatch',
  'too_many_keys',
]
const status = IssueStatus.meta({ description: 'Only issues with this status.' }).optional()
const count = z
  .int()
  .min(1)
  .max(ISSUE_LIMITS.previewFires)
  .meta({
    description: `Fires to show, 1 to ${ISSUE_LIMITS.previewFires}; default ${ISSUE_LIMITS.defaultPreviewFires}.`,
  })
  .optional()

/** Issues: files of a workspace that may schedule themselves. Source: docs/contract.md 5. */
export const issueProcedures = router({
  board: procedure
    .meta(
      operation(
        'issues.board',
        'GET',
        '/api/issues',
        {
          summary: 'List the issues of all workspaces',
          description: 'With the files that could not be read as an issue: which, in which line, and why.',
        },
        { answers: { 200: { description: 'The board.' } }, errors: ['workspace_not_found'], exempt: true },
      ),
    )
    .input(z.strictObject({ wsId: WorkspaceId.meta({ description: 'Only of this workspace.' }).optional(), status }))
    .output(IssueBoard)
    .query(({ ctx, input: { wsId, status } }) =>
      ctx.issues.board({ ...(wsId !== undefined && { wsId }), ...(status !== undefined && { status }) }),
    ),

  preview: procedure
    .meta(
      operation(
        'issues.preview',
        'GET',
        '/api/issues/preview',
        {
          summary: 'Preview a schedule',
          description: 'When it would fire from now on. Exactly one of `cron`, `every` and `at`; nothing is stored.',
        },
        {
          answers: { 200: { description: 'The next fires.' } },
          errors: ['cron_invalid'],
          exempt: true,
          runScope: 'anyone',
        },
      ),
    )
    .input(
      z.strictObject({
        cron: CronText.optional(),
        every: z.string().min(1).max(64).meta({ description: 'A span.', example: '1h' }).optional(),
        at: z.string().min(1).max(64).meta({ description: 'A moment.', example: '2026-12-01T08:00:00Z' }).optional(),
        timezone: TimeZoneName.optional(),
        count,
      }),
    )
    .output(SchedulePreview)
    .query(({ ctx, input: { count, ...given } }) =>
      ctx.issues.preview(whenOf(given), count ?? ISSUE_LIMITS.defaultPreviewFires),
    ),

  list: procedure
    .meta(
      operation(
        'issues.list',
        'GET',
        PATH,
        {
          summary: 'List the issues of a workspace',
          description: 'With the files that could not be read as an issue.',
        },
        {
          answers: { 200: { description: 'The issues.' } },
          errors: ['workspace_not_found'],
          exempt: true,
          runScope: 'own-workspace',
          notFound: 'workspace_not_found',
        },
      ),
    )
    .input(z.strictObject({ ...inWorkspace, status }))
    .output(IssueBoard)
    .query(({ ctx, input: { id: wsId, status } }) =>
      ctx.issues.board({ wsId, ...(status !== undefined && { status }) }),
    ),

  create: procedure
    .meta(
      operation(
        'issues.create',
        'POST',
        PATH,
        { summary: 'Write an issue', description: 'Makes the file `.postern/issues/<issueId>.md` in the workspace.' },
        {
          answers: { 201: { description: 'The new issue.', headers: ['Location', 'Idempotency-Replayed'] } },
          errors: [
            'workspace_not_found',
            'path_not_usable',
            'issue_invalid',
            'issue_exists',
            'cron_invalid',
            'prompt_too_long',
            'storage_unavailable',
            'draining',
            ...KEY_ERRORS,
          ],
          exempt: false,
          runScope: 'own-workspace',
          bodyName: 'CreateIssue',
          headers: ['Idempotency-Key'],
          notFound: 'workspace_not_found',
        },
      ),
    )
    .input(CreateIssue.extend(inWorkspace))
    .output(Issue)
    .mutation(async ({ ctx, input: { id: wsId, ...input } }) => {
      const { issue, replayed } = await ctx.issues.create(wsId, input, ctx.idempotency)
      ctx.reply.status = 201
      ctx.reply.headers['Location'] = `/api/workspaces/${wsId}/issues/${issue.issueId}`
      if (replayed) ctx.reply.headers['Idempotency-Replayed'] = 'true'
      return issue
    }),

  get: procedure
    .meta(
      operation(
        'issues.get',
        'GET',
        ONE,
        { summary: 'Get an issue' },
        {
          answers: { 200: { description: 'The issue.' } },
          errors: READ_ERRORS,
          exempt: true,
          runScope: 'own-workspace',
          notFound: 'issue_not_found',
        },
      ),
    )
    .input(z.strictObject(issue))
    .output(Issue)
    .query(({ ctx, input: { id: wsId, issueId } }) => ctx.issues.get({ wsId, issueId })),

  update: procedure
    .meta(
      operation(
        'issues.update',
        'PATCH',
        ONE,
        {
          summary: 'Change an issue',
          description:
            'Changes the file in the places that the body names. Unknown keys, their order, comments and white space stay.',
        },
        {
          answers: { 200: { description: 'The issue as changed.' } },
          errors: [...WRITE_ERRORS, 'issue_changed', 'cron_invalid', 'prompt_too_long'],
          exempt: false,
          runScope: 'own-workspace',
          bodyName: 'UpdateIssue',
          notFound: 'issue_not_found',
        },
      ),
    )
    .input(UpdateIssue.extend(issue))
    .output(Issue)
    .mutation(({ ctx, input: { id: wsId, issueId, ...patch } }) => ctx.issues.update({ wsId, issueId }, patch)),

  delete: procedure
    .meta(
      operation(
        'issues.delete',
        'DELETE',
        ONE,
        { summary: 'Remove an issue', description: 'Removes its file, also one that cannot be read as an issue.' },
        {
          answers: { 200: { description: 'The issue as it was; null: it could not be read as one.' } },
          errors: [...WRITE_ERRORS, 'issue_changed'],
          exempt: false,
          runScope: 'own-workspace',
          notFound: 'issue_not_found',
        },
      ),
    )
    .input(z.strictObject({ ...issue, revision: Revision.optional() }))
    .output(Issue.nullable())
    .mutation(({ ctx, input: { id: wsId, issueId, revision } }) => ctx.issues.remove({ wsId, issueId }, { revision })),

  comment: procedure
    .meta(
      operation(
        'issues.comment',
        'POST',
        `${ONE}/comments`,
        {
          summary: 'Comment on an issue',
          description:
            'Appends to the file, below a line `<!-- comment <when> <author> -->`. Comments are not sent to agents.',
        },
        {
          answers: { 201: { description: 'The comment.', headers: ['Idempotency-Replayed'] } },
          errors: [...WRITE_ERRORS, 'issue_changed', ...KEY_ERRORS],
          exempt: false,
          runScope: 'own-workspace',
          bodyName: 'CreateComment',
          headers: ['Idempotency-Key'],
          notFound: 'issue_not_found',
        },
      ),
    )
    .input(CreateComment.extend(issue))
    .output(IssueComment)
    .mutation(async ({ ctx, input: { id: wsId, issueId, ...input } }) => {
      const { comment, replayed } = await ctx.issues.comment(
        { wsId, issueId },
        // A run says who it is by its token, not by what it writes.
        typeof ctx.caller === 'string' ? input : { ...input, author: callerName(ctx.caller) },
        ctx.idempotency,
      )
      ctx.reply.status = 201
      if (replayed) ctx.reply.headers['Idempotency-Replayed'] = 'true'
      return comment
    }),

  run: procedure
    .meta(
      operation(
        'issues.run',
        'POST',
        `${ONE}/run`,
        {
          summary: 'Run an issue now',
          description: 'Its body is the prompt. The schedule is neither asked nor changed.',
        },
        {
          answers: {
            202: { description: 'Accepted.', headers: ['Location', 'Idempotency-Replayed', 'Preference-Applied'] },
            200: {
              description: 'The run, which ended while `Prefer: wait` waited.',
              headers: ['Location', 'Idempotency-Replayed', 'Preference-Applied'],
            },
          },
          errors: [...new Set([...READ_ERRORS, ...START_ERRORS, 'run_ended' as const, 'nested_too_deep' as const])],
          exempt: true,
          runScope: 'own-workspace',
          headers: ['Idempotency-Key', 'Prefer'],
          notFound: 'issue_not_found',
        },
      ),
    )
    .input(z.strictObject(issue))
    .output(Run)
    .mutation(async ({ ctx, input: { id: wsId, issueId } }) => {
      const starter = typeof ctx.caller === 'string' ? undefined : starterOf(startedBy(ctx.caller))
      const started = await recorded(() => ctx.issues.run({ wsId, issueId }, ctx.idempotency, starter))
      return await accepted(ctx, started, ctx.waitMs)
    }),

  schedule: procedure
    .meta(
      operation(
        'issues.schedule',
        'GET',
        `${ONE}/schedule`,
        { summary: "Get an issue's schedule", description: 'The next fires, the last one, and why one did not run.' },
        {
          answers: { 200: { description: 'The schedule.' } },
          errors: READ_ERRORS,
          exempt: true,
          runScope: 'own-workspace',
          notFound: 'issue_not_found',
        },
      ),
    )
    .input(z.strictObject({ ...issue, count }))
    .output(IssueSchedule)
    .query(({ ctx, input: { id: wsId, issueId, count } }) =>
      ctx.issues.schedule({ wsId, issueId }, count ?? ISSUE_LIMITS.defaultPreviewFires),
    ),
})

/** @throws DomainError `validation_failed` */
function whenOf(given: {
  cron?: string | undefined
  every?: string | undefined
  at?: string | undefined
  timezone?: string | undefined
}): When {
  const { timezone, ...kinds } = given
  const named = Object.entries(kinds).filter(([, value]) => value !== undefined)
  const [kind, value] = named[0] ?? []
  if (named.length !== 1 || kind === undefined) {
    throw new DomainError('validation_failed', 'exactly one of cron, every and at is needed', {
      hint: 'postern issue schedule --preview "0 9 * * 1-5"',
    })
  }
  if (timezone !== undefined && kind !== 'cron') {
    throw new DomainError('validation_failed', 'a time zone goes with cron')
  }
  const parsed = When.safeParse({ kind, [kind]: value, ...(timezone !== undefined && { timezone }) })
  if (parsed.success) return parsed.data
  const detail = `${kind}: ${parsed.error.issues[0]?.message ?? 'not valid'}`
  throw new DomainError('validation_failed', detail, { errors: [{ pointer: `/${kind}`, detail }] })
}

/** Who asked, as the trigger of an issue's run says it. */
function starterOf({ parentTaskId, parentSessionId }: Trigger): Starter {
  return { parentTaskId, ...(parentSessionId !== undefined && { parentSessionId }) }
}
