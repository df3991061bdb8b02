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
import { Credentials as Operations } from './generated/sdk.gen.ts'
import type { Credential, SetCredential } from './types.ts'

/** Named sets of environment variables: what is set never comes back. All of it needs the admin token. */
export class Credentials {
  readonly #operations: Operations

  constructor(client: Client) {
    this.#operations = new Operations({ client })
  }

  /** Every credential, by name: the names of its variables, never a value. @throws AuthError */
  list(options: CallOptions = {}): Listing<Credential, { credentials: Credential[] }> {
    return makeListing(
      () => makeCall((generated) => this.#operations.list({ ...generated, parseAs: 'json' }), options),
      ({ credentials }) => ({ items: credentials, nextCursor: null }),
    )
  }

  /**
   * Sets a credential; one of that name is replaced whole. It is given to runs and sessions of the workspaces that name it.
   *
   * @throws BadRequestError for a variable that nobody may set, or an agent that does not exist; AuthError
   */
  set(credential: SetCredential, options: PostOptions = {}): Call<Credential> {
    const headers = keyHeader(options)
    return makeCall(
      (generated) => this.#operations.set({ ...generated, body: credential, headers, parseAs: 'json' }),
      options,
    )
  }

  /** Forgets it, at once, also where workspaces name it. The credential as it was. @throws NotFoundError, AuthError */
  delete(name: string, options: CallOptions = {}): Call<Credential> {
    return makeCall((generated) => this.#operations.delete({ ...generated, path: { name }, parseAs: 'json' }), options)
  }
}
