import type { Agent, AgentEvent, Command } from '../agents/agent.ts'
import type { Fold } from '../agents/fold.ts'
import { isoTime, type Clock } from '../clock.ts'
import type { NewEvent, RunRow } from '../model.ts'
import { createLineFilter, type LineFilter } from '../process/line-filter.ts'
import { createLineSplitter, type Line } from '../process/lines.ts'
import type { Processes, Supervised } from '../process/supervise.ts'
import type { Temporaries } from '../process/temporary.ts'
import type { Turns } from '../process/turns.ts'
import type { Exit } from '../process/types.ts'
import type { Disk } from '../store/disk.ts'
import type { Changes } from './changes.ts'
import { insist } from '../store/insist.ts'
import type { LiveFiles } from '../store/live-files.ts'
import type { LiveRun } from './types.ts'
import { createStreamOutput, createTextDecoder } from '../store/output.ts'
import type { Recorder } from '../events/recorder.ts'
import type { Redactor } from '../events/redactor.ts'
import { Unstartable } from './unstartable.ts'

/** Bytes of a reply that are kept; of a text agent, the end of its output. */
export const REPLY_BYTES = 64 * 1024
/** Bytes of `output.text` events of one run; the raw output goes on. */
export const MAX_TEXT_EVENT_BYTES = 8 * 1024 * 1024
/** `log` events made of one run's output; the raw output goes on. */
export const MAX_LOG_EVENTS = 1_000
/** Milliseconds a program may stay after it has reported its result. */
export const SETTLE_MS = 5_000

/** Events of an agent that is at work. */
const AT_WORK: ReadonlySet<AgentEvent['type']> = new Set([
  'agent.message',
  'agent.thought',
  'agent.retry',
  'agent.waiting',
  'tool.started',
  'tool.ended',
  'permission.denied',
])

/** A run that is queued or at work in this process. */
export interface Control {
  readonly abort: AbortController
  /** Aborted when the server cannot wait for the disk any longer. */
  readonly giveUp: AbortController
  live: { lastActivityAt: string | null }
  /** Its conversation, once known: one run at a time may continue it. */
  conversationId: string | null
  /** The runs above it and the session above those, whose cancel is its own. */
  readonly ancestors: readonly string[]
  /** Adds to its log; resolves when that is on disk. Undefined while the run has no program, or has ended. */
  note: ((event: NewEvent) => Promise<void>) | undefined
}

export interface AttendDeps {
  processes: Processes
  disk: Disk
  clock: Clock
  liveFiles: LiveFiles<LiveRun>
  /** Absolute path of a program, or undefined. */
  findProgram(name: string): Promise<string | undefined>
  temporaries: Temporaries
  turns: Turns
  environment(task: {
    taskId: string
    wsId: string
    command: Command
    temporary: string
    token: string
    /** What it is given beside that. */
    credentials: Record<string, string>
  }): Record<string, string>
  /** A key for one process, to be made void once that has ended. */
  mintToken(
    process: { taskId: string; sessionId: null; wsId: string },
    secrets: readonly string[],
  ): { token: string; revoke(): void }
  runDirectory: (taskId: string) => string
  /** The agent printed a record that its decoder does not know. */
  onUnknownRecord(agentId: string): void
}

export interface Attended {
  exit: Exit
  /** The end of stderr. */
  stderr: string
  /** The end of stdout, the reply of a text agent. */
  tail: { text: string; truncated: boolean }
  /** Set when the agent answered in another conversation than it was asked to continue. */
  mismatch: string | undefined
  /** Bytes of output up to here. */
  outputBytes: { stdout: number; stderr: number }
}

/**
 * Starts a run's program and attends to it until it has ended: its output goes to the raw files, its words into the fold
 * and the log.
 *
 * @throws Unstartable when there is no such program or it does not start
 */
export function createAttendant(deps: AttendDeps) {
  const { disk, clock } = deps

  return async (job: {
    row: RunRow
    agent: Agent
    command: Command
    changes: Changes
    control: Control
    recorder: Recorder
    fold: Fold
    /** Variables it is given by credentials. */
    credentials: Record<string, string>
    /** Takes the values of those out of all it says. */
    redactor: Redactor
    /** The conversation to continue; null: a new one. */
    conversationId: string | null
    /** The agent has named its conversation. */
    onConversation(conversationId: string): void
    /** Why it has to end by what it has used up to now; undefined while it need not. */
    overBudget(): string | undefined
    /** Milliseconds the program may take. */
    timeoutMs: number
    /** Bytes of output that an earlier program of this run left. */
    earlier?: Attended['outputBytes']
  }): Promise<Attended> => {
    const { row, agent, command, changes, control, recorder, fold, conversationId, timeoutMs, earlier } = job
    const { credentials, redactor } = job
    const directory = deps.runDirectory(row.id)
    const program = await deps.findProgram(command.program)
    if (program === undefined) {
      const hint = agent.installHint ? `; ${agent.installHint}` : ''
      throw new Unstartable('agent_not_found', `"${command.program}" is not on the server's PATH${hint}`)
    }
    if (command.stdin === '') await changes.begun // it has its prompt from the start
    const temporary = await deps.temporaries.open()
    const endTurn = agent.sharedHome && (await deps.turns.take(agent.sharedHome, control.abort.signal))
    const shared = { disk, clock, directory, signal: control.giveUp.signal }
    const stdout = createStreamOutput({ ...shared, stream: 'stdout', after: earlier?.stdout })
    const stderr = createStreamOutput({ ...shared, stream: 'stderr', after: earlier?.stderr })
    const masks = { stdout: redactor.stream(), stderr: redactor.stream() }
    const words = redactor.events<AgentEvent>()
    const splitter = createLineSplitter()
    const complaints = createLineSplitter()
    const filter = agent.headless?.unstored && createLineFilter(agent.headless.unstored)
    const text = createTextReporter(recorder)
    const settle = new AbortController()
    let settling: AbortController | undefined
    let mismatch: string | undefined
    let logged = 0
    const key = deps.mintToken({ taskId: row.id, sessionId: null, wsId: row.wsId }, Object.values(credentials))
    const supervised: Supervised = deps.processes.supervise({
      mark: row.id,
      program,
      args: command.args,
      cwd: changes.directory,
      env: deps.environment({
        taskId: row.id,
        wsId: row.wsId,
        command,
        temporary: temporary.path,
        token: key.token,
        credentials,
      }),
      stdin: command.stdin,
      timeoutMs,
      idleTimeoutMs: row.idleTimeoutMs,
      signal: control.abort.signal,
      async onStarted(identity) {
        // The program starts while we still look at the files: it sees its prompt after that.
        const live = { identity, begun: await changes.begun }
        await insist(clock, control.giveUp.signal, () => deps.liveFiles.write(row.id, live))
      },
      async onOutput(stream, chunk) {
        control.live.lastActivityAt = isoTime(clock.now())
        if (endTurn) endTurn()
        await receive(stream, chunk)
      },
    })

    /** To disk without secrets; to the decoder as it came, since what it makes of it is looked at afterwards. */
    async function receive(stream: 'stdout' | 'stderr', chunk: Buffer): Promise<void> {
      if (stream === 'stderr') {
        await stderr.write(masks.stderr.push(chunk))
        return await hear(complaints.push(chunk))
      }
      await keep(masks.stdout.push(filter ? filter.push(chunk) : chunk))
      if (agent.headless?.output !== 'text') for (const line of splitter.push(chunk)) await take(line)
    }
    async function keep(bytes: Buffer): Promise<void> {
      if (bytes.length === 0) return
      await stdout.write(bytes)
      if (agent.headless?.output === 'text') await text.push(bytes)
    }

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
      try {
        await heard((agent.headless?.decode(line.text) ?? []).flatMap((event) => words.push(event)))
      } catch (error) {
        // The top of a loop that must live: one line does not end a run.
        await recorder.add([{ type: 'log', message: `a line could not be dealt with: ${(error as Error).message}` }])
      }
    }
    async function heard(decoded: AgentEvent[]): Promise<void> {
      for (const event of decoded) {
        fold.add(event)
        if (event.type === 'log' && event.code === 'unknown_record') deps.onUnknownRecord(agent.id)
        if (event.type === 'agent.session') checkConversation(event.conversationId)
        if (event.type === 'agent.end') settleSoon()
        else if (AT_WORK.has(event.type)) settling?.abort() // what it said before was not the end
      }
      if (decoded.some(({ type }) => type === 'usage') && job.overBudget() !== undefined)
        supervised.stop('budget_exceeded')
      if (fold.state.fatal) supervised.stop('fatal')
      for (const event of decoded) if (isShown(event)) await show(event)
    }
    /** What some programs tell on stderr alone; the lines as such are in the raw output. */
    async function hear(lines: Line[]): Promise<void> {
      const { decodeStderr } = agent.headless ?? {}
      if (!decodeStderr) return
      for (const event of lines.flatMap((line) => (line.tooLong ? [] : decodeStderr(line.text)))) {
        const safe = redactor.value(event)
        fold.add(safe)
        await show(safe)
      }
      if (fold.state.fatal) supervised.stop('fatal')
    }
    async function tellUnstored({ dropped, end }: LineFilter): Promise<void> {
      await keep(masks.stdout.push(end()))
      if (dropped.lines === 0) return
      const message = `${dropped.lines} lines that only repeat (${dropped.bytes} bytes) are not in the raw output`
      await recorder.add([{ type: 'log', code: 'output_skipped', message }])
    }
    async function show(event: AgentEvent): Promise<void> {
      if (event.type === 'log' && logged++ >= MAX_LOG_EVENTS) {
        if (logged > MAX_LOG_EVENTS + 1) return
        const message = `more than ${MAX_LOG_EVENTS} lines that are no events: the rest is in the raw output only`
        return await recorder.add([{ type: 'log', code: 'log_truncated', message }])
      }
      await recorder.add([event])
    }
    function checkConversation(reported: string): void {
      job.onConversation(reported)
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

    const exit = await supervised.ended.finally(key.revoke)
    settle.abort()
    if (endTurn) endTurn()
    const cleaned = temporary.remove()
    for (const line of splitter.end()) await take(line)
    await heard(words.flush())
    await hear(complaints.end())
    if (filter) await tellUnstored(filter)
    await keep(masks.stdout.end())
    await stderr.write(masks.stderr.end())
    await text.end()
    await cleaned
    await Promise.all([stdout.close(), stderr.close()]).catch(() => undefined) // only the kept tail can be missing
    if (exit.reason === 'not_started')
      throw new Unstartable('agent_not_startable', `"${agent.id}" could not be started (${exit.error})`)
    return {
      exit,
      stderr: stderr.tailText(REPLY_BYTES),
      tail: { text: stdout.tailText(REPLY_BYTES), truncated: stdout.sizeBytes > REPLY_BYTES },
      mismatch,
      outputBytes: { stdout: stdout.sizeBytes, stderr: stderr.sizeBytes },
    }
  }
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
