import { expect, test } from 'vitest'
import { agentEnvironment, mayGive, maySet } from './environment.ts'

const own = { POSTERN_URL: 'http://127.0.0.1:1', POSTERN_RUN_ID: 'headless_1', POSTERN_WORKSPACE_ID: 'ws-a' }
const never = (
  'POSTERN_TOKEN POSTERN_HOME PATH NODE_OPTIONS NODE_PATH NODE_TLS_REJECT_UNAUTHORIZED npm_config_registry npm_token ' +
  'LD_PRELOAD LD_LIBRARY_PATH DYLD_INSERT_LIBRARIES BASH_ENV ENV PROMPT_COMMAND PS4 SHELLOPTS BASHOPTS ZDOTDIR ' +
  'PYTHONPATH PYTHONSTARTUP PERL5LIB PERL5OPT RUBYOPT JAVA_TOOL_OPTIONS GIT_SSH_COMMAND GIT_DIR GIT_CONFIG_COUNT ' +
  'NOTIFY_SOCKET LISTEN_FDS LISTEN_PID INVOCATION_ID JOURNAL_STREAM'
).split(' ')
const secrets = (
  'AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN GITHUB_TOKEN GH_TOKEN SSH_AUTH_SOCK NPM_TOKEN ' +
  'DATABASE_URL SENTRY_DSN STRIPE_SECRET_KEY SLACK_TOKEN GOOGLE_APPLICATION_CREDENTIALS KUBECONFIG VAULT_TOKEN ' +
  'DOCKER_HOST CI_JOB_TOKEN TWINE_PASSWORD CARGO_REGISTRY_TOKEN HISTFILE SUDO_USER MAIL EDITOR VISUAL PAGER ' +
  'OPENAI_API_KEY ANTHROPIC_API_KEY'
).split(' ')

test('S7: of 60 canary variables of the server none reaches an agent', () => {
  const names = [...never, ...secrets]
  expect(names.length).toBeGreaterThanOrEqual(55)
  const server = Object.fromEntries(names.map((name) => [name, `canary-${name}`]))
  const found = agentEnvironment({
    server: { ...server, HOME: '/home/me' },
    adapter: {},
    own,
    binDirectory: '/bin-of-ours',
  })
  expect(Object.values(found).filter((value) => value.includes('canary'))).toEqual([])
  expect(found).toEqual({ HOME: '/home/me', TERM: 'dumb', PATH: '/bin-of-ours', ...own })
})

test('nobody may set what changes the program, what it loads or who it is', () => {
  for (const name of never) expect([name, maySet(name)]).toEqual([name, false])
  for (const name of secrets) expect([name, maySet(name)]).toEqual([name, true])
  const adapter = Object.fromEntries(never.map((name) => [name, 'x']))
  expect(agentEnvironment({ server: {}, adapter, own, binDirectory: '/b' })).toEqual({
    TERM: 'dumb',
    PATH: '/b',
    ...own,
  })
})

test('the keys that an agent asks for pass where they are set, those of another agent do not', () => {
  const server = { ANTHROPIC_API_KEY: 'mine', OPENAI_API_KEY: 'of-another', LD_PRELOAD: 'x', HOME: '/home/me' }
  const pass = ['ANTHROPIC_API_KEY', 'ANTHROPIC_BASE_URL', 'LD_PRELOAD']
  const expected = { HOME: '/home/me', ANTHROPIC_API_KEY: 'mine', TERM: 'dumb', PATH: '/b', ...own }
  expect(agentEnvironment({ server, adapter: {}, pass, own, binDirectory: '/b' })).toEqual(expected)
  const adapter = { ANTHROPIC_API_KEY: 'of-the-adapter', ANTHROPIC_BASE_URL: 'of-the-adapter' }
  expect(agentEnvironment({ server, adapter, pass, own, binDirectory: '/b' })).toEqual({
    ...expected,
    ANTHROPIC_BASE_URL: 'of-the-adapter',
  })
})

test('a credential wins over what passes and what the adapter sets, never over what is ours', () => {
  const server = { ANTHROPIC_API_KEY: 'of-the-server', LANG: 'C', HOME: '/home/me' }
  const credentials = {
    ANTHROPIC_API_KEY: 'mine',
    LANG: 'de',
    MODE: 'b',
    POSTERN_URL: 'x',
    PATH: '/x',
    LD_PRELOAD: 'x',
  }
  const pass = ['ANTHROPIC_API_KEY']
  const found = agentEnvironment({ server, adapter: { MODE: 'a' }, pass, credentials, own, binDirectory: '/b' })
  const given = { HOME: '/home/me', ANTHROPIC_API_KEY: 'mine', LANG: 'de', MODE: 'b' }
  expect(found).toEqual({ ...given, TERM: 'dumb', PATH: '/b', ...own })
  for (const name of ['TERM', 'TMPDIR', 'PATH', 'POSTERN_URL']) expect([name, mayGive(name)]).toEqual([name, false])
})

test('locale, proxies and homes pass; the adapter wins over them', () => {
  const server = { LANG: 'de_DE.UTF-8', LC_ALL: 'C', XDG_CONFIG_HOME: '/x', https_proxy: 'http://p', TMPDIR: '/tmp' }
  const found = agentEnvironment({ server, adapter: { XDG_CONFIG_HOME: '/y' }, own, binDirectory: '/b' })
  expect(found).toMatchObject({ ...server, XDG_CONFIG_HOME: '/y' })
})

test('S5: PATH begins with ours and keeps absolute entries only', () => {
  const server = { PATH: '.:/usr/bin::bin:/repo/node_modules/.bin:/bin:./x' }
  const found = agentEnvironment({ server, adapter: {}, own, binDirectory: '/b' })
  expect(found['PATH']).toBe('/b:/usr/bin:/bin')
})
