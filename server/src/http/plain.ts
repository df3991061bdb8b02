import { z } from 'zod'
import { TaskId, WorkspaceId } from '../model.ts'
import { HookBody } from '../model/channels.ts'
import { InboxId } from '../model/inbox.ts'
import { Receipt } from '../model/sessions.ts'
import { operation, type Meta } from './trpc.ts'

/** An operation that answers no JSON, or is not a procedure: documented here, mounted by `app.ts`. */
export interface PlainOperation extends Meta {
  /** Path and query parameters. */
  input: z.ZodObject
  body?: z.ZodObject
}

const plain = (input: z.ZodObject, ...rest: Parameters<typeof operation>): PlainOperation => ({
  input,
  ...operation(...rest),
})

const KNOCK =
  'The token is the authority: whoever has it may knock, and can do nothing else. Every bad, forged, expired or ' +
  'revoked token gets one constant 403. Any other method is 405. At most 10 messages at once and 30 a minute on one address.'
const knock = (
  input: z.ZodObject,
  id: string,
  path: `/${string}`,
  hookToken: 'path' | 'header',
  text: { summary: string; description: string },
): PlainOperation => ({
  ...plain(input, id, 'POST', path, text, {
    answers: {
      200: {
        description: '`delivered`: stored, and handed to the live, idle agent.',
        headers: ['Idempotency-Replayed', 'RateLimit', 'RateLimit-Policy'],
        other: { 'application/json': Receipt },
      },
      202: {
        description: '`buffered`: stored; the agent is busy, starting or suspended, and will get it, in order.',
        headers: ['Idempotency-Replayed', 'RateLimit', 'RateLimit-Policy'],
        other: { 'application/json': Receipt },
      },
    },
    errors: [
      'forbidden',
      'idempotency_key_invalid',
      'idempotency_in_flight',
      'idempotency_mismatch',
      'too_many_keys',
      'too_many_messages',
      'session_not_found',
      'session_ended',
      'buffer_full',
      'budget_reached',
      'draining',
      'storage_unavailable',
    ],
    exempt: true,
    hookToken,
    bodyName: 'HookBody',
    headers: ['Idempotency-Key'],
  }),
  // Without its name: it becomes a component as every other body does.
  body: HookBody.extend({}),
})

const Text = z.string()
const Bytes = z.string().meta({ format: 'binary' })

export const Health = z
  .object({ status: z.literal('ok'), version: z.string() })
  .meta({ id: 'Health', description: 'The server answers.' })
export const Readiness = z
  .object({ status: z.enum(['ready', 'draining']) })
  .meta({ id: 'Readiness', description: 'Whether new work is taken.' })

/** Routes beside the procedures: raw output, patches, health and documents. */
export const PLAIN = {
  output: plain(
    z.strictObject({
      taskId: TaskId,
      stream: z.enum(['stdout', 'stderr']).meta({ description: 'Which stream; default `stdout`.' }).optional(),
      tailBytes: z
        .int()
        .min(0)
        .meta({ description: 'Only so many bytes from the end; not together with `Range`.' })
        .optional(),
    }),
    'runs.output',
    'GET',
    '/api/headless/{taskId}/output',
    {
      summary: 'Read the raw output of a run',
      description:
        'What the program printed, as it printed it, while it runs and after. One `Range` of bytes is honoured.',
    },
    {
      answers: {
        200: {
          description: 'The output so far, or the end of it that `tailBytes` asks for.',
          headers: ['Accept-Ranges', 'X-Postern-Truncated', 'X-Postern-Complete'],
          other: { 'text/plain; charset=utf-8': Bytes },
        },
        206: {
          description: 'The part that `Range` asks for.',
          headers: ['Accept-Ranges', 'Content-Range', 'X-Postern-Truncated', 'X-Postern-Complete'],
          other: { 'text/plain; charset=utf-8': Bytes },
        },
      },
      errors: ['run_not_found', 'log_retired', 'range_not_satisfiable'],
      exempt: true,
      runScope: 'own-run',
      headers: ['Range'],
      notFound: 'run_not_found',
    },
  ),
  diff: plain(
    z.strictObject({ taskId: TaskId }),
    'runs.diff',
    'GET',
    '/api/headless/{taskId}/diff',
    { summary: 'Read the patch of a run', description: 'The git patch the run made, once it has ended.' },
    {
      answers: { 200: { description: 'A patch for `git apply`.', other: { 'text/x-diff; charset=utf-8': Text } } },
      errors: ['run_not_found', 'diff_not_available', 'log_retired'],
      exempt: true,
      runScope: 'own-run',
      notFound: 'run_not_found',
    },
  ),
  inboxDocument: plain(
    z.strictObject({
      id: InboxId,
      index: z
        .string()
        .regex(/^\d{1,2}$/)
        .meta({ description: 'Position of the document, from 0.', example: '0' }),
    }),
    'inbox.document',
    'GET',
    '/api/inbox/{id}/documents/{index}',
    {
      summary: 'Read a document of an entry',
      description: 'The bytes as they were when the entry was pushed, checked against their SHA-256.',
    },
    {
      answers: { 200: { description: 'The bytes.', other: { 'application/octet-stream': Bytes } } },
      errors: ['inbox_entry_not_found', 'document_not_found', 'document_damaged'],
      exempt: true,
      notFound: 'inbox_entry_not_found',
    },
  ),
  contract: plain(
    z.strictObject({ id: WorkspaceId }),
    'workspaces.contract',
    'GET',
    '/api/workspaces/{id}/contract.md',
    {
      summary: 'Read how to delegate work to a workspace',
      description:
        'Text for the prompt of another agent: where to send work, what a prompt must say, where the answer is.',
    },
    {
      answers: { 200: { description: 'Markdown.', other: { 'text/markdown; charset=utf-8': Text } } },
      errors: ['workspace_not_found'],
      exempt: true,
      notFound: 'workspace_not_found',
    },
  ),
  knock: knock(
    z.strictObject({ token: z.string().meta({ description: 'The token of a channel address.' }) }),
    'hook.knock',
    '/hook/{token}',
    'path',
    { summary: 'Send a message into a live session', description: KNOCK },
  ),
  knockByHeader: knock(z.strictObject({}), 'hook.send', '/hook', 'header', {
    summary: 'Send a message into a live session, with the token in a header',
    description: `${KNOCK} For callers whose addresses are logged: the token is sent as \`Authorization: Bearer\`.`,
  }),
  health: plain(
    z.strictObject({}),
    'server.health',
    'GET',
    '/healthz',
    { summary: 'Is the server alive', description: 'Answers 200 for as long as the process can answer at all.' },
    {
      answers: { 200: { description: 'Alive.', other: { 'application/json': Health } } },
      errors: [],
      exempt: true,
      runScope: 'anyone',
    },
  ),
  ready: plain(
    z.strictObject({}),
    'server.ready',
    'GET',
    '/readyz',
    { summary: 'Does the server take new work' },
    {
      answers: { 200: { description: 'Ready.', other: { 'application/json': Readiness } } },
      errors: ['draining'],
      exempt: true,
      runScope: 'anyone',
    },
  ),
  metrics: plain(
    z.strictObject({}),
    'server.metrics',
    'GET',
    '/metrics',
    { summary: 'Read metrics', description: 'Prometheus text format 0.0.4.' },
    {
      answers: { 200: { description: 'Metrics.', other: { 'text/plain; version=0.0.4; charset=utf-8': Text } } },
      errors: [],
      exempt: true,
    },
  ),
  document: plain(
    z.strictObject({}),
    'server.openapi',
    'GET',
    '/openapi.json',
    { summary: 'Read this document', description: 'OpenAPI 3.1. For people: `/docs`; as Markdown: `/docs.md`.' },
    {
      answers: {
        200: { description: 'This document.', other: { 'application/json': z.looseObject({ openapi: z.string() }) } },
      },
      errors: [],
      exempt: true,
      runScope: 'anyone',
    },
  ),
} as const satisfies Record<string, PlainOperation>
