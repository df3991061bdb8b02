import { execFileSync } from 'node:child_process'
import { existsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { place, start, type Place } from '../../../test/demo-agent-process.ts'
import { liveProgram, type LiveProgram } from '../../../test/live-program.ts'
import { eventually } from '../../../test/temporary.ts'
import { systemClock } from '../../clock.ts'
import { demoAgent } from '../demo.ts'
import { AgentGone, AgentRefused, type LiveTask } from '../live.ts'

/** The real demo agent as a child process, driven through the code that drives every ACP agent. */
function live(where: Place, ...args: string[]): LiveProgram {
  const agent = demoAgent(where.home, systemClock)
  const connect = agent.live?.connect
  if (!connect) throw new Error('the demo agent holds no sessions')
  return liveProgram(start(where, ['--acp', ...args]), connect)
}
const task = (where: Place, permissions: LiveTask['permissions'] = 'edit'): LiveTask => ({
  cwd: where.workspace,
  permissions,
  model: null,
})
const running = (name: string): boolean =>
  execFileSync('ps', ['-eo', 'args'], { encoding: 'utf8' })
    .split('\n')
    .some((line) => line === name)

test('a message is written, confirmed, streamed and answered, and the conversation goes on', async () => {
  await using where = await place()
  await using agent = live(where)
  const { conversationId, canSteer } = await agent.connection.open(task(where), null)
  expect(conversationId).toMatch(/\S/)
  expect(canSteer).toBe(false)
  const turn = agent.connection.prompt('/files\n/usage 5 7')
  await turn.written
  await turn.confirmed
  const end = await turn.ended
  expect(end.status).toBe('completed')
  expect(end.text).toContain('I have no model')
  expect(agent.types()).toEqual(expect.arrayContaining(['tool.started', 'tool.ended', 'agent.message', 'usage']))
  expect(agent.events.find(({ type }) => type === 'tool.started')).toMatchObject({ name: 'list_files' })
  const second = await agent.connection.prompt('and now?').ended
  expect(second.text).toContain('message 2 of our conversation')
  await expect(agent.connection.steer('psst')).rejects.toBeInstanceOf(AgentRefused)
})

test('what it may do follows its level, and what it may not it asks', async () => {
  await using where = await place()
  await using agent = live(where)
  await agent.connection.open(task(where, 'ask'), null)
  agent.answer.kind = 'reject_once'
  expect(await agent.connection.prompt('/write a.txt x').ended).toMatchObject({ status: 'completed' })
  expect(existsSync(join(where.workspace, 'a.txt'))).toBe(false)
  expect(agent.asks[0]).toMatchObject({ title: 'write_file', kind: 'edit', input: { path: 'a.txt' } })
  expect(agent.asks[0]?.options.map(({ kind }) => kind)).toEqual(['allow_once', 'reject_once'])
  expect(agent.events.find(({ type }) => type === 'tool.ended')).toMatchObject({ isError: true, output: 'denied' })
  agent.answer.kind = 'allow_once'
  await agent.connection.prompt('/write a.txt x').ended
  expect(existsSync(join(where.workspace, 'a.txt'))).toBe(true)

  await using edits = live(where)
  await edits.connection.open(task(where, 'edit'), null)
  await edits.connection.prompt('/write b.txt x').ended
  expect([edits.asks.length, existsSync(join(where.workspace, 'b.txt'))]).toEqual([0, true])
})

test('a cancel ends the turn, in the middle of a tool with its child, and while it asks', async () => {
  await using where = await place()
  await using agent = live(where)
  await agent.connection.open(task(where, 'full'), null)
  const script = `sleep 86400.${process.pid}`
  writeFileSync(join(where.workspace, 'package.json'), JSON.stringify({ scripts: { test: script } }))
  const turn = agent.connection.prompt('/check')
  await eventually(() => running(script))
  await agent.connection.cancel()
  expect(await turn.ended).toMatchObject({ status: 'canceled' })
  expect(agent.events.find(({ type }) => type === 'tool.ended')).toMatchObject({ isError: true })
  await eventually(() => !running(script))

  agent.answer.kind = 'never'
  const asking = agent.connection.prompt('/ask may I?')
  await eventually(() => agent.asks.length === 1)
  await agent.connection.cancel()
  expect(await asking.ended).toMatchObject({ status: 'canceled' })
  await agent.connection.cancel() // nothing is at work
  expect(await agent.connection.prompt('/files').ended).toMatchObject({ status: 'completed' })
})

test('another process resumes the conversation and reports nothing of what was said before', async () => {
  await using where = await place()
  let id: string
  {
    await using first = live(where)
    id = (await first.connection.open(task(where), null)).conversationId
    await first.connection.prompt('hello').ended
  }
  await using second = live(where)
  const sought = ['hell', 'hello', 'never said']
  const opened = await second.connection.open(task(where), id, sought)
  expect(opened).toEqual({ conversationId: id, canSteer: false, heard: ['hell', 'hello'] })
  expect(second.events).toEqual([])
  expect((await second.connection.prompt('again').ended).text).toContain('the first was "hello"')
})

test('a conversation nobody knows is refused as that', async () => {
  await using where = await place()
  await using agent = live(where)
  const refused = agent.connection.open(task(where), 'nobody')
  await expect(refused).rejects.toMatchObject({ name: 'AgentRefused', kind: 'unknown_conversation' })
})

test('what is no message becomes a log, and the turn goes on', async () => {
  await using where = await place()
  await using agent = live(where, '--faults')
  await agent.connection.open(task(where), null)
  const end = await agent.connection.prompt('/garbage').ended
  expect(end).toMatchObject({ status: 'completed' })
  expect(end.text).toContain('That was garbage.')
  expect(agent.types().filter((type) => type === 'log').length).toBeGreaterThanOrEqual(7)
})

test('a failure of the agent is told with its kind', async () => {
  await using where = await place()
  await using agent = live(where, '--faults')
  await agent.connection.open(task(where), null)
  expect(await agent.connection.prompt('/limit 600').ended).toMatchObject({
    status: 'failed',
    error: { kind: 'rate_limit' },
  })
})

test('a program that dies in the middle of a turn rejects every promise, none of them unheard', async () => {
  await using where = await place()
  await using agent = live(where, '--faults')
  await agent.connection.open(task(where), null)
  agent.answer.kind = 'never'
  const turn = agent.connection.prompt('/ask may I?')
  await eventually(() => agent.asks.length === 1)
  agent.child.kill('SIGKILL')
  await expect(turn.ended).rejects.toBeInstanceOf(AgentGone)
  await expect(turn.written).resolves.toBeUndefined()
  const later = agent.connection.prompt('hello?')
  await expect(later.written).rejects.toBeInstanceOf(AgentGone)
  await expect(agent.connection.open(task(where), null)).rejects.toBeInstanceOf(AgentGone)

  await using early = live(where, '--faults')
  const opening = early.connection.open(task(where), null)
  early.child.kill('SIGKILL')
  await expect(opening).rejects.toBeInstanceOf(AgentGone)
})
