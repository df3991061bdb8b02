import type { IdempotencyScope } from '../model.ts'
import type {
  Grant,
  GrantList,
  GrantRow,
  HookBody,
  KeyRotation,
  MintRequest,
  Minted,
  RotateKeys,
} from '../model/channels.ts'
import type { Delivery, Receipt, DeliveryList } from '../model/sessions.ts'
import type { Taken } from './buckets.ts'

export interface GrantQuery {
  sessionId?: string
  limit?: number
  /** `nextCursor` of the page before. */
  cursor?: string
}

/** Why a token was refused; for the log alone. */
export type Refusal = 'malformed' | 'forged' | 'unknown' | 'revoked' | 'expired' | 'mismatched'

/** Grants on channels, and the messages that come through them. Source: docs/contract.md 4; docs/security.md 2 and 3. */
export interface Channels {
  /**
   * A new grant; its record is on disk when this resolves. A repeated key answers the same token again.
   *
   * @throws DomainError `session_not_found`, `session_ended`, `validation_failed` (the time), `grant_revoked` (a repeat
   * of what was revoked since), `idempotency_*`, `too_many_keys`, `storage_unavailable`
   */
  mint(request: { body: MintRequest; idempotency?: IdempotencyScope }): Promise<{ minted: Minted; replayed: boolean }>
  /** @throws DomainError `grant_not_found` */
  get(id: string): Promise<Grant>
  /** Newest first. @throws DomainError `invalid_cursor` */
  list(query: GrantQuery): Promise<GrantList>
  /**
   * Ends a grant. When this resolves the revocation is on disk and no delivery on the grant starts any more, buffered or
   * not. Safe to repeat.
   *
   * @throws DomainError `grant_not_found`, `storage_unavailable`
   */
  revoke(id: string): Promise<Grant>
  /** What came through a grant, newest first. @throws DomainError `grant_not_found`, `invalid_cursor` */
  deliveries(id: string, query: { limit?: number; cursor?: string }): Promise<DeliveryList>
  /** @throws DomainError `delivery_not_found` */
  delivery(id: string): Promise<Delivery>

  /** The grant that a text is a good token of; or why it is none, which callers are never told. */
  verify(token: string): Promise<{ grant: GrantRow } | { refusal: Refusal }>
  /** Counts one knock against the rate of a grant. */
  take(grantId: string): Taken
  /**
   * One knock on a verified grant: on disk when it resolves.
   *
   * @param key idempotency key, 1 to 255 visible ASCII characters
   * @throws DomainError `idempotency_*`, `too_many_keys`, `session_not_found`, `session_ended`, `buffer_full`,
   * `forbidden` (revoked meanwhile), `storage_unavailable`
   */
  deliver(
    grant: GrantRow,
    body: Pick<HookBody, 'message' | 'from'>,
    key: string | undefined,
  ): Promise<{ receipt: Receipt; replayed: boolean }>

  /**
   * Makes a new root key. Older ones verify until the last of their grants expires; with `drop` they are void at once,
   * and their grants revoked.
   *
   * @throws DomainError `keys_in_use`, `storage_unavailable`
   */
  rotateKeys(request: RotateKeys): Promise<KeyRotation>
}
