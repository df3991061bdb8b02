import {
  keyHeader,
  makeCall,
  makeListing,
  type Call,
  type CallOptions,
  type Listing,
  type PostOptions,
} from './call.ts'
import { GoneError, PosternError, ReplyTimeoutError } from './errors.ts'
import { follow } from './events.ts'
import type { Client } from './generated/client/index.ts'
import { Deliveries, Sessions as Operations } from './generated/sdk.gen.ts'
import {
  isOver,
  isSessionEnd,
  type CreateSession,
  type Delivery,
  type DeliveryId,
  type DeliveryPage,
  type Receipt,
  type Reply,
  type Session,
  type SessionId,
  type SessionInput,
  type SessionPage,
  type SessionQuery,
} from './live-types.ts'
import { MAX_TIMER_MS } from './retrying.ts'
import type { Logger } from './transport.ts'
import type { Event, EventPage } from './types.ts'

export interface AskOptions {
  /** Milliseconds after which waiting ends with `ReplyTimeoutError`; the message stays sent. Default: none. */
  timeoutMs?: number | undefined
  /** Stops waiting; rejects with the signal's reason. The message stays sent. */
  signal?: AbortSignal | undefined
  /** As of `send`: with the key of an earlier call, the reply to that message is waited for. */
  idempotencyKey?: string | undefined
  /** Told of every event of the session meanwhile: what the agent says as it says it, its tools, what it asks. */
  onEvent?: ((event: Event) => void) | undefined
}

/** Live sessions: open, send, listen, end. */
export class Sessions {
  readonly #operations: Operations
  readonly #deliveries: Deliveries
  readonly #logger: Logger | undefined

  constructor(client: Client, logger: Logger | undefined) {
    this.#operations = new Operations({ client })
    this.#deliveries = new Deliveries({ client })
    this.#logger = logger
  }

  /**
   * Opens a session; it is on the server's disk, and `starting`, when this resolves. Safe to retry.
   *
   * @throws CapacityError when there is no room, NotFoundError for an unknown workspace, BadRequestError, AuthError
   */
  create(session: CreateSession, options: PostOptions = {}): Call<Session> {
    const headers = keyHeader(options)
    return makeCall(
      (generated) => this.#operations.create({ ...generated, body: session, headers, parseAs: 'json' }),
      options,
    )
  }

  /** The session as it is now. @throws NotFoundError */
  get(id: SessionId, options: CallOptions = {}): Call<Session> {
    return makeCall((generated) => this.#operations.get({ ...generated, path: { id }, parseAs: 'json' }), options)
  }

  /** Sessions, newest first, ended ones too. */
  list(query: SessionQuery = {}, options: CallOptions = {}): Listing<Session, SessionPage> {
    const { pageSize, state, ...rest } = query
    return makeListing(
      (cursor) =>
        makeCall<SessionPage>(
          (generated) =>
            this.#operations.list({
              ...generated,
              query: { ...rest, state: state as never, limit: pageSize, cursor },
              parseAs: 'json',
            }),
          options,
        ),
      ({ sessions, nextCursor }) => ({ items: sessions, nextCursor }),
    )
  }

  /**
   * Sends one message, as the operator; it is on disk when this resolves, and a suspended session is resumed for it.
   * Safe to retry: it is delivered once.
   *
   * @throws GoneError once the session has ended, CapacityError when too many messages wait, ConflictError for `steer`
   *   where the agent cannot, NotFoundError, BadRequestError, AuthError
   */
  send(id: SessionId, message: string | SessionInput, options: PostOptions = {}): Call<Receipt> {
    const body = typeof message === 'string' ? { message } : message
    const headers = keyHeader(options)
    return makeCall(
      (generated) => this.#operations.input({ ...generated, path: { id }, body, headers, parseAs: 'json' }),
      options,
    )
  }

  /**
   * Sends one message and waits for the turn it begins to end. Returns the reply however the turn ended: look at its
   * `status`. An agent that asks for a permission meanwhile waits for somebody to answer.
   *
   * @throws what `send` throws; ReplyTimeoutError after `timeoutMs`; the signal's reason; GoneError when the session
   *   ends first; PosternError `delivery_uncertain` when the server cannot say whether the agent has the message
   */
  async ask(
    id: SessionId,
    message: string | (Omit<SessionInput, 'delivery'> & { delivery?: 'queue' | 'interrupt' }),
    options: AskOptions = {},
  ): Promise<Reply> {
    const { timeoutMs, signal, idempotencyKey, onEvent } = options
    const deadline = timeoutMs === undefined ? undefined : AbortSignal.timeout(Math.min(timeoutMs, MAX_TIMER_MS))
    const either = signal && deadline ? AbortSignal.any([signal, deadline]) : (signal ?? deadline)
    let deliveryId: DeliveryId | undefined
    try {
      const { lastSeq } = await this.get(id, { signal: either })
      const sent = await this.send(id, message, { idempotencyKey, signal: either }).withResponse()
      deliveryId = sent.data.deliveryId
      // Of a message that was sent before, the reply may be there already.
      const after = sent.headers.get('Idempotency-Replayed') === 'true' ? 0 : lastSeq
      for await (const event of this.events(id, { after, signal: either })) {
        onEvent?.(event)
        const reply = event['deliveryId'] === deliveryId && (await this.#replyOf(event, deliveryId, either))
        if (reply) return reply
      }
      throw gone(`${id} ended before it answered ${deliveryId}`)
    } catch (error) {
      signal?.throwIfAborted()
      if (deadline?.aborted) throw new ReplyTimeoutError(id, timeoutMs ?? 0, deliveryId)
      throw error
    }
  }

  /** What an event says of the reply to a message: undefined when nothing final. */
  async #replyOf(event: Event, deliveryId: DeliveryId, signal: AbortSignal | undefined): Promise<Reply | undefined> {
    switch (event.type) {
      case 'input.failed':
        throw gone(`${deliveryId} was not delivered: ${String(event['reason'])}`, String(event['reason']))
      case 'input.uncertain':
        throw new PosternError({
          code: 'delivery_uncertain',
          detail: `whether the agent has ${deliveryId} is not known: it died in the hand-over`,
          retryable: false,
        })
      case 'turn.ended': {
        const { status, text, error } = event as unknown as Reply
        // The agent died: a message that it had shown no sign of is handed over once more.
        if (status === 'failed' && (await this.#isHandedOverAgain(deliveryId, signal))) return undefined
        return { deliveryId, status, text, ...(error && { error }) }
      }
      default:
        return undefined
    }
  }

  async #isHandedOverAgain(id: DeliveryId, signal: AbortSignal | undefined): Promise<boolean> {
    const delivery = await makeCall<Delivery>(
      (generated) => this.#deliveries.get({ ...generated, path: { id }, parseAs: 'json' }),
      { signal },
    )
    return delivery.endedAt === null
  }

  /** Ends the turn at work; what waits goes on. Resolves when it has ended; safe to repeat. @throws NotFoundError, GoneError */
  interrupt(id: SessionId, options: CallOptions = {}): Call<Session> {
    return makeCall((generated) => this.#operations.interrupt({ ...generated, path: { id }, parseAs: 'json' }), options)
  }

  /** Ends the session for good, with every process of it; what waited is failed. Safe to repeat. @throws NotFoundError */
  end(id: SessionId, options: CallOptions = {}): Call<Session> {
    return makeCall((generated) => this.#operations.end({ ...generated, path: { id }, parseAs: 'json' }), options)
  }

  /** What was sent into the session, by the operator and through channels, newest first. @throws NotFoundError */
  deliveries(id: SessionId, options: CallOptions & { pageSize?: number } = {}): Listing<Delivery, DeliveryPage> {
    const { pageSize, ...rest } = options
    return makeListing(
      (cursor) =>
        makeCall<DeliveryPage>(
          (generated) =>
            this.#operations.deliveries({
              ...generated,
              path: { id },
              query: { limit: pageSize, cursor },
              parseAs: 'json',
            }),
          rest,
        ),
      ({ deliveries, nextCursor }) => ({ items: deliveries, nextCursor }),
    )
  }

  /**
   * Every event of a session above `after`, past and live, once and in order, also across restarts of the server. Ends
   * when the session has ended and only then. Leaving the loop closes the connection.
   *
   * @throws NotFoundError, GoneError when the log was retired, and as the server refuses; the signal's reason
   */
  events(
    id: SessionId,
    options: { after?: number | undefined; signal?: AbortSignal | undefined; idleMs?: number | undefined } = {},
  ): AsyncGenerator<Event, void, void> {
    return follow({
      ...options,
      logger: this.#logger,
      open: async (after, signal) => {
        const headers = { Accept: 'text/event-stream', ...(after > 0 && { 'Last-Event-ID': String(after) }) }
        return await makeCall<ReadableStream<Uint8Array> | null>(
          (generated) => this.#operations.events({ ...generated, path: { id }, headers, parseAs: 'stream' }),
          { signal },
          { stream: true, retries: 0 },
        )
      },
      isLast: isSessionEnd,
      isOver: async (after) => {
        const session = await this.get(id, { signal: options.signal })
        return isOver(session) && session.lastSeq <= after
      },
    })
  }

  /** One page of events, without waiting. @throws as `events` */
  eventsPage(id: SessionId, options: CallOptions & { after?: number; limit?: number } = {}): Call<EventPage> {
    const { after, limit } = options
    return makeCall(
      (generated) => this.#operations.events({ ...generated, path: { id }, query: { after, limit }, parseAs: 'json' }),
      options,
    )
  }
}

const gone = (detail: string, code = 'session_ended'): GoneError => new GoneError({ code, detail, retryable: false })
