/** Looks for texts in one that comes in pieces. */
export interface Search {
  read(piece: string): void
  /** Those that were there. */
  found(): string[]
}

export function searchFor(sought: string[]): Search {
  const overlap = Math.max(...sought.map(({ length }) => length)) - 1
  const found = new Set<string>()
  let end = ''
  return {
    read(piece) {
      const text = end + piece
      for (const each of sought) if (text.includes(each)) found.add(each)
      end = overlap > 0 ? text.slice(-overlap) : ''
    },
    found: () => [...found],
  }
}
