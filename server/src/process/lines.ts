/** Bytes of one line that a decoder sees at most; what is longer is reported, not decoded. */
export const MAX_LINE_BYTES = 16 * 1024 * 1024

/** A whole line, or the news that one was too long (its bytes are in the raw output). */
export type Line = { text: string; tooLong: false } | { sizeBytes: number; tooLong: true }

/**
 * Cuts a byte stream into lines. Works on bytes, so a character split between two chunks survives; a line over the
 * limit costs no memory beyond it.
 */
export function createLineSplitter(maxBytes = MAX_LINE_BYTES): { push(chunk: Buffer): Line[]; end(): Line[] } {
  let parts: Buffer[] = []
  let sizeBytes = 0

  function take(): Line {
    const line: Line =
      sizeBytes > maxBytes
        ? { sizeBytes, tooLong: true }
        : { text: (parts.length === 1 && parts[0] ? parts[0] : Buffer.concat(parts)).toString('utf8'), tooLong: false }
    parts = []
    sizeBytes = 0
    return line
  }
  function keep(piece: Buffer): void {
    sizeBytes += piece.length
    if (sizeBytes > maxBytes) parts = []
    else if (piece.length > 0) parts.push(piece)
  }

  return {
    push(chunk) {
      const lines: Line[] = []
      let start = 0
      for (let end = chunk.indexOf(10); end !== -1; end = chunk.indexOf(10, start)) {
        keep(chunk.subarray(start, end))
        lines.push(take())
        start = end + 1
      }
      // A copy: a small rest must not hold the whole chunk in memory.
      if (start < chunk.length) keep(start === 0 ? chunk : Buffer.from(chunk.subarray(start)))
      return lines
    },
    end: () => (sizeBytes > 0 ? [take()] : []),
  }
}
