import { text as readAll } from 'node:stream/consumers'
import type {
  Issue,
  IssueBoard,
  IssueSchedule,
  IssueSummary,
  Postern,
  UpdateIssue,
  When,
  WorkspaceId,
} from '@postern/sdk'
import { parseCount, parseSpan, type Context } from './context.ts'
import { CliExit, EXIT } from './exit.ts'
import { resolveWorkspace, theOnly } from './ids.ts'
import { followRun, waitForRun } from './run.ts'
import { inert, statusWord, table } from './text.ts'

export interface IssueFlags {
  workspace?: string
  id?: string
  title?: string
  body?: string
  every?: string
  cron?: string
  timezone?: string
  at?: string
  /** False with --no-schedule. */
  schedule?: boolean
  agent?: string
  timeout?: string
  status?: string
  priority?: string
  overlap?: string
  catchUp?: string
  author?: string
  wait?: boolean
  follow?: boolean
  preview?: string
  count?: string
}
interface Named {
  wsId: WorkspaceId
  issueId: string
}

/** `postern issue ls`: the board on stdout, broken files on stderr. */
export async function listIssues(context: Context, flags: IssueFlags): Promise<number> {
  const { screen, options, me } = context
  const postern = await context.connect()
  const wsId = flags.workspace === undefined ? undefined : await resolveWorkspace(postern, flags.workspace)
  const board = await boardOf(postern, wsId, flags.status)
  if (options.json) {
    screen.printJson(board)
    return EXIT.ok
  }
  const rows = board.issues.map((issue) => [
    issue.issueId,
    statusWord(screen, issue.status),
    issue.priority,
    issue.wsId,
    whenText(issue.when),
    issue.nextFire === null ? '-' : short(issue.nextFire),
    health(context, issue.health),
    inert(issue.title, true),
  ])
  screen.print(table(screen, ['ISSUE', 'STATUS', 'PRIORITY', 'WS', 'WHEN', 'NEXT', 'HEALTH', 'TITLE'], rows))
  for (const { wsId, file, line, message } of board.problems) {
    const where = `${wsId} ${inert(file, true)}${line === null ? '' : `:${line}`}`
    screen.complain(`${screen.style('red', '✗')} ${where}  ${inert(message, true)}`)
  }
  const [first] = board.issues
  screen.note(`next: ${me} ${first ? `issue show ${first.issueId} -w ${first.wsId}` : 'issue new "<title>" -w <id>'}`)
  return EXIT.ok
}

export async function newIssue(context: Context, title: string, flags: IssueFlags): Promise<number> {
  const when = whenOf(flags)
  const { agent, timeoutMs, ...rest } = await settings(flags)
  const postern = await context.connect()
  const issue = await postern.issues.create(await resolveWorkspace(postern, flags.workspace ?? ''), {
    title,
    ...(flags.id !== undefined && { issueId: flags.id }),
    ...(when && { when }),
    ...(agent !== undefined && agent !== null && { agent }),
    ...(timeoutMs !== undefined && timeoutMs !== null && { timeoutMs }),
    ...rest,
  })
  return show(context, issue)
}

export async function showIssue(context: Context, name: string, flags: IssueFlags): Promise<number> {
  const postern = await context.connect()
  const { wsId, issueId } = await resolveIssue(postern, name, flags.workspace)
  return show(context, await postern.issues.get(wsId, issueId))
}

/** `postern issue set`: what was read is what is changed; a file that changed in between is exit 6. */
export async function setIssue(context: Context, name: string, flags: IssueFlags): Promise<number> {
  const when = whenOf(flags)
  const changes: UpdateIssue = {
    ...(flags.title !== undefined && { title: flags.title }),
    ...(await settings(flags)),
    ...(flags.schedule === false ? { when: null } : when && { when }),
  }
  if (Object.keys(changes).length === 0) throw new CliExit(EXIT.usage, 'nothing to change', 'postern issue set --help')
  const postern = await context.connect()
  const { wsId, issueId } = await resolveIssue(postern, name, flags.workspace)
  const { revision } = await postern.issues.get(wsId, issueId)
  return show(context, await postern.issues.update(wsId, issueId, { revision, ...changes }))
}

export async function commentOnIssue(
  context: Context,
  name: string,
  given: string,
  flags: IssueFlags,
): Promise<number> {
  const text = given === '-' ? await readAll(process.stdin) : given
  const postern = await context.connect()
  const { wsId, issueId } = await resolveIssue(postern, name, flags.workspace)
  const comment = await postern.issues.comment(wsId, issueId, {
    text,
    ...(flags.author !== undefined && { author: flags.author }),
  })
  if (context.options.json) context.screen.printJson(comment)
  else context.screen.print(`${issueId}\tcommented ${comment.at}`)
  return EXIT.ok
}

export async function removeIssue(context: Context, name: string, flags: IssueFlags): Promise<number> {
  const postern = await context.connect()
  const { wsId, issueId } = await resolveIssue(postern, name, flags.workspace)
  // A prefix will not do here: what is removed should have been named.
  if (issueId !== name) throw new CliExit(EXIT.usage, `"${name}" is not the whole name`, `did you mean ${issueId}?`)
  const issue = await postern.issues.delete(wsId, issueId)
  if (context.options.json) context.screen.printJson(issue)
  else context.screen.print(`${issueId}\tremoved`)
  return EXIT.ok
}

export async function runIssue(context: Context, name: string, flags: IssueFlags): Promise<number> {
  const { screen, options, me } = context
  const postern = await context.connect()
  const { wsId, issueId } = await resolveIssue(postern, name, flags.workspace)
  const run = await postern.issues.run(wsId, issueId)
  screen.note(`${screen.style('green', '✓')} accepted ${run.taskId} · ${wsId} · ${run.agent}`)
  if (flags.follow) return await followRun(context, postern, run.taskId)
  if (flags.wait) return await waitForRun(context, postern, run.taskId)
  if (options.json) screen.printJson(run)
  else screen.print(run.taskId)
  screen.note(`next: ${me} runs watch ${run.taskId}`)
  return EXIT.ok
}

/** `postern issue schedule`: of an issue, or with --preview of an expression. */
export async function showSchedule(context: Context, name: string | undefined, flags: IssueFlags): Promise<number> {
  const { screen, options } = context
  const count = parseCount(flags.count ?? '5', '--count')
  if ((name === undefined) === (flags.preview === undefined))
    throw new CliExit(EXIT.usage, 'name an issue, or give --preview "<cron>"', 'postern issue schedule --help')
  const postern = await context.connect()
  if (flags.preview !== undefined) {
    const timezone = flags.timezone === undefined ? {} : { timezone: flags.timezone }
    const preview = await postern.issues.preview({ kind: 'cron', cron: flags.preview, ...timezone }, { count })
    if (options.json) screen.printJson(preview)
    else for (const fire of preview.fires) screen.print(fireText(fire, flags.timezone))
    return EXIT.ok
  }
  const { wsId, issueId } = await resolveIssue(postern, name ?? '', flags.workspace)
  const schedule = await postern.issues.schedule(wsId, issueId, { count })
  if (options.json) screen.printJson(schedule)
  else for (const [key, value] of scheduleFields(context, schedule)) field(context, key, value)
  return EXIT.ok
}

function scheduleFields(context: Context, schedule: IssueSchedule): [string, string][] {
  const { when, nextFires, lastFire, waiting, lastMiss } = schedule
  const zone = when?.kind === 'cron' ? when.timezone : undefined
  const why = (code: string, detail: string): string => `${code}: ${inert(detail, true)}`
  return [
    ['when', whenText(when)],
    ['health', health(context, schedule.health)],
    ...nextFires.map((fire, i): [string, string] => [i === 0 ? 'next' : '', fireText(fire, zone)]),
    ...(waiting ? [['waiting', `due ${waiting.dueAt}, ${why(waiting.code, waiting.detail)}`] as [string, string]] : []),
    ...(lastFire
      ? [
          [
            'last fire',
            `${lastFire.dueAt}  ${lastFire.taskId}  ${statusWord(context.screen, lastFire.status ?? 'running')}`,
          ] as [string, string],
        ]
      : []),
    ...(lastMiss
      ? [['last miss', `${lastMiss.dueAt}  ${why(lastMiss.code, lastMiss.detail)}`] as [string, string]]
      : []),
  ]
}

/** The board; of one workspace by its own address, which agents in it may use. */
async function boardOf(postern: Postern, wsId: WorkspaceId | undefined, status?: string): Promise<IssueBoard> {
  const query = status === undefined ? {} : { status }
  return wsId === undefined ? await postern.issues.board(query) : await postern.issues.list(wsId, query).page()
}

/**
 * The issue that a name means, or any unique beginning of it; `ws-news/brief` names its workspace too.
 *
 * @throws CliExit 5 when there is none, 2 when there are several (they are listed)
 */
async function resolveIssue(postern: Postern, given: string, workspace: string | undefined): Promise<Named> {
  const [before = '', after] = given.split('/')
  const name = after ?? before
  const place = after === undefined ? workspace : before
  const wsId = place === undefined ? undefined : await resolveWorkspace(postern, place)
  const { issues, problems } = await boardOf(postern, wsId)
  // Broken ones too: the server then says what is wrong with them.
  const broken = problems.flatMap(({ wsId, file }) => {
    const issueId = /\/([a-z0-9_-]+)\.md$/.exec(file)?.[1]
    return issueId === undefined ? [] : [{ wsId, issueId }]
  })
  const all: Named[] = [...issues, ...broken]
  const exact = all.filter(({ issueId }) => issueId === name)
  const found = exact.length > 0 ? exact : all.filter(({ issueId }) => issueId.startsWith(name))
  const only = theOnly([...new Set(found.map((each) => `${each.wsId}/${each.issueId}`))], given, 'issues')
  const issue = found.find((each) => `${each.wsId}/${each.issueId}` === only)
  if (issue) return { wsId: issue.wsId, issueId: issue.issueId }
  if (wsId !== undefined) return { wsId, issueId: name } // the server says that there is none
  throw new CliExit(EXIT.notFound, `no issue begins with "${given}"`, 'postern issue ls')
}

/** @throws CliExit 2 when more than one kind of schedule is named */
function whenOf({ every, cron, at, timezone, schedule }: IssueFlags): When | undefined {
  const named = [every, cron, at].filter((value) => value !== undefined).length + (schedule === false ? 1 : 0)
  if (named > 1) throw new CliExit(EXIT.usage, 'one of --every, --cron, --at and --no-schedule at a time')
  if (timezone !== undefined && cron === undefined)
    throw new CliExit(EXIT.usage, '--timezone goes with --cron', 'name the expression again')
  if (every !== undefined) return { kind: 'every', every }
  if (at !== undefined) return { kind: 'at', at }
  return cron === undefined ? undefined : { kind: 'cron', cron, ...(timezone !== undefined && { timezone }) }
}

async function settings(flags: IssueFlags) {
  const { body, agent, timeout, priority, overlap, catchUp } = flags
  return {
    ...(body !== undefined && { body: body === '-' ? (await readAll(process.stdin)).replace(/\r?\n$/, '') : body }),
    ...(agent !== undefined && { agent: agent === 'none' ? null : agent }),
    ...(timeout !== undefined && { timeoutMs: timeout === 'none' ? null : parseSpan(timeout, '--timeout') }),
    ...(flags.status !== undefined && { status: flags.status }),
    ...(priority !== undefined && { priority }),
    ...(overlap !== undefined && { overlap: overlap as 'skip' }), // the server names what it takes
    ...(catchUp !== undefined && { catchUp: catchUp as 'skip' }),
  }
}

function show(context: Context, issue: Issue): number {
  const { screen, options, me } = context
  if (options.json) {
    screen.printJson(issue)
    return EXIT.ok
  }
  const next = issue.nextFire === null ? '' : `, next ${short(issue.nextFire)}`
  for (const [name, value] of [
    ['issue', `${issue.wsId}/${issue.issueId}`],
    ['title', inert(issue.title, true)],
    ['status', `${statusWord(screen, issue.status)}, priority ${issue.priority}`],
    ['when', `${whenText(issue.when)}${next} (${health(context, issue.health)})`],
    ['agent', issue.agent ?? "the workspace's"],
    ['file', issue.file],
  ] as const) {
    field(context, name, value)
  }
  if (issue.body !== '') screen.print(`\n${inert(issue.body)}`)
  for (const { at, author, text } of issue.comments) {
    screen.print(`\n${screen.style('gray', `${inert(author, true)} · ${at}`)}\n${inert(text)}`)
  }
  screen.note(`next: ${me} issue run ${issue.issueId} -w ${issue.wsId}`)
  return EXIT.ok
}

const field = ({ screen }: Context, name: string, value: string): void =>
  screen.print(`${screen.style('gray', name.padEnd(10))} ${value}`)

const SIGNS: Record<string, string> = { ok: '✓', waiting: '○', failing: '✗', stopped: '-', over: '-', none: '-' }
const health = ({ screen }: Context, name: IssueSummary['health']): string => {
  if (!screen.isTerminal) return name
  const text = `${SIGNS[name] ?? '·'} ${name}`
  return name === 'failing' ? screen.style('red', text) : text
}

function whenText(when: When | null): string {
  if (when === null) return '-'
  if (when.kind === 'every') return `every ${when.every}`
  return when.kind === 'at' ? `at ${when.at}` : `${when.cron} ${when.timezone ?? 'UTC'}`
}

const short = (iso: string): string => iso.replace(/\.\d{3}Z$/, 'Z')

/** A fire in UTC, and on the clock of its zone. */
function fireText(iso: string, timeZone: string | undefined): string {
  if (timeZone === undefined || timeZone === 'UTC') return short(iso)
  const there = new Intl.DateTimeFormat('en-GB', { timeZone, dateStyle: 'full', timeStyle: 'short' }).format(
    new Date(iso),
  )
  return `${short(iso)}  ${there} ${timeZone}`
}
