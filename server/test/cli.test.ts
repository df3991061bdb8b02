import { readFile, readdir, symlink } from 'node:fs/promises'
import { join } from 'node:path'
import { execa } from 'execa'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { findProgram } from '../src/process/program.ts'
import { cli as startAndEnd, PROGRAM, stable, startCli, terminal, type Ran } from './cli-process.ts'
import { startTestServer, type TestServer } from './harness.ts'
import { eventually, temporaryDirectory } from './temporary.ts'

/** The command line as a program of its own, against a real server. What people and scripts see is in `golden/`. */

const python = !(await execa('python3', ['--version'], { reject: false })).failed
/** What a hostile or careless agent prints: clipboard, screen, colour, a line drawn over. */
const RUDE = '\u001b]52;c;cm0gLXJm\u0007\u001b[2J\u001b[31mred\u001b[0m\rover'

/** What the server finds on its PATH: the golden files must not depend on the agents of the machine. */
const PROGRAMS = ['git', 'sh', 'printf']

let server: TestServer
let programs: Awaited<ReturnType<typeof temporaryDirectory>>
const workspace = 'ws-news'
beforeAll(async () => {
  programs = await temporaryDirectory()
  for (const name of PROGRAMS) {
    const found = await findProgram(name, process.env['PATH'] ?? '')
    if (found) await symlink(found, join(programs.path, name))
  }
  server = await startTestServer({
    environment: { PATH: programs.path, HOME: programs.path },
    config: {
      maxRuns: 4,
      agents: { rude: { command: ['printf', '%s', RUDE] }, loud: { command: ['sh', '-c', 'echo out; echo err >&2'] } },
    },
  })
  await server.workspace({ id: workspace, tag: 'news', agents: ['demo', 'rude', 'loud'] })
})
afterAll(async () => {
  await server[Symbol.asyncDispose]()
  await programs[Symbol.asyncDispose]()
})

const cli = (args: string[], more: { env?: Record<string, string>; stdin?: string } = {}): Promise<Ran> =>
  startAndEnd(args, { home: server.dataDir, ...more })
/** The id that `postern run` prints. */
async function run(prompt: string, ...flags: string[]): Promise<string> {
  const ran = await cli(['run', prompt, '-w', workspace, ...flags])
  expect(ran.stderr).toMatch(/accepted/)
  return ran.stdout.trim()
}
async function golden(name: string, { code, stdout, stderr }: Ran): Promise<void> {
  const parts = [`exit ${code}`, '--- stdout', stdout.trimEnd(), '--- stderr', stderr.trimEnd(), '']
  await expect(stable(parts.join('\n'), server)).toMatchFileSnapshot(`golden/${name}.txt`)
}

describe('help', () => {
  test.each([
    [],
    ['serve'],
    ['tour'],
    ['doctor'],
    ['cred', 'set'],
    ['agents'],
    ['ws'],
    ['ws', 'add'],
    ['run'],
    ['runs'],
    ['runs', 'ls'],
  ])('of postern %s %s shows examples first', async (...words) => {
    const ran = await cli([...words, '--help'])
    expect(ran.stdout).toMatch(/^Examples:\n {2}\$ postern /)
    await golden(['help', ...words].join('-'), ran)
  })
})

test('what nobody reads any more ends politely, help too', async () => {
  for (const words of ['--help', 'runs --help', 'version']) {
    const { stderr } = await execa('sh', ['-c', `"$0" "$1" ${words} | true`, process.execPath, PROGRAM])
    expect(stderr).toBe('')
  }
})

describe('postern run', () => {
  test('prints the id, and what to do next on stderr', async () => {
    await golden('run', await cli(['run', '/files', '-w', workspace]))
  })

  test('with --wait prints the reply, and how it ended on stderr', async () => {
    await golden('run-wait', await cli(['run', '/files', '-w', workspace, '--wait']))
  })

  test('with --json prints the run as the API does', async () => {
    const ran = await cli(['run', '/files', '-w', workspace, '--wait', '--json'])
    const printed = JSON.parse(ran.stdout) as { taskId: string; status: string }
    expect(printed.status).toBe('succeeded')
    expect((await server.call('GET', `/api/headless/${printed.taskId}`)).body).toEqual(printed)
    await golden('run-json', { ...ran, stdout: ran.stdout.replaceAll(',"', ',\n"') })
  })

  test('with --follow prints what the agent says on stdout and what it does on stderr', async () => {
    await golden('run-follow', await cli(['run', '/write notes.md hello', '-w', workspace, '--follow']))
  })

  test('with --follow --json prints the events as JSON Lines', async () => {
    const { stdout } = await cli(['run', '/files', '-w', workspace, '--follow', '--json'])
    const events = stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as { seq: number; type: string })
    expect(events.map(({ seq }) => seq)).toEqual(events.map((_, index) => index + 1))
    expect(events.at(-1)?.type).toBe('run.ended')
  })

  test('with --quiet says nothing but the data', async () => {
    const ran = await cli(['run', '/files', '-w', workspace, '--wait', '--quiet'])
    expect(ran).toMatchObject({ code: 0, stderr: '' })
  })

  test('reads the prompt from stdin for -, and hands on what it was given', async () => {
    const flags = ['--timeout', '90s', '--idle-timeout', '1m', '--meta', 'a=b=c', 'd=', '--key', 'k-1', '--worktree']
    const { stdout } = await cli(['run', '-', '-w', workspace, '--json', ...flags], { stdin: '/files' })
    expect(JSON.parse(stdout)).toMatchObject({
      prompt: '/files',
      timeoutMs: 90_000,
      idleTimeoutMs: 60_000,
      isolation: 'worktree',
      metadata: { a: 'b=c', d: '' },
    })
    const again = await cli(['run', '-', '-w', workspace, '--json', ...flags], { stdin: '/files' })
    expect(JSON.parse(again.stdout)).toEqual(JSON.parse(stdout))
  })

  test('takes a prompt that looks like a flag', async () => {
    const { stdout } = await cli(['run', '-w', workspace, '--wait', '--json', '--', '--help'])
    expect(JSON.parse(stdout)).toMatchObject({ prompt: '--help', status: 'succeeded' })
  })

  test('exits with the code of how the run ended', async () => {
    await golden('run-failed', await cli(['run', '/fail 3', '-w', workspace, '--wait']))
    await golden('run-timed-out', await cli(['run', '/sleep 30', '-w', workspace, '--wait', '--timeout', '3s']))
    const id = await run('/sleep 30')
    const waiting = startCli(['runs', 'watch', id, '--exit-status'], { home: server.dataDir })
    await eventually(() => waiting.stderr().includes('started'))
    expect(await cli(['runs', 'cancel', id])).toMatchObject({ code: 0, stdout: `${id}\tcanceled\n` })
    expect(await waiting.ended).toMatchObject({ code: 11 })
    expect(await cli(['runs', 'watch', id])).toMatchObject({ code: 0 })
  })

  test('with --deadline stops looking, and the run goes on', async () => {
    const ran = await cli(['run', '/sleep 30', '-w', workspace, '--wait', '--deadline', '300ms'])
    await golden('run-deadline', ran)
    const [id = ''] = /headless_\w+/.exec(ran.stderr) ?? []
    expect((await server.call('GET', `/api/headless/${id}`)).body['status']).toBe('running')
    expect(await cli(['runs', 'watch', id, '--deadline', '300ms'])).toMatchObject({ code: 8 })
    await cli(['runs', 'cancel', id])
  })

  test('left by Ctrl-C says that the run goes on', async () => {
    const waiting = startCli(['run', '/sleep 30', '-w', workspace, '--follow'], { home: server.dataDir })
    await eventually(() => waiting.stderr().includes('sleep'))
    waiting.child.kill('SIGINT')
    const ran = await waiting.ended
    await golden('run-left', ran)
    const [id = ''] = /headless_\w+/.exec(ran.stderr) ?? []
    expect((await server.call('GET', `/api/headless/${id}`)).body['status']).toBe('running')
    await cli(['runs', 'cancel', id])
  })
})

describe('postern runs', () => {
  test('lists them newest first: tabs and whole ids in a pipe, the API’s page with --json', async () => {
    await using home = await startTestServer()
    const id = await home.workspace({ id: 'ws-few', tag: 'few' })
    const at = { home: home.dataDir }
    await startAndEnd(['run', '/files', '-w', id, '--wait'], at)
    await startAndEnd(['run', '/fail 3', '-w', id, '--wait'], at)
    const listed = await startAndEnd(['runs'], at)
    expect(listed.stdout).toMatch(/^ID\tSTATUS\t.*\nheadless_[0-9A-Z]{26}\tfailed\t/)
    await expect(stable(`${listed.stdout}---\n${listed.stderr}`, home)).toMatchFileSnapshot('golden/runs-pipe.txt')
    const { stdout } = await startAndEnd(['runs', '--json', '--status', 'failed'], at)
    expect(JSON.parse(stdout)).toEqual((await home.call('GET', '/api/headless?status=failed&limit=20')).body)
    if (python) {
      const shown = await terminal(['runs'], at)
      const text = stable(shown.stdout.replaceAll(/ {2,}/g, '  '), home)
      await expect(text).toMatchFileSnapshot('golden/runs-terminal.txt')
    }
  })

  test('show, events, output and diff tell of one run, named by a prefix', async () => {
    const id = await run('/write report.txt hello', '--wait', '--json').then(
      (text) => (JSON.parse(text) as { taskId: string }).taskId,
    )
    const shown = await cli(['runs', 'show', id])
    await golden('runs-show', shown)
    expect((await cli(['runs', 'show', id.slice('headless_'.length, -2)])).stdout).toContain(id)
    const events = (await cli(['runs', 'events', id])).stdout.trim().split('\n')
    expect(events.map((line) => (JSON.parse(line) as { seq: number }).seq)).toEqual(events.map((_, index) => index + 1))
    expect((await cli(['runs', 'events', id, '--after', String(events.length - 1)])).stdout.trim()).toBe(events.at(-1))
    expect((await cli(['runs', 'events', id, '--follow'])).stdout.trim().split('\n')).toEqual(events)
    expect((await cli(['runs', 'diff', id])).stdout).toMatch(/^diff --git a\/report\.txt b\/report\.txt\n/)
  })

  test('output is what the program printed, whole, its end, or as it grows', async () => {
    const id = await run('hello', '-a', 'loud')
    expect((await cli(['runs', 'output', id, '--follow'])).stdout).toBe('out\n')
    expect((await cli(['runs', 'output', id])).stdout).toBe('out\n')
    expect((await cli(['runs', 'output', id, '--stderr'])).stdout).toBe('err\n')
    expect((await cli(['runs', 'output', id, '--tail', '2'])).stdout).toBe('t\n')
    expect((await cli(['runs', 'output', id, '--tail', '2', '--follow'])).stdout).toBe('t\n')
    const growing = await run('/sleep 1\n/files')
    const followed = (await cli(['runs', 'output', growing, '--follow'])).stdout
    expect(followed).toBe((await cli(['runs', 'output', growing])).stdout)
    expect(followed).toContain('list_files')
  })

  test('cancel ends several and tells of each; what is unknown does not stop the rest', async () => {
    const ids = [await run('/sleep 30'), await run('/sleep 30')]
    const ran = await cli(['runs', 'cancel', ids[0] ?? '', 'headless_01M7W3M6R0B5D8F1H4K7N0Q3T6', ids[1] ?? ''])
    expect(ran.stdout).toBe(ids.map((id) => `${id}\tcanceled\n`).join(''))
    await golden('runs-cancel', ran)
  })

  test('retry starts it again', async () => {
    const id = await run('/fail 3', '--wait', '--json').then((text) => (JSON.parse(text) as { taskId: string }).taskId)
    const again = (await cli(['runs', 'retry', id, '--json'])).stdout
    expect(JSON.parse(again)).toMatchObject({ retryOf: id, prompt: '/fail 3' })
  })
})

describe('the other commands', () => {
  test('ws adds, shows, changes and forgets a workspace', async () => {
    await using directory = await temporaryDirectory()
    const added = await cli(['ws', 'add', directory.path, '--tag', 'risk', '--agents', 'demo,loud', '--max-runs', '2'])
    const cleaned = (ran: Ran): Ran => ({ ...ran, stdout: ran.stdout.replaceAll(directory.path, '<path>') })
    await golden('ws-add', cleaned(added))
    await golden('ws-set', cleaned(await cli(['ws', 'set', 'ris', '--max-runs', 'none', '--default-agent', 'loud'])))
    expect(JSON.parse((await cli(['ws', 'show', 'ws-risk', '--json'])).stdout)).toEqual(
      (await server.call('GET', '/api/workspaces/ws-risk')).body,
    )
    const denied = await cli(['ws', 'set', 'ws-risk', '--on-request', 'deny'])
    expect(denied).toMatchObject({ code: 0, stdout: expect.stringMatching(/^on request deny$/m) as string })
    expect(await cli(['ws', 'set', 'ws-risk', '--on-request', 'perhaps'])).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('must be one of ask, allow, deny, not "perhaps"') as string,
    })
    const listed = await cli(['ws'])
    expect(listed.stdout).toMatch(/^ID\tTAG\tAGENTS\tMAY\tAGE\tPATH\n/)
    expect(await cli(['ws', 'rm', 'ws-ris'])).toMatchObject({ code: 5 })
    await golden('ws-rm', await cli(['ws', 'rm', 'ws-risk']))
  })

  test('agents says what is installed, and probe whether it answers', async () => {
    await golden('agents', await cli(['agents']))
    if (python) {
      const shown = (await terminal(['agents'], { home: server.dataDir })).stdout
      await expect(stable(shown, server)).toMatchFileSnapshot('golden/agents-terminal.txt')
      expect(shown).toMatch(/^codex: .*npm install -g @openai\/codex@[\d.]+$/m)
    }
    expect(JSON.parse((await cli(['agents', '--json'])).stdout)).toEqual((await server.call('GET', '/api/agents')).body)
    await golden('agents-probe', await cli(['agents', 'probe', 'loud']))
  })

  test('version is that of the package', async () => {
    const { version } = JSON.parse(await readFile(join(import.meta.dirname, '../package.json'), 'utf8')) as {
      version: string
    }
    for (const flag of ['version', '--version', '-V']) expect((await cli([flag])).stdout).toBe(`${version}\n`)
    expect(JSON.parse((await cli(['version', '--json'])).stdout)).toEqual({ version })
  })
})

describe('errors', () => {
  test('of usage exit with 2', async () => {
    await golden('error-command', await cli(['bogus']))
    await golden('error-missing', await cli(['run', 'hello']))
    await golden('error-span', await cli(['run', 'hello', '-w', workspace, '--timeout', 'soon']))
    await golden('error-prompt', await cli(['run', '-', '-w', workspace], { stdin: 'x'.repeat(16_001) }))
    expect(await cli(['run', 'hello', '-w', workspace, '--deadline', '1s'])).toMatchObject({ code: 2 })
    const stray = await cli(['runs', '01M7W3M6'])
    expect(stray).toMatchObject({ code: 2, stdout: '' })
    expect(stray.stderr).toBe(
      '✗ "01M7W3M6" is no command of postern runs\n  did you mean npx postern runs show 01M7W3M6? npx postern runs --help lists them\n',
    )
  })

  test('of usage name the help of their command as it can be typed', async () => {
    for (const command of ['ws set ws-news', 'issue set brief', 'issue schedule', 'inbox done']) {
      const { code, stderr } = await cli(command.split(' '))
      expect({ code, stderr }).toEqual({
        code: 2,
        stderr: expect.stringMatching(/\n {2}npx postern \w+ \w+ --help\n$/) as string,
      })
    }
  })

  test('with --json are an object on stderr, with the names of the API', async () => {
    const missing = await cli(['ws', 'show', 'ws-newz', '--json'])
    expect(missing).toMatchObject({ code: 5, stdout: '' })
    expect(JSON.parse(missing.stderr)).toEqual({
      code: 'workspace_not_found',
      detail: 'there is no workspace "ws-newz"; nearest: "ws-news"',
      hint: 'npx postern workspace ls (the id, not the tag)',
      status: 404,
      requestId: expect.stringMatching(/^req_/) as string,
    })
    const usage = await cli(['run', 'hello', '-w', workspace, '--timeout', 'soon', '--json'])
    expect(usage.code).toBe(2)
    expect(JSON.parse(usage.stderr)).toMatchObject({ code: 'usage', detail: expect.stringContaining('soon') as string })
  })

  test('name what was not found, with what is near, and exit with 5', async () => {
    await golden('error-workspace', await cli(['run', 'hello', '-w', 'ws-newz']))
    await golden('error-run', await cli(['runs', 'show', 'headless_01M7W3M6R0B5D8F1H4K7N0Q3T6']))
    await golden('error-prefix', await cli(['runs', 'show', 'headless_ZZ']).then(withoutCount))
    const resumed = await cli(['run', 'go on', '-w', workspace, '--resume', 'headless_01M7W3M6R0B5D8F1H4K7N0Q3T6'])
    expect(resumed).toMatchObject({
      code: 5,
      stderr: expect.stringMatching(/^✗ run_not_found .*\n {2}npx postern runs\n/) as string,
    })
    for (const list of ['runs', 'session ls', 'inbox', 'issue'])
      expect(await cli([...list.split(' '), '-w', 'ws-newz']), list).toMatchObject({
        code: 5,
        stdout: '',
        stderr: expect.stringContaining('nearest: "ws-news"') as string,
      })
  })

  test('but list what a workspace that was removed has left', async () => {
    await cli(['ws', 'add', '--tag', 'gone', '--agents', 'demo'])
    const id = await run('/files', '-w', 'ws-gone', '--wait', '--json')
    await cli(['ws', 'rm', 'ws-gone'])
    expect(await cli(['runs', '-w', 'ws-gone'])).toMatchObject({
      code: 0,
      stdout: expect.stringContaining((JSON.parse(id) as { taskId: string }).taskId) as string,
    })
    expect(await cli(['runs', '-w', 'ws-gone', '--status', 'failed'])).toMatchObject({ code: 0 })
    expect(await cli(['session', 'ls', '-w', 'ws-gone'])).toMatchObject({ code: 5 })
  })

  test('say what an id of another kind is, and of one that has no shape which it was', async () => {
    const session = 'sess_01M7W2YAHR3Q8V5N0D6C7BKXTE'
    const mixed = await cli(['runs', 'show', session])
    expect(mixed).toMatchObject({ code: 2, stdout: '' })
    expect(mixed.stderr).toBe(`✗ "${session}" is a session, not a run\n  npx postern session show ${session}\n`)
    const shapeless = await cli(['runs', 'show', 'headless_01M7W3M6R0B5D8F1H4K7N0Q3T6ILO'])
    expect(shapeless).toMatchObject({ code: 5, stdout: '' })
    expect(shapeless.stderr).toContain('there is no run "headless_01M7W3M6R0B5D8F1H4K7N0Q3T6ILO"\n  npx postern runs\n')
  })

  test('list what an ambiguous prefix means', async () => {
    await run('/files')
    await run('/files')
    const ran = await cli(['runs', 'show', '0'])
    expect(ran).toMatchObject({ code: 2, stdout: '' })
    expect(ran.stderr).toMatch(/^✗ "0" means \d+ runs:\n {2}headless_/)
  })

  test('of the wrong state exit with 6', async () => {
    const id = await run('/sleep 30')
    await golden('error-state', await cli(['runs', 'retry', id]))
    await cli(['runs', 'cancel', id])
  })

  test('of capacity exit with 7, after the repetitions that were announced', async () => {
    await using full = await startTestServer({ config: { maxRuns: 1 } })
    const id = await full.workspace()
    const at = { home: full.dataDir }
    await startAndEnd(['run', '/sleep 50', '-w', id], at)
    const ran = await startAndEnd(['run', '/files', '-w', id], at)
    expect(ran.code).toBe(7)
    const steady = ran.stderr.replace(/again in [\d.]+ s/g, 'again in <s>').replace(/after \d+ s/g, 'after <s>')
    await expect(stable(steady, full)).toMatchFileSnapshot('golden/error-capacity.txt')
    expect(await startAndEnd(['run', '/files', '-w', id, '--queue'], at)).toMatchObject({ code: 0 })
  })

  test('of a missing server exit with 3, naming what was tried', async () => {
    await using empty = await temporaryDirectory()
    const ran = await startAndEnd(['runs'], { home: empty.path })
    expect(ran.code).toBe(3)
    await expect(stable(ran.stderr, { dataDir: empty.path })).toMatchFileSnapshot('golden/error-unreachable.txt')
    const named = await cli(['runs', '--server', 'http://127.0.0.1:9'])
    expect(named).toMatchObject({ code: 3, stderr: expect.stringContaining('(from --server)') as string })
    const set = await cli(['runs'], { env: { POSTERN_URL: 'http://127.0.0.1:9' } })
    expect(set).toMatchObject({ code: 3, stderr: expect.stringContaining('(from POSTERN_URL)') as string })
    expect(set.stderr).toContain('\n  npx postern serve, or mend POSTERN_URL\n')
  })

  test('of authority exit with 4, and a token file mends them', async () => {
    await using elsewhere = await temporaryDirectory()
    const env = { POSTERN_URL: server.url }
    const add = ['ws', 'add', '--tag', 'mine']
    const refused = await startAndEnd(add, { home: elsewhere.path, env })
    expect(refused).toMatchObject({ code: 4, stderr: expect.stringContaining('✗ token_required') as string })
    expect(refused.stderr).toContain(
      '  name the admin-token file of the server with --token-file, or set POSTERN_TOKEN\n',
    )
    const wrong = { ...env, POSTERN_TOKEN: 'wrong' }
    const unknown = await startAndEnd(['runs'], { home: elsewhere.path, env: wrong })
    expect(unknown).toMatchObject({
      code: 4,
      stderr: expect.stringContaining(`${server.url}/docs#invalid_token`) as string,
    })
    const file = join(server.dataDir, 'admin-token')
    expect(await startAndEnd([...add, '--token-file', file], { home: elsewhere.path, env })).toMatchObject({ code: 0 })
    const missing = await startAndEnd([...add, '--token-file', '/nowhere'], { home: elsewhere.path, env })
    expect(missing).toMatchObject({ code: 2, stderr: expect.stringContaining('--token-file /nowhere') as string })
  })
})

const withoutCount = (ran: Ran): Ran => ({ ...ran, stderr: ran.stderr.replace(/newest \d+/, 'newest <n>') })

describe('what agents and callers wrote', () => {
  test('C3: is printed inert in lists, details and replies', async () => {
    const id = (await cli(['run', `look ${RUDE}`, '-w', workspace, '-a', 'rude'])).stdout.trim()
    await cli(['runs', 'watch', id])
    const rudely = ['runs', 'runs show', 'runs watch', 'runs events'].map((words) => [
      ...words.split(' '),
      ...(words === 'runs' ? [] : [id]),
    ])
    for (const args of rudely) {
      const { stdout, stderr } = await cli(args)
      // oxlint-disable-next-line no-control-regex
      expect(stdout + stderr, args.join(' ')).not.toMatch(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/)
      expect(stdout + stderr, args.join(' ')).toMatch(/red.*over/)
    }
    expect((await cli(['runs', 'output', id])).stdout).toBe(RUDE)
    if (python) {
      const shown = (await terminal(['runs', 'output', id], { home: server.dataDir })).stdout
      expect(shown.trim()).toBe('redover')
    }
  })

  test('T25: no token is in the arguments of any process while the command line works', async () => {
    const secret = server.token.slice('pstn_adm1_'.length)
    const env = { POSTERN_TOKEN: server.token }
    const work = startCli(['run', '/sleep 30', '-w', workspace, '--wait'], { home: server.dataDir, env })
    await eventually(() => work.stderr().includes('accepted'))
    const { stdout } = await execa('ps', ['-A', '-ww', '-o', 'args'])
    expect(stdout).toContain('/sleep 30')
    expect(stdout).not.toContain(secret)
    expect(await commandLines()).not.toContain(secret)
    work.child.kill('SIGINT')
    const { stderr } = await work.ended
    await cli(['runs', 'cancel', /headless_\w+/.exec(stderr)?.[0] ?? ''])
  })
})

/** Every argument of every process; empty where there is no /proc. */
async function commandLines(): Promise<string> {
  const pids = await readdir('/proc').catch(() => [])
  const read = (pid: string): Promise<string> => readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')
  return (await Promise.all(pids.filter((name) => /^\d+$/.test(name)).map(read))).join('\n')
}

test('a Node that is too old is told so, in words', async ({ skip }) => {
  const places = (process.env['PATH'] ?? '').split(':').map((directory) => join(directory, 'node'))
  for (const node of places) {
    const { stdout: version } = await execa(node, ['--version'], { reject: false })
    if (!/^v(18|20|21)\./.test(version ?? '')) continue
    const ran = await execa(node, [PROGRAM, '--version'], { reject: false })
    expect(ran).toMatchObject({ exitCode: 1, stdout: '' })
    expect(ran.stderr).toMatch(
      /^✗ old_node {2}postern needs Node 22\.23 or newer; this is v[\d.]+\n {2}npx postern .+$/,
    )
    return
  }
  skip('no older Node is on PATH')
})
