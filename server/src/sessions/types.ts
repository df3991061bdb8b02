import type { EventPage } from '../events/types.ts'
import type { Event, IdempotencyScope } from '../model.ts'
import type { CreateSession, Delivery, Receipt, Session, SessionInput, SessionState } from '../model/sessions.ts'
import type { Claim } from '../store/claims.ts'

export interface SessionQuery {
  wsId?: string
  state?: SessionState
  agent?: string
  limit?: number
  /** `nextCursor` of the page before. */
  cursor?: string
}

export interface DeliveryQuery {
  grantId?: string
  sessionId?: string
  limit?: number
  cursor?: string
}

/** A knock that passed every check of the channel. */
export interface Knock {
  sessionId: string
  grantId: string
  label: string | null
  message: string
  from: string | null
  /** Of its idempotency key; its record id becomes the delivery's. */
  claim?: Claim | undefined
}

/** Live agents, and the messages that wait for each. Source: docs/contract.md 5; docs/security.md 3.2. */
export interface Sessions {
  /**
   * Starts a session; its record is on disk and its process on the way when this resolves.
   *
   * @throws DomainError `workspace_not_found`, `unknown_agent`, `agent_not_enabled`, `agent_not_live`,
   * `model_not_supported`, `capacity_reached`, `idempotency_*`, `too_many_keys`, `draining`, `storage_unavailable`
   */
  open(request: {
    body: CreateSession
    idempotency?: IdempotencyScope
  }): Promise<{ session: Session; replayed: boolean }>
  /** @throws DomainError `session_not_found` */
  get(id: string): Promise<Session>
  /** Newest first. @throws DomainError `invalid_cursor` */
  list(query: SessionQuery): Promise<{ sessions: Session[]; nextCursor: string | null }>
  /**
   * One message of the operator, without an envelope.
   *
   * @throws DomainError `session_not_found`, `session_ended`, `buffer_full`, `steer_not_supported`,
   * `idempotency_*`, `draining`, `storage_unavailable`
   */
  send(
    id: string,
    input: SessionInput,
    idempotency?: IdempotencyScope,
  ): Promise<{ receipt: Receipt; replayed: boolean }>
  /**
   * One knock: on disk when it resolves, and `delivered` when the live, idle agent was handed it whole. Whether its grant
   * still stands is looked at again in the moment it is accepted and in the moment it is handed over.
   *
   * @throws DomainError `session_not_found`, `session_ended`, `buffer_full`, `forbidden`, `storage_unavailable`
   */
  deliver(knock: Knock): Promise<{ receipt: Receipt; delivery: Delivery }>
  /**
   * What a run that this session started has to say: on disk when it resolves.
   *
   * @param once names what must be told only once, such as the end of the run
   * @throws DomainError `session_not_found`, `session_ended`, `buffer_full`, `storage_unavailable`
   */
  report(sessionId: string, news: { taskId: string; message: string; once?: string[] }): Promise<void>
  /** What an earlier knock was answered; undefined: there is no such delivery. */
  receipt(deliveryId: string): Promise<Receipt | undefined>
  /** @throws DomainError `delivery_not_found` */
  delivery(id: string): Promise<Delivery>
  /** Newest first. @throws DomainError `invalid_cursor` */
  deliveries(query: DeliveryQuery): Promise<{ deliveries: Delivery[]; nextCursor: string | null }>
  /** Fails what waits on a grant that was revoked; on disk, and no hand-over of it under way, when it resolves. */
  revoke(grantId: string): Promise<void>
  /** Ends the turn at work; what waits goes on. @throws DomainError `session_not_found`, `session_ended` */
  interrupt(id: string): Promise<Session>
  /** Ends the session for good: its process, and what waited. Safe to repeat. @throws DomainError `session_not_found` */
  end(id: string): Promise<Session>
  /** @throws DomainError `session_not_found`, `log_retired` */
  events(id: string, after: number, limit: number): Promise<EventPage>
  /** Past, then live events; ends after the session has ended, or when the signal aborts. @throws as `events` */
  follow(id: string, after: number, signal: AbortSignal): AsyncIterable<Event>
  counts(): { live: number; limit: number; waiting: number }
  /** Suspends every session; resolves when no process of theirs is left or after the hard limit. */
  stop(): Promise<void>
}
