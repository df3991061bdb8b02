import { join } from 'node:path'
import type { Clock } from '../clock.ts'
import { isTerminal, RunRow, WorkspaceRow } from '../model.ts'
import { InboxRow } from '../model/inbox.ts'
import { createArchive } from './archive.ts'
import { createArchivedTable } from './archived-table.ts'
import { openClaims, type Claims } from './claims.ts'
import type { Disk } from './disk.ts'
import type { Table } from './table.ts'
import { openTables } from './tables.ts'

/** Everything the server remembers as rows. */
export interface Store {
  workspaces: Table<WorkspaceRow>
  runs: Table<RunRow>
  inbox: Table<InboxRow>
  /** Inbox entries on disk that cannot be read, and why; the others are served. */
  damagedInbox: { id: string; detail: string }[]
  claims: Claims
  /** Writes the state file and closes every journal. */
  close(): Promise<void>
}

/**
 * Opens the state of a data directory that this process has locked.
 *
 * @throws DamagedStateError when a file cannot be trusted; nothing was changed then
 */
export async function openStore(options: {
  disk: Disk
  dataDir: string
  clock: Clock
  maxIdempotencyKeys: number
  /** Told of trouble that does not stop the server: a state file that could not be written, a damaged archive line. */
  onTrouble: (message: string, error?: unknown) => void
}): Promise<Store> {
  const { disk, dataDir, clock, maxIdempotencyKeys, onTrouble } = options
  for (const name of await disk.readdir(dataDir)) {
    if (name.endsWith('.tmp')) await disk.rm(join(dataDir, name), { force: true }) // left by a crash between write and rename
  }
  const tables = await openTables({
    disk,
    dataDir,
    onError: (error) => onTrouble('the state file could not be written; the journal holds every change', error),
  })
  const workspaces = tables.table('workspaces', WorkspaceRow)
  const hotRuns = tables.table('runs', RunRow)
  const archive = createArchive({
    disk,
    directory: join(dataDir, 'archive'),
    schema: RunRow,
    indexed: ['wsId', 'status', 'agent', 'conversationId'],
    onDamage: (message) => onTrouble(message),
  })
  const runs = createArchivedTable({
    hot: hotRuns,
    archive,
    clock,
    endedAt: (run) => (isTerminal(run.status) ? Date.parse(run.finishedAt ?? run.createdAt) : undefined),
    mayBeArchived: ({ status }) => status === undefined || isTerminal(status),
    onError: (error) => onTrouble('ended runs could not be moved to the archive', error),
  })
  const damagedInbox: Store['damagedInbox'] = []
  const hotInbox = tables.table('inbox', InboxRow, (id, detail) => {
    damagedInbox.push({ id, detail })
    onTrouble(`inbox entry ${id} cannot be read (${detail}); the others are served`)
  })
  const inboxArchive = createArchive({
    disk,
    directory: join(dataDir, 'archive', 'inbox'),
    schema: InboxRow,
    indexed: ['wsId', 'taskId', 'sessionId'],
    onDamage: (message) => onTrouble(message),
  })
  const inbox = createArchivedTable({
    hot: hotInbox,
    archive: inboxArchive,
    clock,
    endedAt: (entry) => (entry.readAt === null ? undefined : Date.parse(entry.readAt)),
    mayBeArchived: ({ readAt }) => readAt !== null,
    onError: (error) => onTrouble('read inbox entries could not be moved to the archive', error),
  })
  const claims = await openClaims({ disk, dataDir, clock, maxKeys: maxIdempotencyKeys })
  return {
    workspaces,
    runs,
    inbox,
    damagedInbox,
    claims,
    async close() {
      await runs.settle()
      await inbox.settle()
      await tables.close()
      await claims.close()
      await archive.close()
      await inboxArchive.close()
    },
  }
}
