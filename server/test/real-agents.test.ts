import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { mkdir, readFile, symlink, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, test } from 'vitest'
import type { Event, Run } from '../src/model.ts'
import { census } from '../src/process/census.ts'
import { startTestServer, type TestServer } from './harness.ts'
import { eventually, temporaryDirectory } from './temporary.ts'

/**
 * The real programs against a scripted model on loopback: `npm run agents:install -- codex pi` first. Without them these
 * tests are skipped, unless `POSTERN_REQUIRE_AGENTS=codex,pi` makes that a failure.
 */
const installed = fileURLToPath(new URL('agents/node_modules/.bin', import.meta.url))
const required = (process.env['POSTERN_REQUIRE_AGENTS'] ?? '').split(',').filter(Boolean)

interface Prepared {
  environment: Record<string, string>
  model?: string
}
/** Settings that point each program at the scripted model, in a home of its own. */
const AGENTS: Record<string, (home: string, model: string, key: string) => Promise<Prepared>> = {
  async codex(home, model, key) {
    const settings = [
      'model = "gpt-5.5"',
      'model_provider = "fake"',
      'check_for_update_on_startup = false',
      '[analytics]\nenabled = false',
      `[model_providers.fake]\nname = "fake"\nbase_url = "${model}/v1"\nenv_key = "OPENAI_API_KEY"`,
      'wire_api = "responses"\nrequest_max_retries = 1\nstream_max_retries = 2',
    ]
    await writeFile(join(home, 'config.toml'), `${settings.join('\n')}\n`)
    return { environment: { CODEX_HOME: home, OPENAI_API_KEY: key } }
  },
  async pi(home, model, key) {
    const fake = {
      id: 'fake-model',
      name: 'fake',
      reasoning: false,
      input: ['text'],
      cost: { input: 1, output: 2, cacheRead: 0, cacheWrite: 0 },
      contextWindow: 100_000,
      maxTokens: 8_000,
    }
    const provider = { baseUrl: `${model}/v1`, apiKey: '$OPENAI_API_KEY', api: 'openai-completions', models: [fake] }
    await writeFile(join(home, 'models.json'), JSON.stringify({ providers: { fake: provider } }))
    return { environment: { PI_CODING_AGENT_DIR: home, OPENAI_API_KEY: key }, model: 'fake/fake-model' }
  },
}

async function scriptedModel(): Promise<{ url: string } & AsyncDisposable> {
  const child = spawn(process.execPath, [fileURLToPath(new URL('agents/fake-model.mjs', import.meta.url)), '0'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const [line] = (await once(child.stdout, 'data')) as [Buffer]
  const { port } = JSON.parse(line.toString()) as { port: number }
  return {
    url: `http://127.0.0.1:${port}`,
    async [Symbol.asyncDispose]() {
      child.kill()
      await once(child, 'exit')
    },
  }
}

describe.each(Object.keys(AGENTS))('the real %s', (agent) => {
  const isThere = existsSync(join(installed, agent))
  test.runIf(required.includes(agent))('is installed where it is required', () => expect(isThere).toBe(true))

  /** A server whose agent talks to the scripted model, and a workspace in which it may do everything. */
  async function open(key = 'sk-fake') {
    const directory = await temporaryDirectory()
    const model = await scriptedModel()
    const home = join(directory.path, 'home')
    const programs = join(directory.path, 'bin') // entries named node_modules/.bin are never searched
    await mkdir(home)
    await mkdir(programs)
    await symlink(join(installed, agent), join(programs, agent))
    const prepared = await AGENTS[agent]?.(home, model.url, key)
    const path = `${programs}:${dirname(process.execPath)}:${process.env['PATH']}`
    const environment = { HOME: home, ...prepared?.environment, PATH: path }
    const server = await startTestServer({ environment })
    const wsId = await server.workspace({ agents: [agent], permissions: 'full' })
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
    return { server, wsId, run, [Symbol.asyncDispose]: dispose }
  }
  const types = async (server: TestServer, taskId: string): Promise<string[]> =>
    (await server.call<{ events: Event[] }>('GET', `/api/headless/${taskId}/events`)).body.events.map(
      ({ type }) => type,
    )

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
    expect(second.usage.inputTokens).toBeLessThan(10 * first.usage.inputTokens)
  })

  test.skipIf(!isThere)('is canceled in the middle of a tool, and no process is left', async () => {
    await using opened = await open()
    const { taskId } = await opened.run('FAKE: bash sleep 600 ;; say never')
    await eventually(async () => (await types(opened.server, taskId)).includes('tool.started'))
    const { body } = await opened.server.call<Run>('POST', `/api/headless/${taskId}/cancel`)
    expect(body).toMatchObject({ status: 'canceled', survivors: 0 })
    expect(census().has(taskId)).toBe(false)
  })

  test.skipIf(!isThere)('with a bad key fails as not logged in, and says what to do', async () => {
    await using opened = await open('sk-bad')
    const run = await opened.run('FAKE: say never', { wait: true })
    expect(run, JSON.stringify(run)).toMatchObject({ status: 'failed', reason: 'agent_not_logged_in' })
    expect(run.detail).toMatch(/login|API_KEY/)
  })

  test.skipIf(!isThere)('works in a worktree of its own', async () => {
    await using opened = await open()
    const { path } = (await opened.server.call<{ path: string }>('GET', `/api/workspaces/${opened.wsId}`)).body
    const git = ['-c', 'user.name=t', '-c', 'user.email=t@example.org', '-C', path]
    await once(spawn('git', [...git, 'commit', '--allow-empty', '-qm', 'first']), 'exit')
    const run = await opened.run('FAKE: bash echo there > there.txt ;; say done', { isolation: 'worktree', wait: true })
    expect(run, JSON.stringify(run)).toMatchObject({ status: 'succeeded', git: { filesChanged: 1 } })
    expect(existsSync(join(path, 'there.txt'))).toBe(false)
    expect(await readFile(join(run.git.worktree ?? '', 'there.txt'), 'utf8')).toBe('there\n')
  })
})
