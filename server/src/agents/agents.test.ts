import { describe, expect, test } from 'vitest'
import { CommandAgentConfig } from '../model/agents.ts'
import type { Clock } from '../clock.ts'
import type { HeadlessTask } from './agent.ts'
import { createAgents } from './agents.ts'

const BUILT_IN = ['claude', 'codex', 'opencode', 'pi', 'gemini', 'qwen', 'demo', 'shell']

const task: HeadlessTask = {
  prompt: '--version',
  cwd: '/workspace',
  permissions: 'edit',
  model: null,
  conversationId: null,
}
const clockAt = (time: { ms: number }): Clock => ({
  now: () => time.ms,
  monotonic: () => time.ms,
  sleep: () => Promise.resolve(),
})

function house(
  agents: Record<string, unknown>,
  installed: string[] = [],
  owner: { environment?: Record<string, string>; files?: string[] } = {},
) {
  const { environment = { HOME: '/home/ada' }, files = [] } = owner
  const version: { text: string | undefined } = { text: '1.0.0' }
  const time = { ms: 0 }
  const looked: string[] = []
  const table = createAgents({
    configured: Object.fromEntries(
      Object.entries(agents).map(([id, config]) => [id, CommandAgentConfig.parse(config)]),
    ),
    clock: clockAt(time),
    demoHome: '/data/demo-agent',
    async findProgram(name) {
      looked.push(name)
      return installed.includes(name) ? `/usr/bin/${name}` : name.startsWith('/') ? name : undefined
    },
    askVersion: async () => version.text,
    environment,
    isFile: async (path) => files.includes(path),
  })
  return { table, time, looked, version }
}
const compose = (agents: Record<string, unknown>, id: string, more: Partial<HeadlessTask> = {}) =>
  house(agents)
    .table.find(id)
    ?.headless?.compose({ ...task, ...more })

describe('a configured agent', () => {
  test('gets its prompt on stdin, and nothing of it in its arguments', () => {
    expect(compose({ echo: { command: ['node', '/opt/echo.mjs'] } }, 'echo')).toEqual({
      program: 'node',
      args: ['/opt/echo.mjs'],
      env: {},
      stdin: '--version',
    })
  })

  test('S1: or as its last argument, behind --, where it is no option', () => {
    expect(compose({ echo: { command: ['node', 'x'], prompt: 'argument' } }, 'echo')).toMatchObject({
      args: ['x', '--', '--version'],
      stdin: '',
    })
  })

  test('gets a model and a conversation by its own arguments', () => {
    const config = {
      command: ['agent', 'run'],
      prompt: 'argument',
      output: 'jsonl',
      model: ['--model={model}'],
      resume: ['resume', '{conversationId}'],
    }
    expect(compose({ a: config }, 'a', { model: 'm-1', conversationId: 'c-1' })?.args).toEqual([
      'run',
      '--model=m-1',
      'resume',
      'c-1',
      '--',
      '--version',
    ])
    expect(compose({ a: config }, 'a')?.args).toEqual(['run', '--', '--version'])
    expect(house({ a: config }).table.find('a')).toMatchObject({ resume: true, models: true, hasModel: true })
  })

  test('is told its permission level, where it wants to be', () => {
    const config = { command: ['agent'], permissions: ['--may={permissions}'] }
    expect(compose({ a: config }, 'a', { permissions: 'ask' })?.args).toEqual(['--may=ask'])
  })

  test('is judged by its exit code, or by its record where it says so', () => {
    const agents = { a: { command: ['a'], output: 'jsonl' }, b: { command: ['b'], output: 'jsonl', end: 'record' } }
    const { table } = house(agents)
    expect(['a', 'b'].map((id) => table.find(id)?.headless?.endsWithRecord)).toEqual([false, true])
  })

  test('that speaks ACP holds sessions with the same arguments, and does runs unless it speaks nothing else', () => {
    const agents = {
      both: { command: ['a', 'b'], acp: true, prompt: 'argument', model: ['-m', '{model}'] },
      only: { command: ['a', 'acp'], acp: 'only' },
      neither: { command: ['a'] },
    }
    const { table } = house(agents)
    const abilities = Object.keys(agents).map((id) => {
      const agent = table.find(id)
      return [id, agent?.headless !== undefined, agent?.live !== undefined]
    })
    expect(abilities).toEqual([
      ['both', true, true],
      ['only', false, true],
      ['neither', true, false],
    ])
    const command = table
      .find('both')
      ?.live?.compose(
        { cwd: '/w', permissions: 'edit', model: 'm-1' },
        { conversationId: 'c-1', programPath: '/usr/bin/a' },
      )
    expect(command).toEqual({ program: 'a', args: ['b', '-m', 'm-1'], env: {} })
  })

  test('may take the place of a built-in one', () => {
    const { table } = house({ demo: { command: ['my-demo'], title: 'Mine' } })
    expect(table.all().map(({ id }) => id)).toEqual(BUILT_IN)
    expect(table.find('demo')).toMatchObject({ title: 'Mine', program: 'my-demo' })
  })
})

describe('the built-in agents', () => {
  test('are the known programs, the demo agent, a child like any other, and the shell, which is never headless', () => {
    const { table } = house({})
    expect(table.all().map(({ id }) => id)).toEqual(BUILT_IN)
    expect(table.find('shell')).not.toHaveProperty('headless')
    expect(table.find('demo')?.hasModel).toBe(false)
    const command = table.find('demo')?.headless?.compose({ ...task, permissions: 'ask', conversationId: 'c-1' })
    expect(command?.program).toBe(process.execPath)
    expect(command?.args.slice(1)).toEqual(['--permissions', 'ask', '--resume', 'c-1'])
    expect(command).toMatchObject({ env: { DEMO_AGENT_HOME: '/data/demo-agent' }, stdin: '--version' })
  })
})

describe('whether somebody has logged in', () => {
  const loginOf = async (id: string, owner: Parameters<typeof house>[2]) => {
    const found = (await house({}, [id, 'claude-agent-acp', 'codex-acp'], owner).table.info()).find(
      (info) => info.id === id,
    )
    return { login: found?.login, hint: found?.hint }
  }
  const HOME = '/home/ada'

  test('is told by a key or by a file that is there, wherever its variable puts it', async () => {
    expect(await loginOf('claude', { environment: { ANTHROPIC_API_KEY: 'k' } })).toEqual({ login: 'yes', hint: null })
    const places: [string, Record<string, string>, string][] = [
      ['claude', {}, `${HOME}/.claude/.credentials.json`],
      ['codex', { CODEX_HOME: '/c' }, '/c/auth.json'],
      ['codex', {}, `${HOME}/.codex/auth.json`],
      ['opencode', { XDG_DATA_HOME: '/d' }, '/d/opencode/auth.json'],
      ['pi', {}, `${HOME}/.pi/agent/auth.json`],
      ['gemini', { GEMINI_CLI_HOME: '/g' }, '/g/.gemini/oauth_creds.json'],
      ['qwen', {}, `${HOME}/.qwen/oauth_creds.json`],
    ]
    for (const [id, environment, file] of places) {
      expect(await loginOf(id, { environment: { HOME, ...environment }, files: [file] })).toMatchObject({
        login: 'yes',
      })
      expect(await loginOf(id, { environment: { HOME, ...environment } })).toMatchObject({ login: 'no' })
    }
  })

  test('comes with what to do when it is not so, and without a claim when settings may know better', async () => {
    const nothing = await loginOf('codex', { environment: { HOME, CODEX_API_KEY: '' } })
    expect(nothing).toEqual({ login: 'no', hint: expect.stringContaining('codex login') as string })
    expect(await loginOf('codex', { files: [`${HOME}/.codex/config.toml`] })).toEqual({ login: 'unknown', hint: null })
    expect(await loginOf('codex', { environment: {} })).toMatchObject({ login: 'unknown' })
    expect(await loginOf('demo', {})).toEqual({ login: 'yes', hint: null })
  })

  test('says nothing of a key but that it is set', async () => {
    const { table } = house({}, ['claude'], { environment: { HOME, ANTHROPIC_API_KEY: 'sk-secret' } })
    expect(JSON.stringify(await table.info())).not.toContain('sk-secret')
  })
})

test('records that a decoder does not know are counted for the version that printed them', async () => {
  const { table, time, version } = house({}, ['pi'], { files: ['/home/ada/.pi/agent/auth.json'] })
  const pi = async () => (await table.info()).find(({ id }) => id === 'pi')
  expect(await pi()).toMatchObject({ unknownRecords: 0, verified: '0.87.1', hint: null })
  table.noteUnknown('pi')
  table.noteUnknown('pi')
  const hint = 'printed 2 records this version of Postern does not know; verified with 0.87.1'
  expect(await pi()).toMatchObject({ unknownRecords: 2, version: '1.0.0', hint })
  time.ms = 31_000
  version.text = undefined // it did not say in time
  expect(await pi()).toMatchObject({ unknownRecords: 2, version: null, hint })
  time.ms = 62_000
  version.text = '1.0.0'
  expect(await pi()).toMatchObject({ unknownRecords: 2, version: '1.0.0' })
  time.ms = 93_000
  version.text = '2.0.0'
  expect(await pi()).toMatchObject({ unknownRecords: 0, version: '2.0.0', hint: null })
  table.noteUnknown('pi')
  expect(await pi()).toMatchObject({
    unknownRecords: 1,
    hint: expect.stringContaining('printed 1 record this') as string,
  })
})

describe('what is installed', () => {
  test('is told of the known programs with the version they print, or with how to install them', async () => {
    const { table } = house({}, ['codex'])
    const found = Object.fromEntries((await table.info()).map((info) => [info.id, info]))
    expect(found['codex']).toMatchObject({ installed: true, program: '/usr/bin/codex', live: false, login: 'no' })
    expect(found['codex']?.version).not.toBeNull()
    expect(found['pi']?.hint).toMatch(/not on the server's PATH; npm install -g @earendil-works\/pi-coding-agent@/)
  })

  test('is told with its path, or with what to do', async () => {
    const { table } = house({ here: { command: ['here'], acp: true }, gone: { command: ['gone'] } }, ['here'])
    const found = Object.fromEntries((await table.info()).map((info) => [info.id, info]))
    expect(found['here']).toMatchObject({
      installed: true,
      program: '/usr/bin/here',
      headless: true,
      live: true,
      hint: null,
    })
    expect(found['gone']).toMatchObject({ installed: false, program: null, version: null })
    expect(found['gone']?.hint).toContain('"gone" is not on the server\'s PATH; check agents.gone.command')
    expect(found['demo']).toMatchObject({ installed: true, hasModel: false, resume: true })
    expect(found['shell']).toMatchObject({ headless: false, live: false })
  })

  test('is looked up again only after 30 s', async () => {
    const { table, time, looked } = house({ here: { command: ['here'] } })
    await table.info()
    await table.info()
    const once = looked.length
    time.ms = 31_000
    await table.info()
    expect(looked.length).toBe(2 * once)
  })
})
