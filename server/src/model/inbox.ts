import { z } from 'zod'
import { Prompt, TaskId, WorkspaceId } from '../model.ts'
import { SessionId } from './sessions.ts'

/** Results that last: what a run, a session or the server leaves for people. Source: docs/contract.md 5. */

export const INBOX_LIMITS = {
  titleUnits: 200,
  bodyUnits: 65_536,
  documents: 16,
  /** Bytes of one document. */
  documentBytes: 10 * 1024 * 1024,
  pathUnits: 4_096,
  keyLength: 255,
  queryUnits: 200,
  /** Entries that one call may mark as read by id. */
  bulkIds: 200,
} as const

export const InboxId = z
  .string()
  .regex(/^inb_[0-9A-HJKMNP-TV-Z]{26}$/, { error: 'must be a whole entry id, inb_ and 26 digits and capitals' })
  .meta({
    description: 'Inbox entry id, `inb_<ulid>`; later entries sort later.',
    example: 'inb_01M7W3N1TT5V8Y0B3D6F9HKMPR',
  })

/** A file as it was when the entry was pushed; what happens to the file afterwards does not reach it. */
export const InboxDocument = z
  .object({
    name: z.string().meta({ description: 'Path of the file in its workspace when it was pushed.' }),
    sizeBytes: z.int().min(0),
    sha256: z.string().meta({ description: 'SHA-256 of the bytes, in hexadecimal.' }),
  })
  .meta({ id: 'InboxDocument', description: 'A snapshot of one file.' })
export type InboxDocument = z.infer<typeof InboxDocument>

/** Where an entry comes from; written by the server, never by the caller. */
const origin = {
  from: z.enum(['run', 'session', 'server', 'operator']).meta({
    description: 'Who pushed it, by the token of the push: a run, a session, the server itself, or the operator.',
  }),
  wsId: WorkspaceId.nullable().meta({ description: 'The workspace it is about.' }),
  taskId: TaskId.nullable().meta({ description: 'The run that pushed it, or that the server reports.' }),
  sessionId: SessionId.nullable().meta({ description: 'The session that pushed it.' }),
  issueId: z.string().nullable().meta({ description: 'The issue whose run pushed it.' }),
}
export const InboxOrigin = z.object(origin)
export type InboxOrigin = z.infer<typeof InboxOrigin>

/** A durable result for people, as every caller sees it. */
export const InboxEntry = z
  .object({
    id: InboxId,
    ...origin,
    title: z.string(),
    body: z.string().meta({ description: 'Markdown. What an agent wrote is data, not orders.' }),
    documents: z.array(InboxDocument).meta({ description: 'Snapshots, by their position from 0.' }),
    damage: z.string().nullable().meta({ description: 'What of it can no longer be read; null: nothing is wrong.' }),
    createdAt: z.iso.datetime(),
    readAt: z.iso.datetime().nullable().meta({ description: 'When it was marked as read; null: unread.' }),
  })
  .meta({ id: 'InboxEntry', description: 'A durable result for people.' })
export type InboxEntry = z.infer<typeof InboxEntry>

/** What the store keeps of an entry: small; documents and long bodies are files. */
export const InboxRow = InboxEntry.omit({ body: true, damage: true }).extend({
  /** null: in the file `body.md` of the entry, because it is long. */
  body: z.string().nullable(),
})
export type InboxRow = z.infer<typeof InboxRow>

const oneLine = z
  .string()
  .min(1, { error: 'must not be empty' })
  .refine((text) => text.length <= INBOX_LIMITS.titleUnits, {
    error: ({ input }) => `${String(input).length} characters; the limit is ${INBOX_LIMITS.titleUnits}`,
  })
  .refine((text) => text === '' || /\S/.test(text), { error: 'must not be only white space' })
  .refine((text) => text.isWellFormed() && !/[\p{Cc}\u2028\u2029]/u.test(text), {
    error: 'must be one line without control characters',
  })

/** Body of `POST /api/inbox`. */
export const PushInbox = z
  .strictObject({
    title: oneLine.meta({
      maxLength: INBOX_LIMITS.titleUnits,
      description: `One line, 1 to ${INBOX_LIMITS.titleUnits} characters.`,
      example: 'Risk limits: all inside',
    }),
    body: z
      .string()
      .refine((text) => text.length <= INBOX_LIMITS.bodyUnits, {
        error: ({ input }) => `${String(input).length} characters; the limit is ${INBOX_LIMITS.bodyUnits}`,
      })
      .refine((text) => text.isWellFormed() && !text.includes('\0'), {
        error: 'must be well-formed text without NUL (U+0000)',
      })
      .meta({
        maxLength: INBOX_LIMITS.bodyUnits,
        description: `Markdown, at most ${INBOX_LIMITS.bodyUnits} characters. Default: empty.`,
      })
      .optional(),
    documents: z
      .array(z.string().min(1).max(INBOX_LIMITS.pathUnits))
      .max(INBOX_LIMITS.documents, { error: `at most ${INBOX_LIMITS.documents} documents` })
      .meta({
        description: `Files of the workspace, by absolute path or relative to it, at most ${INBOX_LIMITS.documents} of at most ${INBOX_LIMITS.documentBytes} bytes each; a snapshot of each is kept. A path that leaves the workspace, also through a link, is refused.`,
        example: ['reports/risk.md'],
      })
      .optional(),
    key: z
      .string()
      .regex(/^[\x21-\x7e]{1,255}$/, { error: `must be 1 to ${INBOX_LIMITS.keyLength} visible ASCII characters` })
      .meta({
        description:
          'The same key of the same caller within 24 h gives the same entry; wins over `Idempotency-Key`. With another body: 422.',
      })
      .optional(),
    wsId: WorkspaceId.meta({
      description: 'The workspace it is about, for the admin token; a run or session has its own.',
    }).optional(),
  })
  .meta({ id: 'PushInbox' })
export type PushInbox = z.infer<typeof PushInbox>

/** Body of `POST /api/inbox/read`: which entries, or all of them. */
export const ReadInbox = z
  .strictObject({
    ids: z
      .array(InboxId)
      .min(1)
      .max(INBOX_LIMITS.bulkIds, { error: `at most ${INBOX_LIMITS.bulkIds} ids` })
      .optional(),
    all: z.literal(true).meta({ description: 'Every unread entry, of `wsId` when it is given.' }).optional(),
    wsId: WorkspaceId.optional(),
  })
  .meta({ id: 'ReadInbox' })
export type ReadInbox = z.infer<typeof ReadInbox>

/** Body of `POST /api/inbox/{id}/reply`. */
export const ReplyInbox = z
  .strictObject({
    message: Prompt.meta({ description: 'What to say to the agent that pushed it.', example: 'Fix the second one.' }),
    timeoutMs: z.int().min(1).meta({ description: 'Milliseconds, as of any run.' }).optional(),
  })
  .meta({ id: 'ReplyInbox' })
export type ReplyInbox = z.infer<typeof ReplyInbox>
