import { Command, CommanderError, Option } from 'commander'
import { createContext, type GlobalOptions } from './context.ts'
import { explain } from './explain.ts'
import { EXIT } from './exit.ts'
import { createScreen } from './text.ts'
import { version } from './version.ts'

/** Examples stand first: they are what people look for. */
const examples = (...lines: string[]): string => `Examples:\n${lines.map((line) => `  $ ${line}`).join('\n')}\n`

/** Runs one command line. Resolves with the exit code; everything was written. */
export async function runCli(args: string[]): Promise<number> {
  let code: number = EXIT.ok
  const program = build((result) => (code = result))
  try {
    await program.parseAsync(args, { from: 'user' })
    return code
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.ok : EXIT.usage
    const globals = program.opts<GlobalOptions>()
    return explain(createScreen({ quiet: false, color: globals.color }), error as Error)
  }
}

function build(done: (code: number) => void): Command {
  const program = new Command('postern')
    .description('The side door to your coding agents.')
    .version(version, '-V, --version')
    .option('--json', "print the API's own JSON (streams: JSON Lines)", false)
    .option('-q, --quiet', 'no progress and no hints', false)
    .option('--no-color', 'no colour (NO_COLOR does the same)')
    .option('--no-input', 'never ask')
    .addOption(new Option('--server <url>', 'the server to talk to').env('POSTERN_URL'))
    .option('--token-file <path>', 'file that holds the token (POSTERN_TOKEN does the same; never an argument)')
    .option('--data <path>', 'data directory (POSTERN_HOME does the same)')
    .configureOutput({ outputError: (text, write) => write(text.replace(/^error: /, '✗ usage  ')) })
    .showHelpAfterError('(--help shows examples)')
    .exitOverride()
    .addHelpText(
      'before',
      examples(
        'postern serve',
        'postern run "Explain this repository" -w ws-demo --wait',
        'postern runs --status failed',
      ),
    )

  /** One command: its action gets the context first, and its result is the exit code. */
  function action<T extends unknown[]>(
    command: Command,
    run: (context: ReturnType<typeof createContext>, ...rest: T) => Promise<number>,
  ): Command {
    return command.action(async (...received: unknown[]) => {
      const rest = received.slice(0, -1) as T // the last is the command itself
      done(await run(createContext(program.opts<GlobalOptions>()), ...rest))
    })
  }

  action(
    program
      .command('serve')
      .description('serve until told to stop')
      .option('--host <address>', 'address to listen on (default 127.0.0.1; POSTERN_HOST)')
      .option('--port <number>', 'port to listen on (default 47331 or the next free one; 0: any; POSTERN_PORT)')
      .addHelpText('before', examples('postern serve', 'postern serve --port 0 --data /srv/postern')),
    async (context, flags: { host?: string; port?: string }) => {
      const { startServing } = await import('./serve.ts')
      const serving = await startServing({ ...flags, ...context.dataFlag })
      context.screen.note(`data ${serving.dataDir} · documents ${serving.server.url}/docs · Ctrl-C stops`)
      return await serving.ended
    },
  )
  action(
    program
      .command('tour')
      .description('play the tour against a server of this machine, and keep serving')
      .option('--exit', 'stop everything after the tour', false)
      .addHelpText('before', examples('postern tour', 'postern tour --exit')),
    async (context, flags: { exit: boolean }) => await (await import('./tour.ts')).tour(context, flags),
  )
  action(
    program.command('doctor').description('check this machine: Node, git, agents, server, disk, clock'),
    async (context) => await (await import('./doctor.ts')).doctor(context),
  )

  const agents = program.command('agents').description('agents and what they can do')
  action(agents.command('ls', { isDefault: true }).description('list agents'), async (context) =>
    (await import('./agents.ts')).listAgents(context),
  )
  action(
    agents.command('probe').argument('<id>').description('run one fixed prompt with an agent and explain what happens'),
    async (context, id: string) => (await import('./agents.ts')).probeAgent(context, id),
  )

  const workspace = program.command('workspace').alias('ws').description('directories agents work in')
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
      .option('--max-runs <n>', 'most runs at once there')
      .addHelpText(
        'before',
        examples('postern workspace add ~/src/news --tag news', 'postern workspace add --tag scratch --agents demo'),
      ),
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
      .option('--tag <name>')
      .option('--agents <list>')
      .option('--default-agent <id>')
      .option('--permissions <level>')
      .option('--max-runs <n>', 'a number, or "none"')
      .addHelpText(
        'before',
        examples('postern workspace set ws-news --agents claude,demo', 'postern ws set ws-news --max-runs none'),
      ),
    async (context, id: string, flags: Record<string, string>) =>
      (await import('./workspace.ts')).setWorkspace(context, id, flags),
  )
  action(
    workspace
      .command('rm')
      .argument('<id>')
      .description('forget a workspace')
      .option('--purge', 'also remove its directory, if Postern made it', false),
    async (context, id: string, flags: { purge: boolean }) =>
      (await import('./workspace.ts')).removeWorkspace(context, id, flags),
  )

  action(
    program
      .command('run')
      .argument('<prompt>', 'the prompt; - reads it from stdin')
      .description('start a run')
      .requiredOption('-w, --workspace <id>', 'workspace')
      .option('-a, --agent <id>', 'agent (default: the one of the workspace)')
      .option('--timeout <span>', 'limit: 90s, 10m, 1h (at most 30m)')
      .option('--idle-timeout <span>', 'end it after so long without a sign of life')
      .option('--model <name>', 'model, for agents that can choose one')
      .option('--wait', 'wait for the end; print the reply', false)
      .option('--follow', 'print what happens until the end', false)
      .option('--queue', 'wait for a place instead of failing at capacity', false)
      .option('--resume <taskId>', 'continue the conversation of that run')
      .option('--worktree', 'work in a git worktree of its own', false)
      .option('--meta <key=value...>', 'metadata')
      .option('--key <key>', 'idempotency key: the same key starts one run')
      .addHelpText(
        'before',
        examples(
          'postern run "Explain this repository" -w ws-demo',
          'postern run "Run the checks" -w ws-news -a claude --wait --timeout 10m',
          'git diff | postern run - -w ws-review --follow',
        ),
      ),
    async (context, prompt: string, flags: object) =>
      (await import('./run.ts')).startRun(context, prompt, flags as never),
  )

  const runs = program
    .command('runs')
    .description('look at runs')
    .addHelpText(
      'before',
      examples(
        'postern runs -w ws-news --status failed',
        'postern runs watch headless_01M7',
        'postern runs diff headless_01M7 | git apply',
      ),
    )
  const listOptions = (command: Command): Command =>
    command
      .option('-w, --workspace <id>', 'of one workspace')
      .option('--status <status>', 'with one status')
      .option('--agent <id>', 'of one agent')
      .option('--limit <n>', 'at most so many', '20')
      .option('--watch', 'redraw every two seconds', false)
  action(
    listOptions(runs.command('ls', { isDefault: true }).description('list runs, newest first')),
    async (context, flags: object) => (await import('./runs.ts')).listRuns(context, flags as never),
  )
  action(
    runs
      .command('show')
      .argument('<id>')
      .description('show one run')
      .option('--exit-status', 'exit with the code of its status', false),
    async (context, id: string, flags: { exitStatus: boolean }) =>
      (await import('./runs.ts')).showRun(context, id, flags),
  )
  action(
    runs
      .command('watch')
      .argument('<id>')
      .description('print what happens until the run ends; Ctrl-C leaves, the run goes on')
      .option('--exit-status', 'exit with the code of its status', false),
    async (context, id: string, flags: { exitStatus: boolean }) =>
      (await import('./runs.ts')).watchRun(context, id, flags),
  )
  action(
    runs
      .command('events')
      .argument('<id>')
      .description('print events as JSON Lines')
      .option('--after <seq>', 'only those with a higher seq', '0')
      .option('--follow', 'until the run ends', false),
    async (context, id: string, flags: { after: string; follow: boolean }) =>
      (await import('./runs.ts')).printEvents(context, id, flags),
  )
  action(
    runs
      .command('output')
      .argument('<id>')
      .description('print the raw output')
      .option('--stderr', 'stderr instead of stdout', false)
      .option('--tail <bytes>', 'only the end'),
    async (context, id: string, flags: { stderr: boolean; tail?: string }) =>
      (await import('./runs.ts')).printOutput(context, id, flags),
  )
  action(
    runs.command('diff').argument('<id>').description('print the git patch the run made'),
    async (context, id: string) => (await import('./runs.ts')).printDiff(context, id),
  )
  action(runs.command('cancel').argument('<ids...>').description('end runs'), async (context, ids: string[]) =>
    (await import('./runs.ts')).cancelRuns(context, ids),
  )
  action(
    runs.command('retry').argument('<id>').description('start the same request again'),
    async (context, id: string) => (await import('./runs.ts')).retryRun(context, id),
  )
  program.command('demo-agent').description('the built-in agent without a model, as a program').allowUnknownOption()
  for (const each of [program, ...program.commands.flatMap((command) => [command, ...command.commands])])
    each.exitOverride()
  return program
}
