import { join } from 'node:path'
import { Low } from 'lowdb'
import type { z } from 'zod'
import { DamagedStateError, type Disk } from './disk.ts'
import { decodeLine, encodeLine, openJournal, recoverLines, type Journal } from './journal.ts'
import { createSnapshotAdapter, SCHEMA_VERSION, type Snapshot } from './snapshot.ts'
import type { ListQuery, Table } from './table.ts'

/** Bytes of journal after which the state file is written again. */
export const COMPACT_BYTES = 4 * 1024 * 1024
/** Milliseconds without a change after which it is written again. */
export const QUIET_MS = 1_000

/** Milliseconds before a state file that could not be written is tried again. */
const RETRY_MS = 5_000

/** A change of one row: `row` absent means it was removed. */
interface Change {
  line: number
  table: string
  id: string
  row?: unknown
}

export interface Tables {
  /**
   * The table of that name. Rows are checked against the schema when they are loaded.
   *
   * @param onDamage told of each row that does not fit; it stays on disk, unseen, and the others are served. Absent: such
   * a row is a `DamagedStateError`
   */
  table<R extends { id: string }>(name: string, schema: z.ZodType<R>, onDamage?: OnDamage): FileTable<R>
  /** Writes the state file and closes; nothing may be changed afterwards. */
  close(): Promise<void>
}

/** @param why what is wrong with the row of that id */
export type OnDamage = (id: string, why: string) => void

/** A table in memory: reads are immediate, so `size` and `values` can be looked at between two awaits. */
export interface FileTable<R extends { id: string }> extends Table<R> {
  readonly size: number
  values(): Iterable<R>
}

/**
 * Rows in `db.json`, held by lowdb, with `changes.journal` before it: a change is one checksummed line, on disk before
 * it is applied or answered; the file follows, as of one line. Decision 0004.
 *
 * @throws DamagedStateError for a file or line that cannot be trusted
 */
export async function openTables(options: {
  disk: Disk
  dataDir: string
  onError: (error: unknown) => void
}): Promise<Tables> {
  const { disk, dataDir, onError } = options
  const snapshotPath = join(dataDir, 'db.json')
  const journalPath = join(dataDir, 'changes.journal')
  const empty: Snapshot = { schemaVersion: SCHEMA_VERSION, line: 0, tables: {} }
  const low = new Low<Snapshot>(createSnapshotAdapter(disk, snapshotPath), empty)
  await low.read()
  const state = low.data

  let lastLine = 0
  await recoverLines(disk, journalPath, (text) => {
    const change = decodeLine(text) as Change
    if (change.line <= lastLine) throw new Error(`line ${change.line} follows line ${lastLine}`)
    lastLine = change.line
    if (change.line <= state.line) return // already in the file: the server died before the journal was cut
    const rows = (state.tables[change.table] ??= {})
    if (change.row === undefined) delete rows[change.id]
    else rows[change.id] = change.row
    state.line = change.line
  })
  const journal: Journal = await openJournal({ disk, path: journalPath })
  let nextLine = Math.max(state.line, lastLine) + 1 // numbers rise, with gaps where a write failed
  let writing: Promise<void> | undefined
  let quiet: NodeJS.Timeout | undefined
  let holdOff = false // after a failed write: not again at every change

  /** A copy of the state as of one line, written beside, and the journal cut to what came after it. */
  function writeSnapshot(): Promise<void> {
    writing ??= (async () => {
      const copied: Snapshot = {
        ...state,
        tables: Object.fromEntries(Object.entries(state.tables).map(([k, v]) => [k, { ...v }])),
      }
      const offset = journal.sizeBytes
      try {
        await low.adapter.write(copied)
        await journal.compact(async () => (await disk.readFile(journalPath)).subarray(offset, journal.sizeBytes))
      } finally {
        writing = undefined
      }
    })()
    return writing
  }
  function changed(): void {
    if (holdOff) return
    clearTimeout(quiet)
    const later = journal.sizeBytes > COMPACT_BYTES ? 0 : QUIET_MS
    quiet = setTimeout(() => {
      writeSnapshot().catch((error: unknown) => {
        onError(error)
        holdOff = true
        quiet = setTimeout(() => {
          holdOff = false
          changed()
        }, RETRY_MS).unref()
      })
    }, later).unref()
  }

  async function change(table: string, id: string, row: unknown, apply: () => void): Promise<void> {
    const line = nextLine++
    await journal.append(encodeLine({ line, table, id, row } satisfies Change), () => {
      state.line = line
      apply()
      changed()
    })
  }

  return {
    table(name, schema, onDamage) {
      const rows = (state.tables[name] ??= {})
      const unfit = new Set<string>()
      for (const [id, row] of Object.entries(rows)) {
        const parsed = schema.safeParse(row)
        if (!parsed.success || parsed.data.id !== id) {
          const [issue] = parsed.error?.issues ?? []
          const why = issue ? `${issue.path.join('.')}: ${issue.message}` : 'wrong id'
          if (!onDamage) throw new DamagedStateError(snapshotPath, `row ${name}/${id} does not fit: ${why}`)
          unfit.add(id)
          onDamage(id, why)
        } else rows[id] = freeze(parsed.data)
      }
      return createFileTable(rows as Record<string, never>, unfit, (id, row, apply) => change(name, id, row, apply))
    },
    async close() {
      clearTimeout(quiet)
      await writing?.catch(() => undefined)
      if (journal.sizeBytes > 0) await writeSnapshot().catch(onError)
      clearTimeout(quiet)
      await journal.close()
    },
  }
}

function createFileTable<R extends { id: string }>(
  stored: Record<string, R>,
  /** Ids of rows that are kept and not shown; they may be removed. */
  unfit: Set<string>,
  change: (id: string, row: R | undefined, apply: () => void) => Promise<void>,
): FileTable<R> {
  const rows = new Map(Object.entries(stored).filter(([id]) => !unfit.has(id)))
  let sorted: string[] | undefined // ids, oldest first; made when next needed
  // Changes of one row take turns, so that a guard looks at what is on disk and of two changes one sees the other.
  const turns = new Map<string, Promise<unknown>>()

  function inTurn<T>(id: string, work: () => Promise<T>): Promise<T> {
    const before = turns.get(id)
    const mine = before ? before.then(work, work) : work()
    const settled = mine
      .catch(() => undefined)
      .then(() => {
        if (turns.get(id) === settled) turns.delete(id)
      })
    turns.set(id, settled)
    return mine
  }
  async function put(row: R): Promise<R> {
    const frozen = freeze(row)
    await change(row.id, frozen, () => {
      if (!rows.has(row.id)) sorted = undefined
      rows.set(row.id, frozen)
      stored[row.id] = frozen
    })
    return frozen
  }

  return {
    get size() {
      return rows.size
    },
    values: () => rows.values(),
    get: (id) => Promise.resolve(rows.get(id)),
    list(query = {}) {
      sorted ??= [...rows.keys()].toSorted(byText)
      return Promise.resolve(pick(sorted, rows, query))
    },
    insert: (row) =>
      inTurn(row.id, async () => (rows.has(row.id) || unfit.has(row.id) ? false : (await put(row), true))),
    update: (id, patch, when) =>
      inTurn(id, async () => {
        const row = rows.get(id)
        return row && matches(row, when) ? await put({ ...row, ...patch }) : undefined
      }),
    remove: (id) =>
      inTurn(id, async () => {
        if (!rows.has(id) && !unfit.has(id)) return false
        await change(id, undefined, () => {
          rows.delete(id)
          unfit.delete(id)
          delete stored[id]
          sorted = undefined
        })
        return true
      }),
  }
}

function pick<R extends { id: string }>(sorted: string[], rows: Map<string, R>, query: ListQuery<R>): R[] {
  const { where, after, limit = Infinity, order = 'newest' } = query
  const found: R[] = []
  const step = order === 'newest' ? -1 : 1
  for (
    let i = order === 'newest' ? sorted.length - 1 : 0;
    i >= 0 && i < sorted.length && found.length < limit;
    i += step
  ) {
    const id = sorted[i] ?? ''
    if (after !== undefined && (order === 'newest' ? id >= after : id <= after)) continue
    const row = rows.get(id)
    if (row && matches(row, where)) found.push(row)
  }
  return found
}

/** True when each field of `when` equals the row's, compared as JSON. */
export function matches<R>(row: R, when: Partial<R> | undefined): boolean {
  for (const key in when) {
    const [is, wanted] = [row[key], when[key]]
    if (is !== wanted && JSON.stringify(is) !== JSON.stringify(wanted)) return false
  }
  return true
}

/** Code-unit order, the order of ULIDs; `localeCompare` would differ by machine. */
export const byText = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0)

/** Rows are shared, so nobody may change one: frozen all the way down, which is cheaper than copies. */
function freeze<T>(value: T): T {
  if (typeof value === 'object' && value !== null && !Object.isFrozen(value)) {
    for (const inner of Object.values(value)) freeze(inner)
    Object.freeze(value)
  }
  return value
}
