import { DomainError } from '../errors.ts'
import { SESSION_LIMITS, type DeliveryRow } from '../model/sessions.ts'

/** The messages that wait for one session, in order. Only memory: the rows are the truth. */
export interface Line {
  readonly size: number
  first(): DeliveryRow | undefined
  /**
   * Takes a place in the same step in which it was found free.
   *
   * @throws DomainError `buffer_full`
   */
  take(row: DeliveryRow): void
  /** The number of the next place: at the end, or before everything that waits. */
  place(where: 'end' | 'front'): number
  /** Back to its place, full or not: its hand-over was cut off. */
  putBack(row: DeliveryRow): void
  /** The row as it is now; its place stays. */
  replace(row: DeliveryRow): void
  remove(id: string): void
  rows(): DeliveryRow[]
}

/** @param waiting what an earlier server left, in any order */
export function createLine(waiting: DeliveryRow[]): Line {
  const rows = waiting.toSorted((a, b) => a.order - b.order)
  let lastPlace = rows.at(-1)?.order ?? 0
  let bytes = rows.reduce((sum, row) => sum + sizeOf(row), 0)

  function put(row: DeliveryRow): void {
    const at = rows.findLastIndex((each) => each.order < row.order)
    rows.splice(at + 1, 0, row)
    lastPlace = Math.max(lastPlace, row.order)
  }

  return {
    get size() {
      return rows.length
    },
    first: () => rows[0],
    take(row) {
      const { bufferedMessages, bufferedBytes } = SESSION_LIMITS
      const size = sizeOf(row)
      if (rows.length >= bufferedMessages || bytes + size > bufferedBytes) {
        const full =
          rows.length >= bufferedMessages
            ? `${rows.length} of ${bufferedMessages} messages`
            : `${bytes} of ${bufferedBytes} bytes, and this message has ${size}`
        throw new DomainError('buffer_full', `${full} wait for ${row.sessionId}`, {
          retryAfterSeconds: 5,
          hint: 'wait until the agent has worked some of them off',
        })
      }
      bytes += size
      put(row)
    },
    putBack(row) {
      bytes += sizeOf(row)
      put(row)
    },
    place: (where) => (where === 'end' ? lastPlace + 1 : (rows[0]?.order ?? lastPlace + 2) - 1),
    replace(row) {
      const at = rows.findIndex(({ id }) => id === row.id)
      if (at !== -1) rows[at] = row
    },
    remove(id) {
      const at = rows.findLastIndex((row) => row.id === id)
      const [gone] = at === -1 ? [] : rows.splice(at, 1)
      if (gone) bytes -= sizeOf(gone)
    },
    rows: () => [...rows],
  }
}

const sizeOf = (row: DeliveryRow): number => Buffer.byteLength(row.message)
