import type { Clock } from '../clock.ts'
import type { Archive } from './archive.ts'
import { byText, matches, type FileTable } from './tables.ts'
import type { Table } from './table.ts'

/** Most ended rows kept hot; the others move to the archive, so that the cost of a write does not grow with history. */
export const HOT_ROWS = 1_000
/** Milliseconds an ended row stays hot at most. */
export const HOT_AGE_MS = 7 * 24 * 60 * 60 * 1000
/** Rows moved at a time. */
const MOVE_ROWS = 100
/** Milliseconds between two looks at what may move: a look costs as much as there are rows, so not at every change. */
const TIDY_MS = 1_000

export interface ArchivedTable<R extends { id: string }> extends Table<R> {
  /** False only when no row, hot or archived, readable or not, has that id; of rows that are hot and damaged see the store. */
  mayHave(id: string): Promise<boolean>
  /** Moves what is due now; nothing moves afterwards by itself. */
  settle(): Promise<void>
}

/**
 * One table over a bounded hot set and an archive: lists page on from one into the other. Moving is archive first,
 * then removed, so of twins after a crash the hot one wins; a row that is changed back to one that has not ended returns
 * in the other order. Decision 0005.
 *
 * Ids carry their time and are made once: `insert` looks for a twin in the hot set only.
 */
export function createArchivedTable<R extends { id: string }>(options: {
  hot: FileTable<R>
  archive: Archive<R>
  clock: Clock
  /** When the row ended, in milliseconds since the epoch; undefined while it may still change. */
  endedAt: (row: R) => number | undefined
  /** False: no row like that is ever archived, so the archive need not be asked. */
  mayBeArchived: (where: Partial<R>) => boolean
  onError: (error: unknown) => void
}): ArchivedTable<R> {
  const { hot, archive, clock, endedAt, mayBeArchived, onError } = options
  let moving: Promise<void> | undefined

  async function move(): Promise<void> {
    const ended = [...hot.values()].flatMap((row) => {
      const at = endedAt(row)
      return at === undefined ? [] : [{ row, at }]
    })
    ended.sort((a, b) => byText(a.row.id, b.row.id))
    const surplus = ended.length > HOT_ROWS ? ended.length - HOT_ROWS + MOVE_ROWS : 0
    const tooOld = clock.now() - HOT_AGE_MS
    const leaving = ended.filter(({ at }, i) => i < surplus || at < tooOld).map(({ row }) => row)
    for (let i = 0; i < leaving.length; i += MOVE_ROWS) {
      const rows = leaving.slice(i, i + MOVE_ROWS)
      await archive.append(rows)
      await Promise.all(rows.map((row) => hot.remove(row.id)))
    }
  }
  function tidy(): void {
    moving ??= move()
      .catch(onError) // the rows stay hot; the next change tries again
      .finally(() => (moving = undefined))
  }
  let nextLook: NodeJS.Timeout | undefined
  let lastAgeCheck = clock.monotonic()
  function changed(): void {
    const hourly = clock.monotonic() - lastAgeCheck > 3_600_000
    if (nextLook !== undefined || (hot.size <= HOT_ROWS && !hourly)) return
    lastAgeCheck = clock.monotonic()
    nextLook = setTimeout(() => {
      nextLook = undefined
      tidy()
    }, TIDY_MS).unref()
  }
  tidy()

  return {
    async get(id) {
      return (await hot.get(id)) ?? (await archive.get(id))
    },
    async list(query = {}) {
      const { where, after, limit = Infinity, order = 'newest' } = query
      if (where && !mayBeArchived(where)) return await hot.list(query)
      if (order === 'oldest') {
        const all = await this.list({ ...(where && { where }) })
        const wanted = all.reverse().filter((row) => after === undefined || row.id > after)
        return wanted.slice(0, limit === Infinity ? undefined : limit)
      }
      const fromHot = await hot.list(query)
      // The hot set holds the newest rows, but a long run may be older than what is archived: a page needs the archive
      // unless it is full and ends above the newest archived row.
      if (fromHot.length >= limit && (fromHot.at(-1)?.id ?? '') > ((await archive.newestId()) ?? '')) return fromHot
      const fromArchive = await archive.list({ limit, ...(where && { where }), ...(after !== undefined && { after }) })
      const ids = new Set(fromHot.map((row) => row.id))
      const merged = [...fromHot, ...fromArchive.filter((row) => !ids.has(row.id))]
      merged.sort((a, b) => byText(b.id, a.id))
      return limit === Infinity ? merged : merged.slice(0, limit)
    },
    async insert(row) {
      const inserted = await hot.insert(row)
      changed()
      return inserted
    },
    async update(id, patch, when) {
      const updated = await hot.update(id, patch, when)
      changed()
      if (updated) return updated
      if (await hot.get(id)) return undefined
      const archived = await archive.get(id)
      if (!archived || !matches(archived, when)) return undefined
      const row = { ...archived, ...patch }
      if (endedAt(row) === undefined && (await hot.insert(row))) await archive.remove(id)
      else await archive.append([row])
      return row
    },
    mayHave: async (id) => (await hot.get(id)) !== undefined || (await archive.mayHave(id)),
    remove: async (id) => (await hot.remove(id)) || (await archive.remove(id)),
    async settle() {
      clearTimeout(nextLook)
      await moving
      tidy()
      await moving
    },
  }
}
