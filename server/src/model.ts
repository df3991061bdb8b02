import { z } from 'zod'
import { Budget } from './model/budget.ts'
import { MessageText } from './model/message.ts'
import { wordsOf } from './model/words.ts'

// What schemas refuse is told in our words, wherever it is parsed.
z.config({ localeError: wordsOf })

/**
 * Every record and event of the product. Read this first: the names here are the names on the wire, in the
 * document, in the SDK and on disk. Source: docs/contract.md 1, 3, 5 and 6.
 */

export const LIMITS = {
  /** UTF-16 units of a prompt. */
  promptUnits: 16_000,
  /** Milliseconds a run may last at most; a larger `timeoutMs` is capped to it. */
  timeoutMs: 1_800_000,
  defaultTimeoutMs: 300_000,
  /** Seconds that `Prefer: wait=n` may ask for. */
  waitSeconds: 60,
  listLimit: 200,
  defaultListLimit: 50,
  eventPageLimit: 1_000,
  /** Levels of runs below the first: runs that are started by runs. */
  runDepth: 4,
  metadataPairs: 16,
  metadataKeyUnits: 64,
  metadataValueUnits: 512,
  idempotencyKeyLength: 255,
  /** Bytes of any JSON body under /api. */
  bodyBytes: 1_048_576,
  /** Levels of nesting of a JSON body. */
  jsonDepth: 32,
} as const

const iso = (description: string) => z.iso.datetime().meta({ description })
const nullableIso = (description: string) => z.iso.datetime().nullable().meta({ description })

export const WorkspaceId = z
  .string()
  .regex(/^ws-[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/, {
    error: 'must be ws- and 1 to 63 of a-z 0-9 -, such as ws-news',
  })
  .meta({ description: 'Workspace id, `ws-<slug>`; stable.', example: 'ws-news' })
export const TaskId = z
  .string()
  .regex(/^headless_[0-9A-HJKMNP-TV-Z]{26}$/, { error: 'must be a whole run id, headless_ and 26 digits and capitals' })
  .meta({
    description: 'Run id, `headless_<ulid>`; later runs sort later.',
    example: 'headless_01M7W3M6R0B5D8F1H4K7N0Q3T6',
  })
export const AgentId = z
  .string()
  .regex(/^[a-z][a-z0-9-]{0,31}$/, { error: 'must be 1 to 32 of a-z 0-9 -, beginning with a letter' })
  .meta({ description: 'Agent id, such as `claude`, `demo` or the name of a configured agent.', example: 'demo' })

export const PermissionLevel = z.enum(['ask', 'edit', 'full']).meta({
  description: 'What agents may do without asking: `ask` (read only), `edit` or `full`; translated for each agent.',
})
export type PermissionLevel = z.infer<typeof PermissionLevel>

export const RequestPolicy = z.enum(['ask', 'allow', 'deny']).meta({
  description: 'Who answers when a live agent asks: a person (denied after a deadline), or always allow or deny.',
})

/** A directory agents work in. */
export const Workspace = z
  .object({
    id: WorkspaceId,
    tag: z.string().meta({ description: 'Display name; may change, the id does not.' }),
    path: z.string().meta({ description: 'Absolute real path of the directory.' }),
    managed: z
      .boolean()
      .meta({ description: 'True when Postern created the directory; only then may `purge` remove it.' }),
    agents: z.array(AgentId).meta({ description: 'Agents enabled here, in order.' }),
    defaultAgent: AgentId.meta({ description: 'The agent of a run that names none.' }),
    credentials: z.array(z.string()).meta({ description: 'Names of the credentials given to runs here.' }),
    permissions: PermissionLevel,
    onRequest: RequestPolicy,
    childWorkspaces: z.array(WorkspaceId).meta({ description: 'Workspaces in which runs from here may start runs.' }),
    budget: Budget,
    nudge: z
      .boolean()
      .meta({ description: 'A run that succeeded without reporting is asked to, in one more turn within its limit.' }),
    maxRuns: z.int().min(1).nullable().meta({ description: 'Most runs at once here; null: only the global capacity.' }),
    createdAt: iso('When it was registered.'),
  })
  .meta({ id: 'Workspace', description: 'A directory agents work in.' })
export type Workspace = z.infer<typeof Workspace>

/** What the store keeps of a workspace beside what callers see. */
export const WorkspaceRow = Workspace.extend({
  /** Device and inode of the directory when it was registered, to notice that it was swapped (docs/security.md 5). */
  device: z.string(),
  inode: z.string(),
  nudge: z.boolean().default(false),
  budget: Budget.default({}),
})
export type WorkspaceRow = z.infer<typeof WorkspaceRow>

export const RunStatus = z
  .enum(['queued', 'running', 'succeeded', 'failed', 'timed_out', 'canceled', 'interrupted'])
  .meta({ id: 'RunStatus', description: '`queued` → `running` → one terminal status. Terminal is final.' })
export type RunStatus = z.infer<typeof RunStatus>

/** True once a run has ended for good. */
export const isTerminal = (status: RunStatus): boolean => status !== 'queued' && status !== 'running'

/**
 * Why a run did not succeed; stable codes, open-ended.
 * Source: docs/contract.md 3.
 */
export type RunReason =
  | 'exit_nonzero'
  | 'no_result'
  | 'agent_error'
  | 'agent_not_logged_in'
  | 'rate_limited'
  | 'provider_error'
  | 'agent_not_found'
  | 'agent_not_startable'
  | 'workspace_moved'
  | 'credential_not_found'
  | 'worktree_failed'
  | 'resume_mismatch'
  | 'timeout'
  | 'idle'
  | 'output_limit'
  | 'process_limit'
  | 'budget_exceeded'
  | 'canceled_by_caller'
  | 'server_stopped'
  | 'server_died'
  | 'internal_error'

export const Usage = z
  .object({
    inputTokens: z.int().min(0),
    outputTokens: z.int().min(0),
    costUsd: z.number().min(0).nullable().meta({ description: 'US dollars; null when nobody reported a cost.' }),
    source: z.enum(['agent_reported', 'none']).meta({
      description: 'Who counted: the agent, or nobody (`none`: the figures are zero because they are unknown).',
    }),
  })
  .meta({ id: 'Usage' })
export type Usage = z.infer<typeof Usage>

export const GitState = z
  .object({
    baseSha: z
      .string()
      .nullable()
      .meta({ description: 'HEAD when the run started; null outside git or before the first commit.' }),
    headSha: z.string().nullable().meta({ description: 'HEAD when the run ended.' }),
    branch: z.string().nullable().meta({ description: 'Branch the run worked on; null when detached or outside git.' }),
    filesChanged: z.int().min(0).meta({ description: 'Files that differ between start and end, committed or not.' }),
    worktree: z.string().nullable().meta({ description: 'Path of the worktree of an isolated run, while it is kept.' }),
  })
  .meta({ id: 'GitState' })
export type GitState = z.infer<typeof GitState>

export const Trigger = z
  .object({
    kind: z.enum(['api', 'channel', 'issue', 'run', 'inbox', 'probe']).meta({ description: 'What started the run.' }),
    grantId: z.string().nullable(),
    issueId: z.string().nullable(),
    dueAt: z.iso.datetime().meta({ description: 'Of a fire of an issue: when it was due.' }).optional(),
    parentTaskId: z.string().nullable().meta({ description: 'The run whose process started it.' }),
    parentSessionId: z.string().optional().meta({ description: 'The session whose process started it.' }),
  })
  .meta({ id: 'Trigger' })
export type Trigger = z.infer<typeof Trigger>

export const Metadata = z
  .record(z.string().min(1).max(LIMITS.metadataKeyUnits), z.string().max(LIMITS.metadataValueUnits))
  .refine((pairs) => Object.keys(pairs).length <= LIMITS.metadataPairs, {
    error: `at most ${LIMITS.metadataPairs} pairs`,
  })
  .meta({ description: `Up to ${LIMITS.metadataPairs} string pairs, returned as sent.` })

/** One headless execution of one prompt, as every caller sees it. */
export const Run = z
  .object({
    taskId: TaskId,
    status: RunStatus,
    reason: z
      .string()
      .nullable()
      .meta({ description: 'Stable code whenever the run did not succeed.', example: 'timeout' }),
    detail: z.string().nullable().meta({ description: 'The reason in a sentence, for people.' }),
    wsId: WorkspaceId,
    agent: AgentId,
    prompt: z.string(),
    model: z.string().nullable(),
    isolation: z.enum(['none', 'worktree']),
    resume: TaskId.nullable().meta({ description: 'The run whose conversation this one continues.' }),
    timeoutMs: z.int().meta({ description: 'The limit in force, in milliseconds.' }),
    idleTimeoutMs: z.int().nullable(),
    createdAt: iso('When the run was accepted.'),
    startedAt: nullableIso('When it got its place.'),
    finishedAt: nullableIso('When it ended.'),
    durationMs: z.int().min(0).nullable().meta({ description: 'From start to end, in milliseconds.' }),
    lastActivityAt: nullableIso('When the agent last showed a sign of life.'),
    lastSeq: z.int().min(0).meta({ description: 'Seq of the newest event.' }),
    result: z.object({
      text: z.string().nullable().meta({ description: "The agent's final reply." }),
      truncated: z.boolean().meta({ description: 'True when the reply was longer than what is kept (64 KiB).' }),
    }),
    exitCode: z.int().nullable(),
    signal: z.string().nullable(),
    usage: Usage,
    git: GitState,
    outcome: z.enum(['reported', 'silent', 'no_report']).nullable().meta({
      description: 'What it left for people: an Inbox entry, a declared silence, or nothing. Exit 0 is not an outcome.',
    }),
    inboxIds: z.array(z.string()).meta({ description: 'Inbox entries it pushed, oldest first.' }),
    silentWhy: z.string().nullable().meta({ description: 'Why it declared that there is nothing to report.' }),
    resumable: z.boolean().meta({ description: 'True when `resume` may name this run.' }),
    survivors: z
      .int()
      .min(0)
      .meta({ description: 'Processes of the run that could not be ended; 0 unless something is wrong.' }),
    trigger: Trigger,
    retryOf: TaskId.nullable(),
    metadata: z.record(z.string(), z.string()),
  })
  .meta({ id: 'Run', description: 'One headless execution of one prompt.' })
export type Run = z.infer<typeof Run>

const Totals = z.object({ inputTokens: z.int().min(0), outputTokens: z.int().min(0), costUsd: z.number().min(0) })
export type Totals = z.infer<typeof Totals>

/** What the store keeps of a run: small, whatever the size of its prompt and reply (docs/architecture.md 5). */
export const RunRow = Run.omit({ taskId: true, prompt: true, result: true, resumable: true }).extend({
  id: TaskId,
  /** null: in the file `prompt.txt` beside the log, because it is long. */
  prompt: z.string().nullable(),
  /** `text` null with `inFile`: the reply is in `reply.txt` beside the log. */
  result: z.object({ text: z.string().nullable(), truncated: z.boolean(), inFile: z.boolean() }),
  /** The status of the first answer, so that a replay says the same. */
  acceptedAs: z.enum(['queued', 'running']),
  /** The agent's own name for the conversation, once it has said it. */
  conversationId: z.string().nullable(),
  silentWhy: z.string().nullable().default(null),
  /** The run in whose worktree it works; absent: in its own, or in the workspace. */
  worktreeOf: TaskId.optional(),
  /** True until the session that started the run has been told how it ended. */
  untold: z.boolean().optional(),
  /** Why there is no diff, where one was to be made. */
  diffTrouble: z.string().optional(),
  /** What the agent has counted in this conversation up to now, where its figures grow from run to run. */
  totals: Totals.optional(),
})
export type RunRow = z.infer<typeof RunRow>

/** Text for an agent: 1 to 16,000 UTF-16 units, well-formed, not only white space, without NUL. */
export const Prompt = z
  .string()
  .min(1, { error: 'must not be empty' })
  // Not `max`, which counts a pair of surrogates as one.
  .refine((text) => text.length <= LIMITS.promptUnits, {
    error: ({ input }) => `${String(input).length} characters; the limit is ${LIMITS.promptUnits}`,
    params: { code: 'prompt_too_long' },
  })
  .refine((text) => text === '' || /\S/.test(text), { error: 'must not be only white space' })
  .refine((text) => !text.includes('\0'), { error: 'must not contain NUL (U+0000)' })
  .refine((text) => text.isWellFormed(), { error: 'must not contain half of a surrogate pair' })
  .meta({
    maxLength: LIMITS.promptUnits,
    description: `1 to ${LIMITS.promptUnits} characters (UTF-16 units), not only white space, no NUL.`,
    example: 'Summarise what changed since yesterday.',
  })

/** Body of `POST /api/workspaces/{id}/headless`. Strict: a typo must not lose a timeout or a key. */
export const CreateRun = z
  .strictObject({
    prompt: Prompt,
    agent: AgentId.meta({
      description: "Must be enabled on the workspace; default: the workspace's default agent.",
    }).optional(),
    timeoutMs: z
      .int()
      .min(1)
      .meta({
        description: `Milliseconds; default ${LIMITS.defaultTimeoutMs}; more than ${LIMITS.timeoutMs} is capped there.`,
      })
      .optional(),
    wait: z
      .boolean()
      .meta({ description: 'True blocks until the run ends; hanging up does not cancel it.' })
      .optional(),
    whenBusy: z
      .enum(['reject', 'queue'])
      .meta({ description: 'At capacity: answer 429 (default) or queue.' })
      .optional(),
    idleTimeoutMs: z
      .int()
      .min(1)
      .meta({ description: 'End the run when the agent has shown no sign of life for so many milliseconds.' })
      .optional(),
    model: z
      .string()
      .min(1)
      .max(128)
      .meta({ description: 'Handed to agents that can choose one; 400 for those that cannot.' })
      .optional(),
    resume: TaskId.meta({ description: 'A run whose conversation to continue.' }).optional(),
    isolation: z
      .enum(['none', 'worktree'])
      .meta({ description: '`worktree`: an own git worktree and branch `postern/<taskId>`.' })
      .optional(),
    metadata: Metadata.optional(),
  })
  .meta({ id: 'CreateRun' })
export type CreateRun = z.infer<typeof CreateRun>

const said = (description: string, example: string) =>
  z
    .string()
    .min(1, { error: 'must not be empty' })
    .refine((text) => text.length <= LIMITS.promptUnits, {
      error: ({ input }) => `${String(input).length} characters; the limit is ${LIMITS.promptUnits}`,
    })
    .refine((text) => text === '' || /\S/.test(text), { error: 'must not be only white space' })
    .refine((text) => text.isWellFormed() && !text.includes('\0'), {
      error: 'must be well-formed text without NUL (U+0000)',
    })
    .meta({ maxLength: LIMITS.promptUnits, description, example })

/** Body of `POST /api/headless/{taskId}/silent`. */
export const SilentRun = z
  .strictObject({
    why: said(`Why there is nothing to report, 1 to ${LIMITS.promptUnits} characters.`, 'no position broke a rule'),
  })
  .meta({ id: 'SilentRun' })

/** Body of `POST /api/headless/{taskId}/report`. It may become the input of a session, so it is as strict. */
export const ReportRun = z
  .strictObject({
    message: MessageText.meta({
      description: 'News for the run or session that started this one.',
      example: 'half done',
    }),
  })
  .meta({ id: 'ReportRun' })

/** One numbered line of a run's log: `seq` from 1, no gaps. `type` is open-ended. */
export const Event = z
  .looseObject({
    seq: z.int().min(1).meta({ description: 'Number of the event in its log, from 1, without gaps.' }),
    at: z.iso.datetime(),
    type: z.string().meta({
      description:
        'Open-ended. `run.queued run.started run.ended`, `agent.message agent.thought agent.retry agent.waiting`, `tool.started tool.ended`, `usage`, `output.text`, `log`.',
      example: 'agent.message',
    }),
    text: z.string().optional(),
  })
  .meta({ id: 'Event', description: 'One numbered event of a run.' })
export type Event = z.infer<typeof Event>
export type NewEvent = { type: string } & Record<string, unknown>

/** One page of events, in order. */
export const EventPage = z
  .object({
    events: z.array(Event),
    nextAfter: z.int().min(0).meta({ description: 'Pass as `after` to go on.' }),
    lastSeq: z.int().min(0).meta({ description: 'Seq of the newest event.' }),
  })
  .meta({ id: 'EventPage', description: 'One page of events, in order.' })
export type EventPage = z.infer<typeof EventPage>

/** The event after which a run's log grows no more. */
export const TERMINAL_EVENT = 'run.ended'

/** True for the event after which a log grows no more: a run's end, or a session's. */
export const isLastEvent = (event: NewEvent): boolean =>
  event.type === TERMINAL_EVENT || (event.type === 'session.state' && event['state'] === 'ended')

export const Capacity = z
  .object({ running: z.int().min(0), queued: z.int().min(0), limit: z.int().min(1) })
  .meta({ id: 'Capacity', description: 'Runs at work, runs waiting, and how many may work at once.' })
export type Capacity = z.infer<typeof Capacity>

/** What an idempotency key belongs to: the same key of another caller, or on another route, is another key. */
export interface IdempotencyScope {
  caller: string
  method: string
  path: string
  key: string
}
