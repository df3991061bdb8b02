import { join } from 'node:path'
import { createAgents } from './agents/agents.ts'
import { openGrants } from './channels/grants.ts'
import type { Clock } from './clock.ts'
import type { Config } from './config.ts'
import { openCredentials } from './credentials/credentials.ts'
import { createDispatch } from './dispatch/local.ts'
import { createEventLog } from './events/event-log.ts'
import { createRedactor, type Redactor } from './events/redactor.ts'
import { INBOX_LOG } from './inbox/inbox.ts'
import { openKeyRing } from './keys/keys.ts'
import { createProcessTokens } from './keys/process-tokens.ts'
import { openCgroups } from './process/cgroup.ts'
import { mayGive, searchPath } from './process/environment.ts'
import { writeLauncher } from './process/launcher.ts'
import { askVersion, findProgram, isFile } from './process/program.ts'
import { createProcesses } from './process/supervise.ts'
import type { Disk } from './store/disk.ts'
import { openStore } from './store/store.ts'
import { createGit } from './workspaces/git.ts'

/** A run or session that says something; neither: the operator. */
interface Speaker {
  taskId: string | null
  sessionId: string | null
}

/**
 * What the nouns stand on: the store and what else is kept in the data directory, processes, agents, git. The first half of
 * the composition root; like the other it holds no rule.
 *
 * @param onRelease takes what is to be done when the server stops, in reverse order
 * @throws DamagedStateError, ConfigError
 */
export async function openMachines(
  options: {
    config: Config
    environment: Record<string, string | undefined>
    clock: Clock
    disk: Disk
    onTrouble(message: string, error?: unknown): void
  },
  onRelease: (release: () => Promise<void>) => void,
) {
  const { config, environment, clock, disk, onTrouble } = options
  const { dataDir } = config
  const store = await openStore({
    disk,
    dataDir,
    clock,
    maxIdempotencyKeys: config.maxIdempotencyKeys,
    onTrouble,
  })
  onRelease(() => store.close())
  const keys = await openKeyRing({ disk, dataDir, clock })
  const grants = await openGrants({ table: store.grants, clock })
  onRelease(() => grants.flush())

  const worktreePath = (taskId: string): string => join(dataDir, 'worktrees', taskId)
  const runDirectory = (taskId: string): string => join(dataDir, 'runs', taskId)
  const inboxDirectory = join(dataDir, 'inbox')
  const sessionDirectory = (id: string): string => join(dataDir, 'sessions', id)
  const logDirectory = (log: string): string =>
    log === INBOX_LOG ? inboxDirectory : log.startsWith('sess_') ? sessionDirectory(log) : runDirectory(log)
  const events = createEventLog({
    disk,
    clock,
    path: (log) => join(logDirectory(log), 'events.ndjson'),
  })
  onRelease(() => events.closeAll())
  const processes = createProcesses({ clock, cgroups: openCgroups() })
  const binDirectory = await writeLauncher(join(dataDir, 'bin'))
  const path = searchPath(environment, binDirectory)
  const locate = (name: string): Promise<string | undefined> => findProgram(name, path)
  const agents = createAgents({
    configured: config.agents,
    clock,
    demoHome: join(dataDir, 'demo-agent'),
    findProgram: locate,
    askVersion: (program, args) => askVersion(program, args, path),
    environment,
    isFile,
  })
  const credentials = await openCredentials({
    table: store.credentials,
    claims: store.claims,
    keys,
    clock,
    maySet: mayGive,
    agentIds: () => agents.all().map(({ id }) => id),
    onTrouble: (message) => onTrouble(message),
  })
  const processTokens = createProcessTokens()
  /** Takes out what the speaker may know: what its credentials hold, and what it was given when it was started. */
  const redactorFor = async ({ taskId, sessionId }: Speaker): Promise<Redactor> => {
    const session = sessionId === null ? undefined : await store.sessions.get(sessionId)
    const run = taskId === null ? undefined : await store.runs.get(taskId)
    const agent = (session ?? run)?.agent
    const names = session?.credentials ?? (run && (await store.workspaces.get(run.wsId)))?.credentials
    const now = agent === undefined ? [] : await credentials.valuesFor(names ?? [], agent)
    return createRedactor([...now, ...processTokens.secretsOf(taskId ?? sessionId ?? '')])
  }
  const git = createGit({ environment, binDirectory })
  const dispatch = createDispatch(config)

  return {
    store,
    keys,
    grants,
    directories: { worktree: worktreePath, run: runDirectory, session: sessionDirectory, inbox: inboxDirectory },
    events,
    processes,
    binDirectory,
    locate,
    agents,
    credentials,
    processTokens,
    redactorFor,
    git,
    dispatch,
  }
}
