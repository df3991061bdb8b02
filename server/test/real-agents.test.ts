import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { mkdir, readFile, symlink } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { describe, expect, test } from 'vitest'
import type { Event, Run } from '../src/model.ts'
import type { AgentInfo } from '../src/model/agents.ts'
import { Postern } from '@postern/sdk'
import { startCli } from './cli-process.ts'
import { census } from '../src/process/census.ts'
import { startTestServer, type TestServer } from './harness.ts'
import { AGENTS, programOf, required, scriptedModel, TEST_MS } from './real-programs.ts'
import { eventually, temporaryDirectory } from './temporary.ts'

/**
 * The real programs against a scripted model on loopback: `npm run agents:install -- all` first, or some by name. Without
 * them these tests are skipped, unless `POSTERN_REQUIRE_AGENTS=codex,pi` makes that a failure.
 */

/** Milliseconds in which a wrong key is told, however long the program would go on trying it. */
const NO_KEY_MS = 10_000
/** They print that they wait for a limit also when it is over at once. */
const TELLS_WAITS = ['claude', 'codex', 'pi', 'gemini']

describe.each(Object.keys(AGENTS))('the real %s', { timeout: TEST_MS }, (agent) => {
  const isThere = existsSync(programOf(agent))
  test.runIf(required.includes(agent))('is installed where it is required', () => expect(isThere).toBe(true))

  /** A server whose agent talks to the scripted model, and a workspace in which it may do everything. */
  async function open(key = 'sk-fake', permissions = 'full') {
    const directory = await temporaryDirectory()
    const model = await scriptedModel()
    const home = join(directory.path, 'home')
    const programs = join(directory.path, 'bin') // entries named node_modules/.bin are never searched
    await mkdir(home)
    await mkdir(programs)
    await symlink(programOf(agent), join(programs, agent))
    const prepared = await AGENTS[agent]?.(home, model.url, key)
    const searched = `${programs}:${dirname(process.execPath)}:${process.env['PATH']}`
    const environment = { HOME: home, ...prepared?.environment, PATH: searched }
    const server = await startTestServer({ environment })
    const wsId = await server.workspace({ agents: [agent], permissions })
    const run = async (prompt: string, more: Record<string, unknown> = {}): Promise<Run> => {
      const body = { prompt, timeoutMs: 120_000, ...(prepared?.model && { model: prepared.model }), ...more }
      const answer = await server.call<Run>('POST', `/api/workspaces/${wsId}/headless`, body)
      expect([200, 202], answer.text).toContain(answer.status)
      return answer.body
    }
    async function dispose(): Promise<void> {
      await server[Symbol.asyncDispose]()
      await model[Symbol.asyncDispose]()
      await directory[Symbol.asyncDispose]()
    }
    const { model: modelName } = prepared ?? {}
    const path = async () => (await server.call<{ path: string }>('GET', `/api/workspaces/${wsId}`)).body.path
    return { server, wsId, modelName, path, run, [Symbol.asyncDispose]: dispose }
  }
  const types = async (server: TestServer, taskId: string): Promise<string[]> =>
    (await server.call<{ events: Event[] }>('GET', `/api/headless/${taskId}/events`)).body.events.map(
      ({ type }) => type,
    )

  test.skipIf(!isThere)('does the same through SDK and command line', async () => {
    await using opened = await open()
    const { server, wsId, modelName } = opened
    const postern = new Postern({ url: server.url, token: server.token })
    const created = await postern.runs.createAndWait({
      wsId: wsId as `ws-${string}`,
      prompt: 'FAKE: bash echo hi > out.txt ;; say all done',
      ...(modelName && { model: modelName }),
    })
    expect(created, JSON.stringify(created)).toMatchObject({ status: 'succeeded', result: { text: 'all done' } })
    const seen: string[] = []
    for await (const event of postern.runs.events(created.taskId)) seen.push(event.type)
    expect(seen).toEqual(expect.arrayContaining(['tool.started', 'tool.ended', 'run.ended']))
    const again = ['run', 'FAKE: say once more', '-w', wsId, '--resume', created.taskId, '--wait']
    const cli = await startCli([...again, ...(modelName ? ['--model', modelName] : [])], { home: server.dataDir }).ended
    expect([cli.code, cli.stdout], cli.stderr).toEqual([0, 'once more\n'])
  })

  test.skipIf(!isThere)('calls a tool and answers, with events, usage and a diff, and resumes', async () => {
    await using opened = await open()
    const first = await opened.run('FAKE: bash echo hi > out.txt ;; say all done', { wait: true })
    expect(first, JSON.stringify(first)).toMatchObject({
      status: 'succeeded',
      result: { text: 'all done' },
      git: { filesChanged: 1 },
      resumable: true,
      survivors: 0,
    })
    expect(first.usage.inputTokens).toBeGreaterThan(0)
    expect(await types(opened.server, first.taskId)).toEqual(
      expect.arrayContaining(['tool.started', 'tool.ended', 'agent.message', 'usage']),
    )
    expect((await opened.server.call('GET', `/api/headless/${first.taskId}/diff`)).text).toContain('+hi')
    const second = await opened.run('FAKE: say once more', { resume: first.taskId, wait: true })
    expect(second, JSON.stringify(second)).toMatchObject({ status: 'succeeded', result: { text: 'once more' } })
    // One turn instead of two; a total of the conversation would be more than the first.
    expect(second.usage.inputTokens).toBeLessThan(first.usage.inputTokens)
  })

  test.skipIf(!isThere)('is canceled in the middle of a tool, and no process is left', async () => {
    await using opened = await open()
    const { taskId } = await opened.run('FAKE: bash touch started.txt && sleep 600 ;; say never')
    // Not by an event: opencode prints nothing of a tool before its end.
    const path = await opened.path()
    await eventually(() => existsSync(join(path, 'started.txt')))
    const { body } = await opened.server.call<Run>('POST', `/api/headless/${taskId}/cancel`)
    expect(body).toMatchObject({ status: 'canceled', survivors: 0 })
    expect(census().has(taskId)).toBe(false)
  })

  test.skipIf(!isThere)('with a bad key fails as not logged in, and says what to do', async () => {
    await using opened = await open('sk-bad')
    const run = await opened.run('FAKE: say never', { wait: true })
    expect(run, JSON.stringify(run)).toMatchObject({ status: 'failed', reason: 'agent_not_logged_in' })
    expect(run.detail).toMatch(/login|API_KEY/)
    expect(run.durationMs).toBeLessThan(NO_KEY_MS)
  })

  test.skipIf(!isThere)('meets a limit once, waits and goes on', async () => {
    await using opened = await open()
    const run = await opened.run('FAKE: err 429 1', { wait: true })
    expect(run, JSON.stringify(run)).toMatchObject({ status: 'succeeded', result: { text: 'recovered after 1 x 429' } })
    if (TELLS_WAITS.includes(agent)) expect(await types(opened.server, run.taskId)).toContain('agent.waiting')
  })

  test.skipIf(!isThere)('runs no program where it may only read', async () => {
    await using opened = await open('sk-fake', 'ask')
    const run = await opened.run('FAKE: bash echo no > no.txt ;; say tried', { wait: true })
    const path = await opened.path()
    expect(existsSync(join(path, 'no.txt')), JSON.stringify(run)).toBe(false)
    expect(['succeeded', 'failed']).toContain(run.status)
    if (run.status === 'failed') expect(run.detail).toMatch(/not allowed to use bash/)
  })

  test.skipIf(!isThere)('prints nothing that its decoder does not know, in the version that was tested', async () => {
    await using opened = await open()
    await opened.run('FAKE: think of it >> done', { wait: true })
    const { body } = await opened.server.call<{ agents: AgentInfo[] }>('GET', '/api/agents')
    const found = body.agents.find(({ id }) => id === agent)
    expect(found).toMatchObject({ installed: true, unknownRecords: 0 })
    expect(found?.version).toContain(found?.verified)
    expect(found?.login).not.toBe('no')
  })

  test.skipIf(!isThere)('works in a worktree of its own', async () => {
    await using opened = await open()
    const path = await opened.path()
    const git = ['-c', 'user.name=t', '-c', 'user.email=t@example.org', '-C', path]
    await once(spawn('git', [...git, 'commit', '--allow-empty', '-qm', 'first']), 'exit')
    const run = await opened.run('FAKE: bash echo there > there.txt ;; say done', { isolation: 'worktree', wait: true })
    expect(run, JSON.stringify(run)).toMatchObject({ status: 'succeeded', git: { filesChanged: 1 } })
    expect(existsSync(join(path, 'there.txt'))).toBe(false)
    expect(await readFile(join(run.git.worktree ?? '', 'there.txt'), 'utf8')).toBe('there\n')
    const second = await opened.run('FAKE: say second', { resume: run.taskId, wait: true })
    expect(second, JSON.stringify(second)).toMatchObject({ status: 'succeeded', result: { text: 'second' } })
  })
})
