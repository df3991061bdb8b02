import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Event, Run } from '../src/model.ts'
import { DEFINITIONS } from '../src/agents/adapters.ts'
import { census } from '../src/process/census.ts'
import { startTestServer, type TestServer } from './harness.ts'
import { eventually, temporaryDirectory } from './temporary.ts'

/**
 * Everything that goes wrong with a coding agent, in the format of each of the six, through the API as its users see it.
 * The programs are stand-ins that print what the real ones printed (`agents/scripted-agent.mjs`).
 */
const SCRIPTED = fileURLToPath(new URL('agents/scripted-agent.mjs', import.meta.url))
const DEMO = fileURLToPath(new URL('../src/demo-agent/main.ts', import.meta.url))
const ALL = ['claude', 'codex', 'opencode', 'pi', 'gemini', 'qwen']
const but = (...names: string[]): string[] => ALL.filter((name) => !names.includes(name))
/** Milliseconds after which an agent that retries for ever is stopped. */
const PATIENCE_MS = 5_000
/** Milliseconds in which a wrong key is told, however long the program would go on trying it. */
const NO_KEY_MS = 10_000

let server: TestServer
let directory: Awaited<ReturnType<typeof temporaryDirectory>>
let wsId: string
beforeAll(async () => {
  directory = await temporaryDirectory()
  const programs = join(directory.path, 'programs')
  await mkdir(programs)
  for (const name of ALL) {
    const script = `#!/bin/sh\nexec '${process.execPath}' '${SCRIPTED}' ${name} "$@"\n`
    await writeFile(join(programs, name), script, { mode: 0o755 })
  }
  const limited = { command: [process.execPath, DEMO, '--faults'], output: 'jsonl', end: 'record' }
  const environment = { HOME: directory.path, PATH: `${programs}:${process.env['PATH']}` }
  server = await startTestServer({ environment, config: { maxRuns: 4, maxQueued: 500, agents: { limited } } })
  wsId = await server.workspace()
})
afterAll(async () => {
  await server[Symbol.asyncDispose]()
  await directory[Symbol.asyncDispose]()
})

async function start(agent: string, scenario: string, more: object = {}): Promise<string> {
  const body = { agent, prompt: `the scenario is ${scenario}`, whenBusy: 'queue', ...more }
  const answer = await server.call<Run>('POST', `/api/workspaces/${wsId}/headless`, body)
  expect(answer.status, answer.text).toBe(202)
  return answer.body.taskId
}
const ended = (taskId: string): Promise<Run> =>
  eventually(async () => {
    const options = { headers: { prefer: 'wait=20' } }
    const { body } = await server.call<Run>('GET', `/api/headless/${taskId}`, undefined, options)
    return body.finishedAt !== null && body
  })
const look = async (taskId: string): Promise<Run> => (await server.call<Run>('GET', `/api/headless/${taskId}`)).body
const eventsOf = async (taskId: string): Promise<Event[]> =>
  (await server.call<{ events: Event[] }>('GET', `/api/headless/${taskId}/events`)).body.events
const typesOf = async (taskId: string): Promise<string[]> => (await eventsOf(taskId)).map(({ type }) => type)

interface Row {
  scenario: string
  agents: string[]
  status: Run['status']
  reason?: string | RegExp
  detail?: RegExp
  text?: RegExp
  /** An event of this type is among those of the run. */
  event?: string
  more?: object
}
const failed = (scenario: string, agents: string[], reason: string | RegExp, detail: RegExp): Row => ({
  scenario,
  agents,
  status: 'failed',
  reason,
  detail,
})
const succeeded = (scenario: string, agents: string[], text: RegExp, event?: string): Row => ({
  scenario,
  agents,
  status: 'succeeded',
  text,
  ...(event !== undefined && { event }),
})
const stopped = (scenario: string, agents: string[], detail: RegExp, event?: string): Row => ({
  scenario,
  agents,
  status: 'timed_out',
  reason: 'timeout',
  detail,
  more: { timeoutMs: PATIENCE_MS },
  ...(event !== undefined && { event }),
})
/** They tell what each message used, and so what a run used that is ended before its result. */
const TELLS_EACH_MESSAGE = ['claude', 'qwen']
const ENDS_RETRIES = ['claude', 'codex', 'pi']
const RETRY_THE_RUN = /; the model's service failed, not the agent: retry the run$/

const TABLE: Row[] = [
  succeeded('ok', ALL, /^all done$/, 'tool.ended'),
  { ...failed('401', ALL, 'agent_not_logged_in', /as the user of the server|_API_KEY/) },
  { ...failed('401-for-ever', ['claude', 'codex'], 'agent_not_logged_in', /; run "/), event: 'agent.retry' },
  failed('no-key', but('opencode'), 'agent_not_logged_in', /; run "/),
  { ...failed('429', ENDS_RETRIES, 'rate_limited', /; retry the run once the limit is over$/), event: 'agent.waiting' },
  failed('429', ['opencode'], 'rate_limited', /; retry the run once the limit is over$/),
  stopped('429', ['gemini', 'qwen'], /, while the agent waited for a limit of its model's service$/, 'agent.waiting'),
  succeeded('429-recovers', [...ENDS_RETRIES, 'gemini'], /^recovered after 1 x 429$/, 'agent.waiting'),
  succeeded('429-recovers', ['opencode', 'qwen'], /^recovered after 1 x 429$/),
  { ...failed('500', ENDS_RETRIES, 'provider_error', RETRY_THE_RUN), event: 'agent.retry' },
  stopped('500', but(...ENDS_RETRIES), /^stopped after 5000 ms/),
  failed('drop', ENDS_RETRIES, 'provider_error', RETRY_THE_RUN),
  stopped('drop', but(...ENDS_RETRIES), /^stopped after 5000 ms/),
  failed('400', ALL, 'agent_error', /scripted error 400/),
  succeeded('permission-denied', ['claude'], /^tried$/, 'permission.denied'),
  succeeded('permission-denied', ['codex', 'pi', 'gemini', 'qwen'], /./),
  {
    ...failed(
      'permission-denied',
      ['opencode'],
      'no_result',
      /not allowed to use bash: the workspace's `permissions` say/,
    ),
    event: 'permission.denied',
  },
  succeeded('empty-answer', ALL, /^$/),
  { ...failed('error-after-text', ALL, 'agent_error', /scripted error 400/), text: /^a sentence of the long answer/ },
  succeeded('hang-after-result', ALL, /^all done$/),
  succeeded('leave-a-child', ALL, /^all done$/),
  failed('lie', ALL, 'agent_error', /scripted error 400/),
  failed('lie-the-other-way', ALL, 'exit_nonzero', /^exited with 1\b/),
  failed('say-nothing', ALL, 'no_result', /^exited with 0 without a result$/),
  failed('killed-from-outside', but('gemini'), 'exit_nonzero', /^(exited with 143|ended by SIGTERM) without a result/),
  failed('killed-from-outside', ['gemini'], 'no_result', /^exited with 0 without a result/),
]

describe.concurrent('an agent that', () => {
  for (const { scenario, agents, status, reason, detail, text, event, more } of TABLE) {
    test.each(agents)(`plays "${scenario}", as %s does, ends as ${status} ${reason ?? ''}`, async (agent) => {
      const taskId = await start(agent, scenario, more)
      const run = await ended(taskId)
      expect({ status: run.status, reason: run.reason }, JSON.stringify(run)).toEqual({
        status,
        reason: reason ?? null,
      })
      if (detail) expect(run.detail).toMatch(detail)
      if (text) expect(run.result.text ?? '').toMatch(text)
      if (event !== undefined) expect(await typesOf(taskId)).toContain(event)
      if (reason === 'agent_not_logged_in') expect(run.durationMs).toBeLessThan(NO_KEY_MS)
      expect(run.detail ?? '').not.toContain('\u001b')
      expect([run.survivors, census().has(taskId)]).toEqual([0, false])
    })
  }

  test.each(ALL)('has forgotten the conversation, as %s has, says so and how to go on', async (agent) => {
    const first = await ended(await start(agent, 'thought')) // no other test has this conversation
    const run = await ended(await start(agent, 'resume-unknown', { resume: first.taskId }))
    expect(run.status).toBe('failed')
    expect(run.reason).toMatch(/^(exit_nonzero|agent_error|resume_mismatch)$/)
    if (run.reason !== 'resume_mismatch')
      expect(run.detail).toMatch(/; leave `resume` out to begin a new conversation$/)
  })

  test.each(ALL)(
    'is canceled in the middle of a tool, as %s is, ends as canceled whatever it exits with',
    async (agent) => {
      const taskId = await start(agent, 'sigterm')
      if (TELLS_EACH_MESSAGE.includes(agent)) await eventually(async () => (await typesOf(taskId)).includes('usage'))
      await eventually(async () => (await look(taskId)).lastActivityAt !== null)
      const { body } = await server.call<Run>('POST', `/api/headless/${taskId}/cancel`)
      expect(body).toMatchObject({ status: 'canceled', reason: 'canceled_by_caller', survivors: 0 })
      if (TELLS_EACH_MESSAGE.includes(agent)) expect(body.usage).toMatchObject({ inputTokens: 100 })
    },
  )

  test.each(DEFINITIONS.map(({ id, login }) => [id, login] as const))(
    'is not logged in, as %s, tells how to',
    async (id, login) => {
      expect((await ended(await start(id, '401'))).detail).toContain(`; ${login}`)
    },
  )
})

test('an agent of one’s own that meets a limit tells when it is over, and so does its run', async () => {
  const body = { agent: 'limited', prompt: '/limit 60' }
  const { taskId } = (await server.call<Run>('POST', `/api/workspaces/${wsId}/headless`, body)).body
  const run = await ended(taskId)
  const waiting = (await eventsOf(taskId)).find(({ type }) => type === 'agent.waiting')
  expect(waiting).toMatchObject({ kind: 'rate_limit', status: 429 })
  expect(run).toMatchObject({ status: 'failed', reason: 'rate_limited' })
  expect(run.detail).toContain(`; the limit is over at ${String(waiting?.['resetsAt'])}`)
})
