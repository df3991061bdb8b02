import { z } from 'zod'
import { MessageText, SenderName } from './message.ts'
import { SessionId } from './sessions.ts'

/** Grants on channels, and what is sent through them. Source: docs/contract.md 4; docs/security.md 2. */

export const CHANNEL_LIMITS = {
  /** Bytes of the body of a knock. */
  hookBodyBytes: 131_072,
  /** Knocks on one grant: so many in a minute, and so many at once. */
  perMinute: 30,
  burst: 10,
  /** Bad tokens in a second, from one address and in all. */
  failuresPerSource: 50,
  failuresInAll: 200,
  /** Idempotency keys of one grant that are remembered at a time. */
  keysPerGrant: 10_000,
} as const
export type ChannelLimits = { readonly [name in Exclude<keyof typeof CHANNEL_LIMITS, 'hookBodyBytes'>]: number }

export const GrantId = z
  .string()
  .regex(/^grant_[0-7][0-9A-HJKMNP-TV-Z]{25}$/, {
    error: 'must be a whole grant id, grant_ and 26 digits and capitals',
  })
  .meta({ description: 'Grant id, `grant_<ulid>`.', example: 'grant_01M7W3P5H2A9E4R7W0Y6ZC8MND' })

const VERB_NAMES = ['send_input'] as const
export const Verb = z
  .enum(VERB_NAMES, {
    error: ({ input }) => `${JSON.stringify(input)} is not a verb; possible: ${VERB_NAMES.join(', ')}`,
  })
  .meta({ id: 'Verb', description: '`send_input`: put one message into the session.' })
export type Verb = z.infer<typeof Verb>

const channel = z
  .string()
  .meta({ description: 'Address of the session.', example: 'postern:/sessions/sess_01M7W2YAHR3Q8V5N0D6C7BKXTE' })

/** The right to do one verb on one channel until a moment, as the operator sees it. */
export const Grant = z
  .object({
    id: GrantId,
    channel,
    sessionId: SessionId,
    verb: Verb,
    label: z.string().nullable().meta({ description: 'What it is for; told to the agent.' }),
    revoked: z.boolean(),
    revokedAt: z.iso.datetime().nullable(),
    createdAt: z.iso.datetime(),
    expiresAt: z.iso.datetime(),
    lastUsedAt: z.iso.datetime().nullable().meta({ description: 'When the last message was accepted.' }),
    deliveries: z.int().min(0).meta({ description: 'Messages accepted.' }),
  })
  .meta({ id: 'Grant', description: 'The right to do one verb on one channel until a moment. Never shows its token.' })
export type Grant = z.infer<typeof Grant>

/**
 * What the store keeps of a grant: no token, and nothing a token could be made of without the key. The counts are
 * written now and then, and may be a little behind after a crash.
 */
export const GrantRow = Grant.omit({ revoked: true, expiresAt: true }).extend({
  /** Unix seconds. */
  exp: z.int().min(1),
  /** Who minted it. */
  createdBy: z.string(),
  /** Number of the key that signs its token. */
  kid: z.int().min(1).max(255),
})
export type GrantRow = z.infer<typeof GrantRow>

/** Body of `POST /api/channels`. */
export const MintRequest = z
  .strictObject({
    sessionId: SessionId,
    verb: Verb.meta({ description: 'What the address may do; default `send_input`.' }).optional(),
    ttlSeconds: z
      .int()
      .min(0)
      .meta({ description: "Seconds until it expires; 0 or absent: the server's default (7 days)." })
      .optional(),
    label: SenderName.meta({ description: 'What it is for; told to the agent.', example: 'ci' }).optional(),
  })
  .meta({ id: 'MintRequest' })
export type MintRequest = z.infer<typeof MintRequest>

/** What a mint answers: the only time the token is shown. */
export const Minted = z
  .object({
    grantId: GrantId,
    channel,
    webhook: z.url().meta({
      description: 'Whoever has this address may knock. Shown this once.',
      example: 'http://127.0.0.1:47331/hook/<token>',
    }),
    token: z.string().meta({ description: 'The last part of the address, for `Authorization: Bearer`.' }),
    verb: Verb,
    label: z.string().nullable(),
    expiresAt: z.iso.datetime(),
  })
  .meta({ id: 'Minted', description: 'A new channel address. The token is shown this once.' })
export type Minted = z.infer<typeof Minted>

/** Body of `POST /hook/{token}`. */
export const HookBody = z
  .strictObject({
    message: MessageText,
    from: SenderName.optional(),
    idempotency_key: z
      .string()
      .meta({ description: 'As the header `Idempotency-Key`; where both are sent they must be equal.' })
      .optional(),
  })
  .meta({ id: 'HookBody' })
export type HookBody = z.infer<typeof HookBody>

export const GrantList = z
  .object({
    grants: z.array(Grant),
    nextCursor: z.string().nullable().meta({ description: 'Pass as `cursor` for the next page; null on the last.' }),
  })
  .meta({ id: 'GrantList', description: 'One page of grants, newest first.' })
export type GrantList = z.infer<typeof GrantList>

/** Body of `POST /api/keys/rotate`. */
export const RotateKeys = z
  .strictObject({
    drop: z
      .boolean()
      .meta({ description: 'True: every older key is void at once, and with it every channel address it signed.' })
      .optional(),
  })
  .meta({ id: 'RotateKeys' })
export type RotateKeys = z.infer<typeof RotateKeys>

export const KeyRotation = z
  .object({
    kid: z.int().meta({ description: 'Number of the new key.' }),
    previous: z
      .array(
        z.object({
          kid: z.int(),
          verifyUntil: z.iso
            .datetime()
            .nullable()
            .meta({ description: 'Until when addresses it signed are good; null: no longer.' }),
        }),
      )
      .meta({ description: 'The keys before it.' }),
    revoked: z.array(GrantId).meta({ description: 'Grants that were revoked because their key was dropped.' }),
  })
  .meta({ id: 'KeyRotation', description: 'What a rotation of the root keys changed.' })
export type KeyRotation = z.infer<typeof KeyRotation>
