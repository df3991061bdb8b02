import { createParser } from 'eventsource-parser'
import { PosternError, ServerError, connectionError } from './errors.ts'
import { MAX_RETRY_AFTER_MS, backoffMs, sleep } from './retrying.ts'
import type { Logger } from './transport.ts'
import type { Event } from './types.ts'

/** The server sends a sign of life every 15 s; after three missed ones the connection is taken for dead. */
export const IDLE_MS = 45_000
/** Connections that may fail in a row, without an answer, before the reader gives up: about a minute. */
const MAX_FAILED_CONNECTS = 10

export interface FollowOptions {
  /** Opens the stream behind this seq; null: the log has ended, and holds nothing behind it. The signal closes it. */
  open(after: number, signal: AbortSignal): Promise<ReadableStream<Uint8Array> | null>
  /** True for the event after which the log grows no more. */
  isLast(event: Event): boolean
  /** True when the log has ended and holds nothing behind this seq. */
  isOver(after: number): Promise<boolean>
  after?: number | undefined
  signal?: AbortSignal | undefined
  idleMs?: number | undefined
  logger?: Logger | undefined
}

/**
 * Every event above `after`, once and in order, whatever happens to the connection; ends after the terminal event and
 * only then. Leaving the loop closes the socket.
 *
 * @throws the signal's reason when it aborts; `PosternError` when the server refuses (401, 403, 404, 410, …), or does not
 * answer for about a minute
 */
export async function* follow(options: FollowOptions): AsyncGenerator<Event, void, void> {
  const { signal, logger } = options
  let last = options.after ?? 0
  /** Connections since the last event. Only a real event counts as success: a server may accept and close at once. */
  let fruitless = 0
  let failedConnects = 0
  for (;;) {
    signal?.throwIfAborted()
    const closing = new AbortController()
    const connection = signal ? AbortSignal.any([signal, closing.signal]) : closing.signal
    let isOpen = false
    let retryAfterMs = 0
    try {
      const body = await options.open(last, connection)
      if (body === null) return
      isOpen = true
      failedConnects = 0
      for await (const event of eventsOf(body, options.idleMs ?? IDLE_MS)) {
        if (event.seq <= last) continue
        if (event.seq > last + 1) throw brokenStream(new Error(`event ${last} is followed by ${event.seq}`))
        last = event.seq
        fruitless = 0
        yield event
        if (options.isLast(event)) return
      }
      logger?.debug(`the stream ended after event ${last}, before its log did`)
      // The caller may have begun behind the terminal event.
      if (last === (options.after ?? 0) && (await options.isOver(last))) return
    } catch (error) {
      signal?.throwIfAborted()
      if (!(error instanceof PosternError) || !error.retryable) throw error
      if (!isOpen) failedConnects += 1
      if (failedConnects >= MAX_FAILED_CONNECTS) throw error
      retryAfterMs = Math.min(error.retryAfterMs ?? 0, MAX_RETRY_AFTER_MS)
      logger?.warn(`events after ${last}: ${error.detail}`)
    } finally {
      closing.abort()
    }
    fruitless += 1
    await sleep(Math.max(retryAfterMs, backoffMs(fruitless)), signal)
  }
}

const brokenStream = (cause: unknown): PosternError => connectionError('the stream of events broke off', cause)

/** The events of one connection, until it ends. @throws ConnectionError when it breaks off or falls silent */
async function* eventsOf(body: ReadableStream<Uint8Array>, idleMs: number): AsyncGenerator<Event, void, void> {
  const events: Event[] = []
  let damaged: unknown
  const parser = createParser({
    onEvent({ data }) {
      try {
        events.push(JSON.parse(data) as Event)
      } catch (error) {
        damaged = error
      }
    },
  })
  const decoder = new TextDecoder()
  const reader = body.getReader()
  try {
    for (;;) {
      const { done, value } = await readInTime(reader, idleMs)
      if (done) return
      parser.feed(decoder.decode(value, { stream: true }))
      yield* events.splice(0)
      if (damaged !== undefined) {
        const detail = 'an event is not valid JSON'
        throw new ServerError({ code: 'unexpected_answer', detail, retryable: false, cause: damaged })
      }
    }
  } finally {
    // Also when the consumer leaves. The connection itself is closed by the owner of its signal.
    await reader.cancel().catch(() => undefined)
  }
}

async function readInTime(
  reader: ReadableStreamDefaultReader<Uint8Array>,
  idleMs: number,
): Promise<ReadableStreamReadResult<Uint8Array>> {
  let timer: ReturnType<typeof setTimeout> | undefined
  const silence = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`silent for ${idleMs} ms`)), idleMs)
  })
  try {
    return await Promise.race([reader.read(), silence])
  } catch (error) {
    throw brokenStream(error)
  } finally {
    clearTimeout(timer)
  }
}
