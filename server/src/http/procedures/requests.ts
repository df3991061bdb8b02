import { z } from 'zod'
import { WorkspaceId } from '../../model.ts'
import { AnswerRequest, PermissionRequest, PermissionRequestId, SessionId } from '../../model/sessions.ts'
import { defined, limitOf, PAGE_CURSOR } from '../queries.ts'
import { operation, procedure, router } from '../trpc.ts'

const PermissionRequestList = z
  .object({ requests: z.array(PermissionRequest), nextCursor: z.string().nullable() })
  .meta({ id: 'PermissionRequestList', description: 'One page of permission requests, newest first.' })

const id = { id: PermissionRequestId }

/** What live agents ask. Source: docs/contract.md 5. */
export const requestProcedures = router({
  list: procedure
    .meta(
      operation(
        'requests.list',
        'GET',
        '/api/requests',
        { summary: 'List permission requests', description: 'Newest first; `status=pending` are those that wait.' },
        {
          answers: { 200: { description: 'One page of permission requests.' } },
          errors: ['invalid_cursor'],
          exempt: false,
        },
      ),
    )
    .input(
      z.strictObject({
        status: PermissionRequest.shape.status.optional(),
        sessionId: SessionId.meta({ description: 'Only those of this session.' }).optional(),
        wsId: WorkspaceId.meta({ description: 'Only those of this workspace.' }).optional(),
        limit: limitOf('Requests').optional(),
        cursor: PAGE_CURSOR.optional(),
      }),
    )
    .output(PermissionRequestList)
    .query(({ ctx, input }) => ctx.requests.list(defined(input))),

  get: procedure
    .meta(
      operation(
        'requests.get',
        'GET',
        '/api/requests/{id}',
        { summary: 'Get a permission request' },
        {
          answers: { 200: { description: 'The request as it is now.' } },
          errors: ['request_not_found'],
          exempt: false,
          notFound: 'request_not_found',
        },
      ),
    )
    .input(z.strictObject(id))
    .output(PermissionRequest)
    .query(({ ctx, input }) => ctx.requests.get(input.id)),

  answer: procedure
    .meta(
      operation(
        'requests.answer',
        'POST',
        '/api/requests/{id}/answer',
        {
          summary: 'Answer a permission request',
          description: 'The first answer wins: a person, the policy of the workspace, or the deadline, which denies.',
        },
        {
          answers: { 200: { description: 'The request, answered.' } },
          errors: ['request_not_found', 'request_answered', 'option_not_offered', 'storage_unavailable', 'draining'],
          exempt: false,
          bodyName: 'AnswerRequest',
          notFound: 'request_not_found',
        },
      ),
    )
    .input(AnswerRequest.extend(id))
    .output(PermissionRequest)
    .mutation(({ ctx, input: { id: requestId, ...answer } }) => ctx.requests.answer(requestId, answer)),
})
