import type { Clock } from '../clock.ts'
import { DomainError } from '../errors.ts'
import { ISSUE_FOLDER, ISSUE_LIMITS, type IssueProblem } from '../model/issues.ts'
import { nearest } from '../workspaces/naming.ts'
import type { Workspaces } from '../workspaces/types.ts'
import { fileOf, openFolder, stampOf, UnreadableFile, type FileText, type Folder } from './folder.ts'
import { parseIssue, type FileError, type ParsedIssue } from './issue-file.ts'
import type { IssueRef } from './types.ts'
import { watchFolder } from './watch.ts'

/** Milliseconds between two looks at all folders: for what no event told of. */
export const LOOK_MS = 60_000

/** An issue as its file says. */
export interface LoadedIssue extends IssueRef, Omit<FileText, 'text'> {
  issue: ParsedIssue
}
/** All of one workspace. */
export interface Shelf {
  issues: LoadedIssue[]
  problems: IssueProblem[]
}
type Looked = { loaded: LoadedIssue } | { problems: IssueProblem[] }

interface Place {
  root: string
  folder: Folder
  watch: ReturnType<typeof watchFolder>
  known: Map<string, { stamp: string; looked: Looked }>
  /** One look or change at a time. */
  turn: Promise<unknown>
  /** A look is asked for and has not begun. */
  asked: boolean
}

/**
 * The issue files of all workspaces: read when they changed, watched, each by itself. `onShelf` is told of every look.
 */
export function createLibrary(deps: {
  workspaces: Workspaces
  clock: Clock
  onShelf(wsId: string, shelf: Shelf): Promise<void>
  /** A workspace is gone. */
  onGone(wsId: string): void
  onError(message: string, error: unknown): void
}) {
  const { workspaces, clock, onShelf, onGone, onError } = deps
  const places = new Map<string, Place>()
  const closing = new AbortController()

  /** @throws DomainError `workspace_not_found`, `path_not_usable` */
  async function placeOf(wsId: string): Promise<Place> {
    const root = await workspaces.directory(wsId)
    const known = places.get(wsId)
    if (known?.root === root) return known
    known?.watch.close()
    const watch = watchFolder(root, () => lookSoon(wsId))
    const place: Place = {
      root,
      folder: openFolder(root),
      watch,
      known: new Map(),
      turn: Promise.resolve(),
      asked: false,
    }
    places.set(wsId, place)
    return place
  }

  async function inTurn<T>(place: Place, work: () => Promise<T>): Promise<T> {
    const mine = place.turn.then(work, work)
    place.turn = mine.catch(() => undefined)
    return await mine
  }

  /** Many events, one look: what comes while one is asked for is seen by it. */
  function lookSoon(wsId: string): void {
    const place = places.get(wsId)
    if (!place || place.asked || closing.signal.aborted) return
    place.asked = true
    void look(wsId).catch((error: unknown) => onError(`the issues of ${wsId} could not be looked at`, error))
  }

  async function look(wsId: string): Promise<Shelf> {
    let place: Place
    try {
      place = await placeOf(wsId)
    } catch (error) {
      if (!(error instanceof DomainError) || error.code === 'workspace_not_found') throw error
      const shelf = { issues: [], problems: [{ wsId, file: ISSUE_FOLDER, line: null, message: error.message }] }
      await onShelf(wsId, shelf)
      return shelf
    }
    return await inTurn(place, async () => {
      place.asked = false
      // First the watch, then the look: what changes in between is told.
      if (!closing.signal.aborted) await place.watch.again()
      const shelf = await lookAt(wsId, place)
      await onShelf(wsId, shelf)
      return shelf
    })
  }

  async function lookAt(wsId: string, place: Place): Promise<Shelf> {
    const shelf: Shelf = { issues: [], problems: [] }
    const complain = (file: string, message: string): void =>
      void shelf.problems.push({ wsId, file, line: null, message })
    let names
    try {
      names = await place.folder.list(clock.now())
    } catch (error) {
      complain(ISSUE_FOLDER, messageOf(error))
      return shelf
    }
    for (const file of names.others) {
      complain(file, 'the name before `.md` must be 1 to 64 of a-z 0-9 - _, beginning with a letter or digit')
    }
    const { ids } = names
    if (ids.length > ISSUE_LIMITS.files) {
      complain(
        ISSUE_FOLDER,
        `has ${ids.length} issue files; the limit is ${ISSUE_LIMITS.files}, the others are not read`,
      )
    }
    const read = ids.slice(0, ISSUE_LIMITS.files)
    for (const issueId of read) {
      const looked = await lookAtFile({ wsId, issueId }, place, names.folder)
      if (!looked) continue
      if ('loaded' in looked) shelf.issues.push(looked.loaded)
      else shelf.problems.push(...looked.problems)
    }
    for (const known of place.known.keys()) if (!read.includes(known)) place.known.delete(known)
    return shelf
  }

  async function lookAtFile(
    ref: IssueRef,
    { folder, known }: Place,
    resolved: string | undefined,
  ): Promise<Looked | undefined> {
    const { wsId, issueId } = ref
    try {
      const found = await folder.find(issueId, resolved)
      if (!found) return undefined
      const stamp = stampOf(found.stats)
      const before = known.get(issueId)
      if (before?.stamp === stamp) return before.looked
      const file = await folder.read(issueId)
      if (!file) return undefined
      const parsed = parseIssue(file.text)
      const looked: Looked =
        'issue' in parsed
          ? { loaded: { ...ref, ...parsed, revision: file.revision, updatedAtMs: file.updatedAtMs } }
          : { problems: named(parsed.errors).map((error) => ({ wsId, file: fileOf(issueId), ...error })) }
      known.set(issueId, { stamp, looked })
      return looked
    } catch (error) {
      return { problems: [{ wsId, file: fileOf(issueId), line: null, message: messageOf(error) }] }
    }
  }

  async function lookAtAll(): Promise<void> {
    const all = await workspaces.list()
    const ids = new Set(all.map(({ id }) => id))
    for (const [wsId, place] of places) {
      if (ids.has(wsId)) continue
      place.watch.close()
      places.delete(wsId)
      onGone(wsId)
    }
    // All at once: one on a disk that hangs must not hold up the others.
    await Promise.all(
      [...ids].map((wsId) =>
        look(wsId).catch((error: unknown) => onError(`the issues of ${wsId} could not be looked at`, error)),
      ),
    )
  }

  return {
    look,
    lookAtAll,

    /**
     * One file, read now.
     *
     * @throws DomainError `workspace_not_found`, `path_not_usable`, `issue_not_found`, `issue_invalid`
     */
    async load(ref: IssueRef): Promise<LoadedIssue & { text: string }> {
      const { folder } = await placeOf(ref.wsId)
      const file = await refusing(ref, () => folder.read(ref.issueId))
      if (!file) throw notFound(ref, await refusing(ref, () => folder.list(clock.now())))
      const parsed = parseIssue(file.text)
      if ('errors' in parsed) throw invalid(ref, parsed.errors)
      return { ...ref, ...parsed, text: file.text, revision: file.revision, updatedAtMs: file.updatedAtMs }
    },

    /**
     * Does one change in a workspace after the other, and looks at the folder afterwards.
     *
     * @throws DomainError what `work` throws; `issue_invalid` for a file that leads out; `storage_unavailable`
     */
    async change<T>(ref: IssueRef, work: (folder: Folder) => Promise<T>): Promise<T> {
      const place = await placeOf(ref.wsId)
      const result = await inTurn(place, () => refusing(ref, () => work(place.folder)))
      await look(ref.wsId)
      return result
    },

    /** Looks at everything now and then, until the signal aborts. */
    async watch(signal: AbortSignal): Promise<void> {
      signal.addEventListener('abort', () => {
        closing.abort()
        for (const { watch } of places.values()) watch.close()
      })
      for (;;) {
        await clock.sleep(LOOK_MS, signal).catch(() => undefined)
        if (signal.aborted) return
        // Lives on: a disk that cannot be read now can be later.
        await lookAtAll().catch((error: unknown) => onError('the issues could not be looked at', error))
      }
    },
  }
}
export type Library = ReturnType<typeof createLibrary>

/** Errors as the board has room for them. */
function named(errors: FileError[]): FileError[] {
  const next = errors[ISSUE_LIMITS.errors]
  if (!next) return errors
  const rest = errors.length - ISSUE_LIMITS.errors
  return [...errors.slice(0, ISSUE_LIMITS.errors), { line: next.line, message: `and ${rest} more` }]
}

const messageOf = (error: unknown): string => {
  if (error instanceof UnreadableFile) return error.message
  const { code } = error as NodeJS.ErrnoException
  return `cannot be read${code === undefined ? '' : ` (${code})`}`
}

async function refusing<T>(ref: IssueRef, work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    if (error instanceof DomainError) throw error
    if (error instanceof UnreadableFile) throw invalid(ref, [{ line: 0, message: error.message }])
    const { code } = error as NodeJS.ErrnoException
    throw new DomainError('storage_unavailable', `${fileOf(ref.issueId)} could not be written (${code ?? 'unknown'})`, {
      retryAfterSeconds: 5,
      cause: error,
    })
  }
}

function notFound({ wsId, issueId }: IssueRef, { ids }: { ids: string[] }): DomainError {
  const near = nearest(issueId, ids)
  const hint = near === undefined ? '' : `; nearest: "${near}"`
  return new DomainError('issue_not_found', `there is no issue "${issueId}" in ${wsId}${hint}`, {
    hint: `postern issue ls -w ${wsId}`,
  })
}

function invalid({ issueId }: IssueRef, errors: FileError[]): DomainError {
  const [first] = errors
  const where = first && first.line > 0 ? `, line ${first.line}` : ''
  const more = errors.length > 1 ? ` (and ${errors.length - 1} more)` : ''
  return new DomainError('issue_invalid', `${fileOf(issueId)}${where}: ${first?.message ?? ''}${more}`, {
    hint: 'correct the file; `postern issue ls` names every line that is wrong',
  })
}
