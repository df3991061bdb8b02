import { join } from 'node:path'
import { createReadStream } from 'node:fs'
import type { FileHandle } from 'node:fs/promises'
import { decodeTime } from 'ulid'
import type { z } from 'zod'
import { cached } from './cached.ts'
import type { Disk } from './disk.ts'
import { decodeLine, encodeLine, openJournal, type Journal } from './journal.ts'
import { byText, matches } from './tables.ts'
import type { ListQuery } from './table.ts'

/**
 * Rows that left the hot set, in `archive/<yyyy-mm>.ndjson` by the month their id was made in. Nothing is read until
 * somebody asks; then a month is indexed once. Of several lines with one id the last counts. Decision 0005.
 */
export interface Archive<R extends { id: string }> {
  /** On disk when it resolves. @throws DomainError `storage_unavailable` */
  append(rows: R[]): Promise<void>
  get(id: string): Promise<R | undefined>
  /** False only when there is no row with that id, and no line so damaged that it might hold it. */
  mayHave(id: string): Promise<boolean>
  /** False: there was no such row. */
  remove(id: string): Promise<boolean>
  /** The highest id in it, from the index of the newest month; undefined when it is empty. */
  newestId(): Promise<string | undefined>
  /** Newest first, ids below `after`, `where` on any field; stops at `limit`. */
  list(query: Pick<ListQuery<R>, 'where' | 'after' | 'limit'>): Promise<R[]>
  close(): Promise<void>
}

interface Place {
  offset: number
  length: number
  /** Values of the indexed fields, so that a filter does not read what it will not return. */
  fields: Record<string, unknown>
}

interface Month {
  places: Map<string, Place>
  sorted: string[] | undefined // ids, oldest first
  isDamaged: boolean // some lines could not be read
}

interface Line<R> {
  id: string
  fields: Record<string, unknown>
  /** null: the row was removed. */
  row: R | null
}

export function createArchive<R extends { id: string }>(options: {
  disk: Disk
  directory: string
  schema: z.ZodType<R>
  /** Fields that lists are filtered by; their values must be short. */
  indexed: (keyof R & string)[]
  /** Told of lines that cannot be read; the others stay readable. */
  onDamage: (message: string) => void
}): Archive<R> {
  const { disk, directory, schema, indexed, onDamage } = options
  const months = new Map<string, Promise<Month>>()
  const journals = new Map<string, Promise<Journal>>()
  const readers = new Map<string, Promise<FileHandle>>()
  const file = (month: string): string => join(directory, `${month}.ndjson`)

  function fieldsOf(row: R): Record<string, unknown> {
    return Object.fromEntries(indexed.map((key) => [key, row[key]]))
  }

  async function indexMonth(month: string): Promise<Month> {
    const index: Month = { places: new Map(), sorted: undefined, isDamaged: false }
    const shared = new Map<unknown, unknown>() // one copy of each repeated value
    const intern = (value: unknown): unknown => shared.get(value) ?? (shared.set(value, value), value)
    let offset = 0
    let rest: Buffer = Buffer.alloc(0)
    try {
      for await (const chunk of createReadStream(file(month), { highWaterMark: 1024 * 1024 })) {
        const data = Buffer.concat([rest, chunk as Buffer])
        let start = 0
        for (let end = data.indexOf(10); end !== -1; end = data.indexOf(10, start)) {
          const head = readHead(data.subarray(start, end))
          if (head?.removed) {
            index.places.delete(head.id)
          } else if (head) {
            for (const key of indexed) head.fields[key] = intern(head.fields[key])
            index.places.set(head.id, { offset: offset + start, length: end - start, fields: head.fields })
          } else {
            index.isDamaged = true
            onDamage(`${file(month)} at byte ${offset + start}: a damaged line was passed over`)
          }
          start = end + 1
        }
        offset += start
        rest = data.subarray(start) // an unterminated last line was never acknowledged
      }
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
    }
    return index
  }
  const month = (name: string): Promise<Month> => cached(months, name, () => indexMonth(name))

  async function readRow(name: string, id: string, place: Place): Promise<R | undefined> {
    const reader = await cached(readers, name, () => disk.open(file(name), 'r'))
    const buffer = Buffer.alloc(place.length)
    await reader.read(buffer, 0, place.length, place.offset)
    try {
      return schema.parse((decodeLine(buffer.toString('utf8')) as Line<R>).row)
    } catch (error) {
      onDamage(`${file(name)} at byte ${place.offset}: ${id} cannot be read (${(error as Error).message})`)
      return undefined
    }
  }

  async function monthNames(): Promise<string[]> {
    const names = await disk.readdir(directory).catch(() => [] as string[])
    return names.flatMap((name) => /^(\d{4}-\d{2})\.ndjson$/.exec(name)?.[1] ?? []).toSorted(byText)
  }

  return {
    async append(rows) {
      for (const [name, group] of Map.groupBy(rows, (row) => monthOf(row.id))) {
        await disk.mkdir(directory, { recursive: true, mode: 0o700 })
        const journal = await cached(journals, name, () => openArchiveFile(disk, file(name)))
        const lines = group.map((row) => encodeLine({ id: row.id, fields: fieldsOf(row), row } satisfies Line<R>))
        const indexing = months.get(name) // not indexed yet: the file will tell
        const index = await indexing
        await journal.append(lines.join(''), (start) => {
          let offset = start
          for (const [i, row] of group.entries()) {
            const length = Buffer.byteLength(lines[i] ?? '') - 1
            if (index && !index.places.has(row.id)) index.sorted = undefined
            index?.places.set(row.id, { offset, length, fields: fieldsOf(row) })
            offset += length + 1
          }
        })
        // Indexing that began meanwhile may have read the file before these lines were in it.
        if (months.get(name) !== indexing) months.delete(name)
      }
    },
    async get(id) {
      if (!isDated(id)) return undefined
      const name = monthOf(id)
      const place = (await month(name)).places.get(id)
      return place && (await readRow(name, id, place))
    },
    async mayHave(id) {
      if (!isDated(id)) return false
      const { places, isDamaged } = await month(monthOf(id))
      return isDamaged || places.has(id)
    },
    async remove(id) {
      if (!isDated(id)) return false
      const index = await month(monthOf(id))
      if (!index.places.has(id)) return false
      const journal = await cached(journals, monthOf(id), () => openArchiveFile(disk, file(monthOf(id))))
      await journal.append(encodeLine({ id, fields: {}, row: null } satisfies Line<R>), () => {
        index.places.delete(id)
        index.sorted = undefined
      })
      return true
    },
    async newestId() {
      for (const name of (await monthNames()).reverse()) {
        const newest = idsOf(await month(name)).at(-1)
        if (newest !== undefined) return newest
      }
      return undefined
    },
    async list({ where, after, limit = Infinity }) {
      const filter = Object.fromEntries(Object.entries(where ?? {}).filter(([key]) => indexed.includes(key as never)))
      const found: R[] = []
      for (const name of (await monthNames()).reverse()) {
        if (after !== undefined && name > monthOf(after)) continue
        const index = await month(name)
        const ids = idsOf(index)
        for (let i = ids.length - 1; i >= 0; i--) {
          if (found.length >= limit) return found
          const id = ids[i] ?? ''
          const place = index.places.get(id)
          if (!place || (after !== undefined && id >= after) || !matches(place.fields, filter)) continue
          const row = await readRow(name, id, place)
          if (row && matches(row, where)) found.push(row)
        }
      }
      return found
    },
    async close() {
      for (const journal of journals.values()) await (await journal).close()
      for (const reader of readers.values()) await (await reader).close()
    },
  }
}

/** Continues behind the last complete line: what follows it was never acknowledged. */
async function openArchiveFile(disk: Disk, path: string): Promise<Journal> {
  const handle = await disk.open(path, 'a+', 0o600)
  try {
    const { size } = await handle.stat()
    let end = size
    const buffer = Buffer.alloc(65_536)
    for (; end > 0;) {
      const start = Math.max(0, end - buffer.length)
      const { bytesRead } = await handle.read(buffer, 0, end - start, start)
      const newline = buffer.subarray(0, bytesRead).lastIndexOf(10)
      end = newline === -1 ? start : start + newline + 1
      if (newline !== -1) break
    }
    if (end < size) await handle.truncate(end)
  } finally {
    await handle.close()
  }
  return await openJournal({ disk, path })
}

function idsOf(index: Month): string[] {
  return (index.sorted ??= [...index.places.keys()].toSorted(byText))
}

/** The id and indexed fields stand first in a line, so that indexing need not parse the row. */
function readHead(line: Buffer): { id: string; fields: Record<string, unknown>; removed: boolean } | undefined {
  const end = line.indexOf(',"row":')
  if (end === -1) return undefined
  try {
    const head = JSON.parse(`${line.toString('utf8', 9, end)}}`) as { id: string; fields: Record<string, unknown> }
    return { ...head, removed: line.toString('latin1', end + 7) === 'null}' }
  } catch {
    return undefined
  }
}

const isDated = (id: string): boolean => /_[0-7][0-9A-HJKMNP-TV-Z]{25}$/.test(id)

function monthOf(id: string): string {
  return new Date(decodeTime(id.slice(id.lastIndexOf('_') + 1))).toISOString().slice(0, 7)
}
