import {
  keyHeader,
  makeCall,
  makeListing,
  type Call,
  type CallOptions,
  type Listing,
  type PostOptions,
} from './call.ts'
import type { Client } from './generated/client/index.ts'
import { Channels as Operations, Deliveries as DeliveryOperations, Keys as KeyOperations } from './generated/sdk.gen.ts'
import type {
  CreateGrant,
  Delivery,
  DeliveryId,
  DeliveryPage,
  Grant,
  GrantId,
  GrantPage,
  KeyRotation,
  Minted,
  SessionId,
} from './live-types.ts'

/** Addresses to which anyone who has them may send messages for one live session. Needs the admin token. */
export class Channels {
  readonly #operations: Operations

  constructor(client: Client) {
    this.#operations = new Operations({ client })
  }

  /**
   * Mints an address. Its token is in the answer and nowhere else. A retry within the same call returns the same grant.
   *
   * @throws NotFoundError for an unknown session, GoneError for one that ended, BadRequestError, AuthError
   */
  create(grant: CreateGrant, options: PostOptions = {}): Call<Minted> {
    const headers = keyHeader(options)
    const { verb, ...rest } = grant
    return makeCall(
      (generated) =>
        this.#operations.create({
          ...generated,
          body: { ...rest, ...(verb !== undefined && { verb: verb as 'send_input' }) },
          headers,
          parseAs: 'json',
        }),
      options,
    )
  }

  /** Grants, newest first, revoked and expired ones too. Never a token. */
  list(query: { sessionId?: SessionId; pageSize?: number } = {}, options: CallOptions = {}): Listing<Grant, GrantPage> {
    const { pageSize, sessionId } = query
    return makeListing(
      (cursor) =>
        makeCall<GrantPage>(
          (generated) =>
            this.#operations.list({ ...generated, query: { sessionId, limit: pageSize, cursor }, parseAs: 'json' }),
          options,
        ),
      ({ grants, nextCursor }) => ({ items: grants, nextCursor }),
    )
  }

  /** @throws NotFoundError */
  get(grantId: GrantId, options: CallOptions = {}): Call<Grant> {
    return makeCall((generated) => this.#operations.get({ ...generated, path: { grantId }, parseAs: 'json' }), options)
  }

  /** The address is dead when this resolves, for good; what waits of it is dropped. Safe to repeat. @throws NotFoundError */
  revoke(grantId: GrantId, options: CallOptions = {}): Call<Grant> {
    return makeCall(
      (generated) => this.#operations.revoke({ ...generated, path: { grantId }, parseAs: 'json' }),
      options,
    )
  }

  /** What came through a grant, newest first, and what became of it. @throws NotFoundError */
  deliveries(grantId: GrantId, options: CallOptions & { pageSize?: number } = {}): Listing<Delivery, DeliveryPage> {
    const { pageSize, ...rest } = options
    return makeListing(
      (cursor) =>
        makeCall<DeliveryPage>(
          (generated) =>
            this.#operations.deliveries({
              ...generated,
              path: { grantId },
              query: { limit: pageSize, cursor },
              parseAs: 'json',
            }),
          rest,
        ),
      ({ deliveries, nextCursor }) => ({ items: deliveries, nextCursor }),
    )
  }
}

/** Single messages, whatever they came through. */
export class Deliveries {
  readonly #operations: DeliveryOperations

  constructor(client: Client) {
    this.#operations = new DeliveryOperations({ client })
  }

  /** The message and what became of it so far. @throws NotFoundError */
  get(id: DeliveryId, options: CallOptions = {}): Call<Delivery> {
    return makeCall((generated) => this.#operations.get({ ...generated, path: { id }, parseAs: 'json' }), options)
  }
}

/** The root keys, which sign every address and seal what is kept. */
export class Keys {
  readonly #operations: KeyOperations

  constructor(client: Client) {
    this.#operations = new KeyOperations({ client })
  }

  /**
   * Makes a new root key. Addresses that older keys signed stay good until they expire; with `drop` they are revoked at
   * once, and listed.
   *
   * @throws ConflictError when every key number is in use, AuthError
   */
  rotate(options: CallOptions & { drop?: boolean } = {}): Call<KeyRotation> {
    const { drop, ...rest } = options
    return makeCall(
      (generated) =>
        this.#operations.rotate({ ...generated, body: drop === undefined ? {} : { drop }, parseAs: 'json' }),
      rest,
    )
  }
}
