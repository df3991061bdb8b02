import { Command, CommanderError, Option } from 'commander'
import { examples, type Action } from './command.ts'
import { createContext, type Context, type GlobalOptions } from './context.ts'
import { CliExit, EXIT, readerLeft } from './exit.ts'
import { addExamples, strayWord } from './help.ts'
import { addCredentials } from './credential-commands.ts'
import { addIssues } from './issue-commands.ts'
import { addInbox } from './inbox-commands.ts'
import { addLive } from './live-commands.ts'
import { version } from './version.ts'

/** Runs one command line. Resolves with the exit code; everything was written. */
export async function runCli(args: string[]): Promise<number> {
  let code: number = EXIT.ok
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') throw error
    readerLeft()
  })
  try {
    await build((result) => (code = result)).parseAsync(args, { from: 'user' })
    return code
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.ok : EXIT.usage
    throw error
  }
}

/** The commands. What each does is loaded when it is called, so that help and errors are quick. */
export function build(done: (code: number) => void): Command {
  const program = new Command('postern')
    .description('A door to your coding agents.')
    .version(version, '-V, --version')
    .option('--json', "print the API's own JSON (streams: JSON Lines)")
    .option('-q, --quiet', 'no progress and no hints')
    .option('--no-color', 'no colour (NO_COLOR does the same)')
    .option('--no-input', 'never ask')
    .option('--server <url>', 'the server to talk to (POSTERN_URL does the same)')
    .option('--token-file <path>', 'file that holds the token (POSTERN_TOKEN does the same; never an argument)')
    .option('--data <path>', 'data directory (POSTERN_HOME does the same)')
    .configureOutput({ outputError: (text, write) => write(text.replace(/^error: /, '✗ usage  ')) })
    .configureHelp({ showGlobalOptions: true })
    .showHelpAfterError('(--help shows examples)')
    .exitOverride()
    .addHelpText(
      'before',
      examples(
        'serve',
        'run "Explain this repository" -w ws-demo --wait',
        'runs --status failed',
        'runs watch 01M7W3',
        'session start -w ws-demo --attach',
        'channel expose --session 01M7W2YA --label ci --ttl 24h',
      ),
    )

  /** One command: its action gets the context first, and its result is the exit code. */
  function action<T extends unknown[]>(
    command: Command,
    run: (context: Context, ...rest: T) => Promise<number>,
  ): Command {
    return command.action(async (...received: unknown[]) => {
      const rest = received.slice(0, -1) as T // the last is the command itself
      const context = createContext(program.opts<GlobalOptions>())
      try {
        const stray = strayWord(received.at(-1) as Command)
        if (stray) throw new CliExit(EXIT.usage, stray.message, stray.hint)
        done(await run(context, ...rest))
      } catch (error) {
        const { explain } = await import('./explain.ts')
        done(explain(context, error))
      }
    })
  }
  const group = (name: string, description: string, ...lines: string[]): Command =>
    program
      .command(name)
      .description(description)
      .addHelpText('before', examples(...lines))

  addServer(program, action)
  addAgents(group('agents', 'agents and what they can do', 'agents', 'agents probe demo'), action)
  addWorkspaces(
    group(
      'workspace',
      'directories agents work in',
      'ws add ~/src/news --tag news',
      'ws add --tag scratch --agents demo',
      'ws set ws-news --agents claude,demo --max-runs 2',
    ).alias('ws'),
    action,
  )
  addRun(program, action)
  addRuns(
    group(
      'runs',
      'look at runs',
      'runs -w ws-news --status failed',
      'runs watch 01M7W3M6',
      'runs diff 01M7W3M6 | git apply',
      'runs cancel 01M7W3M6',
    ).addHelpText('after', '\nAny unique beginning of an id will do. Flags of the list: postern runs ls --help'),
    action,
  )
  addIssues(
    group(
      'issue',
      'issues: markdown files that may run by themselves',
      'issue',
      'issue new "Pre-market brief" -w ws-news --cron "30 8 * * 1-5" --body -',
      'issue schedule --preview "0 9 * * 1-5" --timezone Europe/Berlin',
    ),
    action,
  )
  addInbox(program, action)
  addCredentials(
    group(
      'cred',
      'variables for agents: sealed, never shown again',
      'cred set anthropic --agents claude',
      'cred set deploy < deploy.env',
      'ws set ws-news --credentials anthropic,deploy',
    ),
    action,
  )
  addLive(program, group, action)
  action(program.command('version').description('print the version'), (context) => {
    if (context.options.json) context.screen.printJson({ version })
    else context.screen.print(version)
    return Promise.resolve(EXIT.ok)
  })
  // Listed nowhere: `main.ts` hands it its arguments before this file is loaded.
  program.command('demo-agent', { hidden: true }).allowUnknownOption()
  for (const each of program.commands.flatMap((command) => [command, ...command.commands])) {
    each.exitOverride()
    addExamples(each)
    if (each.name() === 'ls') each.allowExcessArguments() // the action says what was meant
  }
  return program
}

function addServer(program: Command, action: Action): void {
  action(
    program
      .command('serve')
      .description('serve until told to stop')
      .option('--host <address>', 'address to listen on (default 127.0.0.1; POSTERN_HOST)')
      .option('--port <number>', 'port to listen on (default 47331 or the next free one; 0: any; POSTERN_PORT)')
      .addHelpText('before', examples('serve', 'serve --port 0 --data /srv/postern')),
    async (context, flags: { host?: string; port?: string }) => (await import('./serve.ts')).serve(context, flags),
  )
  action(
    program
      .command('tour')
      .description('play the tour against the server of this machine, or start one and keep serving')
      .option('--exit', 'stop everything after the tour')
      .addHelpText('before', examples('tour', 'tour --exit')),
    async (context, flags: { exit?: boolean }) =>
      (await import('./tour.ts')).tour(context, { exit: flags.exit === true }),
  )
  action(
    program
      .command('doctor')
      .description('check this machine: Node, git, agents, server, port, disk, clock')
      .addHelpText('before', examples('doctor', 'doctor --json')),
    async (context) => (await import('./doctor.ts')).doctor(context),
  )
}

function addAgents(agents: Command, action: Action): void {
  action(agents.command('ls', { isDefault: true }).description('list agents'), async (context) =>
    (await import('./agents.ts')).listAgents(context),
  )
  action(
    agents.command('probe').argument('<id>').description('run one fixed prompt with an agent and explain what happens'),
    async (context, id: string) => (await import('./agents.ts')).probeAgent(context, id),
  )
}

function addWorkspaces(workspace: Command, action: Action): void {
  action(workspace.command('ls', { isDefault: true }).description('list workspaces'), async (context) =>
    (await import('./workspace.ts')).listWorkspaces(context),
  )
  action(
    workspace
      .command('add')
      .argument('[path]', 'an existing directory; without one a new directory is made')
      .description('register a directory, or make one')
      .option('--tag <name>', 'display name (default: the name of the directory)')
      .option('--id <id>', 'id, ws-<slug> (default: made from the tag)')
      .option('--agents <list>', 'agents enabled there, separated by commas; the first is the default')
      .option('--permissions <level>', 'what agents may do without asking: ask, edit or full')
      .option('--on-request <answer>', 'what live agents ask there: ask a person, allow or deny')
      .option('--credentials <list>', 'credentials given to runs and sessions there, separated by commas')
      .option('--max-runs <n>', 'most runs at once there')
      .addHelpText('before', examples('ws add ~/src/news --tag news', 'ws add --tag scratch --agents demo')),
    async (context, path: string | undefined, flags: Record<string, string>) =>
      (await import('./workspace.ts')).addWorkspace(context, path, flags),
  )
  action(workspace.command('show').argument('<id>').description('show one workspace'), async (context, id: string) =>
    (await import('./workspace.ts')).showWorkspace(context, id),
  )
  action(
    workspace
      .command('set')
      .argument('<id>')
      .description('change settings')
      .option('--tag <name>', 'display name')
      .option('--agents <list>', 'agents enabled there, separated by commas')
      .option('--default-agent <id>', 'the agent of a run that names none')
      .option('--permissions <level>', 'ask, edit or full')
      .option('--on-request <answer>', 'what live agents ask there: ask a person, allow or deny')
      .option('--children <list>', 'workspaces in which runs from here may start runs, separated by commas, or "none"')
      .option('--nudge <on|off>', 'ask a run that succeeded without reporting to report')
      .option('--credentials <list>', 'credentials given to runs and sessions there, separated by commas, or "none"')
      .option('--max-runs <n>', 'a number, or "none"')
      .option('--budget-run-tokens <n>', 'tokens after which a run is ended, or "none"')
      .option('--budget-run-cost <usd>', 'US dollars after which a run is ended, or "none"')
      .option('--budget-runs <n>', 'runs and sessions a day (UTC), or "none"')
      .option('--budget-tokens <n>', 'tokens a day, or "none"')
      .option('--budget-cost <usd>', 'US dollars a day, or "none"')
      .addHelpText(
        'before',
        examples(
          'ws set ws-news --agents claude,demo',
          'ws set ws-news --max-runs none',
          'ws set ws-news --budget-cost 5',
        ),
      ),
    async (context, id: string, flags: Record<string, string>) =>
      (await import('./workspace.ts')).setWorkspace(context, id, flags),
  )
  action(
    workspace
      .command('rm')
      .argument('<id>')
      .description('forget a workspace')
      .option('--purge', 'also remove its directory, if Postern made it')
      .addHelpText('before', examples('ws rm ws-scratch', 'ws rm ws-scratch --purge')),
    async (context, id: string, flags: { purge?: boolean }) =>
      (await import('./workspace.ts')).removeWorkspace(context, id, flags),
  )
}

const DEADLINE = ['--deadline <span>', 'stop looking after so long: exit 8, the run goes on'] as const

function addRun(program: Command, action: Action): void {
  action(
    program
      .command('run')
      .argument('<prompt>', 'the prompt; - reads it from stdin')
      .description('start a run')
      .addOption(
        new Option('-w, --workspace <id>', 'workspace (inside a run: its own)')
          .env('POSTERN_WORKSPACE_ID')
          .makeOptionMandatory(),
      )
      .option('-a, --agent <id>', 'agent (default: the one of the workspace)')
      .option('--timeout <span>', 'limit of the run: 90s, 10m (default 5m, at most 30m)')
      .option('--idle-timeout <span>', 'end it after so long without a sign of life')
      .option('--model <name>', 'model, for agents that can choose one')
      .option('--wait', 'wait for the end; print the reply')
      .option('--follow', 'print what happens until the end')
      .option(...DEADLINE)
      .option('--queue', 'wait for a place instead of failing at capacity')
      .option('--resume <taskId>', 'continue the conversation of that run')
      .option('--worktree', 'work in a git worktree of its own')
      .option('--meta <key=value...>', 'metadata')
      .option('--key <key>', 'idempotency key: the same key starts one run')
      .addHelpText(
        'before',
        examples(
          'run "Explain this repository" -w ws-demo',
          'run "Run the checks" -w ws-news -a claude --wait --timeout 10m',
          'run - -w ws-review --follow < question.md',
        ),
      ),
    async (context, prompt: string, flags: object) =>
      (await import('./run.ts')).startRun(context, prompt, flags as never),
  )
}

function addRuns(runs: Command, action: Action): void {
  action(
    runs
      .command('ls', { isDefault: true })
      .description('list runs, newest first')
      .option('-w, --workspace <id>', 'of one workspace')
      .option('--status <status>', 'with one status')
      .option('--agent <id>', 'of one agent')
      .option('--limit <n>', 'at most so many', '20')
      .option('--watch', 'redraw every two seconds')
      .addHelpText('before', examples('runs', 'runs -w ws-news --status failed --limit 50', 'runs --watch')),
    async (context, flags: object) => (await import('./runs.ts')).listRuns(context, flags as never),
  )
  action(
    runs
      .command('show')
      .argument('<id>')
      .description('show one run')
      .option('--exit-status', 'exit with the code of its status'),
    async (context, id: string, flags: { exitStatus?: boolean }) =>
      (await import('./runs.ts')).showRun(context, id, flags),
  )
  action(
    runs.command('tree').argument('<id>').description('show a run and the runs it started'),
    async (context, id: string) => (await import('./runs.ts')).showTree(context, id),
  )
  action(
    runs
      .command('watch')
      .argument('<id>')
      .description('print what happens until the run ends; Ctrl-C leaves, the run goes on')
      .option('--exit-status', 'exit with the code of its status')
      .option(...DEADLINE),
    async (context, id: string, flags: { exitStatus?: boolean; deadline?: string }) =>
      (await import('./runs.ts')).watchRun(context, id, flags),
  )
  action(
    runs
      .command('events')
      .argument('<id>')
      .description('print events as JSON Lines')
      .option('--after <seq>', 'only those with a higher seq', '0')
      .option('--follow', 'until the run ends'),
    async (context, id: string, flags: { after: string; follow?: boolean }) =>
      (await import('./output.ts')).printEvents(context, id, flags),
  )
  action(
    runs
      .command('output')
      .argument('<id>')
      .description('print the raw output')
      .option('--stderr', 'stderr instead of stdout')
      .option('--tail <bytes>', 'only the end')
      .option('--follow', 'until the run ends'),
    async (context, id: string, flags: { stderr?: boolean; tail?: string; follow?: boolean }) =>
      (await import('./output.ts')).printOutput(context, id, flags),
  )
  action(
    runs.command('diff').argument('<id>').description('print the git patch the run made'),
    async (context, id: string) => (await import('./output.ts')).printDiff(context, id),
  )
  action(runs.command('cancel').argument('<ids...>').description('end runs'), async (context, ids: string[]) =>
    (await import('./runs.ts')).cancelRuns(context, ids),
  )
  action(
    runs.command('retry').argument('<id>').description('start the same request again'),
    async (context, id: string) => (await import('./runs.ts')).retryRun(context, id),
  )
}
