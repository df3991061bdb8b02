import { createHash } from 'node:crypto'
import { constants } from 'node:fs'
import { open, readFile, readlink, realpath, stat, type FileHandle } from 'node:fs/promises'
import { isAbsolute, join, relative, resolve, sep } from 'node:path'
import { DomainError } from '../errors.ts'
import { INBOX_LIMITS, type InboxDocument } from '../model/inbox.ts'

/** Takes secrets out of what is kept. */
export interface Cleaner {
  text(text: string): string
  bytes(bytes: Buffer): Buffer
}

/** A file of a workspace, read whole and known to lie in it. */
export interface Snapshot {
  document: InboxDocument
  bytes: Buffer
}

/**
 * Reads a file as it is now, but for what is secret in it, wherever its path leads, and only when that is inside the
 * workspace (docs/security.md 7, S21).
 * Checked on the open file, so that a link put there meanwhile is noticed.
 *
 * @param roots real directories it may lie in; a relative path is looked for in the first
 * @throws DomainError `document_not_usable`
 */
export async function takeSnapshot(path: string, roots: string[], clean: Cleaner): Promise<Snapshot> {
  const refuse = (why: string): DomainError =>
    new DomainError('document_not_usable', `${JSON.stringify(path.slice(0, 200))} ${why}`, {
      hint: 'name a file inside the workspace',
    })
  const [first] = roots
  if (first === undefined) throw refuse('belongs to no workspace: this entry has none')
  if (path.includes('\0')) throw refuse('contains a NUL')
  // One answer for what is not there and what lies outside: the Inbox is not a way to ask which files exist.
  const outside = 'is no file of the workspace (links that lead out of it are refused)'
  const real = await realpath(isAbsolute(path) ? path : resolve(first, path)).catch(() => undefined)
  const root = real === undefined ? undefined : roots.find((each) => isInside(real, each))
  if (real === undefined || root === undefined) throw refuse(outside)
  const file = await open(real, constants.O_RDONLY | (constants.O_NOFOLLOW ?? 0) | (constants.O_NONBLOCK ?? 0)).catch(
    () => {
      throw refuse('cannot be read')
    },
  )
  try {
    const found = await file.stat()
    if (!found.isFile()) throw refuse('is not a regular file')
    if (!(await isStillAt(file, real))) throw refuse(outside)
    if (found.size > INBOX_LIMITS.documentBytes)
      throw refuse(`has ${found.size} bytes; the limit is ${INBOX_LIMITS.documentBytes}`)
    const read = await readUpTo(file, INBOX_LIMITS.documentBytes + 1)
    if (read.length > INBOX_LIMITS.documentBytes)
      throw refuse(`has more than ${INBOX_LIMITS.documentBytes} bytes, the limit`)
    const bytes = clean.bytes(read)
    const name = clean.text(relative(root, real).split(sep).join('/'))
    return { document: { name, sizeBytes: bytes.length, sha256: sha256(bytes) }, bytes }
  } finally {
    await file.close()
  }
}

const isInside = (path: string, root: string): boolean => path.startsWith(root.endsWith(sep) ? root : root + sep)

/** True when the open file is the one at the real path: no part of the path became a link since it was resolved. */
async function isStillAt(file: FileHandle, real: string): Promise<boolean> {
  const known = await readlink(`/proc/self/fd/${file.fd}`).catch(() => undefined)
  if (known !== undefined) return known === real
  const [now, there, opened] = await Promise.all([realpath(real), stat(real), file.stat()]).catch(() => [])
  return now === real && there?.dev === opened?.dev && there?.ino === opened?.ino
}

/** A file that grows while it is read is read no further than its limit. */
async function readUpTo(file: FileHandle, most: number): Promise<Buffer> {
  const chunks: Buffer[] = []
  for (let left = most; left > 0;) {
    const chunk = Buffer.allocUnsafe(Math.min(left, 256 * 1024))
    const { bytesRead } = await file.read(chunk, 0, chunk.length, null)
    if (bytesRead === 0) break
    chunks.push(chunk.subarray(0, bytesRead))
    left -= bytesRead
  }
  return Buffer.concat(chunks)
}

/**
 * The bytes of a snapshot as they were taken.
 *
 * @throws DomainError `document_damaged` when the file is gone or holds other bytes
 */
export async function readSnapshot(directory: string, index: number, document: InboxDocument): Promise<Buffer> {
  const damaged = (why: string): DomainError =>
    new DomainError('document_damaged', `the snapshot of ${JSON.stringify(document.name)} ${why}`)
  const bytes = await readFile(join(directory, snapshotName(index))).catch(() => undefined)
  if (!bytes) throw damaged('cannot be read any more')
  if (sha256(bytes) !== document.sha256) throw damaged('does not fit its SHA-256')
  return bytes
}

/** The name of a snapshot in the entry's directory: its position, so that no name of a workspace reaches our disk. */
export const snapshotName = (index: number): string => `document-${index}`

const sha256 = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex')
