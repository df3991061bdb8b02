const NEWLINE = 10

/** Drops whole lines by how they begin; what is left are the bytes as they came. */
export interface LineFilter {
  push(chunk: Buffer): Buffer
  /** What is still held back: a last line without an end that is too short to tell. */
  end(): Buffer
  readonly dropped: { readonly lines: number; readonly bytes: number }
}

/** Holds back no more bytes than the longest of `prefixes`, however long a line is. */
export function createLineFilter(prefixes: readonly string[]): LineFilter {
  const wanted = prefixes.map((prefix) => Buffer.from(prefix))
  const dropped = { lines: 0, bytes: 0 }
  let held: Buffer = Buffer.alloc(0)
  let state: 'start' | 'keep' | 'drop' = 'start'

  /** The bytes of one piece of one line that are to be kept. */
  function take(piece: Buffer): Buffer {
    if (state === 'keep') return piece
    const line = state === 'start' ? Buffer.concat([held, piece]) : piece
    if (state === 'start') {
      const isOpen = wanted.some(
        (prefix) => prefix.length > line.length && prefix.subarray(0, line.length).equals(line),
      )
      held = isOpen ? line : Buffer.alloc(0)
      if (isOpen) return Buffer.alloc(0)
      state = wanted.some((prefix) => line.subarray(0, prefix.length).equals(prefix)) ? 'drop' : 'keep'
      if (state === 'keep') return line
      dropped.lines++
    }
    dropped.bytes += line.length
    return Buffer.alloc(0)
  }

  return {
    dropped,
    push(chunk) {
      const kept: Buffer[] = []
      for (let start = 0; start < chunk.length;) {
        const newline = chunk.indexOf(NEWLINE, start)
        const end = newline === -1 ? chunk.length : newline + 1
        kept.push(take(chunk.subarray(start, end)))
        if (newline !== -1) state = 'start'
        start = end
      }
      return Buffer.concat(kept)
    },
    end: () => held,
  }
}
