import { z } from 'zod'
import { Credential, CredentialList, CredentialName, SetCredential } from '../../model/credentials.ts'
import { operation, procedure, router } from '../trpc.ts'

/** Named sets of environment variables; no operation answers with a value. Source: docs/contract.md 5. */
export const credentialProcedures = router({
  list: procedure
    .meta(
      operation(
        'credentials.list',
        'GET',
        '/api/credentials',
        { summary: 'List credentials', description: 'Names alone: values never come back.' },
        { answers: { 200: { description: 'Every credential, by name.' } }, errors: [], exempt: false },
      ),
    )
    .input(z.strictObject({}))
    .output(CredentialList)
    .query(async ({ ctx }) => ({ credentials: await ctx.credentials.list() })),

  set: procedure
    .meta(
      operation(
        'credentials.set',
        'POST',
        '/api/credentials',
        {
          summary: 'Set a credential',
          description:
            'A named set of environment variables, sealed at rest. One of that name is replaced whole. It is given to runs ' +
            'and sessions of the workspaces that name it, and of the agents it is limited to; what is at work already keeps ' +
            'what it was started with.',
        },
        {
          answers: {
            200: { description: 'The credential, replaced.', headers: ['Idempotency-Replayed'] },
            201: { description: 'The new credential.', headers: ['Idempotency-Replayed'] },
          },
          errors: [
            'variable_not_allowed',
            'unknown_agent',
            'credential_not_found',
            'too_many_credentials',
            'idempotency_key_invalid',
            'idempotency_in_flight',
            'idempotency_mismatch',
            'too_many_keys',
            'storage_unavailable',
            'draining',
          ],
          exempt: false,
          bodyName: 'SetCredential',
          headers: ['Idempotency-Key'],
        },
      ),
    )
    .input(SetCredential)
    .output(Credential)
    .mutation(async ({ ctx, input }) => {
      const { credential, created, replayed } = await ctx.credentials.set(input, ctx.idempotency)
      ctx.reply.status = created ? 201 : 200
      if (replayed) ctx.reply.headers['Idempotency-Replayed'] = 'true'
      return credential
    }),

  delete: procedure
    .meta(
      operation(
        'credentials.delete',
        'DELETE',
        '/api/credentials/{name}',
        {
          summary: 'Forget a credential',
          description:
            'At once, also while workspaces name it: what starts there afterwards ends `failed`, `credential_not_found`, ' +
            'until it is set again or the workspace no longer names it.',
        },
        {
          answers: { 200: { description: 'The credential as it was.' } },
          errors: ['credential_not_found', 'storage_unavailable', 'draining'],
          exempt: false,
          notFound: 'credential_not_found',
        },
      ),
    )
    .input(z.strictObject({ name: CredentialName }))
    .output(Credential)
    .mutation(({ ctx, input }) => ctx.credentials.remove(input.name)),
})
