import type { Event, IdempotencyScope } from '../model.ts'
import type { InboxEntry, InboxOrigin, PushInbox, ReadInbox, ReplyInbox } from '../model/inbox.ts'

export interface InboxQuery {
  wsId?: string
  /** True: only entries that nobody has marked as read; false: only those. */
  unread?: boolean
  /** Only entries with this text in title, body or the name of a document, whatever the case of its letters. */
  q?: string
  limit?: number
  /** `nextCursor` of the page before. */
  cursor?: string
}

export interface InboxPage {
  entries: InboxEntry[]
  nextCursor: string | null
  /** Unread entries in all, whatever the query. */
  unread: number
  /** Entries on disk that cannot be read, and why: they hide no other. */
  damaged: { id: string; detail: string }[]
}

/** One document's bytes, checked against their SHA-256. */
export interface DocumentFile {
  name: string
  bytes: Buffer
}

/** Results that last. Source: docs/contract.md 5. */
export interface Inbox<Reply = unknown> {
  /**
   * Keeps an entry: its documents copied and everything on disk when it resolves. `replayed`: the key was known.
   *
   * @param origin who pushes, as the server knows it
   * @param idempotency the header's key; the entry's own `key` wins over it
   * @throws DomainError `document_not_usable`, `idempotency_in_flight`, `idempotency_mismatch`, `too_many_keys`,
   * `inbox_entry_removed` (by people, since it was pushed with this key), `workspace_not_found`, `storage_unavailable`
   */
  push(
    input: PushInbox,
    origin: InboxOrigin,
    idempotency?: IdempotencyScope,
  ): Promise<{ entry: InboxEntry; replayed: boolean }>
  /** Newest first. @throws DomainError `invalid_cursor` */
  list(query: InboxQuery): Promise<InboxPage>
  /** @throws DomainError `inbox_entry_not_found` */
  get(id: string): Promise<InboxEntry>
  /** Marks as read or unread; safe to repeat. @throws DomainError `inbox_entry_not_found` */
  mark(id: string, as: 'read' | 'unread'): Promise<InboxEntry>
  /** Marks many as read; ids that name nothing are passed over. Resolves with how many were unread. @throws DomainError `validation_failed` */
  markMany(which: ReadInbox): Promise<number>
  /** Removes the entry and its documents, also one that cannot be read. @throws DomainError `inbox_entry_not_found` */
  remove(id: string): Promise<void>
  /**
   * Says something to the agent that pushed the entry: a run that continues its conversation. Marks the entry as read.
   *
   * @throws DomainError `inbox_entry_not_found`, `not_resumable` when no run pushed it, and as starting a run
   */
  reply(id: string, body: ReplyInbox, idempotency?: IdempotencyScope): Promise<Reply>
  /** @throws DomainError `inbox_entry_not_found`, `document_not_found`, `document_damaged` */
  document(id: string, index: number): Promise<DocumentFile>
  /** Ids of the entries that a run or session pushed since a moment (ISO 8601), oldest first. */
  pushedBy(pusher: { taskId: string } | { sessionId: string }, since: string): Promise<string[]>
  /** What happened to the Inbox: `inbox.pushed`, `inbox.read`, `inbox.unread`, `inbox.removed`; it never ends. */
  events(after: number, limit: number): Promise<{ events: Event[]; nextAfter: number; lastSeq: number }>
  follow(after: number, signal: AbortSignal): AsyncIterable<Event>
}
