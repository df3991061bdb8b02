import type { EventLog } from '../events/types.ts'
import type { SessionRow } from '../model/sessions.ts'
import type { Processes } from '../process/supervise.ts'
import type { LiveFiles } from '../store/live-files.ts'
import type { Table } from '../store/table.ts'
import type { LiveSession } from './live.ts'

const DIED = { reason: 'server_died', detail: 'the server died; the next input resumes the conversation' } as const

/**
 * Ends the processes that a server which died has left, and suspends their sessions, before anybody is served. Nothing
 * is resumed here: that is for those for whom messages wait, once the server listens.
 */
export async function recoverSessions(deps: {
  sessions: Table<SessionRow>
  events: EventLog
  processes: Processes
  liveFiles: LiveFiles<LiveSession>
  onError(message: string, error: unknown): void
}): Promise<{ suspended: number; ended: number; survivors: number }> {
  const { sessions, events, processes, liveFiles } = deps
  const left = await liveFiles.left()
  const reaped = await processes.reap([...left].map(([mark, file]) => ({ mark, identity: file?.identity })))
  let suspended = 0
  for (const id of left.keys()) {
    const row = await sessions.get(id)
    if (row?.state === 'suspended') {
      suspended++
      await sessions.update(id, DIED)
      try {
        const lastSeq = await events.append(id, [{ type: 'session.state', state: 'suspended', ...DIED }])
        await events.close(id)
        await sessions.update(id, { lastSeq })
      } catch (error) {
        deps.onError(`the log of session ${id} cannot be read`, error) // no reason not to start
      }
    }
    await liveFiles.remove(id)
  }
  return { suspended, ...reaped }
}
