import { chmod, mkdir, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Run } from '../src/model.ts'
import type { InboxEntry } from '../src/model/inbox.ts'
import { cli, stable, startCli, terminal, type Ran } from './cli-process.ts'
import { startTestServer, type TestServer } from './harness.ts'
import { eventually } from './temporary.ts'

/** The command line over a server of its own, and inside runs of it. */
const agents = { sh: { command: ['bash', '--norc', '-s'] } }
let server: TestServer
let wsId: string
let path: string
beforeAll(async () => {
  server = await startTestServer({ config: { agents } })
  wsId = await server.workspace({ id: 'ws-inbox', tag: 'inbox' })
  path = (await server.call<{ path: string }>('GET', `/api/workspaces/${wsId}`)).body.path
})
afterAll(() => server[Symbol.asyncDispose]())

const postern = (...args: string[]): Promise<Ran> => cli(args, { home: server.dataDir })
const onTerminal = (...args: string[]): Promise<Ran> => terminal(args, { home: server.dataDir })
const push = async (body: Record<string, unknown>): Promise<InboxEntry> =>
  (await server.call<InboxEntry>('POST', '/api/inbox', body, { token: true })).body
const get = async (id: string): Promise<InboxEntry> => (await server.call<InboxEntry>('GET', `/api/inbox/${id}`)).body
const inside = async (script: string, more: Record<string, unknown> = {}): Promise<Run> =>
  (
    await server.call<Run>('POST', `/api/workspaces/${wsId}/headless`, {
      agent: 'sh',
      prompt: script,
      wait: true,
      ...more,
    })
  ).body

describe('inside a run, with nothing configured', () => {
  test('postern is on the PATH; push keeps the report, and the run has reported', async () => {
    const run = await inside(
      'mkdir -p reports; printf "# Limits\\n\\nAll inside.\\n" > reports/risk.md; cd reports; postern inbox push --title "Limits: all inside" --file risk.md',
    )
    const [id = ''] = run.inboxIds
    expect([run.status, run.outcome, run.result.text]).toEqual(['succeeded', 'reported', `${id}\n`])
    expect(await get(id)).toMatchObject({
      from: 'run',
      taskId: run.taskId,
      title: 'Limits: all inside',
      body: '# Limits\n\nAll inside.\n',
      documents: [{ name: 'reports/risk.md', sizeBytes: 22 }],
    })
  })

  test('none declares silence, and what the token does not cover is refused with exit 4', async () => {
    const run = await inside('postern inbox none "no rule was broken"; postern runs ls 2>&1; echo "exit $?"')
    expect(run).toMatchObject({ outcome: 'silent', silentWhy: 'no rule was broken' })
    expect(run.result.text).toContain('insufficient_scope')
    expect(run.result.text?.match(/^exit \d+$/gm)?.[0]).toBe('exit 4')
  })

  test('run starts a child in its own workspace and waits for it; the child reports; tree shows both', async () => {
    const run = await inside(
      `postern run 'postern report "half way"; postern inbox push --title "From the child"; echo done' -a sh --wait`,
    )
    expect(run.result.text).toMatch(/^inb_\w+\ndone\n$/)
    const shown = await postern('runs', 'tree', run.taskId)
    const [first = '', second = ''] = shown.stdout.split('\n')
    expect(first).toContain(`${run.taskId}  succeeded`)
    expect(second).toMatch(/^└─ headless_\w+ {2}succeeded .* · reported · ws-inbox · sh/)
    const events = await postern('runs', 'events', run.taskId)
    expect(events.stdout).toContain('"type":"run.reported"')
    expect(events.stdout).toContain('"message":"half way"')
    const watched = await postern('runs', 'watch', run.taskId)
    expect(watched.stderr).toMatch(/headless_\w+ reports: half way/)
  })

  test('issue lists, writes, comments and runs those of its workspace', async () => {
    const run = await inside(
      `set -e; postern issue new "Look again" --body "/files" -a demo > /dev/null; postern issue ls
       postern issue comment look-again "seen by $POSTERN_RUN_ID" > /dev/null; postern issue show look-again
       postern issue run look-again --wait`,
    )
    expect(run.detail).toBeNull()
    expect(run.result.text).toMatch(/^look-again\t.*todo\t/m)
    expect(run.result.text).toContain(`seen by ${run.taskId}`)
    expect(run.result.text).toContain('I am the demo agent')
    const tree = await postern('runs', 'tree', run.taskId)
    expect(tree.stdout.trim().split('\n')).toHaveLength(2)
  })

  test('a document from outside the workspace is refused, and says so', async () => {
    await symlink(join(server.dataDir, 'admin-token'), join(path, 'link.md'))
    const run = await inside('postern inbox push --title x --body y --file link.md; echo "exit $?"')
    expect(run).toMatchObject({ outcome: 'no_report', result: { text: 'exit 2\n' } })
    const output = await postern('runs', 'output', run.taskId, '--stderr')
    expect(output.stdout).toContain('document_not_usable')
    expect(output.stdout).not.toContain('pstn_adm1_')
    await rm(join(path, 'link.md'))
  })

  test('outside a run, none and report say that they belong inside one', async () => {
    for (const args of [
      ['inbox', 'none', 'x'],
      ['report', 'x'],
    ]) {
      const ran = await postern(...args)
      expect([ran.code, ran.stderr]).toEqual([2, expect.stringContaining('this is not inside a run')])
    }
  })
})

describe('postern inbox', () => {
  test('lists in a pipe and on a terminal, filtered and searched, and marks as done', async () => {
    const one = await push({ title: 'Needle one', wsId })
    const two = await push({ title: 'Two', body: 'with a needle in it' })
    const piped = await postern('inbox', 'ls', '--search', 'needle')
    const rows = piped.stdout.trim().split('\n')
    expect(rows[0]).toBe('ID\tSTATE\tWS\tFROM\tAGE\tDOCS\tTITLE')
    expect(rows[1]).toMatch(new RegExp(`^${two.id}\tunread\t-\toperator\t\\d+s\t-\tTwo$`))
    expect(rows[2]).toMatch(new RegExp(`^${one.id}\tunread\tws-inbox\toperator\t\\d+s\t-\tNeedle one$`))
    const shown = await onTerminal('inbox', '--search', 'needle')
    expect(shown.stdout).toMatch(/● unread.* {2}operator {2}.*Needle one/)
    expect((await postern('inbox', 'done', one.id)).stdout).toBe('1 marked as read\n')
    expect((await postern('inbox', 'ls', '--unread', '--search', 'needle')).stdout).not.toContain(one.id)
    expect((await postern('inbox', 'done', '--all')).code).toBe(0)
    expect((await postern('inbox', 'ls', '--unread')).stdout.trim().split('\n')).toHaveLength(1)
    expect((await postern('inbox', 'done')).code).toBe(2)
    const page = JSON.parse((await postern('inbox', '--json')).stdout) as { unread: number }
    expect(page.unread).toBe(0)
  })

  test('read renders Markdown on a terminal, and marks as read unless told not to', async () => {
    const body = [
      '# Heading',
      '',
      'Some **bold**, *slanted* and `code` with a [link](https://example.com/a).',
      '',
      '- one',
      '- two',
      '  1. deep',
      '- [x] done',
      '',
      '> quoted',
      '',
      '```sh',
      'rm -rf build',
      '```',
      '',
      '| a | b |',
      '|---|---|',
      '| 1 | 2 |',
      '',
      '---',
    ].join('\n')
    const { id } = await push({ title: 'Rendered', body })
    const kept = await postern('inbox', 'read', id, '--keep-unread')
    expect((await get(id)).readAt).toBeNull()
    await expect(stable(kept.stdout)).toMatchFileSnapshot('golden/inbox-read.txt')
    const shown = await onTerminal('inbox', 'read', id.slice(4))
    expect((await get(id)).readAt).not.toBeNull()
    expect(shown.stdout).toContain('\u001b[1m# Heading\u001b[22m')
    expect(shown.stdout).toContain('\u001b[1mbold\u001b[22m')
    expect(shown.stdout).toContain('https://example.com/a')
  })

  test('C3: what agents wrote cannot steer the terminal', async () => {
    const osc52 = '\u001b]52;c;ZXZpbA==\u0007'
    const body = `before ${osc52}\u001b[2J\u001b[31mred\r\u009b5n &#27;[2J \`\u001b[8mhidden\` [text\u001b[1A](http://evil/\u001b]0;x\u0007)\n\n\u001b[?1049h# head\n\n    code \u001b[6n\n`
    await mkdir(join(path, 'reports'), { recursive: true })
    await writeFile(join(path, 'reports', 'evil.md'), `# Evil\n\n${body}`)
    const run = await inside('postern inbox push --title "harmless" --file reports/evil.md')
    const [id = ''] = run.inboxIds
    expect((await get(id)).body).toContain(osc52)
    for (const args of [
      ['inbox', 'read', id],
      ['inbox', 'open', id, '0'],
      ['inbox', 'ls'],
      ['inbox', 'ls', '--json'],
    ]) {
      for (const ran of [await onTerminal(...args), ...(args[1] === 'open' ? [] : [await postern(...args)])]) {
        // Only colours that the renderer itself sets.
        // oxlint-disable-next-line no-control-regex
        const rest = ran.stdout.replace(/\u001b\[(?:1|22|3|23|36|90|39|32)m/g, '')
        // oxlint-disable-next-line no-control-regex
        expect(rest).not.toMatch(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/)
      }
    }
    // A pipe gets the bytes as they were.
    expect((await postern('inbox', 'open', id, 'evil.md')).stdout).toBe(`# Evil\n\n${body}`)
  })

  test('follows what comes, until it is left', async () => {
    const following = startCli(['inbox', 'ls', '--follow', '-w', wsId], { home: server.dataDir })
    await eventually(() => following.stderr().includes('waiting for what comes'))
    await push({ title: 'elsewhere' })
    const { id } = await push({ title: 'just now', wsId })
    await eventually(() => following.stdout().includes('just now'))
    following.child.kill('SIGINT')
    const ran = await following.ended
    expect([ran.code, ran.stdout]).toEqual([130, `${id}\tws-inbox\toperator\tjust now\n`])
  })

  test('replies in the conversation of the run, and removes', async () => {
    const ran = await postern('run', 'look', '-w', wsId, '-a', 'demo', '--wait')
    const id = /reported (inb_\w+)/.exec(ran.stderr)?.[1] ?? ''
    expect(id).not.toBe('')
    const reply = await postern('inbox', 'reply', id, 'and the rest?', '--wait')
    expect([reply.code, reply.stdout]).toEqual([0, expect.stringContaining('message 2 of our conversation')])
    expect((await postern('inbox', 'rm', id)).stdout).toBe(`${id}\tremoved\n`)
    const gone = await postern('inbox', 'read', id)
    expect([gone.code, gone.stderr]).toEqual([5, expect.stringContaining('inbox_entry_not_found')])
    const own = await push({ title: 'mine' })
    const none = await postern('inbox', 'reply', own.id, 'x')
    expect([none.code, none.stderr]).toEqual([6, expect.stringContaining('not_resumable')])
  })

  test('pushes as the operator with files and text from stdin, and a key once', async () => {
    await writeFile(join(path, 'data.bin'), Buffer.from([0, 1, 2]))
    await chmod(join(path, 'data.bin'), 0o600)
    const args = ['inbox', 'push', '--title', 'By hand', '--body', '-', '--file', join(path, 'data.bin'), '-w', wsId]
    const ran = await cli([...args, '--key', 'k1'], { home: server.dataDir, stdin: 'from stdin' })
    const id = ran.stdout.trim()
    expect(await get(id)).toMatchObject({ from: 'operator', wsId, body: 'from stdin', documents: [{ sizeBytes: 3 }] })
    const again = await cli([...args, '--key', 'k1'], { home: server.dataDir, stdin: 'from stdin' })
    expect(again.stdout.trim()).toBe(id)
    const other = await cli([...args, '--key', 'k1'], { home: server.dataDir, stdin: 'something else' })
    expect([other.code, other.stderr]).toEqual([6, expect.stringContaining('idempotency_mismatch')])
    expect(await readFile(join(server.dataDir, 'inbox', id, 'document-0'))).toEqual(Buffer.from([0, 1, 2]))
  })
})

test('a workspace is told by the command line to nudge, and where its runs may start others', async () => {
  const set = await postern('ws', 'set', wsId, '--nudge', 'on', '--children', wsId)
  expect(set.stdout).toContain('nudge      on')
  expect(set.stdout).toContain(`children   ${wsId}`)
  expect((await postern('ws', 'set', wsId, '--nudge', 'off', '--children', 'none')).stdout).not.toContain('nudge')
  expect((await postern('ws', 'set', wsId, '--nudge', 'maybe')).code).toBe(2)
})
