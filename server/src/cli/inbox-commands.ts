import type { Command } from 'commander'
import { examples, type Action } from './command.ts'

/** Loaded when a command is called, so that help and errors are quick. */
const load = () => import('./inbox.ts')

/** `postern inbox …` and `postern report`. */
export function addInbox(program: Command, action: Action): void {
  const inbox = program
    .command('inbox')
    .description('results that last')
    .addHelpText(
      'before',
      examples(
        'inbox',
        'inbox read 01M7W3N1',
        'inbox push --title "All inside the limits" --file reports/risk.md',
        'inbox none "no position broke a rule"',
        'inbox reply 01M7W3N1 "And the others?" --follow',
      ),
    )
  action(
    program
      .command('report')
      .argument('<message>', 'news; - reads it from stdin')
      .description('inside a run: report to the run that started it')
      .addHelpText('before', examples('report "half of them done"')),
    async (context, message: string) => (await load()).reportToParent(context, message),
  )
  const OF_WORKSPACE = ['-w, --workspace <id>', 'of one workspace'] as const
  action(
    inbox
      .command('ls', { isDefault: true })
      .description('list entries, newest first')
      .option(...OF_WORKSPACE)
      .option('--unread', 'only unread ones')
      .option('--search <text>', 'with this text in title, body or the name of a document')
      .option('--limit <n>', 'at most so many', '20')
      .option('--follow', 'print those that come, until Ctrl-C')
      .addHelpText('before', examples('inbox', 'inbox ls --unread -w ws-news', 'inbox ls --follow')),
    async (context, flags: object) => (await load()).listInbox(context, flags as never),
  )
  action(
    inbox
      .command('read')
      .argument('<id>')
      .description('show an entry and mark it as read')
      .option('--keep-unread', 'do not mark it'),
    async (context, id: string, flags: { keepUnread?: boolean }) => (await load()).readEntry(context, id, flags),
  )
  action(
    inbox
      .command('open')
      .argument('<id>')
      .argument('[document]', 'its position or name', '0')
      .description('print a document as it was when it was pushed'),
    async (context, id: string, which: string) => (await load()).openDocument(context, id, which),
  )
  action(
    inbox
      .command('push')
      .description('push an entry: inside a run as that run, elsewhere as the operator')
      .requiredOption('--title <line>', 'one line')
      .option('--body <markdown>', 'text; - reads it from stdin (default: the first file, if it is a text)')
      .option('--file <path...>', 'files of the workspace, of which copies are kept')
      .option('--key <key>', 'the same key gives the same entry')
      .option('-w, --workspace <id>', 'the workspace it is about (inside a run: always its own)')
      .addHelpText('before', examples('inbox push --title "Limits: all inside" --file reports/risk.md')),
    async (context, flags: object) => (await load()).pushEntry(context, flags as never),
  )
  action(
    inbox.command('none').argument('<why>').description('inside a run: declare that there is nothing to report'),
    async (context, why: string) => (await load()).declareNone(context, why),
  )
  action(
    inbox
      .command('done')
      .argument('[ids...]')
      .description('mark entries as read')
      .option('--all', 'every unread one')
      .option(...OF_WORKSPACE),
    async (context, ids: string[], flags: { all?: boolean; workspace?: string }) =>
      (await load()).markDone(context, ids, flags),
  )
  action(
    inbox
      .command('reply')
      .argument('<id>')
      .argument('<message>', 'what to say; - reads it from stdin')
      .description('continue the conversation of the run that pushed it')
      .option('--wait', 'wait for the end; print the reply')
      .option('--follow', 'print what happens until the end'),
    async (context, id: string, message: string, flags: { wait?: boolean; follow?: boolean }) =>
      (await load()).replyToEntry(context, id, message, flags),
  )
  action(
    inbox.command('rm').argument('<ids...>').description('remove entries with their documents'),
    async (context, ids: string[]) => (await load()).removeEntries(context, ids),
  )
}
