import { join } from 'node:path'
import { writeAll, type Disk } from './disk.ts'

/**
 * What is needed to end the processes of a server that died: a file for each, written before the agent sees its prompt,
 * removed when the process is over.
 */
export interface LiveFiles<T> {
  /** On disk when it resolves. */
  write(id: string, file: T): Promise<void>
  remove(id: string): Promise<void>
  /** What an earlier server left, by id. A file that cannot be read counts as one without a process. */
  left(): Promise<Map<string, T | undefined>>
}

export function createLiveFiles<T>(disk: Disk, directory: string): LiveFiles<T> {
  const path = (id: string): string => join(directory, `${id}.json`)
  return {
    async write(id, file) {
      await disk.mkdir(directory, { recursive: true, mode: 0o700 })
      // Not by a rename: one cut off by a crash counts as one without a process, and the mark still finds them.
      const handle = await disk.open(path(id), 'w', 0o600)
      try {
        await writeAll(handle, Buffer.from(JSON.stringify(file)))
        await handle.datasync()
      } finally {
        await handle.close()
      }
    },
    async remove(id) {
      await disk.rm(path(id), { force: true })
    },
    async left() {
      const names = await disk.readdir(directory).catch(() => [] as string[])
      const found = new Map<string, T | undefined>()
      for (const name of names) {
        const text = await disk.readFile(join(directory, name), 'utf8')
        found.set(name.slice(0, -'.json'.length), parse<T>(text))
      }
      return found
    },
  }
}

function parse<T>(text: string): T | undefined {
  try {
    return JSON.parse(text) as T
  } catch {
    return undefined
  }
}
