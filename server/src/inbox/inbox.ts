import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { encodeTime } from 'ulid'
import { isoTime, newId, type Clock } from '../clock.ts'
import { DomainError } from '../errors.ts'
import { LIMITS, type Event, type IdempotencyScope, type NewEvent } from '../model.ts'
import type { InboxEntry, InboxOrigin, InboxRow, PushInbox, ReplyInbox } from '../model/inbox.ts'
import { fingerprintOf, once, SERVER_KEYS, type Claim, type Claims } from '../store/claims.ts'
import type { ArchivedTable } from '../store/archived-table.ts'
import { replaceFile, syncDirectory, type Disk } from '../store/disk.ts'
import { matches } from '../store/tables.ts'
import { readSnapshot, snapshotName, takeSnapshot, type Cleaner } from './documents.ts'
import { removeLeftovers } from './leftovers.ts'
import type { Inbox, InboxQuery } from './types.ts'

/** Characters of a body kept in the row itself; a longer one lies in a file, so that rows stay small. */
const INLINE_CHARACTERS = 512
const BODY_FILE = 'body.md'
/** The name of the log of what happens to the Inbox. */
export const INBOX_LOG = 'inbox'
/** Rows looked through at once for a search. */
const SEARCH_PAGE = 200
/** Newest events and entries compared at a start. */
const MEND_EVENTS = 500

/** Numbered events of one log, as the event machine keeps them. */
export interface InboxLog {
  append(log: string, events: NewEvent[]): Promise<number>
  read(log: string, after: number, limit: number): Promise<Event[]>
  follow(log: string, after: number, signal: AbortSignal): AsyncIterable<Event>
  lastSeq(log: string): Promise<number>
}

export interface InboxDeps<Reply> {
  table: ArchivedTable<InboxRow>
  damaged: { id: string; detail: string }[]
  claims: Claims
  events: InboxLog
  disk: Disk
  clock: Clock
  /** Where bodies and documents lie, a folder for each entry. */
  directory: string
  /** Real directories whose files an entry of this origin may carry. @throws DomainError `workspace_not_found` */
  roots(origin: InboxOrigin): Promise<string[]>
  /** Takes out what whoever pushes was given in secret. */
  cleanerFor(origin: InboxOrigin): Promise<Cleaner>
  /** An entry of this run is about to be removed. */
  keepPushed(taskId: string, id: string): Promise<void>
  /** What an earlier reply with this key was answered; undefined: there was none. */
  replayReply(idempotency: IdempotencyScope, sent: unknown): Promise<Reply | undefined>
  /** Starts a run that continues the conversation of the run `resume`. @param reply `sent` as for `replayReply` */
  continueRun(reply: {
    wsId: string
    resume: string
    body: ReplyInbox
    issueId: string | null
    idempotency?: IdempotencyScope
    sent: unknown
  }): Promise<Reply>
}

/** See `Inbox`. For the start: `clear` removes the files, `mend` writes the events that a server that died left half done. */
export function createInbox<Reply>(
  deps: InboxDeps<Reply>,
): Inbox<Reply> & { clear(): Promise<void>; mend(): Promise<void> } {
  const { table, damaged, claims, events, disk, clock } = deps
  const folder = (id: string): string => join(deps.directory, id)

  async function view(row: InboxRow): Promise<InboxEntry> {
    if (row.body !== null) return { ...row, body: row.body, damage: null }
    const body = await readFile(join(folder(row.id), BODY_FILE), 'utf8').catch(() => undefined)
    return { ...row, body: body ?? '', damage: body === undefined ? 'its text cannot be read any more' : null }
  }
  async function find(id: string): Promise<InboxRow> {
    const row = await table.get(id)
    if (row) return row
    const broken = damaged.find((each) => each.id === id)
    throw new DomainError(
      'inbox_entry_not_found',
      broken ? `${id} cannot be read (${broken.detail})` : `there is no inbox entry ${id}`,
      { hint: 'postern inbox ls' },
    )
  }

  async function store(id: string, input: PushInbox, origin: InboxOrigin): Promise<InboxRow> {
    const roots = input.documents ? await deps.roots(origin) : []
    const snapshots = []
    const clean = await deps.cleanerFor(origin)
    for (const path of input.documents ?? []) snapshots.push(await takeSnapshot(path, roots, clean))
    const body = clean.text(input.body ?? '')
    const isLong = body.length > INLINE_CHARACTERS
    await keepFiles(id, [
      ...(isLong ? [{ name: BODY_FILE, bytes: Buffer.from(body) }] : []),
      ...snapshots.map(({ bytes }, i) => ({ name: snapshotName(i), bytes })),
    ])
    return {
      id,
      ...origin,
      title: clean.text(input.title),
      body: isLong ? null : body,
      documents: snapshots.map(({ document }) => document),
      createdAt: isoTime(clock.now()),
      readAt: null,
    }
  }

  /** On disk when it resolves, their folder too. @throws DomainError `storage_unavailable`; nothing is left then */
  async function keepFiles(id: string, files: { name: string; bytes: Buffer }[]): Promise<void> {
    if (files.length === 0) return
    try {
      await disk.mkdir(folder(id), { recursive: true, mode: 0o700 })
      for (const { name, bytes } of files) await replaceFile(disk, join(folder(id), name), bytes)
      await syncDirectory(disk, deps.directory)
    } catch (error) {
      await discard(id)
      throw new DomainError('storage_unavailable', 'the entry could not be written to disk', {
        retryAfterSeconds: 1,
        cause: error,
      })
    }
  }
  const discard = (id: string): Promise<void> =>
    disk.rm(folder(id), { recursive: true, force: true }).catch(() => undefined)

  async function push(
    input: PushInbox,
    origin: InboxOrigin,
    claim: Claim | undefined,
  ): Promise<{ entry: InboxEntry; replayed: boolean }> {
    const known = claim?.recordId === undefined ? undefined : await table.get(claim.recordId)
    if (known) return { entry: await view({ ...known, readAt: null }), replayed: true }
    if (claim?.isRetired) {
      throw new DomainError('inbox_entry_removed', `${claim.recordId}, which this key made, was removed`, {
        hint: 'push with another key if there is something new to say',
      })
    }
    const id = claim?.recordId ?? newId('inb', clock)
    const row = await store(id, input, origin)
    let isMine: boolean
    try {
      isMine = await once(claim, id, () => table.insert(row))
    } catch (error) {
      await discard(id)
      throw error
    }
    if (isMine) await note({ type: 'inbox.pushed', ...summaryOf(row) })
    return { entry: await view(row), replayed: !isMine }
  }

  /** The entry is on disk already: an event that is lost now is written at the next start. */
  async function note(event: NewEvent): Promise<void> {
    await events.append(INBOX_LOG, [event]).catch(() => undefined)
  }

  async function mark(row: InboxRow, as: 'read' | 'unread'): Promise<InboxRow> {
    if ((row.readAt !== null) === (as === 'read')) return row
    const marked = await table.update(
      row.id,
      { readAt: as === 'read' ? isoTime(clock.now()) : null },
      { readAt: row.readAt },
    )
    if (marked) await note({ type: `inbox.${as}`, id: row.id, wsId: row.wsId })
    return marked ?? (await find(row.id))
  }

  const isUnread = (row: InboxRow): boolean => row.readAt === null

  async function matching({ wsId, unread, q }: InboxQuery, after: string | undefined, most: number) {
    const where = { ...(wsId !== undefined && { wsId }), ...(unread === true && { readAt: null }) }
    const wanted = q?.toLowerCase()
    const found: InboxEntry[] = []
    let cursor = after
    for (;;) {
      const limit = wanted === undefined && unread !== false ? most : SEARCH_PAGE
      const rows = await table.list({ where, limit, ...(cursor !== undefined && { after: cursor }) })
      const entries = await Promise.all(rows.filter((row) => unread !== false || !isUnread(row)).map(view))
      found.push(...entries.filter((entry) => wanted === undefined || holds(entry, wanted)))
      cursor = rows.at(-1)?.id
      if (found.length >= most || rows.length < limit) return found.slice(0, most)
    }
  }

  return {
    async push(input, origin, idempotency) {
      const { key, ...content } = input
      const pusher = origin.taskId ?? origin.sessionId ?? origin.from
      const scope =
        key === undefined
          ? idempotency && [idempotency.caller, idempotency.method, idempotency.path, idempotency.key]
          : ['inbox', origin.from, pusher, key]
      const group = origin.from === 'server' ? SERVER_KEYS : undefined
      const claim = scope && claims.begin(scope, fingerprintOf({ ...content, wsId: origin.wsId }), group)
      try {
        return await push(content, origin, claim)
      } finally {
        claim?.release()
      }
    },
    async list(query) {
      const { limit = LIMITS.defaultListLimit, cursor } = query
      const after = cursor === undefined ? undefined : decodeCursor(cursor)
      const found = await matching(query, after, limit + 1)
      const page = found.slice(0, limit)
      const last = found.length > limit ? page.at(-1) : undefined
      return {
        entries: page,
        nextCursor: last ? encodeCursor(last.id) : null,
        unread: (await table.list({ where: { readAt: null } })).length,
        damaged: [...damaged],
      }
    },
    get: async (id) => await view(await find(id)),
    mark: async (id, as) => await view(await mark(await find(id), as)),
    async markMany({ ids, all, wsId }) {
      if ((ids === undefined) === (all === undefined)) {
        throw new DomainError('validation_failed', 'either ids or all: true is needed, not both')
      }
      if (ids && wsId !== undefined) throw new DomainError('validation_failed', 'wsId goes with all: true')
      const rows = ids
        ? (await Promise.all(ids.map((id) => table.get(id)))).flatMap((row) => row ?? [])
        : await table.list({ where: { readAt: null, ...(wsId !== undefined && { wsId }) } })
      const unread = rows.filter(isUnread)
      await Promise.all(unread.map((row) => mark(row, 'read')))
      return unread.length
    },
    async remove(id) {
      const row = await table.get(id)
      // First what outlives it: it was pushed, and is not to be pushed again.
      if (row?.taskId) await deps.keepPushed(row.taskId, id)
      await claims.retire(id)
      if (!(await table.remove(id))) await find(id) // says that there is none
      const at = damaged.findIndex((each) => each.id === id)
      if (at !== -1) damaged.splice(at, 1)
      await note({ type: 'inbox.removed', id, wsId: row?.wsId ?? null })
      await disk.rm(folder(id), { recursive: true, force: true })
    },
    async reply(id, body, idempotency) {
      const sent = { id, body }
      const before = idempotency && (await deps.replayReply(idempotency, sent))
      if (before) {
        const replied = await table.get(id)
        if (replied) await mark(replied, 'read')
        return before
      }
      const row = await find(id)
      const { taskId, wsId, issueId } = row
      if (taskId === null || wsId === null) {
        throw new DomainError('not_resumable', `${id} was not pushed by a run: there is no conversation to continue`, {
          hint: row.sessionId === null ? 'postern run' : `postern session send ${row.sessionId}`,
        })
      }
      const answer = await deps.continueRun({
        wsId,
        resume: taskId,
        body,
        issueId,
        sent,
        ...(idempotency && { idempotency }),
      })
      await mark(row, 'read')
      return answer
    },
    async document(id, index) {
      const row = await find(id)
      const document = row.documents[index]
      if (!document) {
        throw new DomainError('document_not_found', `${id} has ${row.documents.length} documents; there is no ${index}`)
      }
      return { name: document.name, bytes: await readSnapshot(folder(id), index, document) }
    },
    async pushedBy(pusher, since) {
      const found: string[] = []
      const first = `inb_${encodeTime(Date.parse(since))}`
      for (let after: string | undefined; ;) {
        const rows = await table.list({ limit: SEARCH_PAGE, ...(after !== undefined && { after }) })
        found.push(...rows.filter((row) => matches(row, pusher)).map(({ id }) => id))
        after = rows.at(-1)?.id
        if (rows.length < SEARCH_PAGE || (after ?? '') < first) return found.reverse()
      }
    },
    async events(after, limit) {
      const page = await events.read(INBOX_LOG, after, limit)
      return { events: page, nextAfter: page.at(-1)?.seq ?? after, lastSeq: await events.lastSeq(INBOX_LOG) }
    },
    follow: (after, signal) => events.follow(INBOX_LOG, after, signal),
    clear: () =>
      removeLeftovers(deps, async (id) => damaged.some((each) => each.id === id) || (await table.mayHave(id))),
    async mend() {
      const lastSeq = await events.lastSeq(INBOX_LOG)
      const known = await events.read(INBOX_LOG, Math.max(0, lastSeq - MEND_EVENTS), MEND_EVENTS)
      const pushed = new Set(known.flatMap(({ type, ['id']: id }) => (type === 'inbox.pushed' ? [String(id)] : [])))
      // Of what is older than the first of these events, its own lies before them.
      const [first] = known
      const since = first && first.seq > 1 ? `inb_${encodeTime(Date.parse(first.at) + 1)}` : ''
      const newest = await table.list({ limit: MEND_EVENTS })
      const missing = newest.filter(({ id }) => id >= since && !pushed.has(id)).reverse()
      if (missing.length === 0) return
      await events.append(
        INBOX_LOG,
        missing.map((row) => ({ type: 'inbox.pushed', ...summaryOf(row) })),
      )
    },
  }
}

const summaryOf = ({ id, from, wsId, taskId, sessionId, issueId, title }: InboxRow) => ({
  id,
  from,
  wsId,
  taskId,
  sessionId,
  issueId,
  title,
})

const holds = ({ title, body, documents }: InboxEntry, wanted: string): boolean =>
  [title, body, ...documents.map(({ name }) => name)].some((text) => text.toLowerCase().includes(wanted))

const encodeCursor = (id: string): string => Buffer.from(id).toString('base64url')

function decodeCursor(cursor: string): string {
  const id = Buffer.from(cursor, 'base64url').toString()
  if (/^inb_[0-9A-Z]{26}$/.test(id) && encodeCursor(id) === cursor) return id
  throw new DomainError('invalid_cursor', `${JSON.stringify(cursor.slice(0, 80))} is not a cursor of this list`, {
    hint: 'pass nextCursor of the page before as it is',
  })
}
