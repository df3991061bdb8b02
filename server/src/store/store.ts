import { join } from 'node:path'
import type { z } from 'zod'
import type { Clock } from '../clock.ts'
import { isTerminal, RunRow, WorkspaceRow } from '../model.ts'
import { GrantRow } from '../model/channels.ts'
import { CredentialRow } from '../model/credentials.ts'
import { InboxRow } from '../model/inbox.ts'
import { FireRow } from '../model/issues.ts'
import { DeliveryRow, PermissionRequest, SessionRow } from '../model/sessions.ts'
import { createArchive } from './archive.ts'
import { createArchivedTable, type ArchivedTable } from './archived-table.ts'
import { openClaims, type Claims } from './claims.ts'
import type { Disk } from './disk.ts'
import type { Table } from './table.ts'
import { openTables, type FileTable } from './tables.ts'

/** Everything the server remembers as rows. */
export interface Store {
  workspaces: Table<WorkspaceRow>
  runs: Table<RunRow>
  sessions: Table<SessionRow>
  /** Messages for sessions. */
  deliveries: Table<DeliveryRow>
  /** What live agents ask. */
  requests: Table<PermissionRequest>
  inbox: ArchivedTable<InboxRow>
  /** Inbox entries on disk that cannot be read, and why; the others are served. */
  damagedInbox: { id: string; detail: string }[]
  grants: Table<GrantRow>
  /** Values sealed. */
  credentials: Table<CredentialRow>
  /** How far each issue's schedule is settled. */
  fires: Table<FireRow>
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
  const settling: (() => Promise<void>)[] = []
  const closing: (() => Promise<void>)[] = []

  /** A table of rows that move to the archive some time after they have ended. */
  function archived<R extends { id: string }>(table: {
    hot: FileTable<R>
    schema: z.ZodType<R>
    directory: string
    indexed: (keyof R & string)[]
    /** ISO 8601; null while the row may still change. */
    endedAt: (row: R) => string | null
    mayBeArchived: (where: Partial<R>) => boolean
  }): ArchivedTable<R> {
    const { hot, schema, directory, indexed, endedAt, mayBeArchived } = table
    const archive = createArchive({ disk, directory, schema, indexed, onDamage: (message) => onTrouble(message) })
    const whole = createArchivedTable({
      hot,
      archive,
      clock,
      endedAt: (row) => {
        const at = endedAt(row)
        return at === null ? undefined : Date.parse(at)
      },
      mayBeArchived,
      onError: (error) => onTrouble(`rows could not be moved to ${directory}`, error),
    })
    settling.push(() => whole.settle())
    closing.push(() => archive.close())
    return whole
  }

  const directory = join(dataDir, 'archive')
  const damagedInbox: Store['damagedInbox'] = []
  const store = {
    workspaces: tables.table('workspaces', WorkspaceRow),
    runs: archived({
      hot: tables.table('runs', RunRow),
      schema: RunRow,
      directory,
      indexed: ['wsId', 'status', 'agent', 'conversationId'],
      endedAt: (run) => (isTerminal(run.status) && run.untold !== true ? (run.finishedAt ?? run.createdAt) : null),
      mayBeArchived: ({ status, untold }) => untold !== true && (status === undefined || isTerminal(status)),
    }),
    sessions: archived({
      hot: tables.table('sessions', SessionRow),
      schema: SessionRow,
      directory: join(directory, 'sessions'),
      indexed: ['wsId', 'agent', 'state'],
      endedAt: (session) => (session.isEnding === true ? null : session.endedAt),
      mayBeArchived: ({ state, isEnding }) => isEnding !== true && state !== 'suspended',
    }),
    deliveries: archived({
      hot: tables.table('deliveries', DeliveryRow),
      schema: DeliveryRow,
      directory: join(directory, 'deliveries'),
      indexed: ['sessionId', 'grantId', 'status'],
      endedAt: (delivery) => delivery.endedAt,
      mayBeArchived: ({ endedAt }) => endedAt !== null,
    }),
    requests: archived({
      hot: tables.table('requests', PermissionRequest),
      schema: PermissionRequest,
      directory: join(directory, 'requests'),
      indexed: ['sessionId', 'wsId', 'status'],
      endedAt: (request) => request.answeredAt,
      mayBeArchived: ({ status }) => status !== 'pending',
    }),
    inbox: archived({
      hot: tables.table('inbox', InboxRow, (id, detail) => {
        damagedInbox.push({ id, detail })
        onTrouble(`inbox entry ${id} cannot be read (${detail}); the others are served`)
      }),
      schema: InboxRow,
      directory: join(directory, 'inbox'),
      indexed: ['wsId', 'taskId', 'sessionId'],
      endedAt: (entry) => entry.readAt,
      mayBeArchived: ({ readAt }) => readAt !== null,
    }),
    fires: tables.table('fires', FireRow),
    damagedInbox,
    grants: tables.table('grants', GrantRow),
    credentials: tables.table('credentials', CredentialRow),
    claims: await openClaims({ disk, dataDir, clock, maxKeys: maxIdempotencyKeys }),
  }
  return {
    ...store,
    async close() {
      for (const settle of settling) await settle()
      await tables.close()
      await store.claims.close()
      for (const close of closing) await close()
    },
  }
}
