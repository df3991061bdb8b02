import { constants } from 'node:fs'
import { dirname } from 'node:path'
import { crc32 } from 'node:zlib'
import { DomainError } from '../errors.ts'
import { DamagedStateError, syncDirectory, temporaryName, writeAll, type Disk } from './disk.ts'

/**
 * An append-only file of lines with group commit: lines that arrive during a sync share the next one, in order, and
 * each promise settles with the sync that holds its line. Decision 0004.
 */
export interface Journal {
  /**
   * Resolves once the lines are on disk. `apply` is called then, in order of the calls, before the promise settles.
   *
   * @throws DomainError `storage_unavailable`: nothing of the lines will ever be read back, and `apply` was not called
   */
  append(lines: string, apply?: (offset: number) => void): Promise<void>
  /** Bytes on disk. */
  readonly sizeBytes: number
  /**
   * Replaces the content whole or not at all, in order with the appends: `rewrite` is called between two syncs.
   *
   * @throws what the disk said; the journal is as it was and goes on
   */
  compact(rewrite: () => Buffer | Promise<Buffer>): Promise<void>
  /** Resolves when everything appended so far has settled; then no file is open. */
  close(): Promise<void>
}

interface Entry {
  data: Buffer
  apply: ((offset: number) => void) | undefined
  resolve: () => void
  reject: (error: unknown) => void
}

type Job = { kind: 'append'; entry: Entry } | { kind: 'compact'; run: () => Promise<void> }

/** Opens a journal for appending behind its last complete line. Call `recoverLines` first. Mode 0600. */
export async function openJournal(options: { disk: Disk; path: string }): Promise<Journal> {
  const { disk, path } = options
  let file = await disk.open(path, APPEND | constants.O_CREAT, 0o600)
  let durable = (await file.stat()).size
  let mustCutBack = false
  let mustSyncName = true // the name itself must survive a power loss, or a synced file could be found missing
  let queue: Job[] = []
  let working: Promise<void> | undefined

  async function cutBack(): Promise<void> {
    await file.truncate(durable)
    await file.datasync()
    mustCutBack = false
  }

  async function syncName(): Promise<void> {
    await syncDirectory(disk, dirname(path))
    mustSyncName = false
  }

  async function commit(entries: Entry[]): Promise<void> {
    try {
      if (mustCutBack) await cutBack()
      if (mustSyncName) await syncName()
      mustCutBack = true // until the sync says otherwise, bytes beyond `durable` are nobody's
      const data =
        entries.length === 1 && entries[0] ? entries[0].data : Buffer.concat(entries.map((entry) => entry.data))
      await writeAll(file, data)
      await file.datasync()
      mustCutBack = false
    } catch (cause) {
      await cutBack().catch(() => undefined) // tried again before the next append
      const failed = new DomainError('storage_unavailable', 'the change could not be written to disk', {
        cause,
        retryAfterSeconds: 1,
        hint: 'free disk space on the server, then repeat the request',
      })
      // What queued up behind was decided by guards that may have counted on these lines.
      const behind = queue.flatMap((job) => (job.kind === 'append' ? [job.entry] : []))
      queue = queue.filter((job) => job.kind !== 'append')
      for (const entry of [...entries, ...behind]) entry.reject(failed)
      return
    }
    for (const entry of entries) {
      const offset = durable
      durable += entry.data.length
      entry.apply?.(offset)
      entry.resolve()
    }
  }

  async function work(): Promise<void> {
    while (queue.length > 0) {
      const next = queue[0]
      if (next?.kind === 'compact') {
        queue.shift()
        await next.run()
        continue
      }
      const end = queue.findIndex((job) => job.kind === 'compact')
      const batch = queue.splice(0, end === -1 ? queue.length : end)
      await commit(batch.flatMap((job) => (job.kind === 'append' ? [job.entry] : [])))
    }
    working = undefined
  }

  async function replace(content: Buffer): Promise<void> {
    const temporary = temporaryName(path)
    const fresh = await disk.open(temporary, APPEND | constants.O_CREAT | constants.O_EXCL, 0o600)
    try {
      await writeAll(fresh, content)
      await fresh.sync()
      await disk.rename(temporary, path)
    } catch (error) {
      await fresh.close()
      await disk.rm(temporary, { force: true })
      throw error
    }
    const old = file
    file = fresh
    durable = content.length
    mustCutBack = false
    mustSyncName = true // before the next line is acknowledged, even if it fails here
    await old.close()
    await syncName()
  }

  function enqueue(job: Job): void {
    queue.push(job)
    working ??= Promise.resolve().then(work)
  }

  return {
    append(lines, apply) {
      return new Promise<void>((resolve, reject) => {
        enqueue({ kind: 'append', entry: { data: Buffer.from(lines), apply, resolve, reject } })
      })
    },
    get sizeBytes() {
      return durable
    },
    compact(rewrite) {
      return new Promise<void>((resolve, reject) => {
        const run = async (): Promise<void> => {
          try {
            await replace(await rewrite())
            resolve()
          } catch (error) {
            reject(error)
          }
        }
        enqueue({ kind: 'compact', run })
      })
    },
    async close() {
      while (queue.length > 0) await working
      await working
      await file.close()
    },
  }
}

const APPEND = constants.O_APPEND | constants.O_RDWR

/** One journal line: CRC-32 of the JSON in 8 hex digits, a space, the JSON, a newline. */
export function encodeLine(value: unknown): string {
  const json = JSON.stringify(value)
  return `${crc32(json).toString(16).padStart(8, '0')} ${json}\n`
}

/** @throws Error when the checksum does not hold or it is no JSON */
export function decodeLine(line: string): unknown {
  const json = line.slice(9)
  if (line[8] !== ' ' || line.slice(0, 8) !== crc32(json).toString(16).padStart(8, '0')) throw new Error('bad checksum')
  return JSON.parse(json)
}

/**
 * Reads the complete lines of a journal and cuts off an unterminated last one: it was never acknowledged.
 * A missing file has no lines. The offset of each line is given in bytes.
 *
 * @throws DamagedStateError when `onLine` throws: a complete line that cannot be read was acknowledged
 */
export async function recoverLines(
  disk: Disk,
  path: string,
  onLine: (line: string, offset: number) => void,
): Promise<void> {
  let content: Buffer
  try {
    content = await disk.readFile(path)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return
    throw error
  }
  let start = 0
  for (let end = content.indexOf(10); end !== -1; end = content.indexOf(10, start)) {
    try {
      onLine(content.toString('utf8', start, end), start)
    } catch (error) {
      throw new DamagedStateError(path, `damaged line (${(error as Error).message})`, start)
    }
    start = end + 1
  }
  if (start === content.length) return
  const file = await disk.open(path, 'r+')
  try {
    await file.truncate(start)
    await file.datasync()
  } finally {
    await file.close()
  }
}
