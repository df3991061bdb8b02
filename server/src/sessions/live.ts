import type { Agent, Command } from '../agents/agent.ts'
import type { AgentConnection, PermissionAsk } from '../agents/live.ts'
import { isoTime, type Clock } from '../clock.ts'
import { DomainError } from '../errors.ts'
import type { NewEvent } from '../model.ts'
import type { SessionReason, SessionRow } from '../model/sessions.ts'
import { createRedactor } from '../events/redactor.ts'
import type { Processes } from '../process/supervise.ts'
import type { Temporaries } from '../process/temporary.ts'
import type { Turns } from '../process/turns.ts'
import type { Exit, ProcessIdentity } from '../process/types.ts'
import type { Disk } from '../store/disk.ts'
import type { LiveFiles } from '../store/live-files.ts'
import { createStreamOutput } from '../store/output.ts'
import { connectDiscreetly } from './discreet.ts'

/** Bytes of the end of stderr that explain a death. */
const STDERR_BYTES = 2_048

export type LiveCommand = Omit<Command, 'stdin'>

/** What is needed to end the process of a session whose server died. */
export interface LiveSession {
  identity: ProcessIdentity
}

export interface LiveDeps {
  processes: Processes
  disk: Disk
  clock: Clock
  liveFiles: LiveFiles<LiveSession>
  /** Absolute path of a program, or undefined. */
  findProgram(name: string): Promise<string | undefined>
  environment(task: {
    id: string
    wsId: string
    command: LiveCommand
    temporary: string
    token: string
    credentials: Record<string, string>
  }): Record<string, string>
  /** What the credentials of these names hold for an agent. @throws DomainError `credential_not_found` */
  openCredentials(names: string[], agentId: string): Promise<{ variables: Record<string, string>; values: string[] }>
  /** A key for one process, to be made void once that has ended. */
  mintToken(
    process: { taskId: null; sessionId: string; wsId: string },
    secrets: readonly string[],
  ): { token: string; revoke(): void }
  temporaries: Temporaries
  turns: Turns
  sessionDirectory: (id: string) => string
}

/** How a session's process ended; `reason` is undefined when we ended it. */
export interface LiveEnd {
  reason: SessionReason
  detail: string
  survivors: number
}

/** The agent cannot be started here and now. */
export class NotLive extends Error {
  override readonly name = 'NotLive'
  readonly reason: SessionReason
  constructor(reason: SessionReason, message: string) {
    super(message)
    this.reason = reason
  }
}

/** One process of a session, from its start to its end. */
export interface Live {
  readonly connection: AgentConnection
  readonly lastActivityAt: string | null
  /** Never rejects; settles when no process of it is left. */
  readonly ended: Promise<LiveEnd>
  /** Nothing more will be written: the program may end by itself for a second, then it is ended. */
  close(): void
  /** Ends it. */
  stop(reason: 'canceled' | 'server_stopped'): void
}

/**
 * Starts the program of a session and joins its two ends to a connection.
 *
 * @throws NotLive `agent_not_found`, `credential_not_found`
 */
export async function startLive(
  deps: LiveDeps,
  job: {
    row: SessionRow
    agent: Agent
    /** Told everything the agent says. The program is read further once it resolves. */
    onEvent(event: NewEvent): Promise<void>
    /** Resolves with the chosen option; undefined: canceled. */
    onRequest(ask: PermissionAsk, signal: AbortSignal): Promise<string | undefined>
  },
): Promise<Live> {
  const { clock, disk } = deps
  const { row, agent } = job
  if (!agent.live) throw new NotLive('agent_not_found', `"${agent.id}" cannot hold sessions`)
  const own = row.launch?.program ?? agent.program
  const programPath = own === null ? null : ((await deps.findProgram(own)) ?? null)
  const wanted = row.launch?.program ?? agent.live.program
  const program = await deps.findProgram(wanted)
  if (program === undefined || (own !== null && programPath === null)) {
    const missing = program === undefined ? wanted : own
    const hint = (program === undefined ? agent.live.installHint : undefined) ?? agent.installHint
    throw new NotLive('agent_not_found', `"${missing}" is not on the server's PATH${hint ? `; ${hint}` : ''}`)
  }
  const command = {
    ...agent.live.compose(
      { cwd: row.cwd, permissions: row.permissions, model: row.model },
      { conversationId: row.conversationId, programPath },
    ),
    ...row.launch,
  }

  const given = await credentialsOf(deps, row)
  const redactor = createRedactor(given.values)

  const directory = `${deps.sessionDirectory(row.id)}/process-${clock.now()}`
  await disk.mkdir(directory, { recursive: true, mode: 0o700 })
  const giveUp = new AbortController()
  const shared = { disk, clock, directory, signal: giveUp.signal }
  const stdout = createStreamOutput({ ...shared, stream: 'stdout' })
  const stderr = createStreamOutput({ ...shared, stream: 'stderr' })
  const pipe = new TransformStream<Uint8Array, Uint8Array>()
  const toConnection = pipe.writable.getWriter()
  let lastActivityAt: string | null = null
  let room: Promise<void> = Promise.resolve()
  const abort = new AbortController()
  const temporary = await deps.temporaries.open()
  const endTurn = agent.sharedHome && (await deps.turns.take(agent.sharedHome, abort.signal))

  const key = deps.mintToken({ taskId: null, sessionId: row.id, wsId: row.wsId }, given.values)
  const masks = { stdout: redactor.stream(), stderr: redactor.stream() }
  const supervised = deps.processes.supervise({
    mark: row.id,
    program,
    args: command.args,
    cwd: row.cwd,
    env: deps.environment({
      id: row.id,
      wsId: row.wsId,
      command,
      temporary: temporary.path,
      token: key.token,
      credentials: given.variables,
    }),
    stdin: null,
    timeoutMs: null,
    idleTimeoutMs: null,
    signal: abort.signal,
    onStarted: (identity) => deps.liveFiles.write(row.id, { identity }),
    async onOutput(stream, chunk) {
      lastActivityAt = isoTime(clock.now())
      if (endTurn) endTurn()
      if (stream === 'stderr') return await stderr.write(masks.stderr.push(chunk))
      await stdout.write(masks.stdout.push(chunk))
      await room
      await toConnection.write(chunk).catch(() => undefined) // a connection that gave up: the program is drained all the same
    },
  })
  // A program that stays while its connection is gone would keep its session busy for good.
  const hangUp = (): void => supervised.close('hung_up')
  toConnection.closed.catch(hangUp)
  const io = {
    output: pipe.readable,
    async write(text: string) {
      await supervised.write(text).catch((error: unknown) => {
        hangUp()
        throw error
      })
    },
  }
  const { live } = agent
  const { connection, flush } = connectDiscreetly((handlers) => live.connect(io, handlers), redactor, {
    onEvent: (event) => void (room = job.onEvent(event)),
    onRequest: (ask, signal) => job.onRequest(ask, signal),
  })

  async function end(): Promise<LiveEnd> {
    const exit = await supervised.ended.finally(key.revoke)
    if (endTurn) endTurn()
    await toConnection.close().catch(() => undefined)
    flush()
    giveUp.abort()
    await Promise.all([stdout.write(masks.stdout.end()), stderr.write(masks.stderr.end())])
    await Promise.all([stdout.close(), stderr.close()]).catch(() => undefined)
    await Promise.all([deps.liveFiles.remove(row.id).catch(() => undefined), temporary.remove()])
    return { ...why(exit, agent.id, stderr.tailText(STDERR_BYTES)), survivors: exit.survivors }
  }

  return {
    connection,
    get lastActivityAt() {
      return lastActivityAt
    },
    ended: end(),
    close: () => supervised.close('canceled'),
    stop: (reason) => supervised.stop(reason),
  }
}

async function credentialsOf(deps: LiveDeps, row: SessionRow): ReturnType<LiveDeps['openCredentials']> {
  try {
    return await deps.openCredentials(row.credentials, row.agent)
  } catch (error) {
    // Without a key it was to have it might use another one.
    if (error instanceof DomainError && error.code === 'credential_not_found')
      throw new NotLive('credential_not_found', `${error.message}; the session was opened with it`)
    throw error
  }
}

function why(exit: Exit, agentId: string, stderr: string): { reason: SessionReason; detail: string } {
  if (exit.reason === 'not_started')
    return { reason: 'agent_not_startable', detail: `"${agentId}" could not be started (${exit.error})` }
  if (exit.reason === 'server_stopped') return { reason: 'server_stopped', detail: 'the server was stopped' }
  if (exit.reason === 'hung_up')
    return { reason: 'agent_error', detail: `"${agentId}" closed its input or output and stayed; it was ended` }
  if (exit.reason === 'output_limit' || exit.reason === 'process_limit')
    return { reason: exit.reason, detail: `"${agentId}" went over the limit of its ${exit.reason.split('_')[0]}` }
  const how = exit.signal ? `by ${exit.signal}` : `with exit code ${exit.exitCode}`
  const said = stderr.split('\n').findLast((line) => line.trim() !== '')
  return { reason: 'agent_exited', detail: `"${agentId}" ended ${how}${said ? `: ${said.slice(0, 300)}` : ''}` }
}
