import { isoTime, type Clock } from '../clock.ts'
import type { EventLog } from '../events/types.ts'
import type { DeliveryRow, PermissionRequest, SessionRow } from '../model/sessions.ts'
import type { Processes } from '../process/supervise.ts'
import { DamagedStateError } from '../store/disk.ts'
import type { LiveFiles } from '../store/live-files.ts'
import type { Table } from '../store/table.ts'
import type { LiveSession } from './live.ts'
import { MAX_ATTEMPTS } from './mailbox.ts'
import { DIED, mendLog } from './mend.ts'

/**
 * Ends the processes that a server which died has left, suspends their sessions, ends the messages that can have no other
 * end, and completes the logs, before anybody is served. Nothing is resumed here: that is for those for whom messages
 * wait, once the server listens.
 */
export async function recoverSessions(deps: {
  sessions: Table<SessionRow>
  deliveries: Table<DeliveryRow>
  /** Those of the server that died are answered. */
  requests: Table<PermissionRequest>
  events: EventLog
  clock: Clock
  processes: Processes
  liveFiles: LiveFiles<LiveSession>
  onError(message: string, error: unknown): void
}): Promise<{ suspended: number; ended: number; survivors: number }> {
  const { sessions, deliveries, clock, processes, liveFiles } = deps
  const left = await liveFiles.left()
  const reaped = await processes.reap([...left].map(([mark, file]) => ({ mark, identity: file?.identity })))
  const waiting = await deliveries.list({ where: { endedAt: null } })
  const ending = await sessions.list({ where: { state: 'ended', isEnding: true } })

  let suspended = 0
  for (const id of left.keys()) {
    if (await sessions.update(id, DIED, { state: 'suspended' })) suspended++
  }
  for (const row of waiting) await endDelivery(row)
  for (const id of new Set([
    ...left.keys(),
    ...waiting.map(({ sessionId }) => sessionId),
    ...ending.map((row) => row.id),
  ])) {
    const row = await sessions.get(id)
    try {
      if (row) await mendLog(deps, row)
    } catch (error) {
      // A log that cannot be read is no reason not to start; one that cannot be written is looked at by the next start.
      deps.onError(`the log of session ${id} is not whole`, error)
      if (!(error instanceof DamagedStateError)) continue
    }
    await liveFiles.remove(id)
  }
  return { suspended, ...reaped }

  async function endDelivery({ id, sessionId, attempts }: DeliveryRow): Promise<void> {
    const session = await sessions.get(sessionId)
    const endedAt = isoTime(clock.now())
    if (session?.state === 'suspended') {
      if (attempts >= MAX_ATTEMPTS) await deliveries.update(id, { status: 'uncertain', endedAt })
      return
    }
    const reason = session ? 'session_ended' : 'session_gone'
    await deliveries.update(id, { status: 'failed', reason, endedAt })
  }
}
