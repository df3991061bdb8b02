import { Option, type Command } from 'commander'
import { examples, type Action } from './command.ts'
import type { IssueFlags } from './issue.ts'

/** The workspace; inside a run or session its own, which is the only one that it may ask about. */
const workspace = (text: string): Option => new Option('-w, --workspace <id>', text).env('POSTERN_WORKSPACE_ID')
const ofIssue = (): Option => workspace('workspace; needed when several have an issue of that name')

/** What an issue says, as flags; `none` takes a key out of the file. */
const withSettings = (command: Command): Command =>
  command
    .option('--body <text>', 'the prompt; - reads it from stdin')
    .option('--every <span>', 'run every so often: 90s, 15m, 1h30m, 2d')
    .option('--cron <expression>', 'run by a cron expression of five fields')
    .option('--timezone <zone>', 'time zone of --cron, such as Europe/Berlin (default UTC)')
    .option('--at <moment>', 'run once, such as 2026-12-01T08:00:00Z')
    .option('-a, --agent <id>', 'agent (default: the one of the workspace)')
    .option('--timeout <span>', 'limit of its runs: 90s, 10m')
    .option('--status <status>', 'backlog, todo, in_progress, done or canceled')
    .option('--priority <priority>', 'urgent, high, medium, low or none')
    .option('--overlap <policy>', 'while a run of it is at work: skip or queue')
    .option('--catch-up <policy>', 'after downtime: once or skip')

/** `postern issue …`. */
export function addIssues(issue: Command, action: Action): void {
  action(
    issue
      .command('ls', { isDefault: true })
      .description('list issues, and the files that are broken')
      .addOption(workspace('of one workspace'))
      .option('--status <status>', 'with one status')
      .addHelpText('before', examples('issue', 'issue ls -w ws-news --status todo')),
    async (context, flags: IssueFlags) => (await import('./issue.ts')).listIssues(context, flags),
  )
  action(
    withSettings(
      issue
        .command('new')
        .argument('<title>')
        .description('write an issue')
        .addOption(workspace('workspace').makeOptionMandatory())
        .option('--id <name>', 'name of the file (default: made from the title)'),
    ).addHelpText(
      'before',
      examples(
        'issue new "Fix the parser" -w ws-news --body "Make test/parser.test.ts pass."',
        'issue new "Pre-market brief" -w ws-news --cron "30 8 * * 1-5" --timezone America/New_York --body - < brief.md',
      ),
    ),
    async (context, title: string, flags: IssueFlags) => (await import('./issue.ts')).newIssue(context, title, flags),
  )
  action(
    issue
      .command('show')
      .argument('<issue>', 'name, or any unique beginning of it')
      .description('show an issue with its comments')
      .addOption(ofIssue()),
    async (context, name: string, flags: IssueFlags) => (await import('./issue.ts')).showIssue(context, name, flags),
  )
  action(
    withSettings(
      issue
        .command('set')
        .argument('<issue>')
        .description('change an issue; everything else in its file stays')
        .addOption(ofIssue())
        .option('--title <text>', 'title')
        .option('--no-schedule', 'take the schedule out'),
    ).addHelpText('before', examples('issue set brief --status done', 'issue set brief --every 1h --agent none')),
    async (context, name: string, flags: IssueFlags) => (await import('./issue.ts')).setIssue(context, name, flags),
  )
  action(
    issue
      .command('comment')
      .argument('<issue>')
      .argument('<text>', 'the comment; - reads it from stdin')
      .description('append a comment to the file')
      .addOption(ofIssue())
      .option('--author <name>', 'who says it (default operator)'),
    async (context, name: string, text: string, flags: IssueFlags) =>
      (await import('./issue.ts')).commentOnIssue(context, name, text, flags),
  )
  action(
    issue
      .command('rm')
      .argument('<issue>', 'the whole name')
      .description('remove an issue and its file')
      .addOption(ofIssue()),
    async (context, name: string, flags: IssueFlags) => (await import('./issue.ts')).removeIssue(context, name, flags),
  )
  action(
    issue
      .command('run')
      .argument('<issue>')
      .description('run an issue now, whatever its schedule says')
      .addOption(ofIssue())
      .option('--wait', 'wait for the end; print the reply')
      .option('--follow', 'print what happens until the end')
      .addHelpText('before', examples('issue run brief', 'issue run brief --wait')),
    async (context, name: string, flags: IssueFlags) => (await import('./issue.ts')).runIssue(context, name, flags),
  )
  action(
    issue
      .command('schedule')
      .argument('[issue]')
      .description('the next fires, the last one, and why one did not run')
      .addOption(ofIssue())
      .option('--preview <cron>', 'when a cron expression would fire; stores nothing')
      .option('--timezone <zone>', 'time zone of --preview (default UTC)')
      .option('--count <n>', 'fires to show', '5')
      .addHelpText(
        'before',
        examples('issue schedule brief', 'issue schedule --preview "0 9 * * 1-5" --timezone Europe/Berlin'),
      ),
    async (context, name: string | undefined, flags: IssueFlags) =>
      (await import('./issue.ts')).showSchedule(context, name, flags),
  )
}
