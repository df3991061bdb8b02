import { realpath, rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { Command } from './agents/agent.ts'
import { openBudgets } from './budgets/budgets.ts'
import { createChannels } from './channels/channels.ts'
import { keepGrants } from './channels/upkeep.ts'
import { systemClock, type Clock } from './clock.ts'
import { makeDataDirectory, type Config } from './config.ts'
import { createHttp } from './http/app.ts'
import { createInbox } from './inbox/inbox.ts'
import { createIssues } from './issues/issues.ts'
import type { Logger } from './log.ts'
import { openMachines } from './machines.ts'
import type { ChannelLimits } from './model/channels.ts'
import { agentEnvironment } from './process/environment.ts'
import { isFile } from './process/program.ts'
import { openTemporaries } from './process/temporary.ts'
import { createTurns } from './process/turns.ts'
import { createLiveFiles } from './store/live-files.ts'
import { createEnding } from './runs/end.ts'
import { createProbe } from './runs/probe.ts'
import { createPushed } from './runs/pushed.ts'
import { recoverRuns } from './runs/recovery.ts'
import { createRequests } from './requests/requests.ts'
import { createRuns } from './runs/runs.ts'
import type { LiveRun } from './runs/types.ts'
import { createWorker } from './runs/work.ts'
import { replaceFile, systemDisk, type Disk } from './store/disk.ts'
import { lockDataDirectory } from './store/lock.ts'
import type { LiveSession } from './sessions/live.ts'
import { recoverSessions } from './sessions/recovery.ts'
import { createSessions } from './sessions/sessions.ts'
import { madeAt, retireOldLogs } from './store/retention.ts'
import { createWorkspaces } from './workspaces/workspaces.ts'

export interface ServerOptions {
  config: Config
  /** The environment that agents inherit from, by allow-list. */
  environment: Record<string, string | undefined>
  log: Logger
  version: string
  clock?: Clock
  disk?: Disk
  /** Limits of channels other than the usual ones. */
  channelLimits?: Partial<ChannelLimits>
}

export interface RunningServer {
  url: string
  port: number
  /** Ends runs, flushes, frees the lock; within some 8 s. Safe to repeat. */
  stop(): Promise<void>
}

/** What the environment of an agent's process depends on. */
interface AgentProcess {
  taskId: string
  wsId: string
  command: Pick<Command, 'env' | 'passEnv'>
  /** Its `TMPDIR`. */
  temporary: string
  /** Its key to the server. */
  token?: string
  /** What its credentials give it. */
  credentials?: Record<string, string>
}

/**
 * Builds the server and starts it. The one place that knows the real things; it holds no rule. What is acquired pushes
 * its release; stopping runs the list backwards.
 *
 * @throws LockedError, DamagedStateError, ConfigError, and what listening says
 */
export async function startServer(options: ServerOptions): Promise<RunningServer> {
  const { config, environment, log, version, clock = systemClock, disk = systemDisk } = options
  const { dataDir } = config
  const releases: (() => Promise<void>)[] = []
  let stopping: Promise<void> | undefined
  let draining = false

  async function release(): Promise<void> {
    draining = true
    for (const each of releases.reverse())
      await each().catch((error: unknown) => log.error({ error }, 'while stopping'))
  }
  const stop = (): Promise<void> => (stopping ??= release())

  try {
    await makeDataDirectory(dataDir)
    releases.push(await lockDataDirectory(dataDir))

    const onTrouble = (message: string, error?: unknown): void => log.error({ error }, message)
    const machines = await openMachines({ config, environment, clock, disk, onTrouble }, (each) => releases.push(each))
    const { store, keys, grants, events, processes, binDirectory, locate, agents, credentials, git, dispatch } =
      machines
    const { redactorFor, processTokens, directories } = machines
    const liveFiles = createLiveFiles<LiveRun>(disk, join(dataDir, 'live'))
    const pushed = createPushed({
      runs: store.runs,
      inInbox: (taskId, since) => inbox.pushedBy({ taskId }, since),
    })
    const inbox = createInbox({
      table: store.inbox,
      damaged: store.damagedInbox,
      claims: store.claims,
      events,
      disk,
      clock,
      directory: directories.inbox,
      cleanerFor: redactorFor,
      roots: async ({ wsId, taskId }) => {
        if (wsId === null) return []
        const run = taskId === null ? undefined : await store.runs.get(taskId)
        const worktree = run && directories.worktree(run.worktreeOf ?? run.id)
        const own = worktree && (await realpath(worktree).catch(() => undefined))
        return [...(own === undefined ? [] : [own]), await workspaces.directory(wsId)]
      },
      keepPushed: pushed.keep,
      replayReply: (idempotency, sent) => runs.replay(idempotency, sent),
      continueRun: ({ wsId, resume, body, issueId, idempotency, sent }) =>
        runs.start({
          wsId,
          sent,
          body: { prompt: body.message, resume, ...(body.timeoutMs !== undefined && { timeoutMs: body.timeoutMs }) },
          ...(idempotency && { idempotency }),
          trigger: { kind: 'inbox', grantId: null, issueId, parentTaskId: null },
        }),
    })
    const recovered = await recoverRuns({
      countingOf: (agentId) => agents.find(agentId)?.headless?.usage,
      redactorFor: ({ id }) => redactorFor({ taskId: id, sessionId: null }),
      pushedBy: pushed.by,
      runs: store.runs,
      events,
      processes,
      git,
      disk,
      clock,
      liveFiles,
      runDirectory: directories.run,
      worktreePath: directories.worktree,
    })
    const liveSessions = createLiveFiles<LiveSession>(disk, join(dataDir, 'live-sessions'))
    const requests = createRequests({ requests: store.requests, clock })
    await requests.recover()
    const resumed = await recoverSessions({
      sessions: store.sessions,
      deliveries: store.deliveries,
      requests: store.requests,
      events,
      clock,
      processes,
      liveFiles: liveSessions,
      onError: onTrouble,
    })
    if (resumed.suspended > 0) log.warn(resumed, 'sessions of a server that died were suspended')
    // After what was left alive is gone: it takes away what they left.
    const temporaries = await openTemporaries({
      base: environment['TMPDIR'],
      recordFile: join(dataDir, 'temporary.json'),
      onTrouble,
    })
    releases.push(() => temporaries.close())
    if (recovered.interrupted > 0) log.warn(recovered, 'runs of a server that died were ended')

    const budgets = await openBudgets({ runs: store.runs, sessions: store.sessions, clock })
    const workspaces = createWorkspaces({
      checkCredentials: (names) => credentials.check(names),
      table: store.workspaces,
      claims: store.claims,
      agents,
      git,
      dataDir,
      clock,
      busy: (wsId) => runs.activeIn(wsId) + sessions.liveIn(wsId) > 0,
      onChange: (wsId) => void issues.look(wsId).catch((error: unknown) => onTrouble(`issues of ${wsId}`, error)),
    })
    let url = ''
    const turns = createTurns({ clock })
    const environmentOf = ({ taskId, wsId, command, temporary, token, credentials: given = {} }: AgentProcess) =>
      agentEnvironment({
        server: environment,
        adapter: command.env,
        pass: command.passEnv ?? [],
        credentials: given,
        own: {
          POSTERN_URL: url,
          POSTERN_RUN_ID: taskId,
          POSTERN_WORKSPACE_ID: wsId,
          TMPDIR: temporary,
          ...(token !== undefined && { POSTERN_TOKEN: token }),
        },
        binDirectory,
      })
    const endRun = createEnding({ runs: store.runs, events, liveFiles, clock })
    const worker = createWorker({
      endRun,
      runs: store.runs,
      events,
      processes,
      git,
      disk,
      clock,
      liveFiles,
      workspaceDirectory: (wsId) => workspaces.directory(wsId),
      findProgram: locate,
      temporaries,
      turns,
      environment: environmentOf,
      mintToken: processTokens.mint,
      openCredentials: (names, agentId) => credentials.open(names, agentId),
      pushedBy: pushed.by,
      runDirectory: directories.run,
      budgets,
      onUnknownRecord: (agentId) => agents.noteUnknown(agentId),
      worktreePath: directories.worktree,
    })
    const runs = createRuns({
      runs: store.runs,
      claims: store.claims,
      workspaces,
      agents,
      events,
      dispatch,
      budgets,
      disk,
      clock,
      worker,
      endRun,
      runDirectory: directories.run,
      pushedBy: pushed.by,
      cleanerFor: redactorFor,
      reportToSession: (sessionId, news) => sessions.report(sessionId, news),
      onError: onTrouble,
    })
    await inbox.clear().catch((error: unknown) => onTrouble('what is left in the Inbox cannot be cleared', error))
    // The entries are what counts: without its log the Inbox is read and written as before.
    await inbox.mend().catch((error: unknown) => onTrouble('the log of the Inbox cannot be read; move it away', error))

    const sessions = createSessions({
      sessions: store.sessions,
      deliveries: store.deliveries,
      claims: store.claims,
      workspaces,
      agents,
      events,
      processes,
      disk,
      clock,
      turns,
      temporaries,
      liveFiles: liveSessions,
      maxSessions: config.maxSessions,
      budgets,
      sessionDirectory: directories.session,
      workspaceDirectory: (wsId) => workspaces.directory(wsId),
      findProgram: locate,
      environment: ({ id, ...process }) => environmentOf({ taskId: id, ...process }),
      mintToken: processTokens.mint,
      openCredentials: (names, agentId) => credentials.open(names, agentId),
      hasLog: (id) => isFile(join(directories.session(id), 'events.ndjson')),
      mayHandOver: (grantId) => !grants.isRevoked(grantId),
      async ask({ session: { id: sessionId, wsId, agent }, ask }, signal) {
        const { onRequest: policy } = await workspaces.get(wsId)
        return await requests.ask({ sessionId, wsId, agent, ...ask, policy }, signal)
      },
      onEnded: (id) => void runs.cancelStartedBy(id).catch((error: unknown) => onTrouble(`runs of ${id}`, error)),
      onError: onTrouble,
    })
    await sessions.load()
    const channels = createChannels({
      table: store.grants,
      grants,
      claims: store.claims,
      sessions,
      keys,
      clock,
      ttl: config.channels,
      baseUrl: () => config.publicUrl?.replace(/\/$/, '') ?? url,
      reseal: () => credentials.reseal(),
      ...(options.channelLimits && { limits: options.channelLimits }),
    })
    const issues = createIssues({
      workspaces,
      runs,
      fires: store.fires,
      claims: store.claims,
      clock,
      async tellPeople({ title, body, key, ...about }) {
        await inbox.push({ title, body, key }, { from: 'server', sessionId: null, ...about })
      },
      onError: onTrouble,
    })

    const http = await createHttp({
      sessions,
      requests,
      runs,
      workspaces,
      agents,
      inbox,
      channels,
      credentials,
      issues,
      config,
      clock,
      log,
      version,
      ...(options.channelLimits && { channelLimits: options.channelLimits }),
      isDraining: () => draining,
      runProcesses: () => processes.ofRuns(),
      processTokens,
      probe: createProbe({
        agents,
        processes,
        dispatch,
        clock,
        directory: join(dataDir, 'probes'),
        findProgram: locate,
        temporaries,
        turns,
        liveFiles,
        environment: environmentOf,
      }),
    })
    // Together: a caller who waits for a run gets its end, and nobody waits for a caller who does not listen.
    releases.push(async () => {
      await Promise.all([runs.stop(), sessions.stop(), http.close()])
    })
    const listening = await http.listen()
    url = listening.url
    await runs.adopt(recovered.queued)
    sessions.wake()
    releases.push(() => issues.stop())
    await issues.start()

    const background = new AbortController()
    const logs = { disk, clock, days: config.retention.outputDays, onError: onTrouble, signal: background.signal }
    void retireOldLogs({
      ...logs,
      directory: join(dataDir, 'runs'),
      doneSince: (taskId) => (runs.isActive(taskId) ? undefined : madeAt(taskId)),
    })
    void retireOldLogs({
      ...logs,
      directory: join(dataDir, 'sessions'),
      async doneSince(id) {
        const endedAt = sessions.isOpen(id) ? null : ((await store.sessions.get(id))?.endedAt ?? null)
        return endedAt === null ? undefined : Date.parse(endedAt)
      },
    })
    void keepGrants({
      grants,
      clock,
      keepDays: config.retention.outputDays,
      onError: onTrouble,
      signal: background.signal,
    })
    const serverFile = join(dataDir, 'server.json')
    const startedAt = new Date(clock.now()).toISOString()
    await replaceFile(disk, serverFile, Buffer.from(`${JSON.stringify({ url, pid: process.pid, startedAt })}\n`))
    releases.push(async () => {
      background.abort()
      await rm(serverFile, { force: true })
    })
    return { url, port: listening.port, stop }
  } catch (error) {
    await stop()
    throw error
  }
}
