import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { systemClock } from '../src/clock.ts'
import type { Run, Workspace } from '../src/model.ts'
import { startTestServer, type Answer, type TestServer } from './harness.ts'
import { confirmed, faulty as liveFaulty, inState, open, send } from './session-client.ts'
import { serve } from './server-process.ts'
import { eventually, temporaryDirectory } from './temporary.ts'

/** Budgets: what agents report is counted, whatever becomes of the run, and what reaches a cap ends or is refused. */

const demo = `${import.meta.dirname}/../src/demo-agent/main.ts`
/** Reports what its prompt says, a line each; `fail` fails, `hang` stays. */
const SPENDER = `
let text = ''
for await (const chunk of process.stdin) text += chunk
for (const line of text.split('\\n')) {
  const [word, tokens, costUsd] = line.split(' ')
  if (word === 'hang') await new Promise((resolve) => setTimeout(resolve, 600_000))
  else if (word === 'fail') process.exitCode = 3
  else console.log(JSON.stringify({ type: 'usage', inputTokens: Number(tokens), outputTokens: 0, costUsd: costUsd ? Number(costUsd) : null }))
}
console.log(JSON.stringify({ type: 'agent.end', ok: process.exitCode === undefined, text: 'done' }))
`
const agents = {
  faulty: { command: [process.execPath, demo, '--faults'], output: 'jsonl', end: 'record' },
  spender: { command: [process.execPath, '--input-type=module', '-e', SPENDER], output: 'jsonl' },
}
const server = (more: Parameters<typeof startTestServer>[0] = {}): Promise<TestServer> =>
  startTestServer({ config: { agents }, ...more })
const start = (on: TestServer, wsId: string, prompt: string, more: Record<string, unknown> = {}) =>
  on.call<Run & { code?: string; detail: string }>('POST', `/api/workspaces/${wsId}/headless`, {
    prompt,
    agent: 'spender',
    wait: true,
    ...more,
  })
const codeOf = ({ status, body }: Answer<{ code?: string }>): unknown => [status, body.code]

test('a run that reports more than its cap ends budget_exceeded, and keeps what it used; one at the cap does not', async () => {
  await using on = await server()
  const wsId = await on.workspace({ budget: { maxTokensPerRun: 1_000 } })
  const at = await start(on, wsId, '/usage 900 100', { agent: 'faulty' })
  expect(at.body).toMatchObject({ status: 'succeeded', usage: { inputTokens: 900, outputTokens: 100 } })
  const over = await start(on, wsId, '/usage 900 101', { agent: 'faulty' })
  expect(over.body).toMatchObject({
    status: 'failed',
    reason: 'budget_exceeded',
    detail: 'ended after 1001 tokens; the budget of one run is 1000',
    usage: { inputTokens: 900, outputTokens: 101 },
  })
})

test('it is ended as soon as it reports it, by tokens or by cost', async () => {
  await using on = await server()
  const wsId = await on.workspace({ budget: { maxTokensPerRun: 1_000, maxCostUsdPerRun: 0.5 } })
  const tokens = await start(on, wsId, 'use 400\nuse 1200\nhang')
  expect(tokens.body).toMatchObject({ status: 'failed', reason: 'budget_exceeded', usage: { inputTokens: 1600 } })
  const cost = await start(on, wsId, 'use 4 0.75\nhang')
  expect(cost.body).toMatchObject({
    reason: 'budget_exceeded',
    detail: 'ended after $0.75; the budget of one run is $0.5',
    usage: { costUsd: 0.75 },
  })
})

test('a start over a cap of the day is refused until midnight UTC, and nothing is recorded of it', async () => {
  let now = Date.parse('2026-11-21T23:00:00.000Z')
  const clock = { ...systemClock, now: () => now }
  await using on = await server({ clock })
  const wsId = await on.workspace({ budget: { runsPerDay: 2 } })
  expect((await start(on, wsId, 'use 1')).status).toBe(200)
  expect((await start(on, wsId, 'use 1')).status).toBe(200)
  const third = await start(on, wsId, 'use 1')
  expect(codeOf(third)).toEqual([429, 'budget_reached'])
  expect(third.headers.get('retry-after')).toBe('3600')
  expect(third.body.detail).toBe(
    `2 runs were started today in ${wsId}; the budget of a day is 2; it begins anew at midnight UTC`,
  )
  expect((await on.call<{ tasks: Run[] }>('GET', `/api/headless?wsId=${wsId}`)).body.tasks).toHaveLength(2)
  expect((await start(on, await on.workspace(), 'use 1')).status).toBe(200)
  now += 3_600_000
  expect((await start(on, wsId, 'use 1')).status).toBe(200)
})

test('what failed and canceled runs reported counts for the day', async () => {
  await using on = await server()
  const wsId = await on.workspace({ budget: { tokensPerDay: 100 } })
  expect((await start(on, wsId, 'use 40\nfail')).body.status).toBe('failed')
  const hanging = await start(on, wsId, 'use 59\nhang', { wait: false })
  for (let isReported = false; !isReported;) {
    const { body } = await on.call<{ events: { type: string }[] }>('GET', `/api/headless/${hanging.body.taskId}/events`)
    isReported = body.events.some(({ type }) => type === 'usage')
  }
  const canceled = await on.call<Run>('POST', `/api/headless/${hanging.body.taskId}/cancel`, undefined)
  expect(canceled.body).toMatchObject({ status: 'canceled', usage: { inputTokens: 59 } })
  expect((await start(on, wsId, 'use 1')).body.status).toBe('succeeded') // 99 before it, 100 after it
  expect(codeOf(await start(on, wsId, 'use 1'))).toEqual([429, 'budget_reached'])
})

test('what is at work when the cap of the day is passed is ended too', async () => {
  await using on = await server()
  const wsId = await on.workspace({ budget: { costUsdPerDay: 1 } })
  const run = await start(on, wsId, 'use 1 0.4\nuse 1 1.2\nhang')
  expect(run.body).toMatchObject({ status: 'failed', reason: 'budget_exceeded', usage: { costUsd: 1.6 } })
  expect(run.body.detail).toContain('the budget of a day is $1')
})

test('the sums of today survive a restart, and a cap set later knows them', async () => {
  await using directory = await temporaryDirectory()
  let wsId = ''
  {
    await using on = await server({ dataDir: directory.path })
    wsId = await on.workspace()
    await start(on, wsId, 'use 60 0.25')
    await start(on, wsId, 'use 30\nfail')
  }
  await using on = await server({ dataDir: directory.path })
  const set = (budget: Record<string, number>) =>
    on.call<Workspace>('PATCH', `/api/workspaces/${wsId}`, { budget }, { token: true })
  for (const reached of [{ runsPerDay: 2 }, { tokensPerDay: 90 }, { costUsdPerDay: 0.25 }]) {
    expect((await set(reached)).body.budget).toEqual(reached)
    expect(codeOf(await start(on, wsId, 'use 1'))).toEqual([429, 'budget_reached'])
  }
  await set({ runsPerDay: 3, tokensPerDay: 91, costUsdPerDay: 0.26 })
  expect((await start(on, wsId, 'use 1')).status).toBe(200)
  expect(codeOf(await start(on, wsId, 'use 1'))).toEqual([429, 'budget_reached'])
  await set({})
  expect((await start(on, wsId, 'use 1')).status).toBe(200)
})

test('what a run had reported whose server died is in its record, and counts', async () => {
  await using directory = await temporaryDirectory()
  await writeFile(join(directory.path, 'config.json'), JSON.stringify({ agents }))
  const first = await serve({ dataDir: directory.path })
  const token = (await readFile(join(directory.path, 'admin-token'), 'utf8')).trim()
  const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json' }
  const post = async (path: string, body: unknown): Promise<Record<string, string>> => {
    const answer = await fetch(first.url + path, { method: 'POST', headers, body: JSON.stringify(body) })
    return (await answer.json()) as Record<string, string>
  }
  const { id: wsId = '' } = await post('/api/workspaces', { tag: 'a', budget: { tokensPerDay: 70 } })
  const { taskId } = await post(`/api/workspaces/${wsId}/headless`, {
    prompt: 'use 30\nuse 40\nhang',
    agent: 'spender',
  })
  await eventually(async () => {
    const page = await fetch(`${first.url}/api/headless/${taskId}/events`, { headers })
    return (await page.text()).split('"usage"').length === 3
  })
  await first.end('SIGKILL')
  await using on = await server({ dataDir: directory.path })
  const died = await on.call<Run>('GET', `/api/headless/${taskId}`)
  expect(died.body).toMatchObject({ reason: 'server_died', usage: { inputTokens: 70, source: 'agent_reported' } })
  expect(codeOf(await start(on, wsId, 'use 1'))).toEqual([429, 'budget_reached'])
})

test('of many starts at once no more than the budget begin, and a place that was not there is not counted', async () => {
  await using on = await server({ config: { agents, maxRuns: 2 } })
  const wsId = await on.workspace({ budget: { runsPerDay: 5 } })
  const answers = await Promise.all(Array.from({ length: 12 }, () => start(on, wsId, 'use 1', { whenBusy: 'queue' })))
  expect(answers.filter(({ status }) => status === 200)).toHaveLength(5)
  expect(answers.filter(({ body }) => body.code === 'budget_reached')).toHaveLength(7)
  const other = await on.workspace({ budget: { runsPerDay: 3 } })
  const full = await Promise.all(Array.from({ length: 3 }, () => start(on, other, 'hang', { wait: false })))
  expect(full.filter(({ status }) => status === 202)).toHaveLength(2)
  for (const { status, body } of full)
    if (status === 202) await on.call('POST', `/api/headless/${body.taskId}/cancel`, undefined)
  expect((await start(on, other, 'use 1')).status).toBe(200)
})

test('what waits in the queue does not start once the budget of the day is used', async () => {
  await using on = await server({ config: { agents, maxRuns: 1 } })
  const wsId = await on.workspace({ budget: { tokensPerDay: 100 } })
  const answers = await Promise.all(Array.from({ length: 4 }, () => start(on, wsId, 'use 100', { whenBusy: 'queue' })))
  expect(
    answers.map(({ body }) => [body.status, body.reason, body.usage.inputTokens + body.usage.outputTokens]),
  ).toEqual([['succeeded', null, 100], ...Array.from({ length: 3 }, () => ['failed', 'budget_exceeded', 0])])
  expect(answers[3]?.body.detail).toContain('100 tokens were used today')
})

test('a clock that jumps to another day and back finds the sums of the day again', async () => {
  let now = Date.parse('2026-11-21T21:00:00.000Z')
  await using on = await server({ clock: { ...systemClock, now: () => now } })
  const wsId = await on.workspace({ budget: { runsPerDay: 2 } })
  for (let i = 0; i < 2; i++) expect((await start(on, wsId, 'use 1')).status).toBe(200)
  now += 5 * 3_600_000
  expect((await start(on, wsId, 'use 1')).status).toBe(200)
  now -= 5 * 3_600_000
  expect(codeOf(await start(on, wsId, 'use 1'))).toEqual([429, 'budget_reached'])
})

test('a session counts as a run, its turns by what they report, also after a restart', async () => {
  await using directory = await temporaryDirectory()
  const config = { config: liveFaulty, dataDir: directory.path }
  let wsId = ''
  let id = ''
  {
    await using on = await startTestServer(config)
    wsId = await on.workspace({ budget: { runsPerDay: 1, tokensPerDay: 100 } })
    id = (await open(on, { wsId, agent: 'faulty' })).id
    const second = await on.call<{ code: string }>('POST', '/api/sessions', { wsId }, { token: true })
    expect(codeOf(second)).toEqual([429, 'budget_reached'])
    await inState(on, id, 'idle')
    const first = await send(on, id, '/usage 60 40')
    expect(first.status).toBe(200)
    await confirmed(on, id, first.body.deliveryId)
    await inState(on, id, 'idle')
    expect(codeOf(await send(on, id, '/usage 1 1'))).toEqual([429, 'budget_reached'])
  }
  await using on = await startTestServer(config)
  expect(codeOf(await send(on, id, '/usage 1 1'))).toEqual([429, 'budget_reached'])
  await on.call('PATCH', `/api/workspaces/${wsId}`, { budget: { runsPerDay: 2, tokensPerDay: 101 } }, { token: true })
  expect((await send(on, id, 'hello')).status).toBeLessThan(300)
})

test('a budget is checked when it is set', async () => {
  await using on = await server()
  const bad = [{ runsPerDay: 0 }, { runsPerDay: 1.5 }, { tokensPerDay: -1 }, { costUsdPerDay: 0 }, { maxCost: 1 }, 5]
  for (const budget of bad) {
    const answer = await on.call<{ code?: string }>('POST', '/api/workspaces', { tag: 'x', budget }, { token: true })
    expect([budget, answer.status]).toEqual([budget, 400])
  }
  const wsId = await on.workspace()
  expect((await on.call<Workspace>('GET', `/api/workspaces/${wsId}`)).body.budget).toEqual({})
})
