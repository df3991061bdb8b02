import {
  keyHeader,
  makeCall,
  makeListing,
  type Call,
  type CallOptions,
  type Listing,
  type PostOptions,
} from './call.ts'
import { PosternError, RunFailedError, WaitTimeoutError } from './errors.ts'
import { follow } from './events.ts'
import type { Client } from './generated/client/index.ts'
import { Runs as Operations } from './generated/sdk.gen.ts'
import { MAX_TIMER_MS, backoffMs, sleep } from './retrying.ts'
import type { Logger } from './transport.ts'
import {
  hasEnded,
  type CreateRun,
  type Event,
  type EventPage,
  type Run,
  type RunPage,
  type RunQuery,
  type TaskId,
} from './types.ts'

/** Seconds one long poll asks for; the server allows up to 60. */
const POLL_SECONDS = 50
/** How much longer than its wait a waiting request may take. */
const GRACE_MS = 15_000
/** A server, or something before it, that does not wait is not asked more often than this. */
const MIN_POLL_MS = 500
/** Polls that may fail in a row before waiting fails: about a minute. */
const MAX_FAILED_POLLS = 10

export interface WaitOptions {
  /** Milliseconds after which waiting ends with `WaitTimeoutError`; the run goes on. Default: as long as the run does. */
  timeoutMs?: number | undefined
  /** Stops waiting; rejects with the signal's reason. The run goes on, unless `cancelOnAbort`. */
  signal?: AbortSignal | undefined
  /** Throw `RunFailedError` unless the run succeeded. Default: any ended run is returned. */
  throwOnFailure?: boolean | undefined
  /** When the signal aborts, cancel the run too. */
  cancelOnAbort?: boolean | undefined
}

/** One-shot runs: start, look, wait, end. */
export class Runs {
  readonly #operations: Operations
  readonly #logger: Logger | undefined

  constructor(client: Client, logger: Logger | undefined) {
    this.#operations = new Operations({ client })
    this.#logger = logger
  }

  /**
   * Starts a run; it is on the server's disk when this resolves. Safe to retry: a lost answer never starts a second.
   *
   * @throws CapacityError when there is no room, NotFoundError for an unknown workspace, BadRequestError
   */
  create(run: CreateRun, options: PostOptions = {}): Call<Run> {
    const { wsId, ...body } = run
    const headers = keyHeader(options)
    return makeCall(
      (generated) => this.#operations.create({ ...generated, path: { id: wsId }, body, headers, parseAs: 'json' }),
      options,
    )
  }

  /** Starts a run and waits for its end, as `create` and `waitFor` do. */
  async createAndWait(
    run: CreateRun,
    options: WaitOptions & { idempotencyKey?: string | undefined } = {},
  ): Promise<Run> {
    const { idempotencyKey, signal, cancelOnAbort } = options
    signal?.throwIfAborted()
    // A start that is given up half-way may have happened: to cancel the run, its id must be known.
    const { taskId } = await this.create(run, { idempotencyKey, ...(!cancelOnAbort && { signal }) })
    return await this.waitFor(taskId, options)
  }

  /** The run as it is now. @throws NotFoundError */
  get(taskId: TaskId, options: CallOptions = {}): Call<Run> {
    return makeCall((generated) => this.#operations.get({ ...generated, path: { taskId }, parseAs: 'json' }), options)
  }

  /** Runs, newest first. */
  list(query: RunQuery = {}, options: CallOptions = {}): Listing<Run, RunPage> {
    const { pageSize, status, ...rest } = query
    return makeListing(
      (cursor) =>
        makeCall<RunPage>(
          (generated) =>
            this.#operations.list({
              ...generated,
              query: { ...rest, status: status as never, limit: pageSize, cursor },
              parseAs: 'json',
            }),
          options,
        ),
      ({ tasks, nextCursor }) => ({ items: tasks, nextCursor }),
    )
  }

  /**
   * Waits for the end of a run by long polls, and returns it however it ended.
   *
   * @throws WaitTimeoutError after `timeoutMs`; the signal's reason; RunFailedError with `throwOnFailure`
   */
  async waitFor(taskId: TaskId, options: WaitOptions = {}): Promise<Run> {
    const { signal, throwOnFailure = false, cancelOnAbort = false } = options
    try {
      const run = await this.#untilEnded(taskId, options)
      if (throwOnFailure && run.status !== 'succeeded') throw new RunFailedError(run)
      return run
    } catch (error) {
      if (cancelOnAbort && signal?.aborted) await this.cancel(taskId)
      throw error
    }
  }

  async #untilEnded(taskId: TaskId, { timeoutMs, signal }: WaitOptions): Promise<Run> {
    const deadline = timeoutMs === undefined ? undefined : AbortSignal.timeout(Math.min(timeoutMs, MAX_TIMER_MS))
    const endsAt = timeoutMs === undefined ? Infinity : performance.now() + timeoutMs
    const either = signal && deadline ? AbortSignal.any([signal, deadline]) : (signal ?? deadline)
    let last: Run | undefined
    let failures = 0
    try {
      for (;;) {
        const startedAt = performance.now()
        const seconds = Math.min(POLL_SECONDS, Math.max(1, Math.ceil((endsAt - startedAt) / 1_000)))
        try {
          last = await this.#poll(taskId, seconds, either)
          failures = 0
          if (hasEnded(last)) return last
          await sleep(Math.max(0, MIN_POLL_MS - (performance.now() - startedAt)), either)
        } catch (error) {
          either?.throwIfAborted()
          if (!(error instanceof PosternError) || !error.retryable) throw error
          failures += 1
          if (failures >= MAX_FAILED_POLLS) throw error
          this.#logger?.warn(`waiting for ${taskId}: ${error.detail}`)
          await sleep(Math.max(error.retryAfterMs ?? 0, backoffMs(failures)), either)
        }
      }
    } catch (error) {
      signal?.throwIfAborted()
      if (deadline?.aborted) throw new WaitTimeoutError(taskId, timeoutMs ?? 0, last)
      throw error
    }
  }

  #poll(taskId: TaskId, seconds: number, signal: AbortSignal | undefined): Call<Run> {
    const headers = { Prefer: `wait=${seconds}` }
    return makeCall(
      (generated) => this.#operations.get({ ...generated, path: { taskId }, headers, parseAs: 'json' }),
      { signal },
      { timeoutMs: seconds * 1_000 + GRACE_MS, retries: 0 },
    )
  }

  /**
   * Every event of a run above `after`, past and live, once and in order; reconnects by itself. Ends after the terminal
   * event and only then. Leaving the loop closes the connection.
   *
   * @throws NotFoundError, GoneError when the log was retired, and as the server refuses; the signal's reason
   */
  events(
    taskId: TaskId,
    options: { after?: number | undefined; signal?: AbortSignal | undefined; idleMs?: number | undefined } = {},
  ): AsyncGenerator<Event, void, void> {
    return follow({
      ...options,
      logger: this.#logger,
      open: async (after, signal) => {
        const headers = { Accept: 'text/event-stream', ...(after > 0 && { 'Last-Event-ID': String(after) }) }
        return await makeCall<ReadableStream<Uint8Array> | null>(
          (generated) => this.#operations.events({ ...generated, path: { taskId }, headers, parseAs: 'stream' }),
          { signal },
          { stream: true, retries: 0 },
        )
      },
      isLast: ({ type }) => type === 'run.ended',
      isOver: async (after) => {
        const run = await this.get(taskId, { signal: options.signal })
        return hasEnded(run) && run.lastSeq <= after
      },
    })
  }

  /** One page of events, without waiting. @throws as `events` */
  eventsPage(taskId: TaskId, options: CallOptions & { after?: number; limit?: number } = {}): Call<EventPage> {
    const { after, limit } = options
    return makeCall(
      (generated) =>
        this.#operations.events({ ...generated, path: { taskId }, query: { after, limit }, parseAs: 'json' }),
      options,
    )
  }

  /** The runs that a run started, oldest first. @throws NotFoundError */
  children(taskId: TaskId, options: CallOptions = {}): Listing<Run, { tasks: Run[] }> {
    return makeListing(
      () =>
        makeCall<{ tasks: Run[] }>(
          (generated) => this.#operations.children({ ...generated, path: { taskId }, parseAs: 'json' }),
          options,
        ),
      ({ tasks }) => ({ items: tasks, nextCursor: null }),
    )
  }

  /** From inside a run: there is nothing to report. @throws ConflictError once the run has ended */
  silent(taskId: TaskId, why: string, options: CallOptions = {}): Call<Run> {
    return makeCall(
      (generated) => this.#operations.silent({ ...generated, path: { taskId }, body: { why }, parseAs: 'json' }),
      options,
    )
  }

  /** From inside a run: news for the run that started it. @throws ConflictError when none did, or it has ended */
  report(taskId: TaskId, message: string, options: CallOptions = {}): Call<{ to: string }> {
    return makeCall(
      (generated) => this.#operations.report({ ...generated, path: { taskId }, body: { message }, parseAs: 'json' }),
      options,
    )
  }

  /** Ends every process of the run and the runs it started; resolves when it has ended, or after 15 s. Safe to repeat. @throws NotFoundError */
  cancel(taskId: TaskId, options: CallOptions = {}): Call<Run> {
    return makeCall(
      (generated) => this.#operations.cancel({ ...generated, path: { taskId }, parseAs: 'json' }),
      options,
    )
  }

  /** Starts the same request again, as a new run with `retryOf` set. @throws ConflictError while it has not ended */
  retry(taskId: TaskId, options: PostOptions = {}): Call<Run> {
    const headers = keyHeader(options)
    return makeCall(
      (generated) => this.#operations.retry({ ...generated, path: { taskId }, headers, parseAs: 'json' }),
      options,
    )
  }

  /**
   * What the program printed so far, as text. With `tailBytes`, only so much of its end.
   *
   * @throws NotFoundError, GoneError when it was retired
   */
  output(
    taskId: TaskId,
    options: CallOptions & { stream?: 'stdout' | 'stderr'; tailBytes?: number } = {},
  ): Call<string> {
    const { stream, tailBytes } = options
    return makeCall(
      (generated) =>
        this.#operations.output({ ...generated, path: { taskId }, query: { stream, tailBytes }, parseAs: 'text' }),
      options,
    )
  }

  /** The git patch the run made, for `git apply`. @throws NotFoundError before its end, and outside git */
  diff(taskId: TaskId, options: CallOptions = {}): Call<string> {
    return makeCall((generated) => this.#operations.diff({ ...generated, path: { taskId }, parseAs: 'text' }), options)
  }
}
