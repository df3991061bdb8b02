import { readFile } from 'node:fs/promises'
import { basename, resolve } from 'node:path'
import { text as readAll } from 'node:stream/consumers'
import type { InboxEntry, InboxId, InboxQuery, Postern, TaskId } from '@postern/sdk'
import { parseCount, type Context } from './context.ts'
import { explain } from './explain.ts'
import { CliExit, EXIT } from './exit.ts'
import { resolveInbox, resolveWorkspace } from './ids.ts'
import { renderMarkdown } from './markdown.ts'
import { followRun, waitForRun } from './run.ts'
import { age, inert, shortIds, table, type Screen } from './text.ts'

/** Most entries a page of the API holds. */
const PAGE = 200
/** Characters of a file that becomes the body of an entry. */
const BODY_CHARACTERS = 65_536

export interface InboxListFlags {
  workspace?: string
  unread?: boolean
  search?: string
  limit: string
  follow?: boolean
}

/** `postern inbox ls`: entries, newest first; with --follow those that come, until Ctrl-C. */
export async function listInbox(context: Context, flags: InboxListFlags): Promise<number> {
  const { screen, options } = context
  const limit = parseCount(flags.limit, '--limit')
  const postern = await context.connect()
  const query: InboxQuery = {
    pageSize: Math.min(limit, PAGE),
    ...(flags.workspace !== undefined && { wsId: await resolveWorkspace(postern, flags.workspace) }),
    ...(flags.unread && { unread: true }),
    ...(flags.search !== undefined && { q: flags.search }),
  }
  if (flags.follow) return await followInbox(context, postern, query)
  const page = await postern.inbox.list(query).page()
  if (options.json) {
    screen.printJson(page)
    return EXIT.ok
  }
  const rest = page.entries.length < limit && page.nextCursor !== null
  const entries = rest ? await postern.inbox.list(query).toArray({ limit }) : page.entries
  screen.print(entryTable(screen, entries))
  for (const { id, detail } of page.damaged) screen.complain(`${id} cannot be read: ${inert(detail, true)}`)
  const first = entries[0]
  const next = first ? `inbox read ${first.id}` : 'run "…" -w <workspace>'
  screen.note(`${page.unread} unread · next: ${context.me} ${next}`)
  return EXIT.ok
}

function entryTable(screen: Screen, entries: InboxEntry[]): string {
  const short = shortIds(
    entries.map(({ id }) => id),
    14,
  )
  const rows = entries.map((entry) => [
    screen.isTerminal ? (short.get(entry.id) ?? entry.id) : entry.id,
    readSign(screen, entry),
    entry.wsId ?? '-',
    originOf(entry),
    age(entry.createdAt),
    entry.documents.length === 0 ? '-' : String(entry.documents.length),
    inert(entry.title, true),
  ])
  return table(screen, ['ID', 'STATE', 'WS', 'FROM', 'AGE', 'DOCS', 'TITLE'], rows)
}

function readSign(screen: Screen, { readAt }: InboxEntry): string {
  if (!screen.isTerminal) return readAt === null ? 'unread' : 'read'
  return readAt === null ? screen.style('cyan', '● unread') : screen.style('gray', '○ read')
}

const originOf = ({ from, issueId }: InboxEntry): string =>
  issueId === null ? from : `${from}, issue ${inert(issueId, true)}`

async function followInbox(context: Context, postern: Postern, query: InboxQuery): Promise<number> {
  const { screen, options } = context
  const left = new AbortController()
  process.once('SIGINT', () => left.abort())
  const { lastSeq } = await postern.inbox.eventsPage({ limit: 1 })
  screen.note('waiting for what comes; Ctrl-C leaves')
  try {
    for await (const event of postern.inbox.events({ after: lastSeq, signal: left.signal })) {
      if (event.type !== 'inbox.pushed') continue
      const entry = await postern.inbox.get(event['id'] as InboxId).catch(() => undefined) // removed since
      if (!entry || !fits(entry, query)) continue
      if (options.json) screen.printJson(entry)
      else screen.print(`${entry.id}\t${entry.wsId ?? '-'}\t${originOf(entry)}\t${inert(entry.title, true)}`)
    }
  } catch (error) {
    if (!left.signal.aborted) throw error
  }
  return EXIT.interruptedByUser
}

function fits({ wsId, title, body }: InboxEntry, query: InboxQuery): boolean {
  const wanted = query.q?.toLowerCase()
  if (query.wsId !== undefined && query.wsId !== wsId) return false
  return wanted === undefined || `${title}\n${body}`.toLowerCase().includes(wanted)
}

/** `postern inbox read`: the entry, rendered; it is marked as read, unless --keep-unread. */
export async function readEntry(context: Context, given: string, flags: { keepUnread?: boolean }): Promise<number> {
  const { screen, options } = context
  const postern = await context.connect()
  const id = await resolveInbox(postern, given)
  const entry = flags.keepUnread ? await postern.inbox.get(id) : await postern.inbox.read(id)
  if (options.json) {
    screen.printJson(entry)
    return EXIT.ok
  }
  screen.print(screen.style('bold', inert(entry.title, true)))
  const source = entry.taskId ?? entry.sessionId
  const facts = [entry.id, originOf(entry), ...(source === null ? [] : [source]), entry.wsId ?? '-', entry.createdAt]
  screen.print(screen.style('gray', facts.join(' · ')))
  if (entry.body !== '') screen.print(`\n${renderMarkdown(screen, entry.body)}`)
  if (entry.damage !== null) screen.complain(`${screen.style('red', '✗')} ${inert(entry.damage, true)}`)
  if (entry.documents.length > 0) screen.print('')
  for (const [i, { name, sizeBytes, sha256 }] of entry.documents.entries()) {
    screen.print(`${i}  ${inert(name, true)}  ${sizeBytes} bytes  sha256 ${sha256.slice(0, 16)}…`)
  }
  const next = [
    ...(entry.documents.length > 0 ? [`inbox open ${entry.id} 0`] : []),
    ...(entry.from === 'run' ? [`inbox reply ${entry.id} "…"`] : []),
  ]
  if (next.length > 0) screen.note(`next: ${next.map((command) => `${context.me} ${command}`).join(' · ')}`)
  return EXIT.ok
}

/** `postern inbox open`: a document as it was when it was pushed; raw in a pipe, made harmless on a terminal. */
export async function openDocument(context: Context, given: string, which: string): Promise<number> {
  const { screen } = context
  const postern = await context.connect()
  const id = await resolveInbox(postern, given)
  const { documents } = await postern.inbox.get(id)
  const named = documents.findIndex(({ name }) => name === which || basename(name) === which)
  const index = /^\d+$/.test(which) ? Number(which) : named
  if (index === -1) {
    const names = documents.map(({ name }, i) => `${i} ${inert(name, true)}`).join(', ')
    throw new CliExit(EXIT.notFound, `${id} has no document "${inert(which, true)}"`, names || 'it has none')
  }
  const bytes = Buffer.from(await postern.inbox.document(id, index))
  if (!screen.isTerminal) process.stdout.write(bytes)
  else if (/\.(md|markdown)$/i.test(documents[index]?.name ?? ''))
    screen.print(renderMarkdown(screen, bytes.toString()))
  else screen.print(inert(bytes.toString()))
  return EXIT.ok
}

export interface PushFlags {
  title: string
  body?: string
  file?: string[]
  key?: string
  workspace?: string
}

/** `postern inbox push`: inside a run as that run, elsewhere as the operator. */
export async function pushEntry(context: Context, flags: PushFlags): Promise<number> {
  const { screen, options } = context
  const files = flags.file ?? []
  const body = flags.body === '-' ? await readAll(process.stdin) : (flags.body ?? (await bodyFrom(files[0])))
  const isInside = process.env['POSTERN_RUN_ID'] !== undefined
  const postern = await context.connect()
  const wsId = flags.workspace === undefined || isInside ? undefined : await resolveWorkspace(postern, flags.workspace)
  const entry = await postern.inbox.push({
    title: flags.title,
    ...(body !== undefined && { body }),
    ...(files.length > 0 && { documents: files.map((file) => resolve(file)) }),
    ...(flags.key !== undefined && { key: flags.key }),
    ...(wsId !== undefined && { wsId }),
  })
  if (options.json) screen.printJson(entry)
  else screen.print(entry.id)
  return EXIT.ok
}

/** The text of the first file, when it is a text that people read: who looks at the entry sees the report itself. */
async function bodyFrom(file: string | undefined): Promise<string | undefined> {
  if (file === undefined || !/\.(md|markdown|txt)$/i.test(file)) return undefined
  const content = await readFile(file, 'utf8').catch(() => undefined) // the server says what is wrong with it
  return content?.slice(0, BODY_CHARACTERS).toWellFormed().replaceAll('\0', '')
}

/** `postern inbox none`: this run has nothing to report. */
export async function declareNone(context: Context, why: string): Promise<number> {
  const { screen, options } = context
  const taskId = insideRun('inbox none', 'declares that this run has nothing to report')
  const run = await (await context.connect()).runs.silent(taskId, why)
  if (options.json) screen.printJson(run)
  else screen.note(`${screen.style('green', '✓')} ${run.taskId} has nothing to report`)
  return EXIT.ok
}

/** `postern report`: news for the run that started this one. */
export async function reportToParent(context: Context, given: string): Promise<number> {
  const { screen, options } = context
  const taskId = insideRun('report', 'speaks to the run that started this one')
  const message = given === '-' ? await readAll(process.stdin) : given
  const reported = await (await context.connect()).runs.report(taskId, message)
  if (options.json) screen.printJson(reported)
  else screen.note(`${screen.style('green', '✓')} reported to ${reported.to}`)
  return EXIT.ok
}

/** The run this process belongs to. @throws CliExit 2 outside one */
function insideRun(command: string, does: string): TaskId {
  const id = process.env['POSTERN_RUN_ID'] ?? ''
  if (!id.startsWith('headless_')) throw new CliExit(EXIT.usage, `"${command}" ${does}, and this is not inside a run`)
  return id as TaskId
}

/** `postern inbox done`: marks entries as read without showing them. */
export async function markDone(
  context: Context,
  given: string[],
  flags: { all?: boolean; workspace?: string },
): Promise<number> {
  const { screen, options } = context
  if ((given.length === 0) === !flags.all)
    throw new CliExit(EXIT.usage, 'either ids or --all is needed', 'postern inbox done --help')
  if (flags.workspace !== undefined && !flags.all) throw new CliExit(EXIT.usage, '-w goes with --all')
  const postern = await context.connect()
  const wsId = flags.workspace === undefined ? undefined : await resolveWorkspace(postern, flags.workspace)
  const ids: InboxId[] = []
  for (const each of given) ids.push(await resolveInbox(postern, each))
  const answer = await postern.inbox.mark(flags.all ? { all: true, ...(wsId !== undefined && { wsId }) } : { ids })
  if (options.json) screen.printJson(answer)
  else screen.print(`${answer.marked} marked as read`)
  return EXIT.ok
}

/** `postern inbox reply`: a run that continues the conversation of the one that pushed the entry. */
export async function replyToEntry(
  context: Context,
  given: string,
  said: string,
  flags: { wait?: boolean; follow?: boolean },
): Promise<number> {
  const { screen, options } = context
  const message = said === '-' ? await readAll(process.stdin) : said
  const postern = await context.connect()
  const run = await postern.inbox.reply(await resolveInbox(postern, given), { message })
  screen.note(`${screen.style('green', '✓')} accepted ${run.taskId} · ${run.wsId} · ${run.agent}`)
  if (flags.follow) return await followRun(context, postern, run.taskId)
  if (flags.wait) return await waitForRun(context, postern, run.taskId)
  if (options.json) screen.printJson(run)
  else screen.print(run.taskId)
  screen.note(`next: ${context.me} runs watch ${run.taskId}`)
  return EXIT.ok
}

/** `postern inbox rm`: removes entries with their documents. */
export async function removeEntries(context: Context, given: string[]): Promise<number> {
  const { screen, options } = context
  const postern = await context.connect()
  let code: number = EXIT.ok
  for (const each of given) {
    try {
      const removed = await postern.inbox.remove(await resolveInbox(postern, each))
      if (options.json) screen.printJson(removed)
      else screen.print(`${removed.id}\tremoved`)
    } catch (error) {
      code = explain(context, error)
    }
  }
  return code
}
