import { makeCall, makeListing, type Call, type CallOptions, type Listing, type PostOptions } from './call.ts'
import { follow } from './events.ts'
import type { Client } from './generated/client/index.ts'
import { Inbox as Operations } from './generated/sdk.gen.ts'
import type { Logger } from './transport.ts'
import type { Event, EventPage, InboxEntry, InboxId, InboxPage, InboxQuery, PushInbox, Run } from './types.ts'

/** Results that last: what runs, sessions and the server leave for people. */
export class Inbox {
  readonly #operations: Operations
  readonly #logger: Logger | undefined

  constructor(client: Client, logger: Logger | undefined) {
    this.#operations = new Operations({ client })
    this.#logger = logger
  }

  /** Entries, newest first. An entry that cannot be read is named in `damaged` of a page and hides no other. */
  list(query: InboxQuery = {}, options: CallOptions = {}): Listing<InboxEntry, InboxPage> {
    const { pageSize, ...rest } = query
    return makeListing(
      (cursor) =>
        makeCall<InboxPage>(
          (generated) =>
            this.#operations.list({ ...generated, query: { ...rest, limit: pageSize, cursor }, parseAs: 'json' }),
          options,
        ),
      ({ entries, nextCursor }) => ({ items: entries, nextCursor }),
    )
  }

  /** The entry; it stays unread. @throws NotFoundError */
  get(id: InboxId, options: CallOptions = {}): Call<InboxEntry> {
    return makeCall((generated) => this.#operations.get({ ...generated, path: { id }, parseAs: 'json' }), options)
  }

  /**
   * Pushes an entry; it is on the server's disk, with a copy of its documents, when this resolves. Inside a run it is
   * stamped with that run.
   *
   * @throws BadRequestError for a document outside the workspace; IdempotencyError when `key` was used with another body
   */
  push(entry: PushInbox, options: PostOptions = {}): Call<InboxEntry> {
    const headers = keyHeader(options)
    return makeCall(
      (generated) => this.#operations.push({ ...generated, body: entry, headers, parseAs: 'json' }),
      options,
    )
  }

  /** Marks an entry as read. Safe to repeat. @throws NotFoundError */
  read(id: InboxId, options: CallOptions = {}): Call<InboxEntry> {
    return makeCall((generated) => this.#operations.read({ ...generated, path: { id }, parseAs: 'json' }), options)
  }

  /** Marks an entry as unread. Safe to repeat. @throws NotFoundError */
  unread(id: InboxId, options: CallOptions = {}): Call<InboxEntry> {
    return makeCall((generated) => this.#operations.unread({ ...generated, path: { id }, parseAs: 'json' }), options)
  }

  /** Marks many entries as read: by id, or all of them (of one workspace). Resolves with how many were unread. */
  mark(which: { ids: InboxId[] } | { all: true; wsId?: string }, options: CallOptions = {}): Call<{ marked: number }> {
    return makeCall((generated) => this.#operations.mark({ ...generated, body: which, parseAs: 'json' }), options)
  }

  /**
   * Says something to the agent that pushed the entry: a run that continues its conversation.
   *
   * @throws ConflictError when no run pushed it, or its agent cannot go on; CapacityError; NotFoundError
   */
  reply(id: InboxId, reply: { message: string; timeoutMs?: number }, options: PostOptions = {}): Call<Run> {
    const headers = keyHeader(options)
    return makeCall(
      (generated) => this.#operations.reply({ ...generated, path: { id }, body: reply, headers, parseAs: 'json' }),
      options,
    )
  }

  /** Removes the entry and its documents, for good. @throws NotFoundError */
  remove(id: InboxId, options: CallOptions = {}): Call<{ id: string }> {
    return makeCall((generated) => this.#operations.remove({ ...generated, path: { id }, parseAs: 'json' }), options)
  }

  /** The bytes of a document as they were when the entry was pushed. @throws NotFoundError, GoneError when it is damaged */
  document(id: InboxId, index: number, options: CallOptions = {}): Call<ArrayBuffer> {
    return makeCall(
      (generated) =>
        this.#operations.document({ ...generated, path: { id, index: String(index) }, parseAs: 'arrayBuffer' }),
      options,
    )
  }

  /**
   * What happens to the Inbox above `after`, past and live, once and in order, without an end; reconnects by itself.
   * Leaving the loop closes the connection.
   */
  events(
    options: { after?: number | undefined; signal?: AbortSignal | undefined; idleMs?: number | undefined } = {},
  ): AsyncGenerator<Event, void, void> {
    return follow({
      ...options,
      logger: this.#logger,
      open: async (after, signal) => {
        const headers = { Accept: 'text/event-stream', ...(after > 0 && { 'Last-Event-ID': String(after) }) }
        return await makeCall<ReadableStream<Uint8Array> | null>(
          (generated) => this.#operations.events({ ...generated, headers, parseAs: 'stream' }),
          { signal },
          { stream: true, retries: 0 },
        )
      },
      isLast: () => false,
      isOver: () => Promise.resolve(false),
    })
  }

  /** One page of events, without waiting. */
  eventsPage(options: CallOptions & { after?: number; limit?: number } = {}): Call<EventPage> {
    const { after, limit } = options
    return makeCall(
      (generated) => this.#operations.events({ ...generated, query: { after, limit }, parseAs: 'json' }),
      options,
    )
  }
}

function keyHeader({ idempotencyKey }: PostOptions): { 'Idempotency-Key'?: string } {
  return idempotencyKey === undefined ? {} : { 'Idempotency-Key': idempotencyKey }
}
