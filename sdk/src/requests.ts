import { makeCall, makeListing, type Call, type CallOptions, type Listing } from './call.ts'
import type { Client } from './generated/client/index.ts'
import { Requests as Operations } from './generated/sdk.gen.ts'
import type { PermissionRequest, RequestId, RequestPage, RequestQuery } from './live-types.ts'

/** What live agents ask: may it do this? */
export class Requests {
  readonly #operations: Operations

  constructor(client: Client) {
    this.#operations = new Operations({ client })
  }

  /** Permission requests, newest first; with `status: 'pending'` those that wait for somebody. */
  list(query: RequestQuery = {}, options: CallOptions = {}): Listing<PermissionRequest, RequestPage> {
    const { pageSize, status, ...rest } = query
    return makeListing(
      (cursor) =>
        makeCall<RequestPage>(
          (generated) =>
            this.#operations.list({
              ...generated,
              query: { ...rest, status: status as never, limit: pageSize, cursor },
              parseAs: 'json',
            }),
          options,
        ),
      ({ requests, nextCursor }) => ({ items: requests, nextCursor }),
    )
  }

  /** @throws NotFoundError */
  get(id: RequestId, options: CallOptions = {}): Call<PermissionRequest> {
    return makeCall((generated) => this.#operations.get({ ...generated, path: { id }, parseAs: 'json' }), options)
  }

  /**
   * Answers for the operator. The first answer wins.
   *
   * @param options.optionId one of the options that the agent offers; default: this once
   * @throws ConflictError when it was answered before, NotFoundError, BadRequestError, AuthError
   */
  answer(
    id: RequestId,
    answer: 'allow' | 'deny',
    options: CallOptions & { optionId?: string | undefined } = {},
  ): Call<PermissionRequest> {
    const { optionId, ...rest } = options
    const body = { answer, ...(optionId !== undefined && { optionId }) }
    return makeCall((generated) => this.#operations.answer({ ...generated, path: { id }, body, parseAs: 'json' }), rest)
  }
}
