import { join } from 'node:path'
import type { Agent, AgentEvent, Command } from '../agents/agent.ts'
import { createFold, type Fold } from '../agents/fold.ts'
import { isoTime, type Clock } from '../clock.ts'
import { DomainError } from '../errors.ts'
import type { EventLog } from '../events/types.ts'
import { TERMINAL_EVENT, type NewEvent, type RunReason, type RunRow, type Workspace } from '../model.ts'
import { createLineSplitter, type Line } from '../process/lines.ts'
import type { Processes, Supervised } from '../process/supervise.ts'
import type { Exit } from '../process/types.ts'
import { replaceFile, type Disk } from '../store/disk.ts'
import type { Table } from '../store/table.ts'
import type { LiveFiles } from './live-files.ts'
import { createStreamOutput, createTextDecoder } from './output.ts'
import { judge, type Verdict } from './outcome.ts'
import type { RunGit } from './ports.ts'
import { createRecorder, type Recorder } from './recorder.ts'
import { keepText, REPLY_FILE } from './view.ts'

/** Bytes of a reply that are kept; of a text agent, the end of its output. */
export const REPLY_BYTES = 64 * 1024
/** Bytes of `output.text` events of one run; the raw output goes on. */
export const MAX_TEXT_EVENT_BYTES = 8 * 1024 * 1024
/** Milliseconds a program may stay after it has reported its result. */
export const SETTLE_MS = 5_000
/** Milliseconds before the end of a run that could not be written is tried again. */
const RETRY_MS = 500
export const PATCH_FILE = 'changes.patch'

/** A run that is queued or at work in this process. */
export interface Control {
  readonly abort: AbortController
  /** Aborted when the server cannot wait for the disk any longer. */
  readonly giveUp: AbortController
  live: { lastActivityAt: string | null }
  /** Its conversation, once known: one run at a time may continue it. */
  conversationId: string | null
}

export interface WorkerDeps {
  runs: Table<RunRow>
  events: EventLog
  processes: Processes
  git: RunGit
  disk: Disk
  clock: Clock
  liveFiles: LiveFiles
  /** The directory of a workspace, checked to be the registered one. */
  workspaceDirectory(wsId: string): Promise<string>
  /** Absolute path of a program, or undefined. */
  findProgram(name: string): Promise<string | undefined>
  environment(task: { taskId: string; wsId: string; adapter: Record<string, string> }): Record<string, string>
  runDirectory: (taskId: string) => string
  worktreePath(taskId: string): string
}

interface Place {
  directory: string
  git: RunRow['git']
  baseTree: string | undefined
  scratch: string
}

class Unstartable extends Error {
  readonly reason: RunReason
  constructor(reason: RunReason, detail: string) {
    super(detail)
    this.reason = reason
  }
}

/** Works one run from its place to its end. Resolves with the row as it ended; rejects only when the server gives up. */
export function createWorker(
  deps: WorkerDeps,
): (job: { row: RunRow; prompt: string; agent: Agent; workspace: Workspace; control: Control }) => Promise<RunRow> {
  const { runs, events, clock, disk, git } = deps

  return async ({ row, prompt, agent, workspace, control }) => {
    const directory = deps.runDirectory(row.id)
    const recorder = createRecorder({ events, clock, log: row.id, signal: control.giveUp.signal })
    const log = (added: NewEvent[]): Promise<void> => recorder.add(added)
    void log([{ type: 'run.started', agent: agent.id, wsId: row.wsId, timeoutMs: row.timeoutMs }])

    const headless = agent.headless
    const fold = createFold(headless?.usage ?? { tokens: 'total', cost: 'total' })
    let exit: Exit | undefined
    let verdict: Verdict
    let place: Place | undefined
    let stderr = ''
    let reply: { text: string | null; truncated: boolean } = { text: null, truncated: false }
    try {
      if (!headless) throw new Unstartable('agent_not_found', `"${agent.id}" cannot run headless any more`)
      const cwd = await directoryOf(row)
      place = await prepare(row, cwd)
      const conversationId = row.resume ? ((await runs.get(row.resume))?.conversationId ?? null) : null
      const command = headless.compose({
        prompt,
        cwd: place.directory,
        permissions: workspace.permissions,
        model: row.model,
        conversationId,
      })
      const done = await run({ row, agent, command, place, control, recorder, fold, conversationId })
      exit = done.exit
      stderr = done.stderr
      reply = headless.output === 'text' ? done.tail : { text: fold.state.text, truncated: fold.state.textTruncated }
      verdict = judge({
        exit,
        folded: fold.state,
        endsWithRecord: headless.endsWithRecord,
        stderr,
        timeoutMs: row.timeoutMs,
        idleTimeoutMs: row.idleTimeoutMs,
      })
      if (done.mismatch) verdict = { status: 'failed', reason: 'resume_mismatch', detail: done.mismatch }
    } catch (error) {
      verdict =
        error instanceof Unstartable
          ? { status: 'failed', reason: error.reason, detail: error.message }
          : { status: 'failed', reason: 'internal_error', detail: 'the server could not work this run' }
      if (!(error instanceof Unstartable)) void log([{ type: 'log', level: 'error', message: verdict.detail ?? '' }])
    }
    const changes = place && (await changesOf(place, directory).catch(() => undefined))
    return await finish(verdict, changes)

    /** Row first, whose guard decides who ends the run; then its last event; both until the disk takes them. */
    async function finish(ended: Verdict, gitState: RunRow['git'] | undefined): Promise<RunRow> {
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
        lastSeq: (await events.lastSeq(row.id)) + 1,
        result: await keepReply(directory, reply),
        exitCode: exit?.exitCode ?? null,
        signal: exit?.signal ?? null,
        usage: fold.state.usage,
        git: gitState ?? place?.git ?? row.git,
        conversationId: fold.state.conversationId,
        survivors: exit?.survivors ?? 0,
      })
      const last: NewEvent = {
        type: TERMINAL_EVENT,
        status: ended.status,
        reason: ended.reason,
        detail: ended.detail,
        exitCode: exit?.exitCode ?? null,
        signal: exit?.signal ?? null,
      }
      for (;;) {
        try {
          const stored =
            (await runs.update(row.id, await patch(), { status: 'running' })) ?? (await runs.get(row.id)) ?? row
          await events.append(row.id, [last])
          await events.close(row.id)
          await deps.liveFiles.remove(row.id)
          return stored
        } catch (error) {
          if (control.giveUp.signal.aborted) throw error // the next start ends it as `server_died`
          await clock.sleep(RETRY_MS, control.giveUp.signal).catch(() => undefined)
        }
      }
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

  /** Notes where the run begins: commit, branch and files, and makes its worktree. */
  async function prepare(row: RunRow, cwd: string): Promise<Place> {
    const scratch = join(deps.runDirectory(row.id), 'git')
    await disk.mkdir(deps.runDirectory(row.id), { recursive: true, mode: 0o700 })
    if (row.isolation === 'worktree') return await isolate(row, cwd, scratch)
    // A repository whose files cannot be listed is no reason not to run; it only has no diff.
    const base = await git.snapshot(cwd, scratch).catch(() => undefined)
    return { directory: cwd, git: stateOf(base, null), baseTree: base?.tree, scratch }
  }

  async function isolate(row: RunRow, cwd: string, scratch: string): Promise<Place> {
    const path = deps.worktreePath(row.id)
    try {
      const directory = await git.addWorktree(cwd, path, `postern/${row.id}`)
      const base = await git.snapshot(directory, scratch)
      return { directory, git: stateOf(base, path), baseTree: base?.tree, scratch }
    } catch (error) {
      throw new Unstartable(
        'worktree_failed',
        `the worktree could not be made: ${(error as Error).message.slice(0, 300)}`,
      )
    }
  }

  async function run(job: {
    row: RunRow
    agent: Agent
    command: Command
    place: Place
    control: Control
    recorder: Recorder
    fold: Fold
    conversationId: string | null
  }): Promise<{
    exit: Exit
    stderr: string
    tail: { text: string; truncated: boolean }
    mismatch: string | undefined
  }> {
    const { row, agent, command, place, control, recorder, fold, conversationId } = job
    const directory = deps.runDirectory(row.id)
    const program = await deps.findProgram(command.program)
    if (program === undefined) {
      const hint = agent.installHint ? `; ${agent.installHint}` : ''
      throw new Unstartable('agent_not_found', `"${command.program}" is not on the server's PATH${hint}`)
    }
    const shared = { disk, clock, directory, signal: control.giveUp.signal }
    const stdout = createStreamOutput({ ...shared, stream: 'stdout' })
    const stderr = createStreamOutput({ ...shared, stream: 'stderr' })
    const splitter = createLineSplitter()
    const text = createTextReporter(recorder)
    const settle = new AbortController()
    let settling: AbortController | undefined
    let mismatch: string | undefined
    const supervised: Supervised = deps.processes.supervise({
      mark: row.id,
      program,
      args: command.args,
      cwd: place.directory,
      env: deps.environment({ taskId: row.id, wsId: row.wsId, adapter: command.env }),
      stdin: command.stdin,
      timeoutMs: row.timeoutMs,
      idleTimeoutMs: row.idleTimeoutMs,
      signal: control.abort.signal,
      onStarted: (identity) =>
        deps.liveFiles.write(row.id, { identity, directory: place.directory, baseTree: place.baseTree ?? null }),
      async onOutput(stream, chunk) {
        control.live.lastActivityAt = isoTime(clock.now())
        if (stream === 'stderr') return await stderr.write(chunk)
        await stdout.write(chunk)
        if (agent.headless?.output === 'text') await text.push(chunk)
        else for (const line of splitter.push(chunk)) await take(line)
      },
    })

    async function take(line: Line): Promise<void> {
      if (line.tooLong) {
        return await recorder.add([
          {
            type: 'log',
            code: 'line_too_long',
            message: `a line of ${line.sizeBytes} bytes was not decoded`,
            sizeBytes: line.sizeBytes,
          },
        ])
      }
      if (line.text.trim() === '') return
      const decoded = agent.headless?.decode(line.text) ?? []
      for (const event of decoded) {
        fold.add(event)
        if (event.type === 'agent.session') checkConversation(event.conversationId)
        if (event.type === 'agent.end') settleSoon()
        else settling?.abort() // it speaks again: what it said before was not the end
      }
      if (fold.state.fatal) supervised.stop('fatal')
      const shown = decoded.filter(isShown)
      if (shown.length > 0) await recorder.add(shown)
    }
    function checkConversation(reported: string): void {
      control.conversationId = reported
      if (conversationId === null || reported === conversationId) return
      mismatch = `"${agent.id}" answered in conversation ${reported}, not in ${conversationId}`
      supervised.stop('fatal')
    }
    function settleSoon(): void {
      settling?.abort()
      const mine = (settling = new AbortController())
      const either = AbortSignal.any([mine.signal, settle.signal])
      void clock.sleep(SETTLE_MS, either).then(
        () => supervised.stop('settled'),
        () => undefined,
      )
    }

    const exit = await supervised.ended
    settle.abort()
    if (agent.headless?.output === 'text') await text.end()
    else for (const line of splitter.end()) await take(line)
    if (exit.reason === 'not_started')
      throw new Unstartable('agent_not_startable', `"${agent.id}" could not be started (${exit.error})`)
    await Promise.all([stdout.close(), stderr.close()]).catch(() => undefined) // only the kept tail can be missing
    return {
      exit,
      stderr: stderr.tailText(REPLY_BYTES),
      tail: { text: stdout.tailText(REPLY_BYTES), truncated: stdout.sizeBytes > REPLY_BYTES },
      mismatch,
    }
  }

  /** What the run changed, its patch on disk; its worktree goes when nothing in it would be lost. */
  async function changesOf(place: Place, directory: string): Promise<RunRow['git']> {
    if (place.baseTree === undefined) return place.git
    const end = await git.snapshot(place.directory, place.scratch)
    const state = { ...place.git, headSha: end?.headSha ?? null }
    if (end) {
      const { patch, filesChanged } = await git.diff(place.directory, place.scratch, place.baseTree, end.tree)
      await replaceFile(disk, join(directory, PATCH_FILE), patch)
      state.filesChanged = filesChanged
    }
    await disk.rm(place.scratch, { recursive: true, force: true })
    if (state.worktree !== null && state.branch !== null) {
      if (await git.removeWorktree(state.worktree, state.branch, state.baseSha).catch(() => false))
        state.worktree = null
    }
    return state
  }
}

function stateOf(
  base: { headSha: string | null; branch: string | null } | undefined,
  worktree: string | null,
): RunRow['git'] {
  return { baseSha: base?.headSha ?? null, headSha: null, branch: base?.branch ?? null, filesChanged: 0, worktree }
}

/** `agent.session` and `agent.end` steer the run; what they say is in its record. */
function isShown(event: AgentEvent): boolean {
  return event.type !== 'agent.session' && event.type !== 'agent.end'
}

/** Text output as events, up to a limit that is said once. */
function createTextReporter(recorder: Recorder): { push(chunk: Buffer): Promise<void>; end(): Promise<void> } {
  const decoder = createTextDecoder()
  let sent = 0
  async function send(text: string): Promise<void> {
    if (text === '' || sent > MAX_TEXT_EVENT_BYTES) return
    sent += Buffer.byteLength(text)
    await recorder.add([{ type: 'output.text', text }])
    if (sent > MAX_TEXT_EVENT_BYTES) {
      const message = `more than ${MAX_TEXT_EVENT_BYTES} bytes of output: the rest is in the raw output only`
      await recorder.add([{ type: 'log', code: 'output_truncated', message }])
    }
  }
  return { push: (chunk) => send(decoder.push(chunk)), end: () => send(decoder.end()) }
}
