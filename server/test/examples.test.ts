import { spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { delimiter, dirname, join, resolve } from 'node:path'
import { execa } from 'execa'
import { describe, expect, test } from 'vitest'
import { commandAgent } from '../src/agents/command.ts'
import { systemClock } from '../src/clock.ts'
import { ConfigFile } from '../src/config.ts'
import { type Event, type Run } from '../src/model.ts'
import { CommandAgentConfig } from '../src/model/agents.ts'
import type { InboxEntry } from '../src/model/inbox.ts'
import { startTestServer, type TestServer } from './harness.ts'
import { liveProgram } from './live-program.ts'
import { eventually, temporaryDirectory } from './temporary.ts'

/** Every example runs as a user would run it: a real server, the demo agent, no token pasted. */

const folder = resolve(import.meta.dirname, '../../examples')
const MAX_LINES = 50
/** More than the examples start at once, fewer than the fan-out wants. */
const FAN_OUT = 6
const FEW_RUNS = 2

const hasProgram = async (name: string): Promise<boolean> =>
  !(await execa(name, ['--version'], { reject: false })).failed
const [curl, python] = await Promise.all([hasProgram('curl'), hasProgram('python3')])

interface Ran {
  exitCode: number | undefined
  stdout: string
  stderr: string
}

async function example(server: TestServer, command: string[], env: Record<string, string> = {}): Promise<Ran> {
  const [program = '', ...args] = command
  const PATH = [dirname(process.execPath), process.env['PATH']].join(delimiter)
  const { exitCode, stdout, stderr } = await execa(program, args, {
    cwd: folder,
    env: { PATH, POSTERN_URL: server.url, POSTERN_HOME: server.dataDir, ...env },
    reject: false,
  })
  return { exitCode, stdout, stderr }
}

const succeeded = { exitCode: 0, stdout: expect.stringMatching(/no model/) as string }

describe('the examples', () => {
  test('are at most fifty lines each, and all of them are run here', async () => {
    const itself = readFileSync(import.meta.filename, 'utf8')
    const files = (await readdir(folder)).filter((name) => /\.(ts|mjs|py|sh|yml)$/.test(name))
    for (const name of files) {
      const lines = (await readFile(join(folder, name), 'utf8')).trimEnd().split('\n').length
      expect(lines, name).toBeLessThanOrEqual(MAX_LINES)
      expect(itself, `${name} is not run`).toContain(`'${name}'`)
    }
  })

  test('TypeScript: starts a run and asks for it until it has ended', async () => {
    await using server = await startTestServer()
    const ran = await example(server, ['node', 'headless-run.ts', await server.workspace()])
    expect(ran).toMatchObject(succeeded)
    expect(ran.stderr).toMatch(/accepted headless_\w{26}, agent demo\nsucceeded after \d+ ms/)
  })

  test('TypeScript: streams the events of a run and waits for its result', async () => {
    await using server = await startTestServer()
    const ran = await example(server, ['node', 'wait-and-stream.ts', await server.workspace()])
    expect(ran).toMatchObject(succeeded)
    expect(ran.stderr).toMatch(/^1 run\.started$/m)
    expect(ran.stderr).toMatch(/ run\.ended$/m)
  })

  test('TypeScript: writes an issue that runs by itself, watches it fire, and stops it', async () => {
    await using server = await startTestServer()
    const workspace = await server.workspace()
    const ran = await example(server, ['node', 'scheduled-issue.ts', workspace, '1s'])
    expect(ran).toMatchObject(succeeded)
    expect(ran.stderr).toMatch(
      /^wrote \.postern\/issues\/keep-an-eye-on-the-todos\.md, next fire .*Z\ndue .*Z, headless_\w{26} succeeded\nkeep-an-eye-on-the-todos is done, next fire null$/,
    )
  })

  test('TypeScript: a failed run fails the program', async () => {
    await using server = await startTestServer()
    const workspace = await server.workspace()
    for (const name of ['headless-run.ts', 'wait-and-stream.ts']) {
      expect(await example(server, ['node', name, workspace, '/fail 3'])).toMatchObject({ exitCode: 1 })
    }
  })

  test('TypeScript: more runs than there is room for all end, because a 429 is waited for', async () => {
    await using server = await startTestServer({ config: { maxRuns: FEW_RUNS } })
    const ran = await example(server, ['node', 'fan-out.ts', await server.workspace(), String(FAN_OUT)])
    expect(ran.exitCode, ran.stderr).toBe(0)
    expect(ran.stdout.match(/^headless_\w{26} succeeded \d+ ms$/gm)).toHaveLength(FAN_OUT)
  })

  describe('what stays of a run', () => {
    const agentOf = (name: string): Record<string, unknown> => ({ command: ['node', join(folder, name)] })
    const nodeFirst = { PATH: [dirname(process.execPath), process.env['PATH']].join(delimiter) }
    const ran = async (server: TestServer, wsId: string, body: object): Promise<Run> =>
      (await server.call<Run>('POST', `/api/workspaces/${wsId}/headless`, { wait: true, ...body })).body
    const entryOf = async (server: TestServer, { inboxIds: [id] }: Run): Promise<InboxEntry> =>
      (await server.call<InboxEntry>('GET', `/api/inbox/${id}`)).body

    test('a run writes a report and pushes it, and who watches the Inbox sees it', async () => {
      const agents = { reporter: agentOf('report-agent.mjs') }
      await using server = await startTestServer({ config: { agents }, environment: nodeFirst })
      const wsId = await server.workspace()
      const watch = execa('node', ['inbox-watch.ts', wsId, '1'], {
        cwd: folder,
        env: { ...nodeFirst, POSTERN_URL: server.url, POSTERN_HOME: server.dataDir },
      })
      await new Promise<void>((resolve) => {
        watch.stderr.on('data', (chunk: Buffer) => {
          if (chunk.toString().includes('watching')) resolve()
        })
      })
      const run = await ran(server, wsId, { agent: 'reporter', prompt: 'What is here?' })
      expect(run).toMatchObject({ status: 'succeeded', outcome: 'reported' })
      const entry = await entryOf(server, run)
      expect(entry).toMatchObject({ title: '0 files: What is here?', documents: [{ name: 'reports/files.md' }] })
      expect((await watch).stdout).toBe(
        `${entry.id} run ${run.taskId}: ${entry.title}\n  reports/files.md, ${entry.documents[0]?.sizeBytes} bytes`,
      )
    })

    test('a monitor reports what is above its limit, and else is silent', async () => {
      const agents = { monitor: agentOf('monitor-agent.mjs') }
      await using server = await startTestServer({ config: { agents }, environment: nodeFirst })
      const wsId = await server.workspace()
      const { path } = (await server.call<{ path: string }>('GET', `/api/workspaces/${wsId}`)).body
      await writeFile(join(path, 'positions.txt'), 'ACME 120\nOTHER 80\n')
      const silent = await ran(server, wsId, { agent: 'monitor', prompt: 'limit 200' })
      expect(silent).toMatchObject({ outcome: 'silent', silentWhy: '2 positions, none above 200' })
      const loud = await ran(server, wsId, { agent: 'monitor', prompt: 'limit 100' })
      expect(loud.outcome).toBe('reported')
      expect(await entryOf(server, loud)).toMatchObject({ title: '1 above 100', body: '- **ACME 120**, above 100' })
    })

    test('a parent shares its work out to three children, waits where there is no room, and reports once', async () => {
      const agents = { parent: agentOf('parent-agent.mjs') }
      await using server = await startTestServer({ config: { agents, maxRuns: FEW_RUNS }, environment: nodeFirst })
      const run = await ran(server, await server.workspace(), { agent: 'parent', prompt: 'go' })
      expect(run).toMatchObject({ status: 'succeeded', outcome: 'reported' })
      const entry = await entryOf(server, run)
      expect(entry.title).toBe('3 parts done')
      expect(entry.body.match(/^## .*: succeeded$/gm)).toHaveLength(3)
      const { body } = await server.call<{ tasks: Run[] }>('GET', `/api/headless/${run.taskId}/children`)
      expect(body.tasks.map(({ status }) => status)).toEqual(['succeeded', 'succeeded', 'succeeded'])
    })
  })

  describe('an agent of your own', () => {
    const configOf = async (name: string): Promise<Record<string, Record<string, unknown>>> => {
      const [, json = ''] = /```json\n([^]*?)```/.exec(await readFile(join(folder, name, 'README.md'), 'utf8')) ?? []
      const here = json.replaceAll('/home/ada/postern/examples', folder)
      return ConfigFile.parse(JSON.parse(here)).agents
    }
    const started = async (server: TestServer, body: object): Promise<Run> =>
      (await server.call<Run>('POST', '/api/workspaces/ws-own/headless', { wait: true, ...body })).body

    test('the least one answers what it is asked, as its page configures it', async () => {
      await using server = await startTestServer({ config: { agents: await configOf('command-agent') } })
      await server.workspace({ id: 'ws-own' })
      const run = await started(server, { agent: 'least', prompt: 'how are you?' })
      expect(run).toMatchObject({ status: 'succeeded', reason: null })
      expect(run.result.text).toMatch(
        /^You asked: how are you\?\nHere are \d+ files, and I am run headless_\w{26}\.\n$/,
      )
    })

    test('the custom one uses its tools as far as its level goes, and says what it was not allowed', async () => {
      await using server = await startTestServer({ config: { agents: await configOf('custom-agent') } })
      await server.workspace({ id: 'ws-own', permissions: 'edit' })
      const run = await started(server, { agent: 'librarian', prompt: 'Write an index' })
      expect(run).toMatchObject({
        status: 'succeeded',
        result: { text: expect.stringMatching(/I wrote INDEX\.md\.$/) as string },
      })
      expect((await server.call('GET', `/api/headless/${run.taskId}/diff`)).text).toContain('INDEX.md')
      await server.call('PATCH', '/api/workspaces/ws-own', { permissions: 'ask' }, { token: true })
      const refused = await started(server, { agent: 'librarian', prompt: 'Write an index' })
      expect(refused.result.text).toMatch(/I was not allowed to write INDEX\.md\.$/)
      const { events } = (await server.call<{ events: Event[] }>('GET', `/api/headless/${refused.taskId}/events`)).body
      expect(events.map(({ type }) => type)).toEqual(
        expect.arrayContaining(['tool.started', 'permission.denied', 'tool.ended']),
      )
      expect(events.filter(({ type }) => type === 'log')).toEqual([])
    })

    test('and the same program holds a conversation over the protocol: it asks, writes and is canceled', async () => {
      await using workspace = await temporaryDirectory()
      const { librarian } = await configOf('custom-agent')
      const agent = commandAgent('librarian', CommandAgentConfig.parse(librarian), systemClock)
      const task = { cwd: workspace.path, permissions: 'ask', model: null } as const
      const { program = '', args = [] } = agent.live?.compose(task, { programPath: '', conversationId: null }) ?? {}
      const child = spawn(program, args, { cwd: workspace.path, stdio: 'pipe' })
      const connect = agent.live?.connect
      if (!connect) throw new Error('it holds no sessions')
      await using live = liveProgram(child, connect)
      expect(await live.connection.open(task, null)).toMatchObject({ canSteer: false })
      const end = await live.connection.prompt('an index, please').ended
      expect(end).toMatchObject({ status: 'completed', text: expect.stringMatching(/I wrote INDEX\.md\.$/) as string })
      expect(live.asks).toMatchObject([{ title: 'write_file', kind: 'edit', input: { path: 'INDEX.md' } }])
      live.answer.kind = 'never'
      const second = live.connection.prompt('an index, please')
      await eventually(() => live.asks.length === 2)
      await live.connection.cancel()
      expect((await second.ended).status).toBe('canceled')
    })
  })

  test('TypeScript: a CI job has an address, knocks twice with one key, and is refused once it was revoked', async () => {
    await using server = await startTestServer()
    const workspace = await server.workspace({ agents: ['demo'] })
    const ran = await example(server, ['node', 'webhook-from-ci.ts', workspace])
    expect(ran).toMatchObject({ exitCode: 0, stdout: expect.stringMatching(/deploy finished.*no model/) as string })
    expect(ran.stderr).toMatch(/^knocked: (delivered|buffered); again: replayed$/m)
    expect(ran.stderr).toMatch(/^knocked after the revocation: 403$/m)
    const { sessions } = (await server.call<{ sessions: { state: string; turns: number }[] }>('GET', '/api/sessions'))
      .body
    expect(sessions).toMatchObject([{ state: 'ended', turns: 1 }])
  })

  test('TypeScript: talks to a live agent and decides what it may do', async () => {
    await using server = await startTestServer()
    const workspace = await server.workspace({ agents: ['demo'], permissions: 'ask' })
    const ran = await example(server, ['node', 'live-session.ts', workspace])
    expect(ran.exitCode, ran.stderr).toBe(0)
    expect(ran.stdout).toContain('wrote notes/hello.md')
    expect(ran.stderr).toContain('may it "write_file"? allow')
    expect(ran.stderr).toMatch(/may it "\w+"\? deny/)
    expect(ran.stderr).toContain('ended after 3 turns')
  })

  test('TypeScript: forwards each alert once, however often it is sent, and says what will never work', async () => {
    await using server = await startTestServer()
    const wsId = await server.workspace({ agents: ['demo'] })
    const post = <T>(path: string, body?: unknown): Promise<{ body: T }> =>
      server.call<T>('POST', path, body, { token: true })
    const { id } = (await post<{ id: string }>('/api/sessions', { wsId })).body
    const door = (await post<{ webhook: string; grantId: string }>('/api/channels', { sessionId: id })).body
    const forwarder = execa('node', ['alert-forwarder.ts', '0'], {
      cwd: folder,
      env: { PATH: [dirname(process.execPath), process.env['PATH']].join(delimiter), POSTERN_WEBHOOK: door.webhook },
      reject: false,
    })
    try {
      const url = await new Promise<string>((resolve, reject) => {
        forwarder.stdout.on('data', (chunk) => resolve(/http:\S+/.exec(String(chunk))?.[0] ?? ''))
        void forwarder.then(({ stderr }) => reject(new Error(`it ended: ${stderr}`)))
      })
      const alert = { fingerprint: 'f1', startsAt: '2026-11-20T08:41:00Z', labels: { alertname: 'HighErrorRate' } }
      const send = async (status: string): Promise<number> =>
        (await fetch(url, { method: 'POST', body: JSON.stringify({ alerts: [{ ...alert, status }] }) })).status
      expect([await send('firing'), await send('firing'), await send('resolved')]).toEqual([204, 204, 204])
      const page = await server.call<{ deliveries: { message: string; from: string }[] }>(
        'GET',
        `/api/sessions/${id}/deliveries`,
      )
      expect(page.body.deliveries.map(({ message }) => message.split(' ')[0])).toEqual(['RESOLVED', 'FIRING'])
      expect(page.body.deliveries[0]).toMatchObject({ from: 'alertmanager' })
      await server.call('DELETE', `/api/channels/${door.grantId}`, undefined, { token: true })
      expect(await send('another')).toBe(400)
    } finally {
      forwarder.kill()
      const { stderr } = await forwarder
      expect(stderr).toMatch(/^forbidden: /)
      expect(stderr).not.toContain(door.webhook.split('/').at(-1))
    }
  })

  test('TypeScript: two agents talk to each other, and both sessions end', async () => {
    await using server = await startTestServer()
    const workspace = await server.workspace({ agents: ['demo'] })
    const ran = await example(server, ['node', 'two-agents-talking.ts', workspace, '2'])
    expect(ran.exitCode, ran.stderr).toBe(0)
    expect(ran.stdout.match(/^(Ada|Ben): /gm)).toEqual(['Ada: ', 'Ben: ', 'Ada: ', 'Ben: '])
    expect(ran.stdout).toContain('[Ada]')
    const { sessions } = (await server.call<{ sessions: { state: string }[] }>('GET', '/api/sessions')).body
    expect(sessions.map(({ state }) => state)).toEqual(['ended', 'ended'])
  })

  test.skipIf(!curl)('curl: starts a run once though it asks twice, follows it and reads it', async () => {
    await using server = await startTestServer()
    const workspace = await server.workspace()
    const ran = await example(server, ['bash', 'headless-run.sh', workspace])
    expect(ran).toMatchObject(succeeded)
    expect(ran.stderr).toMatch(/event: run\.ended/)
    const { tasks } = (await server.call<{ tasks: unknown[] }>('GET', `/api/headless?wsId=${workspace}`)).body
    expect(tasks).toHaveLength(1)
  })

  test.skipIf(!python)('Python: runs with the standard library alone', async () => {
    await using server = await startTestServer()
    const workspace = await server.workspace()
    expect(await example(server, ['python3', 'caller.py', workspace])).toMatchObject(succeeded)
    expect(await example(server, ['python3', 'caller.py', workspace, '/fail 3'])).toMatchObject({ exitCode: 1 })
    const refused = await example(server, ['python3', 'caller.py', 'ws-nowhere'])
    expect(refused).toMatchObject({ exitCode: 1, stderr: expect.stringMatching(/^workspace_not_found: /) as string })
  })

  test('GitHub Actions: the step runs with a token and writes the summary; a repeated step starts nothing', async () => {
    await using server = await startTestServer({ config: { requireToken: true } })
    const workspace = await server.workspace()
    const home = await mkdtemp(join(tmpdir(), 'postern-step-'))
    const step = {
      POSTERN_TOKEN: server.token,
      POSTERN_WORKSPACE: workspace,
      POSTERN_PROMPT: 'Look around and report',
      GITHUB_RUN_ID: '4711',
      GITHUB_RUN_ATTEMPT: '1',
      GITHUB_REPOSITORY: 'ada/news',
      GITHUB_SHA: '9c56cc51b374c3ba189210d5b6d4bf57790d351c',
      GITHUB_STEP_SUMMARY: join(home, 'summary.md'),
    }
    try {
      const first = await example(server, ['node', 'github-action.mjs'], step)
      expect(first.exitCode, first.stderr).toBe(0)
      const again = await example(server, ['node', 'github-action.mjs'], step)
      const accepted = /accepted (headless_\w{26})/
      expect(accepted.exec(again.stdout)?.[1]).toBe(accepted.exec(first.stdout)?.[1])
      expect(await readFile(step.GITHUB_STEP_SUMMARY, 'utf8')).toMatch(/^### headless_\w{26}: succeeded\n\n.*no model/s)
    } finally {
      await rm(home, { recursive: true, force: true })
    }
  })

  test('GitHub Actions: the workflow runs that script and sets what it reads', async () => {
    const workflow = await readFile(join(folder, 'github-action.yml'), 'utf8')
    expect(workflow).toContain('run: node examples/github-action.mjs')
    const script = await readFile(join(folder, 'github-action.mjs'), 'utf8')
    for (const name of new Set(script.match(/\bPOSTERN_[A-Z]+/g))) expect(workflow).toContain(`${name}:`)
  })
})
