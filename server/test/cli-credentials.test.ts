import { afterAll, beforeAll, expect, test } from 'vitest'
import { execa } from 'execa'
import { cli as startAndEnd, startCli, typed, type Ran } from './cli-process.ts'
import { startTestServer, type TestServer } from './harness.ts'

/** `postern cred`, and the budget of `postern workspace set`, as a program of its own against a real server. */

const python = !(await execa('python3', ['--version'], { reject: false })).failed
const VALUE = 'sk-canary-0123456789abcdef'
let server: TestServer
beforeAll(async () => void (server = await startTestServer()))
afterAll(() => server[Symbol.asyncDispose]())
const cli = (args: string[], stdin = ''): Promise<Ran> => startAndEnd(args, { home: server.dataDir, stdin })

test('a credential is set from stdin, listed without its value, assigned and forgotten', async () => {
  const stdin = `# of the deployment\n\nexport EXAMPLE_API_KEY=${VALUE}=\nEXAMPLE_URL= https://x \n`
  const set = await cli(['cred', 'set', 'deploy', '--agents', 'demo,claude'], stdin)
  expect([set.code, set.stdout]).toEqual([0, 'deploy\tset\tEXAMPLE_API_KEY,EXAMPLE_URL\n'])
  const listed = await cli(['cred'])
  expect(listed.stdout).toMatch(/deploy\tEXAMPLE_API_KEY,EXAMPLE_URL\tdemo,claude/)
  const json = await cli(['cred', 'ls', '--json'])
  expect(JSON.parse(json.stdout)).toMatchObject({ credentials: [{ name: 'deploy', usable: true }] })
  const wsId = await server.workspace()
  const given = await cli(['ws', 'set', wsId, '--credentials', 'deploy'])
  expect(given.stdout).toMatch(/given +deploy/)
  const unknown = await cli(['ws', 'set', wsId, '--credentials', 'deplyo'])
  expect([unknown.code, unknown.stderr]).toEqual([2, expect.stringContaining('unknown_credential')])
  expect((await cli(['ws', 'set', wsId, '--credentials', 'none', '--json'])).stdout).toContain('"credentials":[]')
  const removed = await cli(['cred', 'rm', 'deploy'])
  expect([removed.code, removed.stdout]).toEqual([0, 'deploy\tforgotten\tEXAMPLE_API_KEY,EXAMPLE_URL\n'])
  expect((await cli(['cred', 'rm', 'deploy'])).code).toBe(5)
  for (const ran of [set, listed, json, given, removed]) expect(ran.stdout + ran.stderr).not.toContain(VALUE)
})

test('what is not KEY=VALUE is refused by its line, and not repeated', async () => {
  for (const stdin of [`GOOD_KEY=x\n${VALUE}\n`, '', `=${VALUE}`]) {
    const ran = await cli(['cred', 'set', 'x'], stdin)
    expect(ran.code).toBe(2)
    expect(ran.stderr).not.toContain(VALUE)
  }
  const never = await cli(['cred', 'set', 'x'], `LD_PRELOAD=${VALUE}`)
  expect([never.code, never.stderr]).toEqual([2, expect.stringContaining('variable_not_allowed')])
  expect(never.stderr).not.toContain(VALUE)
  expect((await cli(['cred', '--json'])).stdout.trim()).toBe('{"credentials":[]}')
})

test('T25: no value is an argument of the command line', async () => {
  const running = startCli(['cred', 'set', 'mine'], { home: server.dataDir, stdin: `EXAMPLE_KEY=${VALUE}` })
  expect(running.child.spawnargs.join(' ')).not.toContain(VALUE)
  expect((await running.ended).code).toBe(0)
  await cli(['cred', 'rm', 'mine'])
})

test.runIf(python)('on a terminal it asks, and what is typed as a value is not shown', async () => {
  const ran = await typed(['cred', 'set', 'typed'], { home: server.dataDir }, [
    ['variable (empty: done): ', 'EXAMPLE_KEY\r'],
    ['(hidden): ', `${VALUE}\r`],
    ['variable (empty: done): ', '\r'],
  ])
  expect([ran.code, ran.stdout]).toEqual([0, expect.stringContaining('typed\tset\tEXAMPLE_KEY')])
  expect(ran.stdout).not.toContain(VALUE)
  await cli(['cred', 'rm', 'typed'])
})

test('a budget is set a cap at a time, shown, and taken back', async () => {
  const wsId = await server.workspace()
  const first = await cli(['ws', 'set', wsId, '--budget-runs', '20', '--budget-cost', '2.5'])
  expect(first.stdout).toMatch(/budget +20 runs a day, 2.5 US dollars a day/)
  const second = await cli(['ws', 'set', wsId, '--budget-run-tokens', '1000', '--budget-cost', 'none', '--json'])
  expect(JSON.parse(second.stdout)).toMatchObject({ budget: { maxTokensPerRun: 1000, runsPerDay: 20 } })
  expect(second.stdout).not.toContain('costUsdPerDay')
  for (const [flag, value] of [
    ['--budget-runs', '1.5'],
    ['--budget-cost', 'much'],
    ['--budget-run-cost', '0'],
  ] as const)
    expect((await cli(['ws', 'set', wsId, flag, value])).code).toBe(2)
  await cli(['ws', 'set', wsId, '--budget-runs', '1'])
  expect((await cli(['run', 'hello', '-w', wsId, '--wait'])).code).toBe(0)
  const refused = await cli(['run', 'hello', '-w', wsId])
  expect([refused.code, refused.stderr]).toEqual([7, expect.stringContaining('budget_reached')])
})
