import { createHash, randomBytes } from 'node:crypto'
import { constants, type BigIntStats } from 'node:fs'
import { link, mkdir, open, readdir, realpath, rename, rm, stat } from 'node:fs/promises'
import { dirname, join, sep } from 'node:path'
import { DomainError } from '../errors.ts'
import { ISSUE_FOLDER, ISSUE_LIMITS, IssueId } from '../model/issues.ts'
import { syncDirectory, systemDisk, writeAll } from '../store/disk.ts'

/** A file as it is on disk. `revision` changes with every byte of it. */
export interface FileText {
  text: string
  revision: string
  updatedAtMs: number
}

/** A file that is there and cannot be an issue, whatever it says. */
export class UnreadableFile extends Error {
  override readonly name = 'UnreadableFile'
}

/** What tells a version of a file from another without reading it. */
export const stampOf = ({ dev, ino, size, mtimeNs, ctimeNs }: BigIntStats): string =>
  [dev, ino, size, mtimeNs, ctimeNs].join(':')

const TEMPORARY = /^\.[a-z0-9_-]+\.md\.[0-9a-f]{12}\.tmp$/
/** Milliseconds after which a temporary file was left by a crash. */
const TEMPORARY_MS = 60_000

export const fileOf = (issueId: string): string => `${ISSUE_FOLDER}/${issueId}.md`

/**
 * The folder of issue files of one workspace. Every path is looked at with its links resolved, and one that leads out of
 * the workspace is refused. Source: docs/security.md 5.
 *
 * @param root real path of the workspace
 */
export function openFolder(root: string) {
  /** The real path; undefined: it is not there. @throws UnreadableFile when it leads out of the workspace, or is no folder */
  async function resolved(): Promise<string | undefined> {
    const real = await inside(join(root, ISSUE_FOLDER))
    if (real !== undefined && !(await stat(real)).isDirectory()) throw new UnreadableFile('is not a folder')
    return real
  }

  async function inside(path: string): Promise<string | undefined> {
    const real = await realpath(path).catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return undefined
      throw new UnreadableFile(`cannot be followed (${error.code})`)
    })
    if (real !== undefined && !isWithin(real, root)) throw new UnreadableFile('leads out of the workspace')
    return real
  }

  /**
   * Real path and stamp of a file; undefined: it is not there.
   *
   * @param known the folder, when it was resolved just now
   * @throws UnreadableFile
   */
  async function find(issueId: string, known?: string): Promise<{ path: string; stats: BigIntStats } | undefined> {
    const folder = known ?? (await resolved())
    if (folder === undefined) return undefined
    const path = await inside(join(folder, `${issueId}.md`))
    if (path === undefined) return undefined
    const stats = await stat(path, { bigint: true }).catch(() => undefined)
    if (stats && !stats.isFile()) throw new UnreadableFile('is not a file')
    return stats && { path, stats }
  }

  async function read(issueId: string): Promise<(FileText & { path: string; mode: number }) | undefined> {
    const found = await find(issueId)
    if (!found) return undefined
    // Resolved already: a link that takes the place of the file in between is not followed.
    const file = await open(found.path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK).catch(
      (error: NodeJS.ErrnoException) => {
        if (error.code === 'ENOENT') return undefined
        throw new UnreadableFile(`cannot be read (${error.code})`)
      },
    )
    if (!file) return undefined
    try {
      const stats = await file.stat()
      if (!stats.isFile()) throw new UnreadableFile('is not a file')
      if (stats.size > ISSUE_LIMITS.fileBytes) {
        throw new UnreadableFile(`has ${stats.size} bytes; the limit is ${ISSUE_LIMITS.fileBytes}`)
      }
      const bytes = await file.readFile()
      let text: string
      try {
        text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)
      } catch {
        throw new UnreadableFile('is not UTF-8')
      }
      if (text.includes('\0')) throw new UnreadableFile('contains NUL (U+0000)')
      const revision = createHash('sha256').update(bytes).digest('hex').slice(0, 16)
      return { text, revision, updatedAtMs: stats.mtimeMs, path: found.path, mode: stats.mode & 0o777 }
    } finally {
      await file.close()
    }
  }

  async function writeTemporary(folder: string, issueId: string, text: string, mode: number): Promise<string> {
    const bytes = Buffer.from(text)
    if (bytes.length > ISSUE_LIMITS.fileBytes) {
      const detail = `the file would have ${bytes.length} bytes; the limit is ${ISSUE_LIMITS.fileBytes}`
      throw new DomainError('validation_failed', detail)
    }
    const path = join(folder, `.${issueId}.md.${randomBytes(6).toString('hex')}.tmp`)
    try {
      const file = await open(path, 'wx', mode)
      try {
        await writeAll(file, bytes)
        await file.chmod(mode)
        await file.sync()
      } finally {
        await file.close()
      }
      return path
    } catch (error) {
      await rm(path, { force: true })
      throw error
    }
  }

  return {
    resolved,
    find,
    read,

    /** Names of issue files, sorted, and of those that cannot be one; leftovers of a crash are removed. @param now wall time */
    async list(now: number): Promise<{ folder?: string; ids: string[]; others: string[] }> {
      const folder = await resolved()
      if (folder === undefined) return { ids: [], others: [] }
      const names = await readdir(folder)
      for (const name of names.filter((each) => TEMPORARY.test(each))) {
        const left = await stat(join(folder, name)).catch(() => undefined)
        if (left && now - left.mtimeMs > TEMPORARY_MS) await rm(join(folder, name), { force: true })
      }
      const issues = names.filter((name) => name.endsWith('.md') && !name.startsWith('.')).toSorted()
      const ids = issues.map((name) => name.slice(0, -'.md'.length))
      const fits = (id: string): boolean => IssueId.safeParse(id).success
      return {
        folder,
        ids: ids.filter(fits),
        others: ids.filter((id) => !fits(id)).map((id) => `${ISSUE_FOLDER}/${id}.md`),
      }
    },

    /** Makes a file, whole or not at all; false: the name is taken. Folders are made with it. */
    async create(issueId: string, text: string): Promise<boolean> {
      // Level by level: of a path that is there, a link must not lead out before anything is made behind it.
      let path = root
      for (const name of ISSUE_FOLDER.split('/')) {
        path = join(path, name)
        if ((await inside(path)) === undefined) await mkdir(path).catch(ignoreExisting)
      }
      const folder = await resolved()
      if (folder === undefined) throw new UnreadableFile('could not be made')
      const temporary = await writeTemporary(folder, issueId, text, 0o644)
      try {
        await link(temporary, join(folder, `${issueId}.md`))
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false
        throw error
      } finally {
        await rm(temporary, { force: true })
      }
      await syncDirectory(systemDisk, folder)
      return true
    },

    /** Replaces a file that still has this revision; false: it has another, or is gone, and nothing was changed. */
    async replace(issueId: string, revision: string, text: string): Promise<boolean> {
      const before = await read(issueId)
      if (before?.revision !== revision) return false
      const temporary = await writeTemporary(dirname(before.path), issueId, text, before.mode)
      // Looked at again at the last moment: what somebody saved meanwhile is not written over.
      if ((await read(issueId))?.revision !== revision) {
        await rm(temporary, { force: true })
        return false
      }
      await rename(temporary, before.path)
      await syncDirectory(systemDisk, dirname(before.path))
      return true
    },

    /**
     * Removes a file that still has this revision, or the link that leads to it; false as `replace`.
     *
     * @param revision undefined: whatever is in the file
     */
    async remove(issueId: string, revision: string | undefined): Promise<boolean> {
      const folder = await resolved()
      if (folder === undefined || !(await find(issueId, folder))) return false
      if (revision !== undefined && (await read(issueId))?.revision !== revision) return false
      await rm(join(folder, `${issueId}.md`))
      await syncDirectory(systemDisk, folder)
      return true
    },
  }
}
export type Folder = ReturnType<typeof openFolder>

const isWithin = (path: string, root: string): boolean => path === root || path.startsWith(root + sep)

function ignoreExisting(error: NodeJS.ErrnoException): void {
  if (error.code !== 'EEXIST') throw error
}
