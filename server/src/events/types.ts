import type { Event, NewEvent } from '../model.ts'

export type { EventPage } from '../model.ts'

/** Numbered events, a log per run. One writer per log; readers have cursors, not queues. Decision 0008. */
export interface EventLog {
  /** Makes a log ready to be appended to, which the first `append` does as well. @throws DamagedStateError */
  open(log: string): Promise<void>
  /** Resolves with the last seq, once the events are on disk. Order of calls is order of seq. @throws as `open`; what the disk says */
  append(log: string, events: NewEvent[]): Promise<number>
  /** Events with a seq above `after`, at most `limit`. @throws DomainError `log_retired` when the log was removed */
  read(log: string, after: number, limit: number): Promise<Event[]>
  /** What is on disk above `after`, and then ends. @throws as `read` */
  past(log: string, after: number): AsyncIterable<Event>
  /** Past, then live; ends after the terminal event only, or when the signal aborts. @throws as `read` */
  follow(log: string, after: number, signal: AbortSignal): AsyncIterable<Event>
  /** Seq of the newest event on disk; 0 for a new log. */
  lastSeq(log: string): Promise<number>
  /** Writes what waits for the next batch now; resolves when it is on disk, or could not be written. */
  hurry(log: string): Promise<void>
  /** No more will be appended: frees what the log holds in memory. */
  close(log: string): Promise<void>
  /** The same for every log: the server stops. */
  closeAll(): Promise<void>
}
