import { expect, test } from 'vitest'
import { createJumpingClock } from '../../../test/jumping-clock.ts'
import { systemClock, type Clock } from '../../clock.ts'
import type { AgentEvent } from '../agent.ts'
import { AgentGone, type AgentConnection, type LiveTask } from '../live.ts'
import { isUnknownConversation } from './acp-failures.ts'
import { connectAcp } from './acp.ts'
import { readLines } from './lines.ts'
import { connectPiRpc } from './pi-rpc.ts'

type Message = Record<string, unknown>

/** The other end of a connection: what the client wrote is read when the test says so, and not before. */
interface FarEnd {
  /** The next line of the client. */
  read(): Promise<Message>
  say(...messages: (Message | string)[]): Promise<void>
  close(): Promise<void>
}

function joined(): { io: Parameters<typeof connectPiRpc>[0]; far: FarEnd } {
  // No buffers: a write is done when the other end has read it.
  const toAgent = new TransformStream<string, string>({}, { highWaterMark: 0 }, { highWaterMark: 0 })
  const toClient = new TransformStream<Uint8Array, Uint8Array>()
  const writer = toAgent.writable.getWriter()
  const reader = toAgent.readable.getReader()
  const speaker = toClient.writable.getWriter()
  return {
    io: { output: toClient.readable, write: async (text) => await writer.write(text) },
    far: {
      async read() {
        return JSON.parse((await reader.read()).value ?? 'null') as Message
      },
      async say(...messages) {
        const lines = messages.map((one) => (typeof one === 'string' ? one : JSON.stringify(one)))
        await speaker.write(Buffer.from(`${lines.join('\n')}\n`))
      },
      async close() {
        await speaker.close()
      },
    },
  }
}

const TASK: LiveTask = { cwd: '/w', permissions: 'edit', model: null }
const HELLO = { protocolVersion: 1, agentCapabilities: { loadSession: true } }
const update = (what: Message): Message => ({
  jsonrpc: '2.0',
  method: 'session/update',
  params: { sessionId: 's-1', update: what },
})
const words = (text: string): Message => ({ sessionUpdate: 'agent_message_chunk', content: { type: 'text', text } })
const cost = (amount: number): Message => ({ sessionUpdate: 'usage_update', cost: { amount, currency: 'USD' } })

/** A connection that is open; what the client says while opening is answered with `answers`, by method. */
async function acp(
  answers: Record<string, Message> = {},
  options: { conversationId?: string; model?: string; late?: (far: FarEnd) => Promise<void>; clock?: Clock } = {},
) {
  const { io, far } = joined()
  const events: AgentEvent[] = []
  const connection = connectAcp(
    io,
    { onEvent: (event) => void events.push(event), onRequest: async () => undefined },
    { clock: options.clock ?? { ...systemClock, sleep } },
  )
  let looks = 0
  async function sleep(ms: number): Promise<void> {
    if (looks++ === 0) await options.late?.(far)
    await systemClock.sleep(ms)
  }
  const { model = null, conversationId = null } = options
  const opening = connection.open({ ...TASK, model }, conversationId)
  opening.catch(() => undefined)
  const heard: Message[] = []
  const start = conversationId === null ? { 'session/new': { sessionId: 's-1' } } : {}
  const all: Record<string, Message> = { initialize: HELLO, ...start, ...answers }
  const last = Object.keys(all).at(-1)
  for (let done = false; !done;) {
    const message = await Promise.race([far.read(), opening.then(() => null)])
    if (message === null) break
    heard.push(message)
    const method = String(message['method'])
    const { before, ...result } = (all[method] ?? {}) as { before?: Message[] }
    await far.say(...(before ?? []), { jsonrpc: '2.0', id: message['id'], result })
    done = method === last
  }
  return { connection, far, events, heard, opened: await opening }
}
const settled = async (promise: Promise<unknown>): Promise<boolean> => {
  let is = false
  void promise.then(() => (is = true))
  for (let n = 0; n < 20; n++) await new Promise((resolve) => setImmediate(resolve))
  return is
}
async function answer(far: FarEnd, prompt: Message, result: Message = { stopReason: 'end_turn' }): Promise<void> {
  await far.say({ jsonrpc: '2.0', id: prompt['id'], result })
}

test('a message is written when the program has taken it, and confirmed by its first sign, not by news of the session', async () => {
  const { connection, far } = await acp()
  const turn = connection.prompt('hello')
  expect(await settled(turn.written)).toBe(false)
  const prompt = await far.read()
  expect(prompt).toMatchObject({ method: 'session/prompt', params: { prompt: [{ type: 'text', text: 'hello' }] } })
  await turn.written
  await far.say(
    update({ sessionUpdate: 'available_commands_update', availableCommands: [] }),
    update({ sessionUpdate: 'current_mode_update', currentModeId: 'x' }),
    update({ sessionUpdate: 'config_option_update', configOptions: [] }),
    update({ sessionUpdate: 'session_info_update', title: 'a late title' }),
    update(cost(0.5)),
  )
  expect(await settled(turn.confirmed)).toBe(false)
  await far.say(update(words('hi')))
  await turn.confirmed
  expect(await settled(turn.ended)).toBe(false)
  await answer(far, prompt)
  expect(await turn.ended).toEqual({ status: 'completed', text: 'hi' })
})

test('a request is a sign too, and one that we do not know is refused by its code', async () => {
  const { connection, far } = await acp()
  const turn = connection.prompt('hello')
  const prompt = await far.read()
  await far.say({ jsonrpc: '2.0', id: 'r-1', method: 'fs/write_text_file', params: { path: '/x', content: '' } })
  await turn.confirmed
  expect(await far.read()).toMatchObject({ id: 'r-1', error: { code: -32601 } })
  await answer(far, prompt)
  await turn.ended
})

test('what nobody knows is reported, ignored or survived, and the turn goes on', async () => {
  const { connection, far, events } = await acp()
  const turn = connection.prompt('hello')
  const prompt = await far.read()
  await far.say(
    'npm warn something',
    '{"type":"agent.message","text":"not ours"}',
    '[1,2]',
    { jsonrpc: '2.0', id: 4711, result: {} },
    { jsonrpc: '2.0', method: '_vendor/news', params: {} },
    update({ sessionUpdate: 'hologram' }),
    update(words('still here')),
  )
  await answer(far, prompt)
  expect(await turn.ended).toEqual({ status: 'completed', text: 'still here' })
  expect(events).toEqual([
    { type: 'log', message: 'npm warn something' },
    { type: 'log', message: '{"type":"agent.message","text":"not ours"}' },
    { type: 'log', message: '[1,2]' },
    { type: 'log', message: 'an answer nobody awaits: {"jsonrpc":"2.0","id":4711,"result":{}}' },
    { type: 'log', code: 'unknown_record', message: 'an update of kind "hologram"' },
    { type: 'agent.message', text: 'still here', delta: true },
  ])
})

test('of a loaded conversation nothing is reported, also what comes after the answer, and its cost is no turn’s', async () => {
  const { connection, far, events, heard, opened } = await acp(
    { 'session/load': { before: [update(words('old words'))] } },
    { conversationId: 's-old', late: async (end) => await end.say(update(words('late words')), update(cost(2))) },
  )
  expect(heard.map(({ method }) => method)).toEqual(['initialize', 'session/load'])
  expect(opened.conversationId).toBe('s-old')
  expect(events).toEqual([])
  const turn = connection.prompt('go on')
  const prompt = await far.read()
  await far.say(update(words('new words')), update(cost(2.25)))
  await answer(far, prompt, { stopReason: 'end_turn', usage: { inputTokens: 1, outputTokens: 2, totalTokens: 3 } })
  expect(await turn.ended).toEqual({ status: 'completed', text: 'new words' })
  expect(events.at(-1)).toEqual({ type: 'usage', inputTokens: 1, outputTokens: 2, costUsd: 0.25 })
})

test('an agent that resumes is not asked to load', async () => {
  const able = { protocolVersion: 1, agentCapabilities: { loadSession: true, sessionCapabilities: { resume: {} } } }
  const { heard } = await acp({ initialize: able, 'session/resume': {} }, { conversationId: 's-old' })
  expect(heard.map(({ method }) => method)).toEqual(['initialize', 'session/resume'])
  expect(heard[0]).toMatchObject({
    params: { clientCapabilities: { fs: { readTextFile: false, writeTextFile: false }, terminal: false } },
  })
  await expect(acp({ initialize: { protocolVersion: 1 } }, { conversationId: 's-old' })).rejects.toMatchObject({
    kind: 'unknown_conversation',
  })
  const endless = acp({ initialize: { protocolVersion: 'x'.repeat(1_000_000) } })
  expect(await endless.catch((error: Error) => error.message.length)).toBe(2_000)
  await expect(acp({ initialize: { protocolVersion: 2 } }, { conversationId: 's-old' })).rejects.toThrow('version 2')
})

test('an agent that has no conversation at all does not know the one that is named', () => {
  const error = {
    code: -32603,
    message: 'Internal error',
    data: { details: 'No previous sessions found for this project.' },
  }
  expect(isUnknownConversation(error)).toBe(true)
})

test('a model is chosen among the settings of the session, where it has one', async () => {
  const settings = { configOptions: [{ id: 'the-model', category: 'model' }] }
  const { heard } = await acp(
    { 'session/new': { sessionId: 's-1', ...settings }, 'session/set_config_option': {} },
    { model: 'm-1' },
  )
  expect(heard.at(-1)).toMatchObject({ params: { sessionId: 's-1', configId: 'the-model', value: 'm-1' } })
  await expect(acp({}, { model: 'm-1' })).rejects.toThrow('cannot be told to use the model "m-1"')
})

test('a program that ends its output rejects what is open, and all that comes later', async () => {
  const { connection, far } = await acp()
  const turn = connection.prompt('hello')
  await far.read()
  await far.close()
  await expect(turn.ended).rejects.toBeInstanceOf(AgentGone)
  await expect(turn.confirmed).rejects.toBeInstanceOf(AgentGone)
  await turn.written
  await expect(connection.prompt('more').written).rejects.toBeInstanceOf(AgentGone)
  await expect(connection.open(TASK, null)).rejects.toBeInstanceOf(AgentGone)
})

const STEERABLE = { initialize: { ...HELLO, _meta: { steering: { supported: true } } } }
const THROUGH: [string, Message][] = [
  ['codex', { sessionUpdate: 'session_info_update', _meta: { codex: { threadStatus: { type: 'idle' } } } }],
  ['claude', { ...cost(1), _meta: { '_claude/origin': { kind: 'human' } } }],
].map(([agent, through]) => [agent as string, update(through as Message)])

test.each(THROUGH)(
  'a turn that begins as the message for another one ends when the agent says so, as %s does',
  async (_, through) => {
    const { connection, far } = await acp(STEERABLE)
    const first = connection.prompt('one')
    const prompt = await far.read()
    for (const isAnsweredFirst of [true, false]) {
      const turn = isAnsweredFirst ? first : connection.prompt('three')
      const asked = isAnsweredFirst ? prompt : await far.read()
      const steering = connection.steer('two')
      const steer = await far.read()
      const answers = [
        { jsonrpc: '2.0', id: asked['id'], result: { stopReason: 'end_turn' } },
        { jsonrpc: '2.0', id: steer['id'], result: { outcome: 'startedNewTurn' } },
      ]
      await far.say(...(isAnsweredFirst ? answers : answers.toReversed()), update(words('the answer')), through)
      expect(await turn.ended).toEqual({ status: 'completed', text: '' })
      expect(await (await steering)?.ended).toEqual({ status: 'completed', text: 'the answer' })
    }
  },
)

test('a turn that no prompt began is over after a long silence, but not while a tool is at work', async () => {
  const clock = createJumpingClock(Date.now())
  const { connection, far } = await acp(STEERABLE, { clock })
  const first = connection.prompt('one')
  const prompt = await far.read()
  const steering = connection.steer('two')
  const steer = await far.read()
  await answer(far, prompt)
  await first.ended
  await far.say({ jsonrpc: '2.0', id: steer['id'], result: { outcome: 'startedNewTurn' } })
  const turn = await steering
  const tool = { sessionUpdate: 'tool_call', toolCallId: 't', title: 'sleep', status: 'in_progress' }
  await far.say(update(words('on it')), update(tool))
  clock.pass(300_000)
  clock.pass(300_000)
  expect(await settled(turn?.ended ?? Promise.resolve())).toBe(false)
  expect(() => connection.prompt('too early')).toThrow('a turn is at work')
  await far.say(update({ ...tool, sessionUpdate: 'tool_call_update', status: 'completed' }), update(words('done')))
  for (let is = false; !is; is = await settled(turn?.ended ?? Promise.resolve())) clock.pass(150_000)
  expect(await turn?.ended).toEqual({ status: 'completed', text: 'done' })
})

test('one prompt at a time', async () => {
  const { connection, far } = await acp()
  const turn = connection.prompt('one')
  await far.read()
  expect(() => connection.prompt('two')).toThrow('a turn is at work')
  await far.close()
  await expect(turn.ended).rejects.toThrow('the agent has ended')
})

test('a line as long as the limit is read; a longer one, and one that nobody can deal with, is reported and skipped', async () => {
  const lines: string[] = []
  const skipped: string[] = []
  const { readable, writable } = new TransformStream<Uint8Array, Uint8Array>()
  const reading = readLines(
    readable,
    (line) => {
      if (line === 'bad') throw new Error('no luck')
      lines.push(line)
    },
    (why) => skipped.push(why),
    10,
  )
  const writer = writable.getWriter()
  for (const piece of ['12345', '67890\n1234567', '8901\n\nä', 'ö\r\nbad\nlast']) await writer.write(Buffer.from(piece))
  await writer.close()
  await reading
  expect(lines).toEqual(['1234567890', 'äö', 'last'])
  expect(skipped).toEqual([
    'a line of 11 bytes was skipped; the limit is 10',
    'a line of 3 bytes could not be dealt with: no luck',
  ])
})

test('what an extension of pi wants confirmed is asked, what it wants typed is not answered', async () => {
  const { io, far } = joined()
  const asked: string[] = []
  const connection: AgentConnection = connectPiRpc(io, {
    onEvent: () => undefined,
    async onRequest({ title, options }) {
      asked.push(title)
      return options.find(({ kind }) => kind === 'allow_once')?.id
    },
  })
  const opening = connection.open(TASK, null)
  const state = await far.read()
  await far.say({ id: state['id'], type: 'response', success: true, data: { sessionId: 'p-1' } })
  expect(await opening).toEqual({ conversationId: 'p-1', canSteer: true, heard: [] })
  const turn = connection.prompt('hello')
  const prompt = await far.read()
  await far.say({ type: 'extension_ui_request', id: 'u-1', method: 'confirm', title: 'Delete?', message: 'All of it.' })
  expect(await far.read()).toEqual({ type: 'extension_ui_response', id: 'u-1', confirmed: true })
  await far.say({ type: 'extension_ui_request', id: 'u-2', method: 'select', title: 'Which?', options: ['a'] })
  expect(await far.read()).toEqual({ type: 'extension_ui_response', id: 'u-2', cancelled: true })
  expect(asked).toEqual(['Delete?: All of it.'])
  await far.say({ id: prompt['id'], type: 'response', success: false, error: 'No API key for provider' })
  expect(await turn.ended).toMatchObject({ status: 'failed', error: { kind: 'auth' } })
})

test('a command of an extension of pi ends without a turn', async () => {
  const { io, far } = joined()
  const connection = connectPiRpc(io, { onEvent: () => undefined, onRequest: async () => undefined })
  const turn = connection.prompt('/stats')
  const prompt = await far.read()
  await far.say({ id: prompt['id'], type: 'response', success: true })
  const state = await far.read()
  await far.say({ id: state['id'], type: 'response', success: true, data: { isStreaming: false } })
  expect(await turn.ended).toEqual({ status: 'completed', text: '' })
})
