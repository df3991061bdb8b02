import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdir, readFile, realpath, symlink } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { DEFINITIONS } from '../src/agents/adapters.ts'
import { programAgent } from '../src/agents/definition.ts'
import type { LiveTask } from '../src/agents/live.ts'
import { systemClock } from '../src/clock.ts'
import { census } from '../src/process/census.ts'
import { startTestServer } from './harness.ts'
import { liveProgram } from './live-program.ts'
import { adapterOf, AGENTS, programOf, required, scriptedModel, TEST_MS } from './real-programs.ts'
import * as sessions from './session-client.ts'
import { eventually, temporaryDirectory } from './temporary.ts'

/**
 * Live connections to the real programs, against a scripted model on loopback; skipped without them, as
 * `real-agents.test.ts`. All but the last start the program as composed, and nothing else: no server, no supervision.
 */
describe.each(DEFINITIONS)('the real $id, live', { timeout: TEST_MS }, (definition) => {
  const { id } = definition
  const { live } = programAgent(definition, systemClock)
  const adapter = definition.session.adapter?.program
  const program = adapter === undefined ? programOf(id) : adapterOf(adapter)
  const isThere = existsSync(programOf(id)) && existsSync(program)
  test.runIf(required.includes(id))('is installed where it is required', () => expect(isThere).toBe(true))

  /** A workspace, a home and a model for one test; `connect` starts the program once more. */
  async function open(key = 'sk-fake') {
    const directory = await temporaryDirectory()
    const root = await realpath(directory.path)
    const model = await scriptedModel()
    const [home, cwd] = [join(root, 'home'), join(root, 'workspace')]
    await mkdir(home)
    await mkdir(cwd)
    const prepared = await AGENTS[id]?.(home, model.url, key)
    const mark = `run-${root}`
    async function connect(more: Partial<LiveTask> = {}, conversationId: string | null = null, sought: string[] = []) {
      if (!live) throw new Error(`${id} holds no sessions`)
      const chosen = definition.session.args.includes(':model') ? (prepared?.model ?? null) : null
      const task: LiveTask = { cwd, permissions: 'full', model: chosen, ...more }
      const command = live.compose(task, { conversationId, programPath: programOf(id) })
      const path = `${dirname(process.execPath)}:${process.env['PATH']}`
      const own = { HOME: home, PATH: path, POSTERN_RUN_ID: mark }
      const env = { ...own, ...command.env, ...prepared?.environment }
      const child = spawn(program, command.args, { cwd, env, stdio: ['pipe', 'pipe', 'pipe'] })
      child.stderr.resume()
      const agent = liveProgram(child, (io, handlers) => live.connect(io, handlers))
      return { ...agent, opened: await agent.connection.open(task, conversationId, sought) }
    }
    async function dispose(): Promise<void> {
      for (const pid of census().get(mark) ?? []) process.kill(pid, 'SIGKILL') // what outlives its session is not ours to test
      await model[Symbol.asyncDispose]()
      await directory[Symbol.asyncDispose]()
    }
    return { connect, cwd, [Symbol.asyncDispose]: dispose }
  }

  test.skipIf(!isThere)('takes one message after another, uses a tool, counts', async () => {
    await using place = await open()
    await using agent = await place.connect()
    const turn = agent.connection.prompt('FAKE: bash echo hi > out.txt ;; say all done')
    await turn.written
    await turn.confirmed
    expect(await turn.ended).toEqual({ status: 'completed', text: 'all done' })
    expect(await readFile(join(place.cwd, 'out.txt'), 'utf8')).toBe('hi\n')
    expect(agent.types()).toEqual(expect.arrayContaining(['tool.started', 'tool.ended', 'agent.message', 'usage']))
    expect(agent.events.filter((event) => event.type === 'log' && event.code === 'unknown_record')).toEqual([])
    expect(await agent.connection.prompt('FAKE: say once more').ended).toEqual({
      status: 'completed',
      text: 'once more',
    })
    expect(agent.events.filter(({ type }) => type === 'usage')).toHaveLength(2)
    expect(agent.asks).toEqual([])
  })

  test.skipIf(!isThere)('is canceled in the middle of a tool, and goes on', async () => {
    await using place = await open()
    await using agent = await place.connect()
    const turn = agent.connection.prompt('FAKE: bash sleep 600 ;; say never')
    await eventually(() => agent.types().includes('tool.started'))
    await agent.connection.cancel()
    expect(await turn.ended).toMatchObject({ status: 'canceled' })
    expect(await agent.connection.prompt('FAKE: say alive').ended).toMatchObject({ status: 'completed', text: 'alive' })
  })

  test.skipIf(!isThere)('asks before it uses the shell, or has none, at the level ask', async () => {
    await using place = await open()
    await using agent = await place.connect({ permissions: 'ask' })
    agent.answer.kind = 'reject_once'
    await agent.connection.prompt('FAKE: bash echo no > no.txt ;; say after').ended
    expect(existsSync(join(place.cwd, 'no.txt'))).toBe(false)
    // codex fails in its sandbox without asking, pi is not offered the tool.
    expect(agent.asks.length).toBe(['codex', 'pi'].includes(id) ? 0 : 1)
  })

  test.skipIf(!isThere)('tells of a model that refuses, and of a bad key', async () => {
    await using place = await open()
    await using agent = await place.connect()
    expect(await agent.connection.prompt('FAKE: err 400').ended).toMatchObject({
      status: 'failed',
      error: { kind: 'agent', message: expect.stringContaining('scripted error 400') as string },
    })
    expect(await agent.connection.prompt('FAKE: say alive').ended).toMatchObject({ status: 'completed' })
    await using keyless = await open('sk-bad')
    await using locked = await keyless.connect()
    expect(await locked.connection.prompt('FAKE: say never').ended).toMatchObject({
      status: 'failed',
      error: { kind: 'auth' },
    })
  })

  test.skipIf(!isThere)('goes on with a conversation in another process', async () => {
    await using place = await open()
    let known: string
    {
      await using first = await place.connect()
      await first.connection.prompt('FAKE: say first').ended
      known = first.opened.conversationId
    }
    await systemClock.sleep(live?.resumeAfterMs ?? 0)
    await using second = await place.connect({}, known, ['FAKE: say first', 'FAKE: say never'])
    expect(second.opened).toMatchObject({ conversationId: known, heard: ['FAKE: say first'] })
    expect(second.events).toEqual([])
    expect(await second.connection.prompt('FAKE: say second').ended).toMatchObject({ text: 'second' })
  })

  test.skipIf(!isThere)('is steered in the middle of a turn, where it can be', async () => {
    await using place = await open()
    await using agent = await place.connect()
    expect(agent.opened.canSteer).toBe(['claude', 'codex', 'pi'].includes(id))
    if (!agent.opened.canSteer) return
    const turn = agent.connection.prompt('FAKE: bash sleep 2 ;; say unsteered')
    await eventually(() => agent.types().includes('tool.started'))
    await agent.connection.steer('FAKE: say steered')
    expect(await turn.ended).toMatchObject({ status: 'completed', text: 'steered' })
  })

  test.skipIf(!isThere)('holds a session of the server, is interrupted, and leaves no process behind', async () => {
    await using directory = await temporaryDirectory()
    await using model = await scriptedModel()
    const [home, programs] = [join(directory.path, 'home'), join(directory.path, 'bin')]
    await mkdir(home)
    await mkdir(programs) // entries named node_modules/.bin are never searched
    await symlink(programOf(id), join(programs, definition.program))
    if (adapter !== undefined) await symlink(program, join(programs, adapter))
    const prepared = await AGENTS[id]?.(home, model.url, 'sk-fake')
    const path = `${programs}:${dirname(process.execPath)}:${process.env['PATH']}`
    await using server = await startTestServer({ environment: { HOME: home, ...prepared?.environment, PATH: path } })
    const wsId = await server.workspace({ agents: [id], permissions: 'full' })
    const chosen = definition.session.args.includes(':model') && prepared?.model ? { model: prepared.model } : {}
    const opened = await sessions.open(server, { wsId, agent: id, prompt: 'FAKE: say first', ...chosen })
    await eventually(async () => (await sessions.replies(server, opened.id)).length === 1)
    await sessions.inState(server, opened.id, 'idle')
    const sent = await sessions.send(server, opened.id, 'FAKE: bash sleep 600 ;; say never')
    expect(sent).toMatchObject({ status: 200, body: { status: 'delivered' } })
    await sessions.confirmed(server, opened.id, sent.body.deliveryId)
    const types = async () => (await sessions.events(server, opened.id)).map(({ type }) => type)
    await eventually(async () => (await types()).includes('tool.started'))
    await server.call('POST', `/api/sessions/${opened.id}/interrupt`, undefined, { token: true })
    await sessions.inState(server, opened.id, 'idle')
    const ended = await server.call('POST', `/api/sessions/${opened.id}/end`, undefined, { token: true })
    expect(ended, ended.text).toMatchObject({ status: 200, body: { state: 'ended', reason: 'ended_by_caller' } })
    expect(await sessions.replies(server, opened.id)).toContain('first')
    expect(sessions.processesOf(opened.id)).toEqual([]) // also what codex forgets when it is canceled
  })
})
