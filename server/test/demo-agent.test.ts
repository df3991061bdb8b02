import { mkdir, readFile } from 'node:fs/promises'
import { execFileSync } from 'node:child_process'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import type { Event, Run, Workspace } from '../src/model.ts'
import type { AgentInfo } from '../src/model/agents.ts'
import { census } from '../src/process/census.ts'
import { startTestServer, type TestServer } from './harness.ts'
import { eventually, temporaryDirectory } from './temporary.ts'

/** The test agent as anybody may configure it. */
const faulty = {
  command: ['postern', 'demo-agent', '--faults'],
  output: 'jsonl',
  end: 'record',
  resume: ['--resume', '{conversationId}'],
  acp: true,
}

interface House extends AsyncDisposable {
  on: TestServer
  wsId: string
  run(prompt: string, more?: Record<string, unknown>): Promise<Run>
  start(prompt: string, more?: Record<string, unknown>): Promise<Run>
  events(run: Run): Promise<Event[]>
}
async function house(workspace: Record<string, unknown> = {}): Promise<House> {
  const home = await temporaryDirectory()
  const on = await startTestServer({ config: { agents: { faulty } }, environment: { HOME: home.path } })
  const wsId = await on.workspace(workspace)
  const post = async (body: Record<string, unknown>): Promise<Run> => {
    const answer = await on.call<Run>('POST', `/api/workspaces/${wsId}/headless`, { agent: 'faulty', ...body })
    if (answer.status > 202) throw new Error(`${answer.status} ${answer.text}`)
    return answer.body
  }
  return {
    on,
    wsId,
    run: (prompt, more) => post({ prompt, wait: true, ...more }),
    start: (prompt, more) => post({ prompt, ...more }),
    async events({ taskId }) {
      return (await on.call<{ events: Event[] }>('GET', `/api/headless/${taskId}/events`)).body.events
    },
    async [Symbol.asyncDispose]() {
      await on[Symbol.asyncDispose]()
      await home[Symbol.asyncDispose]()
    },
  }
}

describe('the demo agent in a run', () => {
  test('looks around, leaves a report as a diff, counts nothing, and can be continued', async () => {
    await using place = await house()
    const first = await place.run('Look around and report', { agent: 'demo' })
    expect(first).toMatchObject({
      status: 'succeeded',
      resumable: true,
      usage: { inputTokens: 0, outputTokens: 0, costUsd: 0, source: 'agent_reported' },
      git: { branch: 'main', baseSha: null, filesChanged: 1 },
    })
    expect(first.result.text).toContain('no model')
    const types = (await place.events(first)).map(({ type }) => type)
    expect(types.slice(0, 3)).toEqual(['run.started', 'tool.started', 'tool.ended'])
    expect(types).toContain('agent.message')
    const patch = (await place.on.call('GET', `/api/headless/${first.taskId}/diff`)).text
    expect(patch).toContain('+++ b/reports/first-look.md')

    const second = await place.run('And now?', { agent: 'demo', resume: first.taskId })
    expect(second.result.text).toContain('message 2 of our conversation; the first was "Look around and report"')
    expect(second.git.filesChanged).toBe(0)
    const agents = (await place.on.call<{ agents: AgentInfo[] }>('GET', '/api/agents')).body.agents
    expect(agents.find(({ id }) => id === 'demo')).toMatchObject({ installed: true, hasModel: false, live: true })
    expect(agents.find(({ id }) => id === 'faulty')).toMatchObject({ installed: true, live: true, resume: true })
  })

  test('may do what the workspace permits', async () => {
    await using place = await house({ permissions: 'ask' })
    const prompt = '/write a.txt text'
    const denied = await place.run(prompt, { agent: 'demo' })
    expect(denied).toMatchObject({ status: 'succeeded', git: { filesChanged: 0 } })
    expect((await place.events(denied)).map(({ type }) => type)).toContain('permission.denied')
    await place.on.call('PATCH', `/api/workspaces/${place.wsId}`, { permissions: 'edit' }, { token: true })
    expect(await place.run(prompt, { agent: 'demo' })).toMatchObject({ git: { filesChanged: 1 } })
  })

  test('works in the part of a worktree that answers to its workspace', async () => {
    await using place = await house()
    await using root = await temporaryDirectory()
    const path = join(root.path, 'packages', 'one')
    await mkdir(path, { recursive: true })
    const git = (...args: string[]): void =>
      void execFileSync('git', ['-c', 'user.name=a', '-c', 'user.email=a@b', ...args], { cwd: root.path })
    git('init', '-q')
    git('commit', '-q', '--allow-empty', '-m', 'first')
    const { body: workspace } = await place.on.call<Workspace>(
      'POST',
      '/api/workspaces',
      { tag: 'part', path },
      { token: true },
    )
    const answer = await place.on.call<Run>('POST', `/api/workspaces/${workspace.id}/headless`, {
      prompt: '/write a.txt text',
      agent: 'demo',
      isolation: 'worktree',
      wait: true,
    })
    const { git: state, taskId } = answer.body
    expect(state).toMatchObject({ filesChanged: 1, branch: `postern/${taskId}` })
    expect(await readFile(join(state.worktree ?? '', 'packages', 'one', 'a.txt'), 'utf8')).toBe('text\n')
    await expect(readFile(join(path, 'a.txt'))).rejects.toThrow('ENOENT')
  })

  test('says that faults are off', async () => {
    await using place = await house()
    expect((await place.run('/hang', { agent: 'demo' })).result.text).toContain('faults are off')
  })
})

describe('every fault ends in the right word', () => {
  test('of what it printed', async () => {
    await using place = await house()
    const { run, events } = place
    expect(await run('/fail 3')).toMatchObject({ status: 'failed', reason: 'exit_nonzero', exitCode: 3 })
    expect(await run('/no-result')).toMatchObject({ status: 'failed', reason: 'no_result', exitCode: 0 })
    expect(await run('/crash')).toMatchObject({ status: 'failed', reason: 'exit_nonzero', signal: 'SIGKILL' })
    expect(await run('/limit 600')).toMatchObject({ status: 'failed', reason: 'rate_limited' })
    expect(await run('/usage 100 20')).toMatchObject({
      status: 'succeeded',
      usage: { inputTokens: 100, outputTokens: 20 },
    })
    const deep = await run('/deep')
    expect(deep).toMatchObject({
      status: 'succeeded',
      result: { text: expect.stringContaining('That was deep.') as string },
    })
    expect((await events(deep)).filter(({ type }) => type === 'log')).toHaveLength(1)
    const garbage = await run('/garbage')
    expect(garbage.status).toBe('succeeded')
    expect((await events(garbage)).filter(({ type }) => type === 'log').length).toBeGreaterThanOrEqual(7)
    const big = await run('/big 300000')
    expect(big).toMatchObject({ status: 'succeeded', result: { truncated: true } })
    expect(await run('/spam 3000')).toMatchObject({ status: 'succeeded' })
    expect(await run('/flood 4')).toMatchObject({ status: 'succeeded' })
    expect(await run('/shared')).toMatchObject({ status: 'succeeded' })
  })

  test('of a result that is there while the program stays: success after a grace', async () => {
    await using place = await house()
    expect(await place.run('/result-stay')).toMatchObject({ status: 'succeeded', reason: null })
  })

  test('of another conversation than the one that was to go on', async () => {
    await using place = await house()
    const first = await place.run('/files')
    expect(await place.run('/files', { resume: first.taskId })).toMatchObject({ status: 'succeeded' })
    expect(await place.run('/forget', { resume: first.taskId })).toMatchObject({
      status: 'failed',
      reason: 'resume_mismatch',
    })
  })

  test('of limits: time, and no sign of life', async () => {
    await using place = await house()
    const hung = await place.run('/hang', { timeoutMs: 1_500 })
    expect(hung).toMatchObject({ status: 'timed_out', reason: 'timeout' })
    expect(hung.detail).toContain('in tool hang')
    expect(await place.run('/mute 600', { idleTimeoutMs: 1_000 })).toMatchObject({
      status: 'timed_out',
      reason: 'idle',
    })
  })

  test('of a cancel, with every process gone that was left: in the group, out of the session, by the dozen', async () => {
    await using place = await house()
    const { taskId } = await place.start('/orphan\n/setsid\n/fork 30\n/sleep 600')
    await eventually(() => (census().get(taskId)?.length ?? 0) >= 32)
    const { body } = await place.on.call<Run>('POST', `/api/headless/${taskId}/cancel`)
    expect(body).toMatchObject({ status: 'canceled', reason: 'canceled_by_caller', survivors: 0 })
    expect(census().has(taskId)).toBe(false)
  })

  test('and what it leaves behind at an ordinary end is gone too', async () => {
    await using place = await house()
    const done = await place.run('/orphan\n/setsid\n/fork 10')
    expect(done).toMatchObject({ status: 'succeeded', survivors: 0 })
    expect(census().has(done.taskId)).toBe(false)
  })
})
