import { readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { systemClock } from '../clock.ts'
import type { Command, HeadlessTask, Launch } from './agent.ts'
import { DEFINITIONS } from './adapters.ts'
import { programAgent } from './definition.ts'
import type { LiveTask } from './live.ts'

const PROMPT = '--help me {model} {conversationId} $& with "this"'
const LEVELS = ['ask', 'edit', 'full'] as const
const BASE: HeadlessTask = { prompt: PROMPT, cwd: '/w', permissions: 'edit', model: null, conversationId: null }

function compose(id: string, more: Partial<HeadlessTask> = {}, asRoot = false): Command {
  const definition = DEFINITIONS.find((one) => one.id === id)
  const command = definition && programAgent(definition, systemClock, asRoot).headless?.compose({ ...BASE, ...more })
  if (!command) throw new Error(`no agent ${id}`)
  return command
}
const line = (id: string, more: Partial<HeadlessTask> = {}): string => compose(id, more).args.join(' ')

describe('the arguments', () => {
  test('say the permission level, each in its program’s words', () => {
    const found = Object.fromEntries(
      DEFINITIONS.map(({ id }) => [id, LEVELS.map((permissions) => line(id, { permissions }))]),
    )
    const claude = '-p --output-format stream-json --verbose --permission-mode'
    expect(found).toEqual({
      claude: [
        `${claude} manual --permission-prompts none`,
        `${claude} acceptEdits --permission-prompts none`,
        `${claude} bypassPermissions`,
      ],
      codex: [
        'exec --json --skip-git-repo-check -c sandbox_mode="read-only" -',
        'exec --json --skip-git-repo-check -c sandbox_mode="workspace-write" -',
        'exec --json --skip-git-repo-check --dangerously-bypass-approvals-and-sandbox -',
      ],
      opencode: ['run --format json', 'run --format json', 'run --format json'],
      pi: [
        '-p --mode json --tools read,grep,find,ls',
        '-p --mode json --tools read,grep,find,ls,edit,write',
        '-p --mode json',
      ],
      gemini: ['default', 'auto_edit', 'yolo'].map((mode) => `-o stream-json --approval-mode ${mode}`),
      qwen: ['default', 'auto-edit', 'yolo'].map((mode) => `-o stream-json --approval-mode ${mode}`),
    })
  })

  test('name the model and the conversation to continue', () => {
    const more = { permissions: 'full', model: 'm-1', conversationId: 'c-1' } as const
    expect(line('claude', more)).toMatch(/ --model m-1 --resume c-1$/)
    expect(line('codex', more)).toBe(
      'exec resume --json --skip-git-repo-check --dangerously-bypass-approvals-and-sandbox -m m-1 c-1 -',
    )
    expect(line('opencode', more)).toBe('run --format json -m m-1 -s c-1')
    expect(line('pi', more)).toBe('-p --mode json --model m-1 --session c-1')
    expect(line('gemini', more)).toMatch(/ -m m-1 -r c-1$/)
    expect(line('qwen', more)).toMatch(/ -m m-1 --resume c-1$/)
    expect(compose('claude', { model: '$& {conversationId}' }).args).toContain('$& {conversationId}')
  })

  test('never hold the prompt, which goes to stdin as it is', () => {
    for (const { id } of DEFINITIONS) {
      const command = compose(id, { model: 'm', conversationId: 'c' })
      expect([command.args.includes(PROMPT), command.stdin]).toEqual([false, PROMPT])
      expect(JSON.stringify([command.args, command.env])).not.toContain('help me')
    }
  })
})

describe('the environment', () => {
  test('keeps the program quiet, and says what the arguments cannot', () => {
    expect(compose('claude').env).toMatchObject({ DISABLE_AUTOUPDATER: '1' })
    const levels = LEVELS.map((permissions) => compose('opencode', { permissions }).env['OPENCODE_PERMISSION'])
    expect(levels.map((level) => JSON.parse(level ?? '') as unknown)).toEqual([
      { bash: 'ask', edit: 'ask' },
      { bash: 'ask', edit: 'allow' },
      { bash: 'allow', edit: 'allow' },
    ])
  })

  test('tells claude at level full, and there alone, that root is meant', () => {
    expect(compose('claude', { permissions: 'full' }, true).env).toHaveProperty('IS_SANDBOX')
    expect(compose('claude', { permissions: 'full' }, false).env).not.toHaveProperty('IS_SANDBOX')
    expect(compose('claude', {}, true).env).not.toHaveProperty('IS_SANDBOX')
  })

  test('asks for the agent’s own keys and home, not for those of another', () => {
    expect(compose('codex').passEnv).toEqual(['OPENAI_API_KEY', 'CODEX_API_KEY', 'CODEX_HOME'])
    expect(compose('claude').passEnv).toContain('ANTHROPIC_API_KEY')
    expect(compose('claude').passEnv).not.toContain('OPENAI_API_KEY')
  })
})

test('each is tested in the version that its page and its pin name', () => {
  const read = (path: string): string => readFileSync(new URL(`../../${path}`, import.meta.url), 'utf8')
  const { agents } = JSON.parse(read('test/agents/package.json')) as { agents: Record<string, string> }
  for (const { id, package: name, verified } of DEFINITIONS) {
    expect(agents[id]).toBe(`${name}@${verified}`)
    expect(read('../README.md')).toContain(`| \`${id}\` | ${verified} |`)
    expect(read('test/samples/README.md')).toContain(`| ${id} | ${verified}`)
  }
})

test('each tells how to install it and how to log in', () => {
  for (const definition of DEFINITIONS) {
    const agent = programAgent(definition, systemClock)
    expect(agent.installHint).toBe(`npm install -g ${definition.package}@${definition.verified}`)
    expect(agent.loginHint).toContain('as the user of the server')
    expect([agent.resume, agent.headless?.endsWithRecord]).toEqual([true, true])
  }
})

describe('sessions', () => {
  const start = (id: string, more: Partial<LiveTask> = {}, launch: Partial<Launch> = {}) => {
    const definition = DEFINITIONS.find((one) => one.id === id)
    const agent = definition && programAgent(definition, systemClock, false)
    return agent?.live?.compose(
      { cwd: '/w', permissions: 'edit', model: null, ...more },
      { conversationId: null, programPath: `/usr/bin/${id}`, ...launch },
    )
  }

  test('are held by the program itself, or by an adapter that is told which program to use', () => {
    const found = Object.fromEntries(
      DEFINITIONS.map(({ id }) => {
        const command = start(id, { model: 'm' }, { conversationId: 'c' })
        return [id, [command?.program, ...(command?.args ?? [])].join(' ')]
      }),
    )
    expect(found).toEqual({
      claude: 'claude-agent-acp',
      codex: 'codex-acp',
      opencode: 'opencode acp',
      pi: 'pi --mode rpc --tools read,grep,find,ls,edit,write --model m --session c',
      gemini: 'gemini --acp -m m',
      qwen: 'qwen --acp -m m',
    })
    expect(start('claude')?.env).toMatchObject({
      CLAUDE_CODE_EXECUTABLE: '/usr/bin/claude',
      CLAUDE_CODE_MAX_RETRIES: '3',
      DISABLE_AUTOUPDATER: '1',
    })
    expect(start('codex')?.env).toEqual({ CODEX_PATH: '/usr/bin/codex' })
    expect(start('codex', {}, { programPath: null })?.env).toEqual({})
    expect(start('codex')?.passEnv).toContain('OPENAI_API_KEY')
    expect(start('opencode', { permissions: 'ask' })?.env).toMatchObject({
      OPENCODE_PERMISSION: '{"bash":"ask","edit":"ask"}',
    })
  })

  test('need an adapter for two, which says how to install it', () => {
    const hints = DEFINITIONS.flatMap((one) => {
      const { live } = programAgent(one, systemClock)
      return live?.installHint === undefined ? [] : [live.installHint]
    })
    expect(hints).toEqual([
      'npm install -g --omit=optional @agentclientprotocol/claude-agent-acp@0.100.0',
      'npm install -g --omit=optional @agentclientprotocol/codex-acp@2.6.0',
    ])
  })
})
