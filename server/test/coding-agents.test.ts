import { chmod, copyFile, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import type { Event, Run } from '../src/model.ts'
import type { AgentInfo, AgentProbe } from '../src/model/agents.ts'
import { startTestServer, type TestServer } from './harness.ts'
import { eventually, temporaryDirectory } from './temporary.ts'

/** Stand-ins for the real programs: they bear their names, and print what those printed (`samples/`). */

const sample = (name: string): string => fileURLToPath(new URL(`samples/${name}.stdout.jsonl`, import.meta.url))

interface Place extends AsyncDisposable {
  on: TestServer
  wsId: string
  /** Puts a shell script on the server's PATH. `$S` is the directory of samples that were given. */
  install(program: string, script: string, samples?: string[]): Promise<void>
  run(body: Record<string, unknown>): Promise<Run>
}

/** Whoever runs these tests may have keys of their own. */
const NO_LOGIN = { ANTHROPIC_API_KEY: '', OPENAI_API_KEY: '', GEMINI_API_KEY: '' }

async function place(environment: Record<string, string> = {}): Promise<Place> {
  const directory = await temporaryDirectory()
  const PATH = `${directory.path}:${process.env['PATH'] ?? ''}`
  const on = await startTestServer({ environment: { ...NO_LOGIN, HOME: directory.path, ...environment, PATH } })
  const wsId = await on.workspace()
  return {
    on,
    wsId,
    async install(program, script, samples = []) {
      for (const name of samples) await copyFile(sample(name), join(directory.path, name))
      const file = join(directory.path, program)
      const version = 'if [ "$1" = --version ]; then echo 9.9.9; exit; fi'
      await writeFile(file, `#!/bin/sh\nS='${directory.path}'\n${version}\n${script}\n`)
      await chmod(file, 0o755)
    },
    async run(body) {
      const { body: accepted } = await on.call<Run>('POST', `/api/workspaces/${wsId}/headless`, body)
      return await eventually(async () => {
        const path = `/api/headless/${accepted.taskId}`
        const found = await on.call<Run>('GET', path, undefined, { headers: { prefer: 'wait=20' } })
        return found.body.finishedAt !== null && found.body
      })
    },
    async [Symbol.asyncDispose]() {
      await on[Symbol.asyncDispose]()
      await directory[Symbol.asyncDispose]()
    },
  }
}

test('a program found on PATH is listed with its version, and its run has the words, tools and figures of what it printed', async () => {
  await using here = await place()
  await here.install('pi', 'cat >/dev/null; cat "$S/pi-ok"', ['pi-ok'])
  const listed = await here.on.call<{ agents: AgentInfo[] }>('GET', '/api/agents')
  expect(listed.body.agents.find(({ id }) => id === 'pi')).toMatchObject({
    installed: true,
    version: '9.9.9',
    live: true,
    resume: true,
    verified: '0.87.1',
    login: 'no',
    hint: expect.stringMatching(/^not logged in; run "pi" once/) as string,
  })
  const done = await here.run({ prompt: 'do it', agent: 'pi' })
  expect(done).toMatchObject({
    status: 'succeeded',
    result: { text: 'all done' },
    usage: { inputTokens: 330, outputTokens: 63, source: 'agent_reported' },
    resumable: true,
  })
  const { body } = await here.on.call<{ events: Event[] }>('GET', `/api/headless/${done.taskId}/events`)
  const types = body.events.map(({ type }) => type)
  expect(types).toEqual(expect.arrayContaining(['tool.started', 'tool.ended', 'agent.message', 'usage']))
  const skipped = body.events.filter(({ type }) => type === 'log')
  expect(skipped).toMatchObject([
    { code: 'output_skipped', message: expect.stringMatching(/^\d+ lines that only/) as string },
  ])
  expect(body.events.find(({ type }) => type === 'tool.ended')).toMatchObject({ output: '(no output)' })
  const raw = (await here.on.call('GET', `/api/headless/${done.taskId}/output`)).text
  const printed = (await readFile(sample('pi-ok'), 'utf8')).split('\n')
  expect(raw).toBe(printed.filter((line) => !/^{"type":"(message|tool_execution)_update"/.test(line)).join('\n'))
})

test('an updated program that prints new records succeeds, and is listed as one to look at', async () => {
  await using here = await place({ OPENAI_API_KEY: 'k' })
  const news = `echo '{"type":"from_the_future"}'; echo '{"type":"from_the_future","n":2}'`
  await here.install('pi', `cat >/dev/null; ${news}; cat "$S/pi-ok"`, ['pi-ok'])
  const done = await here.run({ prompt: 'x', agent: 'pi' })
  expect(done.status).toBe('succeeded')
  const output = await here.on.call('GET', `/api/headless/${done.taskId}/output`)
  expect(output.text).toContain('{"type":"from_the_future","n":2}')
  const { body } = await here.on.call<{ agents: AgentInfo[] }>('GET', '/api/agents')
  expect(body.agents.find(({ id }) => id === 'pi')).toMatchObject({
    login: 'yes',
    unknownRecords: 2,
    hint: 'printed 2 records this version of Postern does not know; verified with 0.87.1',
  })
})

test('a wrong key ends the run, and a probe, at once, and says how to log in', async () => {
  await using here = await place()
  await here.install('claude', 'cat >/dev/null; cat "$S/claude-401"; exec sleep 600', ['claude-401'])
  const expected = { reason: 'agent_not_logged_in', detail: expect.stringContaining('ANTHROPIC_API_KEY') as string }
  expect(await here.run({ prompt: 'x', agent: 'claude' })).toMatchObject({ status: 'failed', ...expected })
  const probed = await here.on.call<AgentProbe>('POST', '/api/agents/claude/probe', {}, { token: true })
  expect(probed.body).toMatchObject({ ok: false, ...expected })
})

test('an agent gets its prompt on stdin, and of the server’s keys its own alone', async () => {
  await using here = await place({ CODEX_API_KEY: 'key-of-codex', ANTHROPIC_API_KEY: 'key-of-claude' })
  const report = `item='{"type":"item.completed","item":{"type":"agent_message","text":"'
prompt=$(cat)
printf '%s%s|%s|%s"}}\\n' "$item" "$prompt" "$CODEX_API_KEY" "$ANTHROPIC_API_KEY"
echo '{"type":"turn.completed","usage":{"input_tokens":1,"output_tokens":1}}'`
  await here.install('codex', report)
  const done = await here.run({ prompt: 'the prompt', agent: 'codex' })
  expect(done).toMatchObject({ status: 'succeeded', result: { text: 'the prompt|key-of-codex|' } })
})

test('a run that resumes counts what it used itself, where its program counts the whole conversation', async () => {
  await using here = await place()
  const script = 'cat >/dev/null; if [ "$2" = resume ]; then cat "$S/codex-resume"; else cat "$S/codex-ok"; fi'
  await here.install('codex', script, ['codex-ok', 'codex-resume'])
  const first = await here.run({ prompt: 'one', agent: 'codex' })
  expect(first.usage).toMatchObject({ inputTokens: 210, outputTokens: 41 })
  const second = await here.run({ prompt: 'two', agent: 'codex', resume: first.taskId })
  expect(second).toMatchObject({ status: 'succeeded', result: { text: 'second answer' } })
  expect(second.usage).toMatchObject({ inputTokens: 100, outputTokens: 20 })
  expect(second).not.toHaveProperty('totals')
})
