import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { mkdir, readFile, symlink, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, test } from 'vitest'
import type { AgentInfo, Event, Run } from '../src/model.ts'
import { census } from '../src/process/census.ts'
import { startTestServer, type TestServer } from './harness.ts'
import { eventually, temporaryDirectory } from './temporary.ts'

/**
 * The real programs against a scripted model on loopback: `npm run agents:install -- all` first, or some by name. Without
 * them these tests are skipped, unless `POSTERN_REQUIRE_AGENTS=codex,pi` makes that a failure.
 */
const packages = fileURLToPath(new URL('agents/node_modules', import.meta.url))
const machine = `${process.platform}-${process.arch}`
/** Where a program is whose launcher needs an install script, which we do not run. */
const BINARIES: Record<string, string> = {
  claude: `@anthropic-ai/claude-code-${machine}/claude`,
  opencode: `opencode-${machine}/bin/opencode`,
}
const programOf = (agent: string): string => join(packages, BINARIES[agent] ?? `.bin/${agent}`)
/** opencode needs five seconds for a turn, and there may be others at work. */
const TEST_MS = 180_000
const required = (process.env['POSTERN_REQUIRE_AGENTS'] ?? '').split(',').filter(Boolean)

interface Prepared {
  environment: Record<string, string>
  model?: string
}
const NO_REPORTS = {
  privacy: { usageStatisticsEnabled: false },
  telemetry: { enabled: false },
  general: { enableAutoUpdate: false, disableAutoUpdate: true },
  tools: { useRipgrep: false },
  ide: { enabled: false },
}
async function writeSettings(home: string, directory: string, selectedType: string): Promise<void> {
  await mkdir(join(home, directory))
  const security = { auth: { selectedType }, folderTrust: { enabled: false } }
  await writeFile(join(home, directory, 'settings.json'), JSON.stringify({ security, ...NO_REPORTS }))
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
  async opencode(_home, model, key) {
    const fake = { tool_call: true, limit: { context: 100_000, output: 8_000 }, cost: { input: 1, output: 2 } }
    const options = { baseURL: `${model}/v1`, apiKey: key }
    const settings = {
      autoupdate: false,
      share: 'disabled',
      model: 'fake/fake-model',
      small_model: 'fake/fake-model',
      enabled_providers: ['fake'],
      provider: { fake: { npm: '@ai-sdk/openai-compatible', options, models: { 'fake-model': fake } } },
    }
    const quiet = { OPENCODE_PURE: '1', OPENCODE_DISABLE_MODELS_FETCH: '1', OPENCODE_DISABLE_LSP_DOWNLOAD: '1' }
    return { environment: { OPENCODE_CONFIG_CONTENT: JSON.stringify(settings), ...quiet } }
  },
  async gemini(home, model, key) {
    await writeSettings(home, '.gemini', 'gemini-api-key')
    const environment = { GEMINI_CLI_HOME: home, GEMINI_API_KEY: key, GOOGLE_GEMINI_BASE_URL: model }
    return { environment, model: 'gemini-2.5-flash' }
  },
  async qwen(home, model, key) {
    await writeSettings(home, '.qwen', 'openai')
    return { environment: { OPENAI_API_KEY: key, OPENAI_BASE_URL: `${model}/v1`, OPENAI_MODEL: 'fake-model' } }
  },
  async claude(home, model, key) {
    return { environment: { CLAUDE_CONFIG_DIR: home, ANTHROPIC_API_KEY: key, ANTHROPIC_BASE_URL: model } }
  },
}

/** They print that they wait for a limit also when it is over at once. */
const TELLS_WAITS = ['claude', 'codex', 'pi', 'gemini']

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
    const path = async () => (await server.call<{ path: string }>('GET', `/api/workspaces/${wsId}`)).body.path
    return { server, path, run, [Symbol.asyncDispose]: dispose }
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
  })
})
