import { z } from 'zod'
import { AgentId, LIMITS, RunStatus, TaskId, WorkspaceId } from '../model.ts'

/** Issues: markdown files of a workspace that may schedule themselves. Source: docs/contract.md 5. */

export const ISSUE_LIMITS = {
  /** Bytes of one issue file. */
  fileBytes: 262_144,
  /** Bytes of its frontmatter: the time to read it grows with the square of its keys. */
  frontmatterBytes: 8_192,
  /** Issue files read in one workspace; more are named as a problem, and not read. */
  files: 1_000,
  /** Errors named of one file that is broken. */
  errors: 20,
  titleUnits: 200,
  /** UTF-16 units of one comment. */
  commentUnits: 16_000,
  /** Milliseconds between two fires of `every`, at least and at most. */
  everyLeastMs: 1_000,
  everyMostMs: 366 * 86_400_000,
  /** Fires that a preview shows at most. */
  previewFires: 100,
  defaultPreviewFires: 5,
} as const

/** Where issue files are, below the directory of a workspace. */
export const ISSUE_FOLDER = '.postern/issues'

export const IssueId = z
  .string()
  .regex(/^[a-z0-9][a-z0-9_-]{0,63}$/, {
    error: 'must be 1 to 64 of a-z 0-9 - _, beginning with a letter or digit',
  })
  .meta({
    description: 'Name of the issue file without `.md`: 1 to 64 of `a-z 0-9 - _`, beginning with a letter or digit.',
    example: 'pre-market-brief',
  })

export const IssueStatus = z.enum(['backlog', 'todo', 'in_progress', 'done', 'canceled']).meta({
  description: '`done` and `canceled` stop the schedule.',
})
export type IssueStatus = z.infer<typeof IssueStatus>

export const IssuePriority = z.enum(['urgent', 'high', 'medium', 'low', 'none'])
export type IssuePriority = z.infer<typeof IssuePriority>

const UNITS = { w: 604_800_000, d: 86_400_000, h: 3_600_000, m: 60_000, s: 1_000 } as const

/** Milliseconds of a span such as `90s`, `15m`, `1h30m` or `2d`; undefined: it is not one. */
export function spanMs(text: string): number | undefined {
  if (!/^(?=\d)(\d{1,9}w)?(\d{1,9}d)?(\d{1,9}h)?(\d{1,9}m)?(\d{1,9}s)?$/.test(text)) return undefined
  let ms = 0
  for (const [, count, unit] of text.matchAll(/(\d+)([wdhms])/g))
    ms += Number(count) * UNITS[unit as keyof typeof UNITS]
  return ms
}

const isoMoment = z.iso.datetime({ offset: true, error: 'must be a moment such as 2026-12-01T08:00:00Z' })

const Every = z
  .string()
  .refine(
    (text) => {
      const ms = spanMs(text)
      return ms !== undefined && ms >= ISSUE_LIMITS.everyLeastMs && ms <= ISSUE_LIMITS.everyMostMs
    },
    { error: 'must be a span from 1s to 366d, such as 90s, 15m, 1h30m or 2d' },
  )
  .meta({ description: 'A span from `1s` to `366d`, counted from 1970-01-01T00:00:00Z.', example: '1h' })

export const CronText = z
  .string()
  .regex(/^[\x20-\x7e]{1,200}$/, { error: 'must be 1 to 200 visible ASCII characters' })
  .meta({ description: 'Five fields: minute, hour, day of month, month, day of week.', example: '30 8 * * 1-5' })

export const TimeZoneName = z
  .string()
  .regex(/^[\x21-\x7e]{1,64}$/, { error: 'must be an IANA time zone, such as Europe/Berlin' })
  .meta({ description: 'IANA time zone of the expression; default `UTC`.', example: 'America/New_York' })

/** Names the bytes of a file. */
export const Revision = z
  .string()
  .regex(/^[0-9a-f]{16}$/, { error: 'must be the revision that was read, 16 of 0-9 a-f' })
  .meta({
    description: 'The revision you read; if the file has another one by now, 409 and nothing changes.',
    example: '5f0c2e51a7d3b946',
  })

/** When an issue runs by itself. Whether a cron expression and a time zone exist is checked by `issues/schedule.ts`. */
export const When = z
  .discriminatedUnion(
    'kind',
    [
      z.strictObject({
        kind: z.literal('at'),
        at: isoMoment.meta({ description: 'The moment, with `Z` or an offset.', example: '2026-12-01T08:00:00Z' }),
      }),
      z.strictObject({ kind: z.literal('every'), every: Every }),
      z.strictObject({
        kind: z.literal('cron'),
        cron: CronText,
        timezone: TimeZoneName.optional(),
      }),
    ],
    { error: 'must be {kind: at, at: …}, {kind: every, every: …} or {kind: cron, cron: …, timezone: …}' },
  )
  .meta({ id: 'When', description: 'When the issue runs by itself: once, every so often, or by a cron expression.' })
export type When = z.infer<typeof When>

export const Overlap = z.enum(['skip', 'queue']).meta({
  description: 'A fire that falls due while a run of the issue is at work: `skip` it (default), or `queue` it behind.',
})
export const CatchUp = z.enum(['once', 'skip']).meta({
  description: 'Fires missed while the server was down: run `once` for all of them (default), or `skip` them.',
})

const Title = z
  .string()
  .trim()
  .min(1, { error: 'must not be empty' })
  .max(ISSUE_LIMITS.titleUnits, { error: `at most ${ISSUE_LIMITS.titleUnits} characters` })
  .refine((text) => !/\p{Cc}/u.test(text), { error: 'must be one line without control characters' })
  .meta({ description: `One line of at most ${ISSUE_LIMITS.titleUnits} characters.`, example: 'Pre-market brief' })

const timeoutMs = z
  .int()
  .min(1)
  .meta({ description: `Milliseconds that its runs may last; more than ${LIMITS.timeoutMs} is capped there.` })

/** What the frontmatter of an issue file may say. Keys that are not known stay in the file and mean nothing here. */
export const Frontmatter = z.looseObject({
  title: Title,
  status: IssueStatus.default('todo'),
  priority: IssuePriority.default('none'),
  when: When.optional(),
  agent: AgentId.optional(),
  timeoutMs: timeoutMs.optional(),
  overlap: Overlap.default('skip'),
  catchUp: CatchUp.default('once'),
})
export type Frontmatter = z.infer<typeof Frontmatter>

export const IssueComment = z
  .object({ at: z.iso.datetime(), author: z.string(), text: z.string() })
  .meta({ id: 'IssueComment' })
export type IssueComment = z.infer<typeof IssueComment>

/** A fire of the schedule that became a run. */
export const IssueFire = z
  .object({
    dueAt: z.iso.datetime().meta({ description: 'When it was due; with workspace and issue, its identity.' }),
    at: z.iso.datetime().meta({ description: 'When its run was accepted.' }),
    taskId: TaskId,
    status: RunStatus.nullable().meta({ description: 'How its run ended; null while it has not.' }),
    reason: z.string().nullable(),
    outcome: z.string().nullable(),
  })
  .meta({ id: 'IssueFire', description: 'The last fire of the schedule.' })
export type IssueFire = z.infer<typeof IssueFire>

/** A due time that did not become a run, or not yet. */
export const IssueMiss = z
  .object({
    dueAt: z.iso.datetime(),
    at: z.iso.datetime().meta({ description: 'When that was decided.' }),
    code: z.string().meta({
      description: '`overlap`, `missed`, `capacity_reached`, or the code with which the run was refused; open-ended.',
    }),
    detail: z.string(),
  })
  .meta({ id: 'IssueMiss', description: 'Why a due time did not become a run, or not yet.' })
export type IssueMiss = z.infer<typeof IssueMiss>

export const IssueHealth = z.enum(['none', 'ok', 'waiting', 'failing', 'stopped', 'over']).meta({
  description:
    '`none`: it has no schedule. `ok`. `waiting`: a fire is due and waits; `waiting` says for what. `failing`: the last fire ' +
    'did not succeed. `stopped`: its status is done or canceled. `over`: there is no next fire.',
})

/** The schedule of an issue, and how it goes. */
export const IssueSchedule = z
  .object({
    wsId: WorkspaceId,
    issueId: IssueId,
    when: When.nullable(),
    health: IssueHealth,
    nextFires: z.array(z.iso.datetime()).meta({ description: 'The next fires, soonest first; empty: there is none.' }),
    waiting: IssueMiss.nullable().meta({ description: 'A fire that is due and is tried again.' }),
    lastFire: IssueFire.nullable(),
    lastMiss: IssueMiss.nullable().meta({ description: 'The last due time that was let go, and why.' }),
  })
  .meta({ id: 'IssueSchedule', description: 'The next fires of an issue, the last one, and how it goes.' })
export type IssueSchedule = z.infer<typeof IssueSchedule>

/** An issue as the board lists it. */
export const IssueSummary = z
  .object({
    wsId: WorkspaceId,
    issueId: IssueId,
    title: z.string(),
    status: IssueStatus,
    priority: IssuePriority,
    when: When.nullable(),
    agent: AgentId.nullable().meta({ description: "Null: the workspace's default agent." }),
    timeoutMs: z.int().nullable(),
    overlap: Overlap,
    catchUp: CatchUp,
    comments: z.int().min(0).meta({ description: 'How many comments it has.' }),
    file: z.string().meta({ description: 'Path below the workspace.', example: `${ISSUE_FOLDER}/pre-market-brief.md` }),
    revision: z
      .string()
      .meta({ description: 'Changes with every byte of the file; send it back to change what you read.' }),
    updatedAt: z.iso.datetime().meta({ description: 'When the file was last written.' }),
    nextFire: z.iso.datetime().nullable(),
    health: IssueHealth,
  })
  .meta({ id: 'IssueSummary', description: 'An issue as the board lists it.' })
export type IssueSummary = z.infer<typeof IssueSummary>

/** One issue with all its text. */
export const Issue = IssueSummary.omit({ comments: true })
  .extend({
    body: z.string().meta({ description: 'The markdown after the frontmatter: the prompt, sent as it stands.' }),
    comments: z.array(IssueComment),
  })
  .meta({ id: 'Issue', description: 'One issue: a markdown file of a workspace.' })
export type Issue = z.infer<typeof Issue>

/** A file, or a folder of them, that cannot be read as issues; the others are not touched by it. */
export const IssueProblem = z
  .object({
    wsId: WorkspaceId,
    file: z.string().meta({ description: 'Path below the workspace.' }),
    line: z.int().min(1).nullable().meta({ description: 'Line of the file, from 1; null: the whole of it.' }),
    message: z.string(),
  })
  .meta({ id: 'IssueProblem', description: 'A file that is not a valid issue, and why.' })
export type IssueProblem = z.infer<typeof IssueProblem>

/** Issues and the files that did not parse. */
export const IssueBoard = z
  .object({ issues: z.array(IssueSummary), problems: z.array(IssueProblem) })
  .meta({ id: 'IssueBoard', description: 'Issues, and the files that could not be read as one.' })
export type IssueBoard = z.infer<typeof IssueBoard>

const COMMENT_LINE = /^<!-- comment (\S+\.\d{3}Z) (\S+) -->[ \t]*\r?\n?$/

/** A line `<!-- comment <when> <author> -->`, below which a comment stands. */
export interface CommentLine extends Pick<IssueComment, 'at' | 'author'> {
  /** Where the line begins, and where the next one does. */
  start: number
  end: number
}

/** Where comments begin in what stands below the frontmatter; the first of them ends the prompt. A line ends with `\n`. */
export function commentLines(text: string): CommentLine[] {
  const found: CommentLine[] = []
  let start = 0
  for (const line of text.match(/[^\n]*\n|[^\n]+$/g) ?? []) {
    const end = start + line.length
    const [, at, author] = COMMENT_LINE.exec(line) ?? []
    const isMoment = IssueComment.shape.at.safeParse(at).success
    if (at !== undefined && author !== undefined && isMoment) found.push({ at, author, start, end })
    start = end
  }
  return found
}

/** Text for a file: well-formed, without NUL, and without a line that would begin a comment. */
const fileText = (limit: number, params: { code?: string } = {}) =>
  z
    .string()
    // Not `max`, which counts a pair of surrogates as one.
    .refine((text) => text.length <= limit, {
      error: ({ input }) => `${String(input).length} characters; the limit is ${limit}`,
      params,
    })
    .refine((text) => !text.includes('\0'), { error: 'must not contain NUL (U+0000)' })
    .refine((text) => text.isWellFormed(), { error: 'must not contain half of a surrogate pair' })
    .refine((text) => commentLines(text).length === 0, { error: 'must not contain a line that begins a comment' })

/** Whether it can be a prompt is looked at when it is to run. */
const Body = fileText(LIMITS.promptUnits, { code: 'prompt_too_long' }).meta({
  maxLength: LIMITS.promptUnits,
  description: `The markdown that is sent as the prompt: at most ${LIMITS.promptUnits} characters (UTF-16 units), no NUL.`,
  example: 'Read positions.md and write reports/brief.md.',
})

const settings = { status: IssueStatus, priority: IssuePriority, overlap: Overlap, catchUp: CatchUp }

/** Body of `POST /api/workspaces/{id}/issues`. */
export const CreateIssue = z
  .strictObject({
    issueId: IssueId.meta({ description: 'Name of the file without `.md`; default: made from the title.' }).optional(),
    title: Title,
    body: Body.optional(),
    when: When.optional(),
    agent: AgentId.optional(),
    timeoutMs: timeoutMs.optional(),
    status: settings.status.optional(),
    priority: settings.priority.optional(),
    overlap: settings.overlap.optional(),
    catchUp: settings.catchUp.optional(),
  })
  .meta({ id: 'CreateIssue' })
export type CreateIssue = z.infer<typeof CreateIssue>

/** Body of `PATCH …/issues/{issueId}`: what is absent stays; null takes a key out of the file. */
export const UpdateIssue = z
  .strictObject({
    revision: Revision.optional(),
    title: Title.optional(),
    body: Body.optional(),
    when: When.nullable().optional(),
    agent: AgentId.nullable().optional(),
    timeoutMs: timeoutMs.nullable().optional(),
    status: settings.status.optional(),
    priority: settings.priority.optional(),
    overlap: settings.overlap.optional(),
    catchUp: settings.catchUp.optional(),
  })
  .meta({ id: 'UpdateIssue' })
export type UpdateIssue = z.infer<typeof UpdateIssue>

/** Body of `POST …/issues/{issueId}/comments`. */
export const CreateComment = z
  .strictObject({
    text: fileText(ISSUE_LIMITS.commentUnits)
      .refine((text) => /\S/.test(text), { error: 'must not be empty' })
      .meta({
        maxLength: ISSUE_LIMITS.commentUnits,
        description: `At most ${ISSUE_LIMITS.commentUnits} characters.`,
        example: 'Skip it on holidays.',
      }),
    author: z
      .string()
      .regex(/^[\p{L}\p{N}._@-]{1,64}$/u, { error: 'must be 1 to 64 letters, digits or ._@-' })
      .meta({
        description: 'Who says it; default `operator`. A run or session is always named by its id.',
        example: 'ada',
      })
      .optional(),
  })
  .meta({ id: 'CreateComment' })
export type CreateComment = z.infer<typeof CreateComment>

/** Fires that a schedule would have; nothing is stored. */
export const SchedulePreview = z
  .object({ when: When, fires: z.array(z.iso.datetime()) })
  .meta({ id: 'SchedulePreview', description: 'When a schedule would fire.' })
export type SchedulePreview = z.infer<typeof SchedulePreview>

/** What the store remembers of an issue; everything else is in its file. */
export const FireRow = z.object({
  /** `<workspace>/<issue>`. */
  id: z.string(),
  wsId: WorkspaceId,
  issueId: IssueId,
  /** The schedule it was computed for, `null` while there is none at work: a change lets the past be. */
  schedule: z.string(),
  /** Due times up to and including this moment are settled. */
  settledUntil: z.iso.datetime(),
  waiting: IssueMiss.nullable(),
  lastFire: IssueFire.nullable(),
  lastMiss: IssueMiss.nullable(),
})
export type FireRow = z.infer<typeof FireRow>
