import { z } from 'zod'
import { LIMITS } from '../../model.ts'
import { Grant, GrantId, GrantList, KeyRotation, MintRequest, Minted, RotateKeys } from '../../model/channels.ts'
import { Delivery, DeliveryId, SessionId, DeliveryList } from '../../model/sessions.ts'
import { operation, procedure, router } from '../trpc.ts'

const grantId = { grantId: GrantId }
const page = (what: string) => ({
  limit: z
    .int()
    .min(1)
    .max(LIMITS.listLimit)
    .meta({ description: `${what} on a page, 1 to ${LIMITS.listLimit}; default ${LIMITS.defaultListLimit}.` })
    .optional(),
  cursor: z.string().max(256).meta({ description: '`nextCursor` of the page before.' }).optional(),
})

/** Addresses that put a message into a live session. Source: docs/contract.md 4. */
export const channelProcedures = router({
  create: procedure
    .meta(
      operation(
        'channels.create',
        'POST',
        '/api/channels',
        {
          summary: 'Mint a channel address',
          description:
            'Makes an address to which anyone who has it may post messages for one live session, until it expires or is ' +
            'revoked. The token is shown this once: only what it could be checked with is kept.',
        },
        {
          answers: { 201: { description: 'The new address.', headers: ['Location', 'Idempotency-Replayed'] } },
          errors: [
            'session_not_found',
            'session_ended',
            'grant_revoked',
            'idempotency_key_invalid',
            'idempotency_in_flight',
            'idempotency_mismatch',
            'too_many_keys',
            'storage_unavailable',
          ],
          exempt: false,
          bodyName: 'MintRequest',
          headers: ['Idempotency-Key'],
        },
      ),
    )
    .input(MintRequest)
    .output(Minted)
    .mutation(async ({ ctx, input }) => {
      const { minted, replayed } = await ctx.channels.mint({
        body: input,
        ...(ctx.idempotency && { idempotency: ctx.idempotency }),
      })
      ctx.reply.status = 201
      ctx.reply.headers['Location'] = `/api/channels/${minted.grantId}`
      if (replayed) ctx.reply.headers['Idempotency-Replayed'] = 'true'
      return minted
    }),

  list: procedure
    .meta(
      operation(
        'channels.list',
        'GET',
        '/api/channels',
        { summary: 'List grants', description: 'Newest first, revoked and expired ones too. Tokens are never shown.' },
        { answers: { 200: { description: 'One page of grants.' } }, errors: ['invalid_cursor'], exempt: false },
      ),
    )
    .input(
      z.strictObject({
        sessionId: SessionId.meta({ description: 'Only grants on this session.' }).optional(),
        ...page('Grants'),
      }),
    )
    .output(GrantList)
    .query(({ ctx, input: { sessionId, limit, cursor } }) =>
      ctx.channels.list({
        ...(sessionId !== undefined && { sessionId }),
        ...(limit !== undefined && { limit }),
        ...(cursor !== undefined && { cursor }),
      }),
    ),

  get: procedure
    .meta(
      operation(
        'channels.get',
        'GET',
        '/api/channels/{grantId}',
        { summary: 'Get a grant' },
        {
          answers: { 200: { description: 'The grant.' } },
          errors: ['grant_not_found'],
          exempt: false,
          notFound: 'grant_not_found',
        },
      ),
    )
    .input(z.strictObject(grantId))
    .output(Grant)
    .query(({ ctx, input }) => ctx.channels.get(input.grantId)),

  revoke: procedure
    .meta(
      operation(
        'channels.revoke',
        'DELETE',
        '/api/channels/{grantId}',
        {
          summary: 'Revoke a grant',
          description:
            'The address is dead when this answers, also after a crash: no delivery on it starts any more, and what still ' +
            'waits is dropped. What the agent took stays taken. Safe to repeat.',
        },
        {
          answers: { 200: { description: 'The grant, revoked.' } },
          errors: ['grant_not_found', 'storage_unavailable'],
          exempt: false,
          notFound: 'grant_not_found',
        },
      ),
    )
    .input(z.strictObject(grantId))
    .output(Grant)
    .mutation(({ ctx, input }) => ctx.channels.revoke(input.grantId)),

  deliveries: procedure
    .meta(
      operation(
        'channels.deliveries',
        'GET',
        '/api/channels/{grantId}/deliveries',
        { summary: 'List what came through a grant', description: 'Newest first: when it came and what became of it.' },
        {
          answers: { 200: { description: 'One page of deliveries.' } },
          errors: ['grant_not_found', 'invalid_cursor'],
          exempt: false,
          notFound: 'grant_not_found',
        },
      ),
    )
    .input(z.strictObject({ ...grantId, ...page('Deliveries') }))
    .output(DeliveryList)
    .query(({ ctx, input: { grantId, limit, cursor } }) =>
      ctx.channels.deliveries(grantId, {
        ...(limit !== undefined && { limit }),
        ...(cursor !== undefined && { cursor }),
      }),
    ),
})

/** Single deliveries, whatever they came through. Source: docs/contract.md 4. */
export const deliveryProcedures = router({
  get: procedure
    .meta(
      operation(
        'deliveries.get',
        'GET',
        '/api/deliveries/{id}',
        { summary: 'Get a delivery' },
        {
          answers: { 200: { description: 'The delivery.' } },
          errors: ['delivery_not_found'],
          exempt: false,
          notFound: 'delivery_not_found',
        },
      ),
    )
    .input(z.strictObject({ id: DeliveryId }))
    .output(Delivery)
    .query(({ ctx, input }) => ctx.channels.delivery(input.id)),
})

/** The root keys. Source: docs/contract.md 5; docs/security.md 2.1. */
export const keyProcedures = router({
  rotate: procedure
    .meta(
      operation(
        'keys.rotate',
        'POST',
        '/api/keys/rotate',
        {
          summary: 'Rotate the root keys',
          description:
            'New addresses and seals are made with a new key. Addresses that older keys signed stay good until they ' +
            'expire; with `drop` they are revoked at once, and listed.',
        },
        {
          answers: { 200: { description: 'What was changed.' } },
          errors: ['keys_in_use', 'storage_unavailable'],
          exempt: false,
          bodyName: 'RotateKeys',
        },
      ),
    )
    .input(RotateKeys)
    .output(KeyRotation)
    .mutation(({ ctx, input }) => ctx.channels.rotateKeys(input)),
})
