import type { Command } from 'commander'
import { examples, type Action, type Group } from './command.ts'

/** The commands of the second door: sessions, channels, what agents ask, deliveries, keys. */
export function addLive(program: Command, group: Group, action: Action): void {
  addSessions(
    group(
      'session',
      'live agents that take one message after another',
      'session start -w ws-demo',
      'session attach 01M7W2YA',
      'session send 01M7W2YA "Run the checks" --wait',
      'session end 01M7W2YA',
    ),
    action,
  )
  addChannels(
    group(
      'channel',
      'addresses that put a message into a live session',
      'channel expose --session 01M7W2YA --label ci --ttl 24h',
      'channel ls',
      'channel revoke grant_01M7W3P5',
    ),
    action,
  )
  addRequests(
    group(
      'requests',
      'what live agents ask: may it do this?',
      'requests',
      'requests answer perm_01M7W3P5 allow',
      'requests --all --session 01M7W2YA',
    ),
    action,
  )
  action(
    program
      .command('listen')
      .argument('[session]', 'one session (default: all that have not ended)')
      .description('show deliveries as they arrive and as they are taken')
      .option('--last <n>', 'first the last n that arrived before', '0')
      .option('--curl', 'print a command that sends each again (set POSTERN_WEBHOOK to an address)')
      .option('--replay <delivery>', 'send that delivery again, through an address of a minute, and end')
      .addHelpText(
        'before',
        examples('listen', 'listen 01M7W2YA --last 10 --curl', 'listen --replay dlv_01M7W3P5H2A9E4R7W0Y6ZC8MND'),
      ),
    async (context, session: string | undefined, flags: object) =>
      (await import('./listen.ts')).listen(context, session, flags as never),
  )
  action(
    program
      .command('trigger')
      .argument('[sample]', 'its name (without one they are listed)')
      .description('knock with a sample body, as other programs send them')
      .option('--session <id>', 'on this session, through an address of a minute')
      .option('--webhook-file <path>', 'on the address in this file; - is stdin (POSTERN_WEBHOOK does the same)')
      .option('--from <name>', 'who the sender says it is')
      .option('--key <key>', 'idempotency key: on that address the same key is delivered once; not with --session')
      .addHelpText(
        'before',
        examples('trigger', 'trigger deploy --session 01M7W2YA', 'trigger alert --webhook-file hook.txt'),
      ),
    async (context, sample: string | undefined, flags: object) =>
      (await import('./trigger.ts')).trigger(context, sample, flags as never),
  )
  action(
    group('keys', 'the root keys, which sign every address', 'keys rotate', 'keys rotate --drop')
      .command('rotate')
      .description('make a new key; addresses of older keys stay good until they expire')
      .option('--drop', 'void every older key, and with it every address, at once'),
    async (context, flags: { drop?: boolean }) => (await import('./keys.ts')).rotateKeys(context, flags),
  )
}

const DEADLINE = ['--deadline <span>', 'stop waiting after so long: exit 8, the turn goes on'] as const

function addSessions(session: Command, action: Action): void {
  action(
    session
      .command('start')
      .argument('[message]', 'the first message; - reads it from stdin')
      .description('open a session')
      .requiredOption('-w, --workspace <id>', 'workspace')
      .option('-a, --agent <id>', 'agent (default: the one of the workspace)')
      .option('--title <text>', 'for the list')
      .option('--model <name>', 'model, for agents that can choose one')
      .option('--key <key>', 'idempotency key: the same key opens one session')
      .option('--attach', 'and talk to it')
      .addHelpText(
        'before',
        examples('session start -w ws-demo', 'session start "Read the notes" -w ws-news -a claude --attach'),
      ),
    async (context, message: string | undefined, flags: object) =>
      (await import('./session.ts')).startSession(context, message, flags as never),
  )
  action(
    session
      .command('ls', { isDefault: true })
      .description('list sessions, newest first')
      .option('-w, --workspace <id>', 'of one workspace')
      .option('--state <state>', 'in one state: starting, idle, busy, waiting, suspended, ended')
      .option('--agent <id>', 'of one agent')
      .option('--limit <n>', 'at most so many', '20')
      .addHelpText('before', examples('session ls', 'session ls -w ws-news --state idle')),
    async (context, flags: object) => (await import('./session.ts')).listSessions(context, flags as never),
  )
  action(session.command('show').argument('<id>').description('show one session'), async (context, id: string) =>
    (await import('./session.ts')).showSession(context, id),
  )
  action(
    session
      .command('send')
      .argument('<id>')
      .argument('<message>', 'the message; - reads it from stdin')
      .description('send one message')
      .option('--from <name>', 'who says it; the agent sees [name] before it')
      .option('--steer', 'into the turn at work, where the agent can')
      .option('--interrupt', 'end the turn at work, and be next')
      .option('--wait', 'wait for the reply and print it')
      .option('--follow', 'print all that happens until the reply')
      .option(...DEADLINE)
      .option('--key <key>', 'idempotency key: the same key is delivered once')
      .addHelpText(
        'before',
        examples(
          'session send 01M7W2YA "Run the checks" --wait',
          'session send 01M7W2YA - --from ada < notes.md',
          'session send 01M7W2YA "Stop: wrong branch" --interrupt',
        ),
      ),
    async (context, id: string, message: string, flags: object) =>
      (await import('./session.ts')).sendToSession(context, id, message, flags as never),
  )
  action(
    session
      .command('attach')
      .argument('<id>')
      .description('talk to it: Ctrl-C interrupts the turn, twice leaves; Ctrl-D leaves; the session stays')
      .addHelpText('before', examples('session attach 01M7W2YA', 'session attach 01M7W2YA < questions.txt'))
      .addHelpText(
        'after',
        '\nWhat it asks is answered by y or n. A line that ends with \\ goes on in the next.\nOn a pipe each line is a message; the next is sent when the agent has answered.',
      ),
    async (context, id: string) => (await import('./attach.ts')).attach(context, id),
  )
  action(
    session
      .command('events')
      .argument('<id>')
      .description('print events as JSON Lines')
      .option('--after <seq>', 'only those with a higher seq', '0')
      .option('--follow', 'until the session ends'),
    async (context, id: string, flags: { after: string; follow?: boolean }) =>
      (await import('./session.ts')).printSessionEvents(context, id, flags),
  )
  action(
    session.command('interrupt').argument('<id>').description('end the turn at work; what waits goes on'),
    async (context, id: string) => (await import('./session.ts')).interruptSession(context, id),
  )
  action(
    session.command('end').argument('<ids...>').description('end sessions for good'),
    async (context, ids: string[]) => (await import('./session.ts')).endSessions(context, ids),
  )
}

function mintOptions(command: Command): Command {
  return command
    .requiredOption('--session <id>', 'the session it leads to')
    .option('--verb <verb>', 'what it may do', 'send_input')
    .option('--ttl <seconds>', "seconds until it expires, or a span such as 24h; 0: the server's default", '0')
    .option('--label <text>', 'what it is for; told to the agent')
}

function addChannels(channel: Command, action: Action): void {
  action(
    mintOptions(channel.command('expose'))
      .description('mint an address; its token is shown this once')
      .addHelpText(
        'before',
        examples('channel expose --session 01M7W2YA', 'channel expose --session 01M7W2YA --label ci --ttl 86400'),
      ),
    async (context, flags: object) => (await import('./channel.ts')).exposeChannel(context, flags as never),
  )
  action(
    channel
      .command('ls', { isDefault: true })
      .description('list grants, newest first, with their whole ids')
      .option('--session <id>', 'of one session')
      .option('--limit <n>', 'at most so many', '50'),
    async (context, flags: { session?: string; limit: string }) =>
      (await import('./channel.ts')).listChannels(context, flags),
  )
  action(
    channel
      .command('revoke')
      .argument('<grant-id>', 'or a beginning of it that means it alone')
      .description('kill an address: it answers 403 when this returns')
      .addHelpText('before', examples('channel revoke grant_01M7W3P5H2A9E4R7W0Y6ZC8MND')),
    async (context, id: string) => (await import('./channel.ts')).revokeChannel(context, id),
  )
  action(
    channel
      .command('deliveries')
      .argument('<grant-id>')
      .description('what came through a grant, newest first')
      .option('--follow', 'oldest first, and go on as more arrive and change')
      .option('--limit <n>', 'at most so many', '20'),
    async (context, id: string, flags: { follow?: boolean; limit: string }) =>
      (await import('./channel.ts')).listDeliveries(context, id, flags),
  )
  action(
    channel
      .command('test')
      .argument('<grant-id>')
      .description('see whether a knock would arrive')
      .option('--message <text>', 'what the agent gets', 'A test of this channel: there is nothing to do.')
      .option('--deadline <span>', 'how long the agent may take to take it', '30s')
      .addHelpText('before', examples('channel test grant_01M7W3P5', 'channel test grant_01M7W3P5 --deadline 2m'))
      .addHelpText(
        'after',
        '\nTokens are not kept, so the address itself cannot be tried here. This looks at its grant, then mints an\naddress of two minutes on the same session, knocks, waits until the agent has it, revokes, and knocks again.',
      ),
    async (context, id: string, flags: { message: string; deadline: string }) =>
      (await import('./channel.ts')).testChannel(context, id, flags),
  )
  action(
    mintOptions(channel.command('curl'))
      .description('print a curl command with a fresh address in it')
      .option('--message <text>', 'what it sends', 'hello')
      .addHelpText('before', examples('channel curl --session 01M7W2YA --ttl 1h --label ci'))
      .addHelpText(
        'after',
        '\nTokens are not kept, so a command for an address that exists cannot be printed: this mints one, as expose\ndoes. Whoever sees the command can knock until it expires or is revoked.',
      ),
    async (context, flags: object) => (await import('./channel.ts')).curlForChannel(context, flags as never),
  )
}

function addRequests(requests: Command, action: Action): void {
  action(
    requests
      .command('ls', { isDefault: true })
      .description('list what waits for an answer')
      .option('--session <id>', 'of one session')
      .option('--all', 'answered ones too')
      .option('--limit <n>', 'at most so many', '20'),
    async (context, flags: { session?: string; all?: boolean; limit: string }) =>
      (await import('./requests.ts')).listRequests(context, flags),
  )
  action(
    requests
      .command('answer')
      .argument('<id>')
      .argument('<answer>', 'allow or deny')
      .description('answer for the operator; the first answer wins')
      .option('--option <id>', 'one of the options that the agent offers (default: once)')
      .addHelpText('before', examples('requests answer perm_01M7W3P5 allow', 'requests answer perm_01M7W3P5 deny')),
    async (context, id: string, answer: string, flags: { option?: string }) =>
      (await import('./requests.ts')).answerRequest(context, id, answer, flags),
  )
}
