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
import { Workspaces as Operations } from './generated/sdk.gen.ts'
import type { CreateWorkspace, UpdateWorkspace, Workspace, WorkspaceId } from './types.ts'

/** Directories agents work in. */
export class Workspaces {
  readonly #operations: Operations

  constructor(client: Client) {
    this.#operations = new Operations({ client })
  }

  /** Every registered workspace. */
  list(options: CallOptions = {}): Listing<Workspace, { workspaces: Workspace[] }> {
    return makeListing(
      () => makeCall((generated) => this.#operations.list({ ...generated, parseAs: 'json' }), options),
      ({ workspaces }) => ({ items: workspaces, nextCursor: null }),
    )
  }

  /**
   * Registers a directory, or makes one when no `path` is given. To register a directory is to trust it.
   *
   * @throws ConflictError when the id exists; BadRequestError; AuthError without the admin token
   */
  create(workspace: CreateWorkspace, options: PostOptions = {}): Call<Workspace> {
    const headers = keyHeader(options)
    return makeCall(
      (generated) => this.#operations.create({ ...generated, body: workspace, headers, parseAs: 'json' }),
      options,
    )
  }

  /** @throws NotFoundError */
  get(id: WorkspaceId, options: CallOptions = {}): Call<Workspace> {
    return makeCall((generated) => this.#operations.get({ ...generated, path: { id }, parseAs: 'json' }), options)
  }

  /** Changes what is given; the rest stays. @throws NotFoundError, BadRequestError, AuthError */
  update(id: WorkspaceId, changes: UpdateWorkspace, options: CallOptions = {}): Call<Workspace> {
    return makeCall(
      (generated) => this.#operations.update({ ...generated, path: { id }, body: changes, parseAs: 'json' }),
      options,
    )
  }

  /**
   * Forgets the workspace and returns it. Files are removed only with `purge`, and only of a directory that Postern made.
   *
   * @throws NotFoundError; ConflictError while runs are at work in it
   */
  delete(id: WorkspaceId, options: CallOptions & { purge?: boolean } = {}): Call<Workspace> {
    const { purge } = options
    return makeCall(
      (generated) => this.#operations.delete({ ...generated, path: { id }, query: { purge }, parseAs: 'json' }),
      options,
    )
  }
}
