import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

/** Where `npm run agents:install` puts the real programs. */
const packages = fileURLToPath(new URL('agents/node_modules', import.meta.url))
const machine = `${process.platform}-${process.arch}`
/** Where a program is whose launcher needs an install script, which we do not run. */
const BINARIES: Record<string, string> = {
  claude: `@anthropic-ai/claude-code-${machine}/claude`,
  opencode: `opencode-${machine}/bin/opencode`,
}
/** The program of an agent, whether it is there or not. */
export const programOf = (agent: string): string => join(packages, BINARIES[agent] ?? `.bin/${agent}`)
/** The adapter that holds the sessions of an agent; its packages stand apart, without the agents they would bring. */
export const adapterOf = (program: string): string => join(packages, '..', 'adapters', 'node_modules', '.bin', program)
/** opencode needs five seconds for a turn, and there may be others at work. */
export const TEST_MS = 180_000
/** What `POSTERN_REQUIRE_AGENTS=codex,pi` asks for. */
export const required = (process.env['POSTERN_REQUIRE_AGENTS'] ?? '').split(',').filter(Boolean)

export interface Prepared {
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
export const AGENTS: Record<string, (home: string, model: string, key: string) => Promise<Prepared>> = {
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

/** A model whose script is in the prompt, as a process of its own. */
export async function scriptedModel(): Promise<{ url: string } & AsyncDisposable> {
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
