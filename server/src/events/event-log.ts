import { createReadStream } from 'node:fs'
import { dirname } from 'node:path'
import { isoTime, type Clock } from '../clock.ts'
import { isLastEvent, type Event, type NewEvent } from '../model.ts'
import { cached } from '../store/cached.ts'
import type { Disk } from '../store/disk.ts'
import { openJournal, recoverLines, type Journal } from '../store/journal.ts'
import type { EventLog } from './types.ts'

/** Milliseconds between two syncs of one log: what arrives meanwhile shares the next. */
export const BATCH_MS = 25
/**
 * Milliseconds that the first event after a pause waits: what it belongs to is usually being written to the journal in the
 * same moment, and two files synced at once are each twice as slow.
 */
const FIRST_MS = 5
/** Characters of recent events kept in memory for each log that is still written. */
const TAIL_CHARACTERS = 256 * 1024
/** Events a follower takes at once. */
const PAGE = 500

interface Writer {
  journal: Journal
  lastSeq: number
  queue: { events: NewEvent[]; resolve: (seq: number) => void; reject: (error: unknown) => void }[]
  flushing: Promise<void> | undefined
  flushedAt: number
  /** Ends the pause before the next sync; set while one is waited for. */
  hurry: (() => void) | undefined
  /** The next batch is not to wait. */
  isHurried: boolean
  tail: { event: Event; characters: number }[]
  tailCharacters: number
}

/** See `EventLog`. A log is a file of JSON lines; what is shown to a reader is on disk. */
export function createEventLog(deps: { disk: Disk; clock: Clock; path: (log: string) => string }): EventLog {
  const { disk, clock, path } = deps
  const writers = new Map<string, Promise<Writer>>()
  const readers = new Map<string, Set<() => void>>()

  const writer = (log: string): Promise<Writer> => cached(writers, log, () => openWriter(log))
  /** Undefined too for one that cannot be opened: who appends to it is told. */
  const opened = (log: string): Promise<Writer | undefined> =>
    writers.get(log)?.catch(() => undefined) ?? Promise.resolve(undefined)
  async function openWriter(log: string): Promise<Writer> {
    await disk.mkdir(dirname(path(log)), { recursive: true, mode: 0o700 })
    let lastSeq = 0
    await recoverLines(disk, path(log), (line) => (lastSeq = (JSON.parse(line) as Event).seq))
    const journal = await openJournal({ disk, path: path(log) })
    const flushedAt = -Infinity
    return {
      journal,
      lastSeq,
      queue: [],
      flushing: undefined,
      flushedAt,
      hurry: undefined,
      isHurried: false,
      tail: [],
      tailCharacters: 0,
    }
  }

  async function flush(log: string, to: Writer): Promise<void> {
    while (to.queue.length > 0) {
      const rest = Math.max(FIRST_MS, BATCH_MS - (clock.monotonic() - to.flushedAt))
      if (!isUrgent(to) && !to.isHurried) {
        const pause = new AbortController()
        to.hurry = () => pause.abort()
        await clock.sleep(rest, pause.signal).catch(() => undefined)
        to.hurry = undefined
      }
      to.isHurried = false
      to.flushedAt = clock.monotonic()
      const batch = to.queue.splice(0)
      const at = isoTime(clock.now())
      let seq = to.lastSeq // numbered here: a batch that fails leaves no gap
      const events = batch.flatMap(({ events }) => events.map((event): Event => ({ seq: ++seq, at, ...event })))
      const lines = events.map((event) => `${JSON.stringify(event)}\n`)
      try {
        await to.journal.append(lines.join(''))
      } catch (error) {
        for (const { reject } of batch) reject(error)
        continue
      }
      for (const [i, event] of events.entries()) remember(to, Object.freeze(event), lines[i]?.length ?? 0)
      let last = to.lastSeq
      to.lastSeq = seq
      for (const { events, resolve } of batch) resolve((last += events.length))
      for (const notify of readers.get(log) ?? []) notify()
    }
    to.flushing = undefined
  }
  function isUrgent(to: Writer): boolean {
    return to.queue.some(({ events }) => events.some(isAwaited))
  }

  async function readFrom(log: string, after: number, limit: number, offset: number): Promise<Page> {
    const known = await opened(log)
    if (known && after >= known.lastSeq) return { events: [], offset }
    const first = known?.tail[0]?.event.seq
    if (known && first !== undefined && after >= first - 1) {
      const start = after - first + 1
      return { events: known.tail.slice(start, start + limit).map(({ event }) => event), offset: 0 }
    }
    return await readFile(path(log), after, limit, offset)
  }

  async function* past(log: string, after: number): AsyncGenerator<Event> {
    for (let offset = 0; ;) {
      const page = await readFrom(log, after, PAGE, offset)
      if (page.events.length === 0) return
      yield* page.events
      offset = page.offset
      after = page.events.at(-1)?.seq ?? after
    }
  }

  async function hurry(log: string): Promise<void> {
    const open = await opened(log)
    if (!open) return
    open.isHurried = true // also for what is on its way and not yet in the queue
    open.hurry?.()
    await open.flushing
  }

  async function close(log: string): Promise<void> {
    const open = await opened(log)
    if (!open) return
    open.hurry?.()
    // Until then it stays the only writer of its file.
    while (open.flushing) await open.flushing
    writers.delete(log)
    await open.journal.close()
  }

  return {
    async open(log) {
      await writer(log)
    },
    async append(log, events) {
      const to = await writer(log)
      return await new Promise((resolve, reject) => {
        to.queue.push({ events, resolve, reject })
        if (isUrgent(to)) to.hurry?.()
        to.flushing ??= flush(log, to)
      })
    },
    async read(log, after, limit) {
      return (await readFrom(log, after, limit, 0)).events
    },
    past,
    async *follow(log, after, signal) {
      let cursor = after
      let offset = 0
      while (!signal.aborted) {
        // Listening starts before looking, so that nothing falls between.
        const news = listen(readers, log, signal)
        try {
          const page = await readFrom(log, cursor, PAGE, offset)
          offset = page.offset
          for (const event of page.events) {
            if (signal.aborted) return
            cursor = event.seq
            yield event
            if (isLastEvent(event)) return
          }
          if (page.events.length === 0) await news.promise
        } finally {
          news.stop()
        }
      }
    },
    async lastSeq(log) {
      const known = await opened(log)
      if (known) return known.lastSeq
      let seq = 0
      for await (const event of past(log, 0)) ({ seq } = event)
      return seq
    },
    hurry,
    close,
    async closeAll() {
      await Promise.all([...writers.keys()].map(close))
    },
  }
}

/** Somebody is likely to wait for it: the end of a log, the end of a turn, a session that takes input again. */
export const isAwaited = (event: NewEvent): boolean =>
  isLastEvent(event) || event.type === 'turn.ended' || (event.type === 'session.state' && event['state'] !== 'busy')

function remember(to: Writer, event: Event, characters: number): void {
  to.tail.push({ event, characters })
  to.tailCharacters += characters
  let drop = 0
  while (to.tailCharacters > TAIL_CHARACTERS && drop < to.tail.length)
    to.tailCharacters -= to.tail[drop++]?.characters ?? 0
  if (drop > 0) to.tail.splice(0, drop)
}

interface Page {
  events: Event[]
  /** Where the next page begins in the file; 0: unknown. */
  offset: number
}

/** Complete lines of the file from a byte offset on, with a seq above `after`. A missing file has none. */
async function readFile(path: string, after: number, limit: number, offset: number): Promise<Page> {
  const events: Event[] = []
  let at = offset
  let rest: Buffer = Buffer.alloc(0)
  const stream = createReadStream(path, { start: offset, highWaterMark: 256 * 1024 })
  try {
    for await (const chunk of stream) {
      const data: Buffer = rest.length === 0 ? (chunk as Buffer) : Buffer.concat([rest, chunk as Buffer])
      let start = 0
      for (let end = data.indexOf(10); end !== -1; end = data.indexOf(10, start)) {
        if (seqOf(data, start) > after) {
          if (events.length >= limit) return { events, offset: at }
          events.push(JSON.parse(data.toString('utf8', start, end)) as Event)
        }
        at += end + 1 - start
        start = end + 1
      }
      rest = data.subarray(start)
    }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
  } finally {
    stream.destroy()
  }
  return { events, offset: at }
}

/** The seq stands first in a line (`{"seq":12,…`), so that what was read before need not be parsed again. */
const seqOf = (data: Buffer, start: number): number =>
  Number.parseInt(data.toString('latin1', start + 7, start + 23), 10)

function listen(
  readers: Map<string, Set<() => void>>,
  log: string,
  signal: AbortSignal,
): { promise: Promise<void>; stop(): void } {
  let notify: () => void = () => undefined
  const promise = new Promise<void>((resolve) => (notify = resolve))
  const waiting = readers.get(log) ?? new Set()
  readers.set(log, waiting)
  waiting.add(notify)
  signal.addEventListener('abort', notify, { once: true })
  return {
    promise,
    stop() {
      waiting.delete(notify)
      if (waiting.size === 0) readers.delete(log)
      signal.removeEventListener('abort', notify)
    },
  }
}
