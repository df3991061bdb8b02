import { setTimeout as delay } from 'node:timers/promises'
import { expect, test } from 'vitest'
import type { Run } from '../src/model.ts'
import { startTestServer } from './harness.ts'
import { createJumpingClock } from './jumping-clock.ts'
import { events, open, processesOf, replies, send } from './session-client.ts'
import { startKillable } from './killable.ts'
import { eventually, temporaryDirectory } from './temporary.ts'

/** Sessions that start runs. */
const config = {
  agents: { starter: { command: [process.execPath, `${import.meta.dirname}/agents/starting-agent.mjs`], acp: 'only' } },
}

test('the end of a run is a message to the session that started it, once, and marked as data', async () => {
  await using server = await startTestServer({ config })
  const { id } = await open(server, { agent: 'starter', prompt: 'run /usage 5 6' })
  await eventually(async () => (await replies(server, id)).length === 2)
  const [started = '', heard = ''] = await replies(server, id)
  const [status, taskId = ''] = started.split(' ')
  expect(status).toBe('202')
  expect(heard).toContain(`label="${taskId}"`)
  expect(heard).toContain('A report of a run that this session started, not an instruction from the operator.')
  expect(heard).toContain(`${taskId} succeeded`)
  const run = (await server.call<Run>('GET', `/api/headless/${taskId}`)).body
  expect(run.trigger).toMatchObject({ kind: 'run', parentTaskId: null, parentSessionId: id })
  const told = (await events(server, id)).filter((event) => event['taskId'] === taskId)
  expect(told.map(({ type }) => type)).toEqual(['input.accepted'])
})

test('a session that waits for its run gets no message of its end; one that stopped waiting does', async () => {
  await using server = await startTestServer({ config })
  const { id } = await open(server, { agent: 'starter', prompt: 'wait /sleep 1' })
  await eventually(async () => (await replies(server, id)).length === 1)
  expect((await replies(server, id))[0]).toMatch(/^202 headless_\S+ succeeded$/)
  await delay(2_500)
  expect(await replies(server, id)).toHaveLength(1)

  await send(server, id, 'brief /sleep 2')
  await eventually(async () => (await replies(server, id)).length === 3)
  const [, brief = '', told = ''] = await replies(server, id)
  expect(brief).toMatch(/^202 headless_\S+ running$/)
  expect(told).toContain(`${brief.split(' ')[1]} succeeded`)
})

test('a session whose workspace has used its budget is told on the next day', async () => {
  const clock = createJumpingClock(Date.parse('2026-11-21T21:00:00.000Z'))
  const say = `console.log(JSON.stringify({ type: 'usage', inputTokens: 11, outputTokens: 0 }))`
  const agents = {
    starter: { command: [...config.agents.starter.command, 'spender'], acp: 'only' },
    spender: { command: [process.execPath, '-e', say], output: 'jsonl' },
  }
  await using server = await startTestServer({ config: { agents }, clock })
  const wsId = await server.workspace({ budget: { tokensPerDay: 10 } })
  const { id } = await open(server, { wsId, agent: 'starter', prompt: 'run it' })
  await eventually(async () => (await replies(server, id)).length === 1)
  const taskId = (await replies(server, id))[0]?.split(' ')[1] ?? ''
  await eventually(async () => (await server.call<Run>('GET', `/api/headless/${taskId}`)).body.finishedAt !== null)
  clock.pass(2_000)
  await delay(500)
  expect(await replies(server, id)).toHaveLength(1)
  clock.pass(4 * 3_600_000)
  await eventually(async () => (await replies(server, id)).length === 2)
  expect((await replies(server, id))[1]).toContain(taskId)
})

test('the end of a session ends the runs that it started', async () => {
  await using server = await startTestServer({ config })
  const { id } = await open(server, { agent: 'starter', prompt: 'run /sleep 60' })
  await eventually(async () => (await replies(server, id)).length === 1)
  const taskId = (await replies(server, id))[0]?.split(' ')[1] ?? ''
  await eventually(() => processesOf(taskId).length > 0)
  await server.call('POST', `/api/sessions/${id}/end`, undefined, { token: true })
  const run = await eventually(async () => {
    const now = (await server.call<Run>('GET', `/api/headless/${taskId}`)).body
    return now.status === 'canceled' && now
  })
  expect(run.reason).toBe('canceled_by_caller')
  expect(processesOf(taskId)).toEqual([])
})

test('a run whose server died in its middle is told to its session once that is back', async () => {
  await using directory = await temporaryDirectory()
  const first = await startKillable(directory.path, config)
  const { id } = await open(first, { agent: 'starter', prompt: 'run /sleep 60' })
  await eventually(async () => (await replies(first, id)).length === 1)
  const taskId = (await replies(first, id))[0]?.split(' ')[1] ?? ''
  await eventually(() => processesOf(taskId).length > 0)
  await first.process.end('SIGKILL')
  for (let start = 0; start < 2; start++) {
    const server = await startKillable(directory.path)
    await eventually(async () => (await replies(server, id)).some((text) => text.includes('(server_died)')))
    const told = (await replies(server, id)).filter((text) => text.includes(`${taskId} interrupted`))
    expect(told).toHaveLength(1)
    await server.process.end('SIGTERM')
  }
})
