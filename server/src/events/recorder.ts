import type { Clock } from '../clock.ts'
import { isAwaited } from './event-log.ts'
import type { EventLog } from './types.ts'
import type { NewEvent } from '../model.ts'
import { DamagedStateError } from '../store/disk.ts'
import { RETRY_MS } from '../store/insist.ts'

/** Bytes of JSON that one event stores at most; longer texts in it are cut and flagged `truncated`. */
export const MAX_EVENT_BYTES = 1024 * 1024
/** Bytes of events not yet on disk after which the program is not read further. */
const MAX_BACKLOG_BYTES = 1024 * 1024

/**
 * A run's or session's way into its log: keeps order, survives a full disk by waiting for room, holds the program back
 * meanwhile. A damaged log takes nothing more: what was to go into it is dropped, so that nobody waits for it.
 */
export interface Recorder {
  /** Queues events. The promise resolves when the program may be read further. */
  add(events: NewEvent[]): Promise<void>
  /** Resolves with true when everything added is on disk or was dropped; with false when the signal aborts before. */
  settle(signal: AbortSignal): Promise<boolean>
}

export function createRecorder(deps: { events: EventLog; clock: Clock; log: string; signal: AbortSignal }): Recorder {
  const { events, clock, log, signal } = deps
  let waiting: NewEvent[] = []
  let backlogBytes = 0
  let draining: Promise<void> | undefined

  async function drain(): Promise<void> {
    while (waiting.length > 0) {
      const batch = waiting
      waiting = []
      for (;;) {
        try {
          await events.append(log, batch)
          break
        } catch (error) {
          if (error instanceof DamagedStateError) break
          if (signal.aborted) return
          await clock.sleep(RETRY_MS, signal).catch(() => undefined)
        }
      }
      backlogBytes = 0
    }
  }
  function pump(): Promise<void> {
    draining ??= drain().finally(() => (draining = undefined))
    return draining
  }

  return {
    async add(added) {
      for (const event of added) {
        const { kept, sizeBytes } = limitEvent(event)
        waiting.push(kept)
        backlogBytes += sizeBytes
      }
      const done = pump()
      // What went before it may be waiting for its batch: it does not wait for that.
      if (added.some(isAwaited)) void events.hurry(log)
      if (backlogBytes > MAX_BACKLOG_BYTES) await done
    },
    async settle(giveUp) {
      const aborted = new Promise<void>((resolve) => giveUp.addEventListener('abort', () => resolve(), { once: true }))
      while ((waiting.length > 0 || draining) && !giveUp.aborted) {
        const pumped = pump()
        void events.hurry(log)
        await Promise.race([pumped, aborted])
      }
      return waiting.length === 0 && !draining
    },
  }
}

/** The event as it is stored: within the size limit, cut texts flagged. */
export function limitEvent(event: NewEvent): { kept: NewEvent; sizeBytes: number } {
  const sizeBytes = Buffer.byteLength(JSON.stringify(event))
  if (sizeBytes <= MAX_EVENT_BYTES) return { kept: event, sizeBytes }
  // Four bytes a character and escapes of six: a cut to a twelfth stays below the limit with several texts in it.
  const roomEach = Math.floor(MAX_EVENT_BYTES / 12)
  const cut = (value: unknown): unknown => {
    const text = typeof value === 'string' ? value : JSON.stringify(value)
    return text.length > roomEach ? text.slice(0, roomEach) : value
  }
  const kept = Object.fromEntries(Object.entries(event).map(([key, value]) => [key, cut(value ?? null)]))
  return { kept: { ...kept, type: event.type, truncated: true }, sizeBytes: MAX_EVENT_BYTES }
}
