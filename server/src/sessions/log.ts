import type { Clock } from '../clock.ts'
import { createRecorder } from '../events/recorder.ts'
import type { EventLog } from '../events/types.ts'
import type { NewEvent } from '../model.ts'
import { DamagedStateError } from '../store/disk.ts'
import { NotLive } from './live.ts'

/** Milliseconds that a session without a process waits for its log; what is left is written when that can be. */
const LOG_WAIT_MS = 5_000

/** One session's way into its log, which is open while there is something to tell. */
export interface SessionLog {
  /** Queues an event. Resolves when the program may be read further. */
  add(event: NewEvent): Promise<void>
  /** Looks whether it can be written. @throws NotLive `log_damaged` */
  open(): Promise<void>
  /** Resolves with true when all that was added is on disk, or will never be; with false after so many milliseconds. */
  settle(waitMs?: number): Promise<boolean>
  /** Of the newest event on disk; of a log that is closed or cannot be read what is `known`. */
  lastSeq(known: number): Promise<number>
  close(): Promise<void>
}

/** See `SessionLog`. */
export function createSessionLog(deps: {
  sessionId: string
  events: EventLog
  clock: Clock
  /** Aborted when the server cannot wait for the disk any longer. */
  giveUp: AbortSignal
  onError(message: string, error: unknown): void
}): SessionLog {
  const { sessionId, events, clock, giveUp, onError } = deps
  const recorder = createRecorder({ events, clock, log: sessionId, signal: giveUp })
  let isOpen = false

  return {
    add(event) {
      isOpen = true
      return recorder.add([event])
    },
    async open() {
      try {
        await events.open(sessionId)
      } catch (error) {
        if (!(error instanceof DamagedStateError)) return // tried again with every event
        onError(`the log of session ${sessionId} cannot be read`, error)
        const what = 'its events.ndjson is damaged; take the damaged line out, then send it a message'
        throw new NotLive('log_damaged', what)
      }
    },
    async settle(waitMs = LOG_WAIT_MS) {
      const late = new AbortController()
      const waited = new AbortController()
      void clock.sleep(waitMs, waited.signal).then(
        () => late.abort(),
        () => undefined,
      )
      const isDone = await recorder.settle(AbortSignal.any([giveUp, late.signal]))
      waited.abort()
      return isDone
    },
    lastSeq: async (known) => (isOpen ? await events.lastSeq(sessionId).catch(() => known) : known),
    async close() {
      isOpen = false
      await events.close(sessionId).catch((error: unknown) => onError(`the log of session ${sessionId}`, error))
    },
  }
}
