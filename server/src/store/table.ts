/**
 * The port to durable rows: five verbs, one row at a time. Each promise settles once the change is on disk; rows handed
 * out are copies. The second implementation (PostgreSQL) goes under this interface and nothing above it changes:
 * `table.contract.ts` is the suite that every implementation passes. Decision 0002.
 */
export interface Table<R extends { id: string }> {
  /** The row, or undefined. */
  get(id: string): Promise<R | undefined>
  /** Rows sorted by id, `newest` (descending, the default) or `oldest` first; `after` is the last id of the page before. */
  list(query?: ListQuery<R>): Promise<R[]>
  /** False: the id is taken, and nothing changed. */
  insert(row: R): Promise<boolean>
  /** The row as changed; undefined: there is no such row, or `when` no longer holds. Decides races: of two, one gets the row. */
  update(id: string, patch: Partial<R>, when?: Partial<R>): Promise<R | undefined>
  /** False: there was no such row. */
  remove(id: string): Promise<boolean>
}

export interface ListQuery<R> {
  /** Fields that must be equal (compared as JSON values). */
  where?: Partial<R>
  after?: string
  /** At most so many rows; all when absent. */
  limit?: number
  order?: 'newest' | 'oldest'
}
