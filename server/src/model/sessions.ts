import { z } from 'zod'
import { AgentId, PermissionLevel, TaskId, Usage, WorkspaceId } from '../model.ts'
import { DaySpent } from './budget.ts'
import { MessageText, SenderName } from './message.ts'

/** Live sessions, what is sent into them, and what they ask. Source: docs/contract.md 4 and 5; docs/security.md 3. */

const ulid = (prefix: string, what: string, example: string) =>
  z
    .string()
    .regex(new RegExp(`^${prefix}_[0-9A-HJKMNP-TV-Z]{26}$`), {
      error: `must be a whole ${what.toLowerCase()} id, ${prefix}_ and 26 digits and capitals`,
    })
    .meta({ description: `${what} id, \`${prefix}_<ulid>\`.`, example })

export const SessionId = ulid('sess', 'Session', 'sess_01M7W2YAHR3Q8V5N0D6C7BKXTE')
export const DeliveryId = ulid('dlv', 'Delivery', 'dlv_01M7W3P5H2A9E4R7W0Y6ZC8MND')
export const PermissionRequestId = ulid('perm', 'Permission request', 'perm_01M7W3P5H2A9E4R7W0Y6ZC8MND')

export const SESSION_LIMITS = {
  titleUnits: 200,
  /** Messages that may wait for one session. */
  bufferedMessages: 100,
  /** Bytes of UTF-8 that may wait for one session. */
  bufferedBytes: 1_048_576,
} as const

/** UTF-16 units, and a count, of what a record keeps of an agent's question: the agent alone decides how much it says. */
export const REQUEST_LIMITS = {
  titleUnits: 1_000,
  kindUnits: 100,
  toolCallIdUnits: 256,
  /** Of the input as JSON; of a longer one, as much of both ends. */
  inputUnits: 8_000,
  options: 20,
  optionIdUnits: 256,
  optionNameUnits: 200,
} as const

export const SessionState = z.enum(['starting', 'idle', 'busy', 'waiting', 'suspended', 'ended']).meta({
  id: 'SessionState',
  description:
    '`starting`, `idle` (takes input at once), `busy` (in a turn), `waiting` (asks for a permission), `suspended` (no process; the next input resumes it), `ended` (for good).',
})
export type SessionState = z.infer<typeof SessionState>

/** Why a session ended or was suspended; stable codes, open-ended. */
export type SessionReason =
  | 'ended_by_caller'
  | 'agent_exited'
  | 'agent_not_found'
  | 'agent_not_startable'
  | 'agent_not_logged_in'
  | 'agent_error'
  | 'not_resumable'
  | 'resume_mismatch'
  | 'workspace_moved'
  | 'credential_not_found'
  | 'log_damaged'
  | 'workspace_removed'
  | 'output_limit'
  | 'process_limit'
  | 'server_stopped'
  | 'server_died'

/** A live agent process that accepts input again and again, as every caller sees it. */
export const Session = z
  .object({
    id: SessionId,
    wsId: WorkspaceId,
    agent: AgentId,
    title: z.string().nullable(),
    state: SessionState,
    reason: z
      .string()
      .nullable()
      .meta({ description: 'Stable code for why it is suspended or ended.', example: 'server_stopped' }),
    detail: z.string().nullable().meta({ description: 'The reason in a sentence, for people.' }),
    model: z.string().nullable(),
    permissions: PermissionLevel,
    conversationId: z.string().nullable().meta({ description: "The agent's own name for the conversation." }),
    steerable: z.boolean().meta({ description: 'True when a message can be put into a turn at work (`steer`).' }),
    waiting: z.int().min(0).meta({ description: 'Messages accepted and not yet handed to the agent.' }),
    turns: z.int().min(0).meta({ description: 'Turns that have ended.' }),
    usage: Usage,
    createdAt: z.iso.datetime(),
    lastActivityAt: z.iso.datetime().nullable().meta({ description: 'When the agent last showed a sign of life.' }),
    endedAt: z.iso.datetime().nullable(),
    lastSeq: z.int().min(0).meta({ description: 'Seq of the newest event.' }),
  })
  .meta({ id: 'Session', description: 'A live agent process that accepts input again and again.' })
export type Session = z.infer<typeof Session>

/** What a row has of it. */
const Shown = Session.omit({ steerable: true, waiting: true, state: true })

/**
 * What the store keeps of a session: the launch, which is used again on resume, and how it stands without a process
 * (`suspended` or `ended`; the live states are known to the process that lives them, and die with it).
 */
export const SessionRow = Shown.extend({
  state: z.enum(['suspended', 'ended']),
  /** The directory it works in, as registered when it was opened. */
  cwd: z.string(),
  /** Names of the credentials it is given. */
  credentials: z.array(z.string()),
  /** Program and arguments of an agent of `config.json`, as they stood there when it was opened. */
  launch: z.object({ program: z.string(), args: z.array(z.string()) }).optional(),
  /** When the agent began the conversation. */
  conversationSince: z.iso.datetime().optional(),
  /** What its turns used on the last day that it had one. */
  spent: DaySpent.optional(),
  /** True while it has ended and its log does not say so yet. */
  isEnding: z.boolean().optional(),
})
export type SessionRow = z.infer<typeof SessionRow>

/** What callers see of a row. */
export const shownOf = (row: SessionRow): z.infer<typeof Shown> => Shown.parse(row)

/** The sum of what two turns used. */
export const addUsage = (a: Usage, b: Usage): Usage => ({
  inputTokens: a.inputTokens + b.inputTokens,
  outputTokens: a.outputTokens + b.outputTokens,
  costUsd: a.costUsd === null && b.costUsd === null ? null : (a.costUsd ?? 0) + (b.costUsd ?? 0),
  source: a.source === 'agent_reported' || b.source === 'agent_reported' ? 'agent_reported' : 'none',
})

/** Nobody has reported anything. */
export const NO_USAGE: Usage = { inputTokens: 0, outputTokens: 0, costUsd: null, source: 'none' }

/** Body of `POST /api/sessions`. */
export const CreateSession = z
  .strictObject({
    wsId: WorkspaceId,
    agent: AgentId.meta({
      description:
        "Must be enabled on the workspace and able to hold sessions; default: the workspace's default agent.",
    }).optional(),
    prompt: MessageText.meta({ description: 'The first message.' }).optional(),
    title: z.string().min(1).max(SESSION_LIMITS.titleUnits).optional(),
    model: z.string().min(1).max(128).optional(),
  })
  .meta({ id: 'CreateSession' })
export type CreateSession = z.infer<typeof CreateSession>

export const InputMode = z.enum(['queue', 'steer', 'interrupt']).meta({
  description:
    '`queue` (default): after what is at work and what waits. `steer`: into the turn at work, where the agent can (409 where it cannot); without a turn, as `queue`. `interrupt`: ends the turn at work, then first in line.',
})
export type InputMode = z.infer<typeof InputMode>

/** Body of `POST /api/sessions/{id}/input`. */
export const SessionInput = z
  .strictObject({ message: MessageText, from: SenderName.optional(), delivery: InputMode.optional() })
  .meta({ id: 'SessionInput' })
export type SessionInput = z.infer<typeof SessionInput>

export const DeliveryStatus = z.enum(['accepted', 'injecting', 'delivered', 'confirmed', 'failed', 'uncertain']).meta({
  id: 'DeliveryStatus',
  description:
    '`accepted`: on disk, waits. `injecting`: being written to the agent. `delivered`: written whole to the live, idle agent. ' +
    '`confirmed`: the agent has shown a sign of that turn. `failed`: will not be delivered, see `reason`. ' +
    '`uncertain`: whether the agent has it is not known: the hand-over was cut off twice, or interrupted.',
})
export type DeliveryStatus = z.infer<typeof DeliveryStatus>

/** One message for a session: from a knock on a channel, from the operator, or from a run that the session started. */
export const Delivery = z
  .object({
    id: DeliveryId,
    sessionId: SessionId,
    grantId: z
      .string()
      .nullable()
      .meta({ description: 'The grant it came through; null: the operator sent it, or a run.' }),
    label: z.string().nullable().meta({ description: "The grant's label." }),
    taskId: TaskId.nullable().meta({ description: 'The run it came from, which this session started.' }),
    mode: InputMode,
    message: z.string(),
    from: z.string().nullable().meta({ description: 'Who the sender says it is.' }),
    status: DeliveryStatus,
    reason: z.string().nullable().meta({
      description: 'Why it failed: `session_ended`, `session_gone`, `grant_revoked`.',
    }),
    possibleDuplicate: z.boolean().meta({
      description: 'True when it was handed over a second time, because the first hand-over was cut off.',
    }),
    createdAt: z.iso.datetime(),
    deliveredAt: z.iso.datetime().nullable(),
    confirmedAt: z.iso.datetime().nullable(),
    endedAt: z.iso.datetime().nullable().meta({ description: 'When nothing more could become of it.' }),
  })
  .meta({ id: 'Delivery', description: 'One message for a session and what became of it.' })
export type Delivery = z.infer<typeof Delivery>

export const DeliveryList = z
  .object({
    deliveries: z.array(Delivery),
    nextCursor: z.string().nullable().meta({ description: 'Pass as `cursor` for the next page; null on the last.' }),
  })
  .meta({ id: 'DeliveryList', description: 'One page of deliveries, newest first.' })
export type DeliveryList = z.infer<typeof DeliveryList>

/** What the store keeps of a delivery beside what callers see. */
export const DeliveryRow = Delivery.extend({
  /** Place in the session's line; rises with each message accepted. */
  order: z.int(),
  /** The first answer, which a replay repeats. */
  answeredAs: z.enum(['delivered', 'buffered']),
  /** Hand-overs begun. */
  attempts: z.int(),
})
export type DeliveryRow = z.infer<typeof DeliveryRow>

/** The answer to a message: 200 with `delivered`, 202 with `buffered`. */
export const Receipt = z
  .object({
    status: z.enum(['delivered', 'buffered']),
    deliveryId: DeliveryId,
    channel: z
      .string()
      .meta({ description: 'Address of the session.', example: 'postern:/sessions/sess_01M7W2YAHR3Q8V5N0D6C7BKXTE' }),
    sessionId: SessionId,
  })
  .meta({
    id: 'Receipt',
    description:
      '`delivered`: stored and handed to the live, idle agent. `buffered`: stored; it will get it, in order.',
  })
export type Receipt = z.infer<typeof Receipt>

/** The address of a session, as grants name it. */
export const channelOf = (sessionId: string): string => `postern:/sessions/${sessionId}`

export const PermissionOption = z.object({
  id: z.string().meta({ description: "The agent's own id of this choice." }),
  name: z.string(),
  kind: z.enum(['allow_once', 'allow_always', 'reject_once', 'reject_always']),
})
export type PermissionOption = z.infer<typeof PermissionOption>

/** A live agent asks whether it may do something. */
export const PermissionRequest = z
  .object({
    id: PermissionRequestId,
    sessionId: SessionId,
    wsId: WorkspaceId,
    agent: AgentId,
    status: z.enum(['pending', 'allowed', 'denied', 'expired', 'canceled']).meta({
      description: '`expired`: nobody answered in time, which denied it. `canceled`: the turn ended before an answer.',
    }),
    title: z.string().meta({ description: 'What it wants to do, in its own words.' }),
    toolCallId: z.string().nullable(),
    kind: z
      .string()
      .nullable()
      .meta({ description: 'Kind of tool, such as `edit` or `execute`, where the agent says it.' }),
    input: z.unknown().optional().meta({
      description:
        'What the tool would be given, where the agent says it; of a long one, both ends of its JSON, as a text that says how much was cut.',
    }),
    options: z.array(PermissionOption),
    answer: z.string().nullable().meta({ description: 'Id of the option that was chosen.' }),
    answeredBy: z.enum(['caller', 'policy', 'deadline']).nullable(),
    createdAt: z.iso.datetime(),
    expiresAt: z.iso.datetime().meta({ description: 'Denied when nobody has answered by then.' }),
    answeredAt: z.iso.datetime().nullable(),
  })
  .meta({ id: 'PermissionRequest', description: 'A live agent asks whether it may do something.' })
export type PermissionRequest = z.infer<typeof PermissionRequest>

/** Body of `POST /api/requests/{id}/answer`. */
export const AnswerRequest = z
  .strictObject({
    answer: z.enum(['allow', 'deny']),
    optionId: z
      .string()
      .min(1)
      .max(REQUEST_LIMITS.optionIdUnits)
      .meta({ description: 'One of the offered options; default: once.' })
      .optional(),
  })
  .meta({ id: 'AnswerRequest' })
export type AnswerRequest = z.infer<typeof AnswerRequest>
