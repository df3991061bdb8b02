import { join } from 'node:path'
import type { ProcessIdentity } from '../process/types.ts'
import { writeAll, type Disk } from '../store/disk.ts'

/** What is needed to end a run whose server died: written before the agent sees its prompt, removed when the run is over. */
export interface LiveFile {
  identity: ProcessIdentity
  /** Where it worked, and the tree of files it began with, for the diff of what it left. */
  directory: string
  baseTree: string | null
}

export interface LiveFiles {
  /** On disk when it resolves. */
  write(taskId: string, file: LiveFile): Promise<void>
  remove(taskId: string): Promise<void>
  /** What an earlier server left, by run. A file that cannot be read counts as one without a process. */
  left(): Promise<Map<string, LiveFile | undefined>>
}

export function createLiveFiles(disk: Disk, directory: string): LiveFiles {
  const path = (taskId: string): string => join(directory, `${taskId}.json`)
  return {
    async write(taskId, file) {
      await disk.mkdir(directory, { recursive: true, mode: 0o700 })
      // Not by a rename: one cut off by a crash counts as one without a process, and the mark still finds them.
      const handle = await disk.open(path(taskId), 'w', 0o600)
      try {
        await writeAll(handle, Buffer.from(JSON.stringify(file)))
        await handle.datasync()
      } finally {
        await handle.close()
      }
    },
    async remove(taskId) {
      await disk.rm(path(taskId), { force: true })
    },
    async left() {
      const names = await disk.readdir(directory).catch(() => [] as string[])
      const found = new Map<string, LiveFile | undefined>()
      for (const name of names) {
        const text = await disk.readFile(join(directory, name), 'utf8')
        found.set(name.slice(0, -'.json'.length), parse(text))
      }
      return found
    },
  }
}

function parse(text: string): LiveFile | undefined {
  try {
    return JSON.parse(text) as LiveFile
  } catch {
    return undefined
  }
}
