import { makeCall, makeListing, type Call, type CallOptions, type Listing, type PostOptions } from './call.ts'
import type { Client } from './generated/client/index.ts'
import { Issues as Operations } from './generated/sdk.gen.ts'
import type {
  CreateComment,
  CreateIssue,
  Issue,
  IssueBoard,
  IssueComment,
  IssueSchedule,
  IssueStatus,
  IssueSummary,
  Run,
  SchedulePreview,
  UpdateIssue,
  When,
  WorkspaceId,
} from './types.ts'

/** Issues: markdown files of a workspace that may schedule themselves. */
export class Issues {
  readonly #operations: Operations

  constructor(client: Client) {
    this.#operations = new Operations({ client })
  }

  /** The issues of all workspaces, or of one, and the files that could not be read as one. @throws NotFoundError */
  board(query: { wsId?: WorkspaceId; status?: IssueStatus } = {}, options: CallOptions = {}): Call<IssueBoard> {
    const { wsId, status } = query
    return makeCall(
      (generated) =>
        this.#operations.board({ ...generated, query: { wsId, status: status as never }, parseAs: 'json' }),
      options,
    )
  }

  /** The issues of one workspace; `page()` has the files that could not be read, too. @throws NotFoundError */
  list(
    wsId: WorkspaceId,
    query: { status?: IssueStatus } = {},
    options: CallOptions = {},
  ): Listing<IssueSummary, IssueBoard> {
    return makeListing(
      () =>
        makeCall<IssueBoard>(
          (generated) =>
            this.#operations.list({
              ...generated,
              path: { id: wsId },
              query: { status: query.status as never },
              parseAs: 'json',
            }),
          options,
        ),
      ({ issues }) => ({ items: issues, nextCursor: null }),
    )
  }

  /** @throws NotFoundError; BadRequestError when the file cannot be read as an issue */
  get(wsId: WorkspaceId, issueId: string, options: CallOptions = {}): Call<Issue> {
    return makeCall(
      (generated) => this.#operations.get({ ...generated, path: { id: wsId, issueId }, parseAs: 'json' }),
      options,
    )
  }

  /** Writes a new file. @throws ConflictError when the name is taken; BadRequestError; AuthError without the admin token */
  create(wsId: WorkspaceId, issue: CreateIssue, options: PostOptions = {}): Call<Issue> {
    const headers = keyOf(options)
    return makeCall(
      (generated) =>
        this.#operations.create({ ...generated, path: { id: wsId }, body: issue as never, headers, parseAs: 'json' }),
      options,
    )
  }

  /**
   * Changes the file in the places that are given; everything else in it stays as it was written.
   *
   * @throws ConflictError `issue_changed` when the file is not the one that `revision` names; NotFoundError, BadRequestError
   */
  update(wsId: WorkspaceId, issueId: string, changes: UpdateIssue, options: CallOptions = {}): Call<Issue> {
    return makeCall(
      (generated) =>
        this.#operations.update({
          ...generated,
          path: { id: wsId, issueId },
          body: changes as never,
          parseAs: 'json',
        }),
      options,
    )
  }

  /** Removes the file and returns what it was; null: it could not be read as an issue. @throws as `update` */
  delete(wsId: WorkspaceId, issueId: string, options: CallOptions & { revision?: string } = {}): Call<Issue | null> {
    const { revision } = options
    return makeCall(
      (generated) =>
        this.#operations.delete({ ...generated, path: { id: wsId, issueId }, query: { revision }, parseAs: 'json' }),
      options,
    )
  }

  /** Appends to the file; comments are not sent to agents. @throws NotFoundError, BadRequestError, AuthError */
  comment(wsId: WorkspaceId, issueId: string, comment: CreateComment, options: PostOptions = {}): Call<IssueComment> {
    const headers = keyOf(options)
    return makeCall(
      (generated) =>
        this.#operations.comment({
          ...generated,
          path: { id: wsId, issueId },
          body: comment,
          headers,
          parseAs: 'json',
        }),
      options,
    )
  }

  /** Starts a run of the issue now, whatever its schedule says. @throws as `runs.create` */
  run(wsId: WorkspaceId, issueId: string, options: PostOptions = {}): Call<Run> {
    const headers = keyOf(options)
    return makeCall(
      (generated) => this.#operations.run({ ...generated, path: { id: wsId, issueId }, headers, parseAs: 'json' }),
      options,
    )
  }

  /** The next fires, the last one, and why one did not run. @param options.count fires to show, default 5 */
  schedule(wsId: WorkspaceId, issueId: string, options: CallOptions & { count?: number } = {}): Call<IssueSchedule> {
    const { count } = options
    return makeCall(
      (generated) =>
        this.#operations.schedule({ ...generated, path: { id: wsId, issueId }, query: { count }, parseAs: 'json' }),
      options,
    )
  }

  /** When a schedule would fire from now on. @throws BadRequestError `cron_invalid` */
  preview(when: When, options: CallOptions & { count?: number } = {}): Call<SchedulePreview> {
    const { kind: _kind, ...query } = when
    const { count } = options
    return makeCall(
      (generated) => this.#operations.preview({ ...generated, query: { ...query, count }, parseAs: 'json' }),
      options,
    )
  }
}

const keyOf = ({ idempotencyKey }: PostOptions): { 'Idempotency-Key'?: string } =>
  idempotencyKey === undefined ? {} : { 'Idempotency-Key': idempotencyKey }
