import { dirname } from 'node:path'
import type { Adapter } from 'lowdb'
import { z } from 'zod'
import { DamagedStateError, replaceFile, type Disk } from './disk.ts'

/** The version of `db.json` that this server writes, and the newest it reads. */
export const SCHEMA_VERSION = 1

const Envelope = z.strictObject({
  schemaVersion: z.literal(SCHEMA_VERSION),
  /** The last line of the journal that the tables hold. */
  line: z.int().min(0),
  tables: z.record(z.string(), z.record(z.string(), z.unknown())),
})
export type Snapshot = z.infer<typeof Envelope>

/**
 * lowdb's adapter for `db.json`, in place of its own, which writes with mode 0644, never syncs and takes `null` for an
 * empty database. Reads nothing it cannot trust; writes whole or not at all. Decision 0004.
 */
export function createSnapshotAdapter(disk: Disk, path: string): Adapter<Snapshot> {
  return {
    /** null: there is no file yet. @throws DamagedStateError, the file untouched */
    async read() {
      let text: string
      try {
        text = await disk.readFile(path, 'utf8')
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null
        throw error
      }
      let json: unknown
      try {
        json = JSON.parse(text)
      } catch (error) {
        throw new DamagedStateError(path, `not valid JSON (${text.length} characters; ${(error as Error).message})`)
      }
      const version = (json as { schemaVersion?: unknown } | null)?.schemaVersion
      if (typeof version === 'number' && version > SCHEMA_VERSION) {
        throw new DamagedStateError(
          path,
          `written by a newer server (schemaVersion ${version}, this one reads ${SCHEMA_VERSION})`,
        )
      }
      const parsed = Envelope.safeParse(json)
      if (!parsed.success) throw new DamagedStateError(path, `not a state file: ${z.prettifyError(parsed.error)}`)
      return parsed.data
    },
    async write(data) {
      await disk.mkdir(dirname(path), { recursive: true, mode: 0o700 })
      await replaceFile(disk, path, Buffer.from(JSON.stringify(data)))
    },
  }
}
