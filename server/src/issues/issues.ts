import { isoTime, type Clock } from '../clock.ts'
import { DomainError, type ErrorCode } from '../errors.ts'
import type { IdempotencyScope } from '../model.ts'
import type { FireRow, Issue, IssueComment, IssueSummary, When } from '../model/issues.ts'
import type { Runs } from '../runs/types.ts'
import { fingerprintOf, type Claim, type Claims } from '../store/claims.ts'
import type { Table } from '../store/table.ts'
import { slug } from '../workspaces/naming.ts'
import type { Workspaces } from '../workspaces/types.ts'
import { changed, checkSchedule, checkText, inOrder, unless } from './checks.ts'
import { createFires, requestOf, type FireFailure } from './fires.ts'
import { fileOf } from './folder.ts'
import { scheduleOf } from './health.ts'
import { appendComment, editIssue, newIssue } from './issue-file.ts'
import { createLibrary, type LoadedIssue } from './library.ts'
import { nextFires } from './schedule.ts'
import { createScheduler } from './scheduler.ts'
import type { FireNote, IssueRef, Issues } from './types.ts'

/** Times that a change is made again when the file changed under it and the caller named no revision. */
const ATTEMPTS = 5
/** Milliseconds that stopping waits for what is being decided. */
const STOP_WAIT_MS = 2_000
/** People were told before a restart: in the words of then, or they have removed it. */
const TOLD: ReadonlySet<ErrorCode> = new Set(['idempotency_mismatch', 'inbox_entry_removed'])
/** Numbers tried behind a name that is taken. */
const MAX_NAMES = 100

export interface IssuesDeps {
  workspaces: Workspaces
  runs: Runs
  fires: Table<FireRow>
  claims: Claims
  clock: Clock
  /** Tells people of a fire that brought nothing; after a crash twice, with the same `key`. */
  tellPeople?: ((note: FireNote) => Promise<void>) | undefined
  onError(message: string, error: unknown): void
}

/** See `Issues`. `start` begins to read every file and to fire; `look` is for a workspace that came, changed or went. */
export function createIssues(deps: IssuesDeps): Issues & {
  start(): Promise<void>
  look(wsId: string): Promise<void>
  stop(): Promise<void>
} {
  const { workspaces, runs, fires: rows, claims, clock, tellPeople, onError } = deps
  const closing = new AbortController()
  const { signal } = closing
  let running = false
  let loops: Promise<unknown> = Promise.resolve()

  const fires = createFires({
    runs,
    rows,
    clock,
    signal,
    markDone,
    reportFailure,
    onError,
  })
  const scheduler = createScheduler({
    rows,
    fires,
    clock,
    revisionOf: async (ref) => (await library.load(ref).catch(() => undefined))?.revision,
    reread: async (wsId) => void (await library.look(wsId)),
    onError,
  })
  const library = createLibrary({
    workspaces,
    clock,
    async onShelf(wsId, shelf) {
      if (!running) return
      const { createdAt } = await workspaces.get(wsId)
      await scheduler.shelve(wsId, shelf, Date.parse(createdAt))
    },
    onGone: (wsId) =>
      void scheduler.forget({ wsId }).catch((error: unknown) => onError('rows of a workspace that is gone', error)),
    onError,
  })
  async function reportFailure({ dueAt, reason, detail, ...about }: FireFailure): Promise<void> {
    const { wsId, issueId, taskId } = about
    const found = await library.load(about).catch(() => undefined)
    const what = taskId === null ? 'could not run' : reason === 'no_report' ? 'reported nothing' : 'failed'
    try {
      await tellPeople?.({
        ...about,
        title: `${issueId} ${what}: ${reason}`,
        body: `"${found?.issue.title ?? issueId}" was due at ${dueAt}${taskId === null ? '' : `, run ${taskId}`}: ${detail}`,
        key: `issue:${wsId}/${issueId}@${dueAt}:${taskId ?? reason}`,
      })
    } catch (error) {
      if (!(error instanceof DomainError && TOLD.has(error.code))) throw error
    }
  }

  async function markDone(ref: IssueRef, dueAt: string): Promise<void> {
    const isIt = (when: When | undefined): boolean => when?.kind === 'at' && Date.parse(when.at) === Date.parse(dueAt)
    try {
      await change(ref, undefined, (text, { issue }) =>
        isIt(issue.when) && issue.status !== 'canceled' ? editIssue(text, { status: 'done' }) : text,
      )
    } catch (error) {
      // Gone, broken by now, or for a hand alone to edit: then nothing is marked.
      if (!(error instanceof DomainError) || error.code === 'storage_unavailable') throw error
    }
  }

  /** Reads, edits and writes one file; without a revision again, when somebody else wrote in between. */
  async function change(
    ref: IssueRef,
    revision: string | undefined,
    edit: (text: string, loaded: LoadedIssue) => string | Promise<string>,
  ): Promise<LoadedIssue> {
    await library.change(ref, async (folder) => {
      for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
        const loaded = await library.load(ref)
        if (revision !== undefined && loaded.revision !== revision) break
        const next = await edit(loaded.text, loaded)
        if (next === loaded.text) return
        checkText(next)
        if (await folder.replace(ref.issueId, loaded.revision, next)) return
        if (revision !== undefined) break
      }
      throw changed(ref, revision)
    })
    return await library.load(ref)
  }

  async function detailed(loaded: LoadedIssue): Promise<Issue> {
    const { comments: _, ...summary } = await summarised(loaded)
    return { ...summary, body: loaded.issue.body, comments: loaded.issue.comments }
  }

  async function summarised(loaded: LoadedIssue): Promise<IssueSummary> {
    const { wsId, issueId, issue, revision, updatedAtMs } = loaded
    const { nextFires: next, health } = scheduleOf(loaded, await scheduler.rowOf(loaded), clock.now(), 1)
    return {
      wsId,
      issueId,
      title: issue.title,
      status: issue.status,
      priority: issue.priority,
      when: issue.when ?? null,
      agent: issue.agent ?? null,
      timeoutMs: issue.timeoutMs ?? null,
      overlap: issue.overlap,
      catchUp: issue.catchUp,
      comments: issue.comments.length,
      file: fileOf(issueId),
      revision,
      updatedAt: isoTime(Math.floor(updatedAtMs)),
      nextFire: next[0] ?? null,
      health,
    }
  }

  /** Does `work` once for a key: `recordId` is what an earlier request with it claimed. */
  async function once<T>(
    idempotency: IdempotencyScope | undefined,
    input: unknown,
    work: (recordId: string | undefined, commit: (recordId: string) => Promise<void>) => Promise<T>,
  ): Promise<T> {
    let claim: Claim | undefined
    if (idempotency) {
      const { caller, method, path, key } = idempotency
      claim = claims.begin([caller, method, path, key], fingerprintOf(input))
    }
    try {
      return await work(claim?.recordId, async (recordId) => await claim?.commit(recordId))
    } finally {
      claim?.release()
    }
  }

  return {
    async board({ wsId, status }) {
      const ids = wsId === undefined ? (await workspaces.list()).map(({ id }) => id) : [(await workspaces.get(wsId)).id]
      const shelves = await Promise.all(
        ids.map(async (id) =>
          library.look(id).catch((error: unknown) => {
            // Removed since it was listed: then it has no issues.
            if (error instanceof DomainError && error.code === 'workspace_not_found')
              return { issues: [], problems: [] }
            throw error
          }),
        ),
      )
      const issues = shelves
        .flatMap((shelf) => shelf.issues)
        .filter(({ issue }) => (status ?? issue.status) === issue.status)
      return {
        issues: await Promise.all(issues.map(summarised)),
        problems: shelves.flatMap(({ problems }) => problems),
      }
    },

    get: async (ref) => await detailed(await library.load(ref)),

    async create(wsId, input, idempotency) {
      const { issueId: named, body = '', ...values } = input
      if (values.when) checkSchedule(values.when, '/when')
      const text = newIssue(inOrder(values), body)
      checkText(text)
      return await once(idempotency, { wsId, input }, async (recordId, commit) => {
        const found =
          recordId === undefined
            ? undefined
            : await library.load({ wsId, issueId: recordId }).catch(unless('issue_not_found'))
        if (found) return { issue: await detailed(found), replayed: true }
        const first = named ?? recordId ?? slug(input.title, 'issue')
        const made = await library.change({ wsId, issueId: first }, async (folder) => {
          for (let number = 1; number <= MAX_NAMES; number++) {
            const issueId = number === 1 ? first : `${first.slice(0, 60)}-${number}`
            const isFree = (await folder.find(issueId)) === undefined
            if (isFree) await commit(issueId)
            if (isFree && (await folder.create(issueId, text))) return issueId
            if (named !== undefined) break
          }
          throw new DomainError('issue_exists', `there is an issue "${first}" in ${wsId}`, {
            hint: 'choose another issueId, or change that one',
          })
        })
        return { issue: await detailed(await library.load({ wsId, issueId: made })), replayed: false }
      })
    },

    async update(ref, { revision, ...patch }) {
      if (patch.when) checkSchedule(patch.when, '/when')
      return await detailed(await change(ref, revision, (text) => editIssue(text, { ...patch })))
    },

    async remove(ref, { revision }) {
      const loaded = await library.load(ref).catch(unless('issue_invalid'))
      const issue = loaded ? await detailed(loaded) : null
      if (revision !== undefined && loaded?.revision !== revision) throw changed(ref, revision)
      const removed = await library.change(ref, (folder) => folder.remove(ref.issueId, loaded?.revision))
      if (!removed) throw changed(ref, revision)
      await scheduler.forget(ref)
      return issue
    },

    async comment(ref, { text, author = 'operator' }, idempotency) {
      return await once(idempotency, { ref, text, author }, async (recordId, commit) => {
        let comment: IssueComment = { at: recordId ?? '', author, text: text.trim() }
        let replayed = false
        await change(ref, undefined, async (before, { issue }) => {
          replayed = recordId !== undefined && issue.comments.some(({ at }) => at === recordId)
          if (replayed) return before
          if (comment.at === '') {
            // Each its own moment: it tells them apart when a request is repeated.
            const last = Math.max(0, ...issue.comments.map(({ at }) => Date.parse(at)))
            comment = { ...comment, at: isoTime(Math.max(clock.now(), last + 1)) }
            await commit(comment.at)
          }
          return appendComment(before, comment)
        })
        return { comment, replayed }
      })
    },

    async run(ref, idempotency, startedBy) {
      const before = idempotency && (await runs.replay(idempotency, ref))
      if (before) return before
      const loaded = await library.load(ref)
      if (!/\S/.test(loaded.issue.body)) {
        throw new DomainError('issue_invalid', `${fileOf(ref.issueId)} has no body, and the body is the prompt`, {
          hint: 'write what the agent is to do below the frontmatter',
        })
      }
      const { trigger, ...request } = requestOf(loaded)
      return await runs.start({
        ...request,
        trigger: { ...trigger, ...startedBy },
        ...(idempotency && { idempotency, sent: ref }),
      })
    },

    async schedule(ref, count) {
      const loaded = await library.load(ref)
      return scheduleOf(loaded, await scheduler.rowOf(ref), clock.now(), count)
    },

    preview(when, count) {
      checkSchedule(when)
      return { when, fires: nextFires(when, clock.now(), count).map(isoTime) }
    },

    async start() {
      running = true
      const known = new Set((await workspaces.list()).map(({ id }) => id))
      for (const row of await rows.list()) {
        if (!known.has(row.wsId)) await scheduler.forget(row)
        else fires.attend(row, row)
      }
      // Not waited for: a workspace on a disk that hangs keeps no server from starting.
      const first = library.lookAtAll().catch((error: unknown) => onError('the issues could not be looked at', error))
      loops = Promise.all([first, scheduler.run(signal), library.watch(signal)])
    },

    async look(wsId) {
      await library.look(wsId).catch(() => library.lookAtAll())
    },

    async stop() {
      closing.abort(new Error('the server is stopping'))
      const over = new AbortController()
      const limit = clock.sleep(STOP_WAIT_MS, over.signal).catch(() => undefined)
      await Promise.race([Promise.all([loops, fires.settled()]), limit])
      over.abort()
    },
  }
}
