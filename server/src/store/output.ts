import { constants } from 'node:fs'
import type { FileHandle } from 'node:fs/promises'
import { join } from 'node:path'
import { StringDecoder } from 'node:string_decoder'
import type { Clock } from '../clock.ts'
import { writeAll, type Disk } from './disk.ts'

/** Bytes of one stream kept on disk; the program is read on, what comes after is dropped and said so. */
export const MAX_FILE_BYTES = 32 * 1024 * 1024
/** Bytes of the end of one stream kept in memory, and beside the file when that was cut. */
export const TAIL_BYTES = 256 * 1024

/** Milliseconds before a write that failed is tried again. */
const RETRY_MS = 500

/** Names under the directory of a run, or of one process of a session. */
export const outputName = (stream: 'stdout' | 'stderr'): string => `${stream}.log`
export const tailName = (stream: 'stdout' | 'stderr'): string => `${stream}.tail`

/** Raw output of one stream: a capped file, a bounded tail, and nothing else in memory. */
export interface StreamOutput {
  /** Resolves when the bytes are written (not synced). A full disk is waited for, until the signal says to give up. */
  write(chunk: Buffer): Promise<void>
  /** The last `bytes` of the stream as text, cut at a character. */
  tailText(bytes: number): string
  readonly sizeBytes: number
  readonly truncated: boolean
  close(): Promise<void>
}

/** Opens lazily: a stream that stays silent has no file. */
export function createStreamOutput(deps: {
  disk: Disk
  clock: Clock
  directory: string
  stream: 'stdout' | 'stderr'
  signal: AbortSignal
  /** Bytes that an earlier program wrote to the same stream: this one continues behind them. */
  after?: number | undefined
}): StreamOutput {
  const { disk, clock, directory, stream, signal, after = 0 } = deps
  const tail = createTail(TAIL_BYTES)
  let file: FileHandle | undefined
  let written = Math.min(after, MAX_FILE_BYTES)
  let sizeBytes = after

  async function keep(chunk: Buffer): Promise<void> {
    let rest = chunk.subarray(0, Math.max(0, MAX_FILE_BYTES - written))
    while (rest.length > 0) {
      try {
        file ??= await disk.open(join(directory, outputName(stream)), constants.O_CREAT | constants.O_WRONLY, 0o600)
        const { bytesWritten } = await file.write(rest, 0, rest.length, written)
        written += bytesWritten
        rest = rest.subarray(bytesWritten)
      } catch {
        if (signal.aborted) return
        await clock.sleep(RETRY_MS, signal).catch(() => undefined)
      }
    }
  }

  return {
    async write(chunk) {
      sizeBytes += chunk.length
      tail.push(chunk)
      await keep(chunk)
    },
    tailText: (bytes) => tail.text(bytes),
    get sizeBytes() {
      return sizeBytes
    },
    get truncated() {
      return sizeBytes > written
    },
    async close() {
      try {
        if (sizeBytes > written) {
          const kept = await disk.open(join(directory, tailName(stream)), 'w', 0o600)
          try {
            await writeAll(kept, tail.bytes())
          } finally {
            await kept.close()
          }
        }
      } finally {
        await file?.close()
        file = undefined
      }
    },
  }
}

/** The last bytes of a stream, in a ring that is made once: a flood leaves no garbage behind. */
function createTail(maxBytes: number): { push(chunk: Buffer): void; bytes(): Buffer; text(bytes: number): string } {
  let ring = Buffer.alloc(0)
  let end = 0 // where the next byte goes
  let seen = 0
  const bytes = (): Buffer =>
    seen < maxBytes ? ring.subarray(0, seen) : Buffer.concat([ring.subarray(end), ring.subarray(0, end)])
  return {
    push(chunk) {
      if (seen + chunk.length > ring.length && ring.length < maxBytes) {
        const larger = Buffer.alloc(Math.min(maxBytes, Math.max(4_096, 2 * (seen + chunk.length))))
        ring.copy(larger, 0, 0, seen)
        ring = larger
        end = seen // a ring that was just full had begun again at 0
      }
      const kept = chunk.subarray(Math.max(0, chunk.length - ring.length))
      const first = Math.min(kept.length, ring.length - end)
      kept.copy(ring, end, 0, first)
      kept.copy(ring, 0, first)
      end = (end + kept.length) % ring.length
      seen += chunk.length
    },
    bytes,
    text(wanted) {
      const all = bytes()
      let start = Math.max(0, all.length - wanted)
      while (start > 0 && start < all.length && ((all[start] ?? 0) & 0xc0) === 0x80) start++ // not inside a character
      return all.toString('utf8', start)
    },
  }
}

/** Bytes as text, a chunk at a time; a character split between chunks survives. */
export function createTextDecoder(): { push(chunk: Buffer): string; end(): string } {
  const decoder = new StringDecoder('utf8')
  return { push: (chunk) => decoder.write(chunk), end: () => decoder.end() }
}
