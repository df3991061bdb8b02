import type { EventPage } from '../events/types.ts'
import type { ProcessIdentity } from '../process/types.ts'
import type { Begun } from './changes.ts'
import type { Capacity, CreateRun, Event, IdempotencyScope, Run, RunStatus, Trigger } from '../model.ts'

export type { IdempotencyScope } from '../model.ts'

/** A request to start a run, checked for shape but not yet against the state of the server. */
export interface StartRun {
  wsId: string
  body: CreateRun
  /** Scopes the key: `(caller, method, path, key)`. Absent: the request carried no `Idempotency-Key`. */
  idempotency?: IdempotencyScope
  /** What the caller sent, where the body was made of more than that: by this a repeated request is known. */
  sent?: unknown
  trigger?: Trigger
}

/** What became of a start. `replayed`: the key was known and nothing was started. */
export interface Started {
  run: Run
  replayed: boolean
}

export interface RunQuery {
  wsId?: string
  status?: RunStatus
  agent?: string
  limit?: number
  /** `nextCursor` of the page before. */
  cursor?: string
}

/** Raw output of one stream, on disk. */
export interface OutputFile {
  path: string
  sizeBytes: number
  /** True when the program wrote more than is kept. */
  truncated: boolean
  /** Of a truncated stream that has ended: the file that holds its last bytes. */
  tail?: { path: string; sizeBytes: number }
  /** True once nothing will be added. */
  complete: boolean
}

/** One-shot runs: admit, start, watch, finish. */
export interface Runs {
  /**
   * Accepts a run: durable when it resolves. The returned run is the one first answered, also on a replay.
   *
   * @throws DomainError `workspace_not_found`, `unknown_agent`, `agent_not_enabled`, `agent_not_headless`,
   * `model_not_supported`, `run_not_found` (to continue), `not_resumable`, `resume_busy`, `capacity_reached`, `idempotency_in_flight`,
   * `idempotency_mismatch`, `too_many_keys`, `draining`, `run_not_recorded`; of a run that a run starts also `run_ended`
   * (that one has ended) and `nested_too_deep`. Source: docs/contract.md 3.
   */
  start(request: StartRun): Promise<Started>
  /**
   * What an earlier request with this key, and `sent` as this one, was answered; undefined: there was none. For requests
   * whose run is made of things that may have changed or gone since.
   *
   * @throws DomainError `idempotency_in_flight`, `idempotency_mismatch`, `too_many_keys`
   */
  replay(idempotency: IdempotencyScope, sent: unknown): Promise<Started | undefined>
  /** The run as it is now. @throws DomainError `run_not_found` */
  get(taskId: string): Promise<Run>
  /** Newest first, archived runs included. @throws DomainError `invalid_cursor` */
  list(query: RunQuery): Promise<{ tasks: Run[]; nextCursor: string | null; capacity: Capacity }>
  /**
   * The last run that the schedule of an issue started for a due time from `from` to `until`, ISO 8601 and both inclusive;
   * undefined: there is none, archived or not.
   */
  scheduled(issue: { wsId: string; issueId: string }, from: string, until: string): Promise<Run | undefined>
  /** The run once it has ended, or as it is after `waitMs` or when the signal aborts. @throws DomainError `run_not_found` */
  wait(taskId: string, waitMs: number, signal?: AbortSignal): Promise<Run>
  /** The session that started it knows of its end by an answer, and needs no message. */
  heard(taskId: string): Promise<void>
  /** Ends the run and the runs it started; answers when they have ended or after 15 s. An ended run is returned as it is. @throws DomainError `run_not_found` */
  cancel(taskId: string): Promise<Run>
  /**
   * Starts the same request again as a new run with `retryOf` set.
   *
   * @throws as `start`, and `not_retryable` while it has not ended, `log_retired` once its long prompt was removed
   */
  retry(taskId: string, idempotency?: IdempotencyScope): Promise<Started>
  /** Events with a seq above `after`. @throws DomainError `run_not_found`, `log_retired` */
  events(taskId: string, after: number, limit: number): Promise<EventPage>
  /** Past, then live events; ends after the terminal event and only then, or when the signal aborts. @throws as `events` */
  follow(taskId: string, after: number, signal: AbortSignal): AsyncIterable<Event>
  /** @throws DomainError `run_not_found`, `log_retired` */
  output(taskId: string, stream: 'stdout' | 'stderr'): Promise<OutputFile>
  /**
   * The git patch the run made, once it has ended; bytes, since files need not be UTF-8.
   *
   * @throws DomainError `run_not_found`, `diff_not_available`, `log_retired`
   */
  diff(taskId: string): Promise<Buffer>
  /** The runs it started, oldest first. @throws DomainError `run_not_found` */
  children(taskId: string): Promise<Run[]>
  /**
   * The run says that it has nothing to report: its outcome will be `silent`, unless it pushes to the Inbox.
   *
   * @throws DomainError `run_not_found`, `run_ended`
   */
  silent(taskId: string, why: string): Promise<Run>
  /**
   * News from a run for the one that started it: an event `run.reported` in that one's log, or input of that session, on
   * disk when it resolves.
   *
   * @throws DomainError `run_not_found`, `run_ended` when that one has ended, `no_parent` when nobody did, and as sending to a session
   */
  report(taskId: string, message: string): Promise<{ to: string }>
  capacity(): Capacity
  /** Runs that ended since the server started, by status. */
  endedCounts(): Readonly<Record<string, number>>
  /** Ends every run as `interrupted`, `server_stopped`; resolves when no process of theirs is left or after the hard limit. */
  stop(): Promise<void>
}

/** What is needed to end a run (or a probe) whose server died; empty: it had no program, and only its log is to be ended. */
export interface LiveRun {
  identity?: ProcessIdentity
  /** Where it worked and what was there before, for the diff of what it left. */
  begun?: Begun
}
