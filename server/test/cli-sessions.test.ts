import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { execa } from 'execa'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { census } from '../src/process/census.ts'
import { cli as startAndEnd, stable, startCli, terminal, typed, type Ran } from './cli-process.ts'
import { startTestServer, type TestServer } from './harness.ts'
import { eventually } from './temporary.ts'

/** The second door on the command line: a program of its own, against a real server. */

const python = !(await execa('python3', ['--version'], { reject: false })).failed
const workspace = 'ws-live'
/** What a hostile or careless sender, or agent, may try to do to a terminal. */
const RUDE = 'clip\u001b]52;c;cm0gLXJm\u0007board \u001b[2J\u001b[31mred\u001b[0m'

let server: TestServer
beforeAll(async () => {
  server = await startTestServer({ config: { maxSessions: 60 } })
  await server.workspace({ id: workspace, tag: 'live', agents: ['demo'], permissions: 'ask' })
})
afterAll(() => server[Symbol.asyncDispose]())

const cli = (args: string[], more: { env?: Record<string, string>; stdin?: string } = {}): Promise<Ran> =>
  startAndEnd(args, { home: server.dataDir, ...more })
const json = async <T = Record<string, unknown>>(...args: string[]): Promise<T> =>
  JSON.parse((await cli([...args, '--json'])).stdout) as T

/** The id that `session start` prints, once its agent is idle. */
async function open(...flags: string[]): Promise<string> {
  const ran = await cli(['session', 'start', '-w', workspace, '-a', 'demo', ...flags])
  expect(ran.stderr).toMatch(/opened/)
  const id = ran.stdout.trim()
  await inState(id, 'idle')
  return id
}
const inState = (id: string, state: string): Promise<unknown> =>
  eventually(async () => (await server.call('GET', `/api/sessions/${id}`)).body['state'] === state)
const linesOf = (text: string): unknown[] =>
  text
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as unknown)
async function golden(name: string, { code, stdout, stderr }: Ran): Promise<void> {
  const parts = [`exit ${code}`, '--- stdout', stdout.trimEnd(), '--- stderr', stderr.trimEnd(), '']
  await expect(stable(parts.join('\n'), server)).toMatchFileSnapshot(`golden/${name}.txt`)
}

describe('help', () => {
  test.each([
    ['session'],
    ['session', 'start'],
    ['session', 'send'],
    ['session', 'attach'],
    ['channel'],
    ['channel', 'expose'],
    ['channel', 'test'],
    ['channel', 'curl'],
    ['requests'],
    ['listen'],
    ['trigger'],
    ['keys'],
  ])('of postern %s %s shows examples first', async (...words) => {
    const ran = await cli([...words, '--help'])
    expect(ran.stdout).toMatch(/^Examples:\n {2}\$ postern /)
    await golden(['help', ...words].join('-'), ran)
  })
})

describe('postern session', () => {
  test('starts, lists, shows, sends, interrupts and ends', async () => {
    const started = await cli(['session', 'start', 'hello', '-w', workspace, '-a', 'demo', '--title', 'first'])
    await golden('session-start', started)
    const id = started.stdout.trim()
    await inState(id, 'idle')
    expect(await json('session', 'show', id)).toEqual((await server.call('GET', `/api/sessions/${id}`)).body)
    await golden('session-show', await cli(['session', 'show', id.slice(5, -2)]))
    await golden('session-send', await cli(['session', 'send', id, 'deploy finished', '--from', 'ci']))
    await inState(id, 'idle')
    await golden('session-send-wait', await cli(['session', 'send', id, '-', '--wait'], { stdin: 'and now?' }))
    await golden('session-send-follow', await cli(['session', 'send', id, '/files', '--follow']))
    await cli(['session', 'send', id, '/sleep 50'])
    await inState(id, 'busy')
    const steered = await cli(['session', 'send', id, 'left', '--steer'])
    expect(steered).toMatchObject({ code: 6, stderr: expect.stringContaining('without --steer') as string })
    const late = await cli(['session', 'send', id, 'waits', '--wait', '--deadline', '300ms'])
    await golden('session-send-deadline', late)
    expect(await cli(['session', 'interrupt', id])).toMatchObject({ code: 0 })
    await inState(id, 'idle')
    await golden('session-end', await cli(['session', 'end', id]))
    const exposed = await cli(['channel', 'expose', '--session', id])
    expect(exposed).toMatchObject({
      code: 6,
      stderr: expect.stringContaining('npx postern session start -w ws-live') as string,
    })
    expect(await cli(['session', 'send', id, 'too late'])).toMatchObject({ code: 6 })
    expect(await cli(['session', 'attach', id])).toMatchObject({ code: 6 })
    const [listed] = (await cli(['session', 'ls', '--state', 'ended'])).stdout.split('\n').slice(1)
    expect(listed).toMatch(new RegExp(`^${id}\tended\tws-live\tdemo\t\\S+\t\\d\t0\tfirst$`))
  })

  test('prints events as JSON Lines, and follows them to the end of the session', async () => {
    const id = await open()
    await cli(['session', 'send', id, '/files', '--wait'])
    const following = startCli(['session', 'events', id, '--follow'], { home: server.dataDir })
    await eventually(() => following.stdout().includes('"turn.ended"'))
    await cli(['session', 'end', id])
    const { code, stdout } = await following.ended
    expect(code).toBe(0)
    const seqs = stdout
      .trim()
      .split('\n')
      .map((line) => (JSON.parse(line) as { seq: number }).seq)
    expect(seqs).toEqual(seqs.map((_, index) => index + 1))
    const again = (await cli(['session', 'events', id])).stdout
    expect(linesOf(again)).toEqual(linesOf(stdout))
    expect((await cli(['session', 'events', id, '--after', String(seqs.length - 1)])).stdout.split('\n')).toHaveLength(
      2,
    )
  })

  test('takes one key for one session, and for one message', async () => {
    const start = ['session', 'start', '-w', workspace, '-a', 'demo', '--key', 'k-start']
    expect((await cli(start)).stdout).toBe((await cli(start)).stdout)
    const id = await open()
    const send = ['session', 'send', id, 'once', '--key', 'k-send']
    expect((await cli(send)).stdout.split('\t')[0]).toBe((await cli(send)).stdout.split('\t')[0])
  })

  test('names what was not found, and lists what an ambiguous beginning means', async () => {
    expect(await cli(['session', 'show', 'sess_ZZ'])).toMatchObject({ code: 5 })
    await open()
    await open()
    const ran = await cli(['session', 'show', '0'])
    expect(ran).toMatchObject({ code: 2, stdout: '' })
    expect(ran.stderr).toMatch(/^✗ "0" means \d+ sessions:\n {2}sess_/)
    expect(await cli(['session', 'start', '-w', 'ws-nowhere'])).toMatchObject({ code: 5 })
    expect(await cli(['session', 'send', '0', 'x', '--deadline', '1s'])).toMatchObject({ code: 2 })
  })
})

describe('postern session attach', () => {
  test('on a pipe sends a line, waits for the answer, and goes on; y and n answer what is asked', async () => {
    const id = await open()
    const stdin = 'hello\n\n/write note.txt hi\ny\n/write other.txt hi\nn\nbye\n'
    await golden('attach-pipe', await cli(['session', 'attach', id], { stdin }))
  })

  test('on a pipe tells how to answer when no line does, and exits with how the last turn failed', async () => {
    const id = await open()
    const waiting = startCli(['session', 'attach', id], { home: server.dataDir, stdin: '/write note.txt hi\nhello\n' })
    await eventually(() => waiting.stderr().includes('requests answer'))
    const [request = ''] = /perm_\w+/.exec(waiting.stderr()) ?? []
    await golden('requests', await cli(['requests', '--session', id]))
    await golden('requests-answer', await cli(['requests', 'answer', request, 'deny']))
    expect(await cli(['requests', 'answer', request, 'allow'])).toMatchObject({ code: 6 })
    expect(await cli(['requests', 'answer', request, 'maybe'])).toMatchObject({ code: 2 })
    expect(await waiting.ended).toMatchObject({ code: 0, stdout: expect.stringContaining('hello') as string })
    expect((await cli(['requests', '--session', id])).stdout.trim().split('\n')).toHaveLength(1)
    expect((await cli(['requests', '--session', id, '--all'])).stdout).toContain('denied')
    expect(await cli(['session', 'attach', id], { stdin: '/fail 3\n' })).toMatchObject({ code: 10 })
  })

  test('on a pipe a session that was started with a message first gives its answer', async () => {
    const start = ['session', 'start', 'hello', '-w', workspace, '-a', 'demo', '--attach']
    const asked = await cli(start)
    expect(asked).toMatchObject({ code: 0, stdout: expect.stringMatching(/^I received "hello"/) as string })
    const more = await cli(start, { stdin: 'and now?\n' })
    expect(more.stdout).toMatch(/^I received "hello"[^]*I received "and now\?"/)
    const [failing] = [await cli(['session', 'start', '/fail 3', '-w', workspace, '-a', 'demo', '--attach'])]
    expect(failing).toMatchObject({ code: 10 })
  })

  test('on a pipe Ctrl-C interrupts the turn, and the next line is sent', async () => {
    const id = await open()
    const talking = startCli(['session', 'attach', id], { home: server.dataDir, stdin: '/sleep 50\nhello\n' })
    await eventually(() => talking.stderr().includes('→ sleep'))
    talking.child.kill('SIGINT')
    const { code, stdout, stderr } = await talking.ended
    expect({ code, stdout }).toEqual({ code: 11, stdout: expect.stringContaining('hello') as string })
    expect(stderr).toContain('turn canceled')
    await inState(id, 'idle')
  })

  test('on a pipe Ctrl-C twice leaves an agent that does not heed the first, and the session stays', async () => {
    const id = await open()
    const talking = startCli(['session', 'attach', id], { home: server.dataDir, stdin: '/sleep 50\n' })
    await eventually(() => talking.stderr().includes('→ sleep'))
    const agents = census().get(id) ?? []
    for (const pid of agents) process.kill(pid, 'SIGSTOP')
    try {
      talking.child.kill('SIGINT')
      await eventually(() => talking.stderr().includes('interrupting'))
      talking.child.kill('SIGINT')
      expect(await talking.ended).toMatchObject({
        code: 130,
        stderr: expect.stringContaining(`left; ${id} stays`) as string,
      })
    } finally {
      for (const pid of agents) process.kill(pid, 'SIGCONT')
    }
    await inState(id, 'idle')
  })

  test.skipIf(!python)('on a terminal is a conversation, with questions answered in it', async () => {
    const id = await open()
    const talk = await typed(['session', 'attach', id, '--no-color'], { home: server.dataDir }, [
      ['> ', 'hello\r'],
      ['no model', '/write note.txt hi\r'],
      ['y/n', 'perhaps\r'],
      ['y or n', 'y\r'],
      ['wrote note.txt', 'two \\\rlines\r'],
      ['two \\nlines', '/sleep 50\r'],
      ['→ sleep', '\u0003'],
      ['turn canceled', '/files\r'],
      ['list_files', ''],
      ['no model', '\u0004'],
    ])
    expect(talk.code, talk.stdout).toBe(0)
    expect(talk.stdout).toContain(`left; ${id} stays`)
    expect(await json('session', 'show', id)).toMatchObject({ state: 'idle', turns: 5 })
  })

  test.skipIf(!python)('on a terminal Ctrl-C twice leaves, and what others send is shown', async () => {
    const id = await open()
    const talking = typed(['session', 'attach', id, '--no-color'], { home: server.dataDir }, [
      ['> ', 'hello\r'],
      ['via ops', '\u0003'],
      ['again leaves', '\u0003'],
    ])
    await eventually(async () => (await server.call('GET', `/api/sessions/${id}`)).body['turns'] === 1)
    const { webhook } = await json<{ webhook: string }>('channel', 'expose', '--session', id, '--label', 'ops')
    await knock(webhook, { message: 'disk full', from: 'alert' })
    const { code, stdout } = await talking
    expect(code, stdout).toBe(130)
    expect(stdout).toContain('← alert via ops: disk full')
  })

  test('C3: prints what agents say inert, also in the middle of what is typed', async () => {
    const { path } = (await server.call<{ path: string }>('GET', `/api/workspaces/${workspace}`)).body
    await writeFile(join(path, 'rude.txt'), RUDE)
    const id = await open()
    const piped = await cli(['session', 'attach', id], { stdin: '/read rude.txt\n' })
    const sent = await cli(['session', 'send', id, '/read rude.txt', '--wait'])
    const followed = await cli(['session', 'send', id, '/read rude.txt', '--follow', '--json'])
    const listed = await cli(['session', 'events', id])
    for (const { stdout, stderr } of [piped, sent, followed, listed]) {
      // oxlint-disable-next-line no-control-regex
      expect(stdout + stderr).not.toMatch(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/)
      expect(stdout + stderr).toMatch(/clip.*board/)
    }
    if (!python) return
    const steps: [string, string][] = [
      ['> ', '/read rude.txt\r'],
      ['no model', '\u0004'],
    ]
    const { stdout } = await typed(['session', 'attach', id, '--no-color'], { home: server.dataDir }, steps)
    expect(stdout).toMatch(/clip ?board red/)
    expect(stdout).not.toContain('\u001b]52')
    expect(stdout).not.toContain('\u001b[2J')
    expect(stdout).not.toContain('\u001b[31m')
  })
})

const knock = async (webhook: string, body: Record<string, unknown>): Promise<number> =>
  (
    await fetch(webhook, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify(body),
    })
  ).status

describe('postern channel', () => {
  test('exposes an address in four lines, lists it without its token, and revokes it', async () => {
    const id = await open()
    const exposed = await cli(['channel', 'expose', '--session', id, '--label', 'ci', '--ttl', '24h'])
    expect(exposed.stdout).toMatch(
      /^Channel: postern:\/sessions\/sess_\w{26}\nGrant ID: grant_\w{26}\nWebhook: http:\/\/\S+\/hook\/pstn_h1_\S+\nExpires: \S+Z\n$/,
    )
    await golden('channel-expose', exposed)
    const [, grantId = '', webhook = ''] = /Grant ID: (\S+)\nWebhook: (\S+)/.exec(exposed.stdout) ?? []
    const token = webhook.split('/').at(-1) ?? ''
    expect(await knock(webhook, { message: 'deploy finished', from: 'github' })).toBe(200)
    const listed = await cli(['channel', 'ls', '--session', id])
    expect(listed.stdout).toContain(`${grantId}\tlive\tsend_input\tci\t`)
    for (const ran of [listed, await cli(['channel', 'ls', '--json']), await cli(['channel', 'deliveries', grantId])])
      expect(ran.stdout + ran.stderr).not.toContain(token)
    expect((await cli(['channel', 'deliveries', grantId])).stdout).toMatch(
      /\ndlv_\w+\t\w+\t\S+\tgithub\tdeploy finished\n/,
    )
    await golden('channel-revoke', await cli(['channel', 'revoke', grantId.slice(0, -1)]))
    expect(await knock(webhook, { message: 'again' })).toBe(403)
    expect((await cli(['channel', 'ls', '--session', id])).stdout).toContain(`${grantId}\trevoked\t`)
    const tested = await cli(['channel', 'test', grantId])
    expect(tested).toMatchObject({ code: 6, stderr: expect.stringContaining('revoked') as string })
    expect(await cli(['channel', 'expose', '--session', id, '--verb', 'read'])).toMatchObject({ code: 2 })
    expect(await cli(['channel', 'expose', '--session', id, '--ttl', 'soon'])).toMatchObject({ code: 2 })
    expect(server.logged.join('')).not.toContain(token)
  })

  test('T28: an ambiguous beginning revokes nothing and lists what it means; ls prints whole ids', async () => {
    const id = await open()
    const ids: string[] = []
    for (let i = 0; i < 2; i++)
      ids.push((await json<{ grantId: string }>('channel', 'expose', '--session', id)).grantId)
    for (const beginning of ['grant_0', '0', '01']) {
      const ran = await cli(['channel', 'revoke', beginning])
      expect(ran).toMatchObject({ code: 2, stdout: '' })
      expect(ran.stderr).toMatch(/means \d+ grants:\n {2}grant_/)
    }
    expect(await cli(['channel', 'revoke', ''])).toMatchObject({ code: 2 })
    expect(await cli(['channel', 'revoke', 'grant_ZZ'])).toMatchObject({ code: 5 })
    const listed = await cli(['channel', 'ls', '--session', id])
    for (const each of ids) expect(listed.stdout).toContain(`${each}\tlive\t`)
    if (!python) return
    const shown = (await terminal(['channel', 'ls', '--session', id], { home: server.dataDir })).stdout
    for (const each of ids) expect(shown).toContain(each)
  })

  test('T25: no address is in the arguments of any process, in a file or in the log', async () => {
    const id = await open()
    const { webhook, token } = await json<{ webhook: string; token: string }>('channel', 'expose', '--session', id)
    await cli(['session', 'send', id, '/sleep 50'])
    const sent = await cli(['trigger', 'hello'], { env: { POSTERN_WEBHOOK: webhook } })
    expect(sent).toMatchObject({ code: 0, stdout: expect.stringMatching(/^dlv_\w+\tbuffered\n$/) as string })
    const following = startCli(['listen', id], { home: server.dataDir })
    await eventually(() => following.stderr().includes('listening'))
    const { stdout } = await execa('ps', ['-A', '-ww', '-o', 'args'])
    expect(stdout).toContain(id)
    expect(stdout).not.toContain(token)
    following.child.kill('SIGINT')
    await following.ended
    const found = await execa('grep', ['-rlF', token, server.dataDir], { reject: false })
    expect(found).toMatchObject({ exitCode: 1, stdout: '' })
    expect(server.logged.join('')).not.toContain(token)
  })

  test('test shows that a knock would arrive, and leaves no address behind', async () => {
    const id = await open()
    const { grantId } = await json<{ grantId: string }>('channel', 'expose', '--session', id)
    await golden('channel-test', await cli(['channel', 'test', grantId]))
    const { grants } = await json<{ grants: { id: string; revoked: boolean }[] }>('channel', 'ls', '--session', id)
    expect(grants.filter(({ revoked }) => !revoked).map((grant) => grant.id)).toEqual([grantId])
    await cli(['session', 'send', id, '/sleep 50'])
    await inState(id, 'busy')
    const late = await cli(['channel', 'test', grantId, '--deadline', '300ms'])
    expect(late).toMatchObject({ code: 8, stdout: expect.stringMatching(/^dlv_\w+\tfailed\n$/) as string })
    expect(late.stderr).toContain('is failed (grant_revoked)\n')
    expect(late.stderr).toContain('it waited in line, and was dropped with its address\n  npx postern session show')
  })

  test('curl prints a command that works as it stands', async () => {
    const id = await open()
    const { stdout } = await cli([
      'channel',
      'curl',
      '--session',
      id,
      '--label',
      'ci',
      '--message',
      `it's "done" $HOME`,
    ])
    const { stdout: answer } = await execa('sh', ['-c', stdout])
    expect(JSON.parse(answer)).toMatchObject({ status: 'delivered', sessionId: id })
    expect((await server.call('GET', `/api/sessions/${id}/deliveries`)).text).toContain(
      JSON.stringify(`it's "done" $HOME`),
    )
  })

  test('deliveries --follow shows each as it arrives and changes', async () => {
    const id = await open()
    await cli(['session', 'send', id, '/sleep 50'])
    const { grantId, webhook } = await json<{ grantId: string; webhook: string }>('channel', 'expose', '--session', id)
    const following = startCli(['channel', 'deliveries', grantId, '--follow'], { home: server.dataDir })
    await knock(webhook, { message: 'one' })
    await eventually(() => /\taccepted\t.*\tone\n/.test(following.stdout()))
    await cli(['session', 'interrupt', id])
    await eventually(() => /\tconfirmed\t.*\tone\n/.test(following.stdout()))
    following.child.kill('SIGINT')
    expect(await following.ended).toMatchObject({ code: 130 })
  })
})

describe('postern listen and trigger', () => {
  test('show deliveries as they arrive, those before them, and how to send them again', async () => {
    const id = await open()
    await cli(['trigger', 'deploy', '--session', id])
    await inState(id, 'idle')
    const listening = startCli(['listen', id, '--last', '1', '--curl'], { home: server.dataDir })
    await eventually(() => listening.stdout().includes('turn completed'))
    await cli(['trigger', 'comment', '--session', id])
    await eventually(() => listening.stdout().split('turn completed').length === 3)
    listening.child.kill('SIGINT')
    const { code, stdout } = await listening.ended
    expect(code).toBe(130)
    const curls = stdout.split('\n').filter((line) => line.startsWith('curl '))
    expect(curls).toHaveLength(2)
    const [deliveryId = ''] = /dlv_\w+/.exec(stdout) ?? []
    const replayed = await cli(['listen', '--replay', deliveryId])
    expect(replayed).toMatchObject({ code: 0, stdout: expect.stringMatching(/^dlv_\w+\tdelivered\n$/) as string })
    const { webhook } = await json<{ webhook: string }>('channel', 'expose', '--session', id)
    await inState(id, 'idle')
    await execa('sh', ['-c', curls[1] ?? ''], { env: { POSTERN_WEBHOOK: webhook } })
    const { body } = await server.call<{ deliveries: { message: string; from: string; label: string }[] }>(
      'GET',
      `/api/sessions/${id}/deliveries`,
    )
    const [byCurl, again, comment, deploy] = body.deliveries
    expect(again).toMatchObject({ message: deploy?.message, from: 'ci', label: 'deploy' })
    expect(byCurl).toMatchObject({ message: comment?.message, from: 'github: ada', label: null })
  })

  test('listen --last shows so many in all, in the order of time', async () => {
    await using own = await startTestServer()
    const at = { home: own.dataDir }
    const wsId = await own.workspace({ agents: ['demo'] })
    const ids: string[] = []
    for (let i = 0; i < 2; i++) ids.push((await startAndEnd(['session', 'start', '-w', wsId], at)).stdout.trim())
    for (const [i, id] of [...ids, ...ids].entries())
      await startAndEnd(['session', 'send', id, `message ${i}`, '--wait'], at)
    const listening = startCli(['listen', '--last', '3', '--json'], at)
    await eventually(() => listening.stderr().includes('listening to 2 sessions'))
    listening.child.kill('SIGINT')
    const events = linesOf((await listening.ended).stdout) as { type: string; at: string; text?: string }[]
    const told = events.flatMap(({ type, text }) => (type === 'input.accepted' ? [text] : []))
    expect(told).toEqual(['message 1', 'message 2', 'message 3'])
    expect(events.map((event) => event.at)).toEqual(events.map((event) => event.at).toSorted())
  })

  test('listen to all sessions, also those that are opened meanwhile', async () => {
    const first = await open()
    const listening = startCli(['listen', '--json'], { home: server.dataDir })
    await eventually(() => listening.stderr().includes('listening'))
    const second = await open('later')
    await cli(['session', 'send', first, 'to the first'])
    await eventually(() => [first, second].every((id) => listening.stdout().includes(`"sessionId":"${id}"`)))
    await eventually(() => listening.stdout().includes('later'))
    listening.child.kill('SIGINT')
    expect(await listening.ended).toMatchObject({ code: 130 })
  })

  test('trigger lists its samples, and every one of them is a message the hook takes', async () => {
    const listed = await cli(['trigger'])
    await golden('trigger', listed)
    const id = await open()
    const names = listed.stdout
      .trim()
      .split('\n')
      .slice(1)
      .map((line) => line.split('\t')[0] ?? '')
    expect(names.length).toBeGreaterThan(5)
    for (const name of names) expect(await cli(['trigger', name, '--session', id])).toMatchObject({ code: 0 })
    const address = await json<{ webhook: string }>('channel', 'expose', '--session', id)
    const stdin = `${address.webhook}\n`
    expect(await cli(['trigger', 'hello', '--webhook-file', '-'], { stdin })).toMatchObject({ code: 0 })
    expect(await cli(['trigger', 'hello'])).toMatchObject({ code: 2 })
    expect(await cli(['trigger', 'nope', '--session', id])).toMatchObject({ code: 2 })
    const keyed = await cli(['trigger', 'hello', '--session', id, '--key', 'k-1'])
    expect(keyed).toMatchObject({
      code: 2,
      stdout: '',
      stderr: expect.stringContaining('--key goes with an address') as string,
    })
    const once = ['trigger', 'hello', '--webhook-file', '-', '--key', 'k-1']
    expect((await cli(once, { stdin })).stdout.split('\t')[0]).toBe((await cli(once, { stdin })).stdout.split('\t')[0])
    await cli(['channel', 'revoke', (address as unknown as { grantId: string }).grantId])
    expect(await cli(['trigger', 'hello', '--webhook-file', '-'], { stdin })).toMatchObject({ code: 4 })
  })
})

test('session start without room says so at once', async () => {
  await using full = await startTestServer({ config: { maxSessions: 1 } })
  const at = { home: full.dataDir }
  const start = ['session', 'start', '-w', await full.workspace(), '-a', 'demo']
  expect(await startAndEnd(start, at)).toMatchObject({ code: 0 })
  const refused = await startAndEnd(start, at)
  expect(refused).toMatchObject({ code: 7, stdout: '', stderr: expect.stringMatching(/^✗ capacity_reached/) as string })
})

test('keys rotate keeps addresses, and with --drop voids them', async () => {
  await using own = await startTestServer()
  const at = { home: own.dataDir }
  await own.workspace({ id: 'ws-keys', tag: 'keys' })
  const id = (await startAndEnd(['session', 'start', '-w', 'ws-keys', '-a', 'demo'], at)).stdout.trim()
  const door = JSON.parse((await startAndEnd(['channel', 'expose', '--session', id, '--json'], at)).stdout) as {
    grantId: string
    webhook: string
  }
  expect((await startAndEnd(['keys', 'rotate'], at)).stdout).toMatch(/^key 2\tsigns from now on\nkey 1\tgood until /)
  expect([200, 202]).toContain(await knock(door.webhook, { message: 'still good' }))
  const dropped = await startAndEnd(['keys', 'rotate', '--drop'], at)
  expect(dropped.stdout).toContain(`${door.grantId}\trevoked\n`)
  expect(await knock(door.webhook, { message: 'x' })).toBe(403)
})
