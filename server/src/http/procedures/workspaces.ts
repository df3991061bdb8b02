import { z } from 'zod'
import { Workspace, WorkspaceId } from '../../model.ts'
import { CreateWorkspace, UpdateWorkspace } from '../../workspaces/types.ts'
import { operation, procedure, router } from '../trpc.ts'

const WorkspaceList = z
  .object({ workspaces: z.array(Workspace) })
  .meta({ id: 'WorkspaceList', description: 'Every registered workspace.' })

const id = { id: WorkspaceId }

/** Directories agents work in. Source: docs/contract.md 5. */
export const workspaceProcedures = router({
  list: procedure
    .meta(
      operation(
        'workspaces.list',
        'GET',
        '/api/workspaces',
        { summary: 'List workspaces' },
        { answers: { 200: { description: 'Every registered workspace.' } }, errors: [], exempt: true },
      ),
    )
    .input(z.strictObject({}))
    .output(WorkspaceList)
    .query(async ({ ctx }) => ({ workspaces: await ctx.workspaces.list() })),

  create: procedure
    .meta(
      operation(
        'workspaces.create',
        'POST',
        '/api/workspaces',
        {
          summary: 'Register a workspace',
          description:
            'Without `path`: a new directory under the data directory, with `git init`. With a path: the existing directory is ' +
            'registered, never changed. Registering a directory is trusting it: agents load the settings they find there.',
        },
        {
          answers: {
            201: { description: 'The new workspace.', headers: ['Location', 'Idempotency-Replayed'] },
          },
          errors: [
            'path_not_usable',
            'unknown_agent',
            'agent_not_enabled',
            'unknown_credential',
            'workspace_exists',
            'idempotency_key_invalid',
            'idempotency_in_flight',
            'idempotency_mismatch',
            'too_many_keys',
            'storage_unavailable',
            'draining',
          ],
          exempt: false,
          bodyName: 'CreateWorkspace',
          headers: ['Idempotency-Key'],
        },
      ),
    )
    .input(CreateWorkspace)
    .output(Workspace)
    .mutation(async ({ ctx, input }) => {
      const { workspace, replayed } = await ctx.workspaces.create(input, ctx.idempotency)
      ctx.reply.status = 201
      ctx.reply.headers['Location'] = `/api/workspaces/${workspace.id}`
      if (replayed) ctx.reply.headers['Idempotency-Replayed'] = 'true'
      return workspace
    }),

  get: procedure
    .meta(
      operation(
        'workspaces.get',
        'GET',
        '/api/workspaces/{id}',
        { summary: 'Get a workspace' },
        {
          answers: { 200: { description: 'The workspace.' } },
          errors: ['workspace_not_found'],
          exempt: true,
          notFound: 'workspace_not_found',
        },
      ),
    )
    .input(z.strictObject(id))
    .output(Workspace)
    .query(({ ctx, input }) => ctx.workspaces.get(input.id)),

  update: procedure
    .meta(
      operation(
        'workspaces.update',
        'PATCH',
        '/api/workspaces/{id}',
        { summary: 'Change a workspace', description: 'What is absent from the body stays as it is.' },
        {
          answers: { 200: { description: 'The workspace as changed.' } },
          errors: [
            'workspace_not_found',
            'unknown_agent',
            'agent_not_enabled',
            'unknown_credential',
            'storage_unavailable',
            'draining',
          ],
          exempt: false,
          bodyName: 'UpdateWorkspace',
          notFound: 'workspace_not_found',
        },
      ),
    )
    .input(UpdateWorkspace.extend(id))
    .output(Workspace)
    .mutation(({ ctx, input: { id, ...patch } }) => ctx.workspaces.update(id, patch)),

  delete: procedure
    .meta(
      operation(
        'workspaces.delete',
        'DELETE',
        '/api/workspaces/{id}',
        {
          summary: 'Forget a workspace',
          description: 'Removes files only with `purge=true`, and only of a directory that Postern created.',
        },
        {
          answers: { 200: { description: 'The workspace as it was.' } },
          errors: ['workspace_not_found', 'workspace_busy', 'storage_unavailable', 'draining'],
          exempt: false,
          notFound: 'workspace_not_found',
        },
      ),
    )
    .input(
      z.strictObject({
        ...id,
        purge: z.boolean().meta({ description: 'Also remove the directory, if Postern created it.' }).optional(),
      }),
    )
    .output(Workspace)
    .mutation(({ ctx, input }) => ctx.workspaces.remove(input.id, { purge: input.purge ?? false })),
})
