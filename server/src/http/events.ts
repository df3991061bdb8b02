import type { ServerResponse } from 'node:http'
import type { Clock } from '../clock.ts'
import type { EventPage } from '../events/types.ts'
import type { Event } from '../model.ts'
import { send, sendHead, type Exchange, type Headers } from './respond.ts'

export interface StreamLimits {
  /** Milliseconds between two comments, which keep idle connections open. */
  heartbeatMs: number
  /** Milliseconds that a reader may take nothing while events wait for it. */
  stallMs: number
  /** Bytes handed to the connection at once; so much, and no more, waits in memory for a slow reader. */
  sliceBytes: number
}
export const STREAM_LIMITS: StreamLimits = { heartbeatMs: 15_000, stallMs: 30_000, sliceBytes: 64 * 1_024 }

/** A log that can be followed. */
export interface EventSource {
  /** @throws DomainError when there is no such log, or it was retired */
  page(after: number, limit: number): Promise<EventPage>
  /** Past, then live; ends after the terminal event, or when the signal aborts. */
  follow(after: number, signal: AbortSignal): AsyncIterable<Event>
  /** True once nothing will be added. */
  isOver(): Promise<boolean>
  /** True for a log that goes on when the server stops: its readers are let go then, and come back. */
  endsWithServer?: boolean
}

export type EventStream = (
  exchange: Exchange,
  source: EventSource,
  stream: { after: number; headers?: Headers },
) => Promise<void>

/**
 * Answers with the events of a log as Server-Sent Events: `id` is the seq, `event` the type, `data` the whole event.
 * The stream ends after the terminal event and only then; a reader that has seen it gets 204, which tells an
 * `EventSource` to stop. A reader has a cursor, not a queue: one who falls behind is waited for, one who takes nothing
 * is cut off, and both resume. Source: decision 0008; the HTML standard, section 9.2.
 *
 * @throws what `page` throws, before anything was sent
 */
export function createEventStream(deps: {
  clock: Clock
  /** Aborts when the server stops. */
  closing: AbortSignal
  limits?: StreamLimits
}): EventStream {
  const { clock, closing, limits = STREAM_LIMITS } = deps

  return async (exchange, source, { after, headers = {} }) => {
    const { request, response, log, id, path } = exchange
    const page = await source.page(after, 1)
    if (page.events.length === 0 && after >= page.lastSeq && (await source.isOver())) {
      return send(exchange, 204, headers, '')
    }
    if (response.destroyed) return
    sendHead(exchange, 200, { 'Content-Type': 'text/event-stream', 'X-Accel-Buffering': 'no', ...headers })
    if (request.method === 'HEAD') return void response.end()
    response.flushHeaders()

    const over = new AbortController()
    const end = (): void => over.abort()
    response.once('close', end)
    const reader = { response, clock, limits, signal: over.signal, isWriting: false }
    void beat(reader)
    try {
      const until = source.endsWithServer ? AbortSignal.any([over.signal, closing]) : over.signal
      for await (const event of source.follow(after, until)) {
        if (!(await write(reader, textOf(event)))) break
      }
      if (!over.signal.aborted) response.end()
    } catch (error) {
      log.warn({ requestId: id, path, error }, 'a stream of events was cut off')
      response.destroy()
    } finally {
      end()
      response.off('close', end)
    }
  }
}

interface Reader {
  response: ServerResponse
  clock: Clock
  limits: StreamLimits
  /** Aborts when the stream is over, for whatever reason. */
  signal: AbortSignal
  isWriting: boolean
}

/** JSON holds no line break, so one `data` line carries any event. */
const textOf = (event: Event): string =>
  `id: ${event.seq}\nevent: ${event.type.replaceAll(/[\r\n]/g, ' ')}\ndata: ${JSON.stringify(event)}\n\n`

/** False: the reader is gone, or took nothing for too long and was cut off. */
async function write(reader: Reader, text: string): Promise<boolean> {
  const { response, limits, signal } = reader
  const bytes = Buffer.from(text)
  reader.isWriting = true
  for (let at = 0; at < bytes.length; at += limits.sliceBytes) {
    if (signal.aborted) return false
    if (!response.write(bytes.subarray(at, at + limits.sliceBytes)) && !(await taken(reader))) {
      response.destroy()
      return false
    }
  }
  reader.isWriting = false
  return true
}

/** True once everything written was taken; false when the reader is gone or let the time pass. */
async function taken({ response, clock, limits, signal }: Reader): Promise<boolean> {
  const waiting = new AbortController()
  const drained = new Promise<boolean>((resolve) => {
    const settle = (value: boolean) => (): void => {
      response.off('drain', onDrain).off('close', onClose)
      waiting.abort()
      resolve(value)
    }
    const onDrain = settle(true)
    const onClose = settle(false)
    response.on('drain', onDrain).on('close', onClose)
    clock.sleep(limits.stallMs, waiting.signal).then(onClose, () => undefined)
  })
  return (await drained) && !signal.aborted
}

async function beat(reader: Reader): Promise<void> {
  const { response, clock, limits, signal } = reader
  try {
    for (;;) {
      await clock.sleep(limits.heartbeatMs, signal)
      // Never into the middle of an event, and not on top of what waits already.
      if (!reader.isWriting && !response.writableNeedDrain) response.write(':\n\n')
    }
  } catch {
    // The stream is over.
  }
}
