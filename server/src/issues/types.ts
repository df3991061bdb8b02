import type { IdempotencyScope, Run, Trigger } from '../model.ts'
import type {
  CreateComment,
  CreateIssue,
  Issue,
  IssueBoard,
  IssueComment,
  IssueSchedule,
  IssueStatus,
  SchedulePreview,
  UpdateIssue,
  When,
} from '../model/issues.ts'

/** Which issue: a workspace and the name of a file in it. */
export interface IssueRef {
  wsId: string
  issueId: string
}

/** Issues of workspaces: files that people and agents write, and that may schedule themselves. Source: docs/contract.md 5. */
export interface Issues {
  /** Of every workspace, or of one. @throws DomainError `workspace_not_found` for the one that is named */
  board(query: { wsId?: string; status?: IssueStatus }): Promise<IssueBoard>
  /** @throws DomainError `workspace_not_found`, `path_not_usable`, `issue_not_found`, `issue_invalid` */
  get(ref: IssueRef): Promise<Issue>
  /**
   * Writes a new file; `replayed`: the key was known and nothing was made.
   *
   * @throws DomainError as `get`, and `issue_exists`, `cron_invalid`, `validation_failed`, `storage_unavailable`
   */
  create(wsId: string, input: CreateIssue, idempotency?: IdempotencyScope): Promise<{ issue: Issue; replayed: boolean }>
  /**
   * Changes the file in the places that `patch` names; everything else in it stays as it was written.
   *
   * @throws DomainError as `create`, and `issue_changed` when the file is not the one that `patch.revision` names
   */
  update(ref: IssueRef, patch: UpdateIssue): Promise<Issue>
  /**
   * Removes the file and returns what it was; null: it could not be read as an issue.
   *
   * @throws DomainError as `get`, `issue_invalid` only for what is no file of the workspace; `issue_changed`
   */
  remove(ref: IssueRef, options: { revision?: string | undefined }): Promise<Issue | null>
  /** Appends to the file. @throws DomainError as `get`, and `storage_unavailable` */
  comment(
    ref: IssueRef,
    input: CreateComment,
    idempotency?: IdempotencyScope,
  ): Promise<{ comment: IssueComment; replayed: boolean }>
  /** Starts a run of the issue now, whatever its schedule says and without touching it. @throws as `get` and `Runs.start` */
  run(ref: IssueRef, idempotency?: IdempotencyScope, startedBy?: Starter): Promise<{ run: Run; replayed: boolean }>
  /** @throws DomainError as `get` */
  schedule(ref: IssueRef, count: number): Promise<IssueSchedule>
  /** When a schedule would fire from now on. @throws DomainError `cron_invalid`, `validation_failed` */
  preview(when: When, count: number): SchedulePreview
}

/** The run or session whose process asked for a run. */
export type Starter = Pick<Trigger, 'parentTaskId' | 'parentSessionId'>

/** A fire that brought nothing, in words for people: its run failed or reported nothing, or could not be started. */
export interface FireNote extends IssueRef {
  /** Null: no run could be started. */
  taskId: string | null
  title: string
  body: string
  /** The same for one fire, however often it is told of. */
  key: string
}
