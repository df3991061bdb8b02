import type { Agent } from '../agents/agent.ts'
import { createFold } from '../agents/fold.ts'
import { isoTime } from '../clock.ts'
import { DomainError } from '../errors.ts'
import type { EventLog } from '../events/types.ts'
import type { NewEvent, RunRow, Totals, Workspace } from '../model.ts'
import type { Exit } from '../process/types.ts'
import type { Table } from '../store/table.ts'
import { createAttendant, type AttendDeps, type Control } from './attend.ts'
import { beginChanges, discardSnapshots, type Changed, type Changes } from './changes.ts'
import { seqOfEnd, type EndRun } from './end.ts'
import { judge, type Verdict } from './outcome.ts'
import { LEAST_NUDGE_MS, NUDGE_PROMPT, outcomeOf, usageOfBoth } from './nudge.ts'
import type { RunGit } from './ports.ts'
import { createRecorder } from '../events/recorder.ts'
import { createRedactor } from '../events/redactor.ts'
import type { Budgets } from '../budgets/types.ts'
import { createMeter } from './meter.ts'
import { ownUsage, totalsBefore, type Reported } from './totals.ts'
import { Unstartable } from './unstartable.ts'
import { keepText, REPLY_FILE } from './view.ts'

/** Ends of a program that say nothing against its budget having ended it. */
const BY_ITSELF: ReadonlySet<Exit['reason']> = new Set(['budget_exceeded', 'exited', 'settled', 'fatal'])

export interface WorkerDeps extends AttendDeps {
  runs: Table<RunRow>
  events: EventLog
  git: RunGit
  endRun: EndRun
  /** The directory of a workspace, checked to be the registered one. */
  workspaceDirectory(wsId: string): Promise<string>
  worktreePath(taskId: string): string
  budgets: Budgets
  /** What the credentials of these names hold for an agent. @throws DomainError `credential_not_found` */
  openCredentials(names: string[], agentId: string): Promise<{ variables: Record<string, string>; values: string[] }>
  /** Ids of the Inbox entries that a run pushed since a moment, oldest first. */
  pushedBy(taskId: string, since: string): Promise<string[]>
}

/** Works one run from its place to its end. Resolves with the row as it ended; rejects only when the server gives up. */
export function createWorker(
  deps: WorkerDeps,
): (job: { row: RunRow; prompt: string; agent: Agent; workspace: Workspace; control: Control }) => Promise<RunRow> {
  const { runs, events, clock, disk, git } = deps
  const attend = createAttendant(deps)

  return async ({ row, prompt, agent, workspace, control }) => {
    const directory = deps.runDirectory(row.id)
    const recorder = createRecorder({ events, clock, log: row.id, signal: control.giveUp.signal })
    const log = (added: NewEvent[]): Promise<void> => recorder.add(added)
    void log([{ type: 'run.started', agent: agent.id, wsId: row.wsId, timeoutMs: row.timeoutMs }])

    const headless = agent.headless
    const counting = headless?.usage ?? ({ tokens: 'total', cost: 'total' } as const)
    const fold = createFold(counting)
    let before: Totals | undefined
    let exit: Exit | undefined
    let verdict: Verdict
    let changes: Changes | undefined
    let stderr = ''
    let reply: { text: string | null; truncated: boolean } = { text: null, truncated: false }
    let usage: Reported | undefined
    let redactor = createRedactor([])
    const meter = createMeter(deps.budgets, workspace)
    let overBudget: string | undefined
    let talksIn: string | undefined
    /** Of `reported` and what came before it in the conversation; once over, always over. */
    const measure = (reported: Reported): string | undefined =>
      (overBudget = meter.read(ownUsage(reported, counting, before).usage) ?? overBudget)
    const notes = new Set<Promise<unknown>>()
    control.note = async (event) => {
      const written = events.append(row.id, [event])
      notes.add(written)
      await written.finally(() => notes.delete(written))
    }
    try {
      if (!headless) throw new Unstartable('agent_not_found', `"${agent.id}" cannot run headless any more`)
      const cwd = await directoryOf(row)
      const given = await credentialsOf(workspace, agent)
      redactor = createRedactor(given.values)
      const worktreePath = deps.worktreePath(row.worktreeOf ?? row.id)
      changes = await beginChanges({ git, disk, runDirectory: directory, worktreePath }, row, cwd)
      const conversationId = row.resume ? ((await runs.get(row.resume))?.conversationId ?? null) : null
      if (conversationId !== null) before = await totalsBefore(runs, conversationId, row.id)
      const task = { cwd: changes.directory, permissions: workspace.permissions, model: row.model }
      const command = headless.compose({ ...task, prompt, conversationId })
      const shared = { row, agent, changes, control, recorder, redactor, credentials: given.variables, onConversation }
      const watched = { overBudget: () => measure(fold.state) }
      const done = await attend({ ...shared, ...watched, command, fold, conversationId, timeoutMs: row.timeoutMs })
      exit = done.exit
      stderr = done.stderr
      reply = headless.output === 'text' ? done.tail : { text: fold.state.text, truncated: fold.state.textTruncated }
      verdict = judge({
        exit,
        folded: fold.state,
        endsWithRecord: headless.endsWithRecord,
        loginHint: agent.loginHint,
        stderr,
        timeoutMs: row.timeoutMs,
        idleTimeoutMs: row.idleTimeoutMs,
        resumes: conversationId !== null,
      })
      if (overBudget !== undefined && BY_ITSELF.has(exit.reason))
        verdict = { status: 'failed', reason: 'budget_exceeded', detail: `ended after ${overBudget}` }
      if (done.mismatch) verdict = { status: 'failed', reason: 'resume_mismatch', detail: done.mismatch }
      const talkedIn = fold.state.conversationId
      const restMs = row.timeoutMs - exit.durationMs
      const mayNudge = workspace.nudge && agent.resume && talkedIn !== null && restMs > LEAST_NUDGE_MS
      if (mayNudge && verdict.status === 'succeeded' && (await said()).outcome === 'no_report') {
        void log([{ type: 'run.nudged' }])
        const second = createFold(counting)
        const nudge = headless.compose({ ...task, prompt: NUDGE_PROMPT, conversationId: talkedIn })
        const both = (): Reported => usageOfBoth(fold.state, second.state, counting)
        const turn = {
          overBudget: () => measure(both()),
          command: nudge,
          fold: second,
          conversationId: talkedIn,
          timeoutMs: restMs,
        }
        const asked = await attend({ ...shared, ...turn, earlier: done.outputBytes }).catch(() => undefined)
        usage = both()
        if (asked) exit = { ...exit, durationMs: exit.durationMs + asked.exit.durationMs }
        // The work itself is done: of the question only a cancel changes how the run ended.
        if (asked?.exit.reason === 'canceled') {
          verdict = { status: 'canceled', reason: 'canceled_by_caller', detail: 'canceled by a caller' }
        }
      }
    } catch (error) {
      verdict =
        error instanceof Unstartable
          ? { status: 'failed', reason: error.reason, detail: error.message }
          : { status: 'failed', reason: 'internal_error', detail: 'the server could not work this run' }
      if (!(error instanceof Unstartable)) void log([{ type: 'log', level: 'error', message: verdict.detail ?? '' }])
    }
    control.note = undefined
    await Promise.allSettled(notes)
    const changed = (await changes?.finish(redactor)) ?? { git: row.git }
    if (changed.diffTrouble !== undefined)
      void log([{ type: 'log', level: 'error', message: `there is no diff: ${changed.diffTrouble}` }])
    const ended = await finish(verdict, changed)
    await discardSnapshots(disk, directory)
    return ended

    /** Also in the row, so that it can be continued when the server dies. */
    function onConversation(reported: string): void {
      control.conversationId = reported
      if (reported === talksIn) return
      talksIn = reported
      // One that the disk does not take is in the row with the end of the run.
      void runs.update(row.id, { conversationId: reported }, { status: 'running' }).catch(() => undefined)
    }

    /** What it has left for people up to now. */
    async function said(): Promise<Pick<RunRow, 'outcome' | 'inboxIds' | 'silentWhy'>> {
      const silentWhy = (await runs.get(row.id))?.silentWhy ?? null
      const inboxIds = await deps.pushedBy(row.id, row.createdAt)
      return { outcome: outcomeOf(inboxIds, silentWhy), inboxIds, silentWhy }
    }

    async function finish(ended: Verdict, changed: Changed): Promise<RunRow> {
      await recorder.settle(control.giveUp.signal)
      const finishedAt = clock.now()
      const startedAt = Date.parse(row.startedAt ?? row.createdAt)
      const patch = async (): Promise<Partial<RunRow>> => ({
        status: ended.status,
        reason: ended.reason,
        detail: ended.detail,
        finishedAt: isoTime(finishedAt),
        durationMs: exit?.durationMs ?? Math.max(0, finishedAt - startedAt),
        lastActivityAt: control.live.lastActivityAt,
        lastSeq: await seqOfEnd(events, row),
        result: await keepReply(directory, reply),
        exitCode: exit?.exitCode ?? null,
        signal: exit?.signal ?? null,
        ...ownUsage(usage ?? fold.state, counting, before),
        ...(await said()),
        ...changed,
        conversationId: fold.state.conversationId,
        survivors: exit?.survivors ?? 0,
      })
      return await deps.endRun({ row, patch, hadProgram: exit !== undefined, giveUp: control.giveUp.signal })
    }
  }

  async function keepReply(
    directory: string,
    reply: { text: string | null; truncated: boolean },
  ): Promise<RunRow['result']> {
    if (reply.text === null) return { text: null, truncated: false, inFile: false }
    const text = await keepText(disk, directory, REPLY_FILE, reply.text)
    return { text, truncated: reply.truncated, inFile: text === null }
  }

  async function credentialsOf(workspace: Workspace, agent: Agent): ReturnType<WorkerDeps['openCredentials']> {
    try {
      return await deps.openCredentials(workspace.credentials, agent.id)
    } catch (error) {
      // Without a key it was to have it might use another one.
      if (error instanceof DomainError && error.code === 'credential_not_found')
        throw new Unstartable('credential_not_found', `${error.message}; ${workspace.id} names it`)
      throw error
    }
  }

  async function directoryOf(row: RunRow): Promise<string> {
    try {
      return await deps.workspaceDirectory(row.wsId)
    } catch (error) {
      throw new Unstartable(
        'workspace_moved',
        error instanceof DomainError ? error.message : 'the workspace cannot be read',
      )
    }
  }
}
