/** Bytes of one line of a live program at most; a longer one is reported and skipped. */
export const MAX_LINE_BYTES = 16 * 1024 * 1024

/**
 * Reads a program's output line by line until it ends; resolves then, and rejects when the stream breaks. Lines are cut on
 * bytes, so a character split between two chunks survives; one over the limit costs no memory beyond it.
 *
 * @param onLine one line without its line break, never empty; one with which it throws is skipped
 * @param onSkipped told why a line was skipped
 */
export async function readLines(
  output: ReadableStream<Uint8Array>,
  onLine: (line: string) => void,
  onSkipped: (why: string) => void,
  maxBytes = MAX_LINE_BYTES,
): Promise<void> {
  let parts: Uint8Array[] = []
  let sizeBytes = 0

  function keep(piece: Uint8Array): void {
    sizeBytes += piece.length
    if (sizeBytes > maxBytes) parts = []
    else if (piece.length > 0) parts.push(piece)
  }
  function take(): void {
    const line = Buffer.concat(parts).toString('utf8').trim()
    const size = sizeBytes
    parts = []
    sizeBytes = 0
    if (size > maxBytes) return onSkipped(`a line of ${size} bytes was skipped; the limit is ${maxBytes}`)
    try {
      if (line !== '') onLine(line)
    } catch (error) {
      // The top of a loop that must live: one line does not end a conversation.
      onSkipped(`a line of ${size} bytes could not be dealt with: ${(error as Error).message}`)
    }
  }
  for await (const chunk of output) {
    let start = 0
    for (let end = chunk.indexOf(10); end !== -1; end = chunk.indexOf(10, start)) {
      keep(chunk.subarray(start, end))
      take()
      start = end + 1
    }
    // A copy: a small rest must not hold the whole chunk in memory.
    if (start < chunk.length) keep(start === 0 ? chunk : chunk.slice(start))
  }
  take()
}
