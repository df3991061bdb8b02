// An agent in one file: sessions over the Agent Client Protocol (ACP), and headless runs. No dependencies, no build.
// Put your model and your tools into `work`; the rest is what Postern, or any other client of the protocol, talks to.
import { randomUUID } from 'node:crypto'
import { readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { createInterface } from 'node:readline'

/** The agent. `say` streams its words; `tool` does one thing if it may, and tells of it; `signal` aborts when it is canceled. */
async function work({ prompt, cwd, say, tool, signal }) {
  const names = await tool('list_files', 'read', {}, async () => (await readdir(cwd)).filter((n) => n.endsWith('.md')))
  signal.throwIfAborted()
  say(`There are ${names.length} Markdown files. `)
  if (!/index/i.test(prompt)) return say('Ask me for an index to have one.')
  const index = names.map((name) => `- [${name}](${name})\n`).join('')
  const written = await tool('write_file', 'edit', { path: 'INDEX.md' }, async () => {
    await writeFile(join(cwd, 'INDEX.md'), index)
    return 'wrote INDEX.md'
  })
  say(written === undefined ? 'I was not allowed to write INDEX.md.' : 'I wrote INDEX.md.')
}

const LEVELS = ['ask', 'edit', 'full']
const needsAsking = (level, kind) => kind !== 'read' && level === 'ask'
const print = (record) => void process.stdout.write(`${JSON.stringify(record)}\n`)

/** One prompt, events as lines: `"output": "jsonl"`, `"end": "record"`. Nobody can be asked, so what needs it is denied. */
async function runOnce(prompt) {
  const level = process.argv[process.argv.indexOf('--permissions') + 1]
  const tool = async (name, kind, input, act) => {
    const toolCallId = randomUUID()
    print({ type: 'tool.started', toolCallId, name, input })
    const denied = needsAsking(level, kind)
    if (denied) print({ type: 'permission.denied', name })
    const output = denied ? undefined : await act()
    print({ type: 'tool.ended', toolCallId, isError: denied, output: denied ? 'denied' : String(output) })
    return output
  }
  const say = (text) => print({ type: 'agent.message', text, delta: true })
  try {
    await work({ prompt, cwd: process.cwd(), say, tool, signal: new AbortController().signal })
    print({ type: 'agent.end', ok: true })
  } catch (error) {
    print({ type: 'agent.end', ok: false, error: { kind: 'agent', message: error.message } })
  }
}

/** Messages of a client, a JSON object a line, until stdin ends: `"acp": true`. */
const sessions = new Map()
const answers = new Map()
const send = (message) => print({ jsonrpc: '2.0', ...message })

function onTurn(sessionId, session, prompt) {
  const update = (what) => send({ method: 'session/update', params: { sessionId, update: what } })
  const tool = async (title, kind, rawInput, act) => {
    const toolCall = { toolCallId: randomUUID(), title, kind, status: 'pending', rawInput }
    const told = (status, text) => {
      const content = [{ type: 'content', content: { type: 'text', text } }]
      update({ sessionUpdate: 'tool_call_update', toolCallId: toolCall.toolCallId, status, content })
    }
    update({ sessionUpdate: 'tool_call', ...toolCall })
    const denied = needsAsking(session.level, kind) && !(await mayI(sessionId, toolCall))
    const output = denied ? undefined : await act()
    told(denied ? 'failed' : 'completed', denied ? 'denied' : String(output))
    return output
  }
  const say = (text) => update({ sessionUpdate: 'agent_message_chunk', content: { type: 'text', text } })
  return work({ prompt, cwd: session.cwd, say, tool, signal: session.turn.signal })
}

function mayI(sessionId, toolCall) {
  const options = [
    { optionId: 'yes', name: 'Allow', kind: 'allow_once' },
    { optionId: 'no', name: 'Reject', kind: 'reject_once' },
  ]
  const id = randomUUID()
  send({ id, method: 'session/request_permission', params: { sessionId, toolCall, options } })
  return new Promise((resolve) => answers.set(id, (result) => resolve(result?.outcome?.optionId === 'yes')))
}

const METHODS = {
  initialize: () => ({ protocolVersion: 1, agentCapabilities: {}, authMethods: [] }),
  'session/new'({ cwd }) {
    const sessionId = randomUUID()
    sessions.set(sessionId, { cwd, level: 'ask' })
    return { sessionId, modes: { currentModeId: 'ask', availableModes: LEVELS.map((id) => ({ id, name: id })) } }
  },
  'session/set_mode'({ sessionId, modeId }) {
    sessions.get(sessionId).level = modeId
    return {}
  },
  'session/cancel': ({ sessionId }) => sessions.get(sessionId)?.turn?.abort(),
  async 'session/prompt'({ sessionId, prompt }) {
    const session = sessions.get(sessionId)
    session.turn = new AbortController()
    try {
      await onTurn(sessionId, session, prompt.map(({ text = '' }) => text).join('\n'))
      return { stopReason: session.turn.signal.aborted ? 'cancelled' : 'end_turn' }
    } catch (error) {
      if (session.turn.signal.aborted) return { stopReason: 'cancelled' }
      throw error
    }
  },
}

async function take({ id, method, params, result }) {
  if (method === undefined) return answers.get(id)?.(result)
  try {
    if (!(method in METHODS)) throw Object.assign(new Error(`no method ${method}`), { code: -32601 })
    const answer = await METHODS[method](params)
    if (id !== undefined) send({ id, result: answer ?? {} })
  } catch (error) {
    if (id !== undefined) send({ id, error: { code: error.code ?? -32603, message: error.message } })
  }
}

// A client speaks JSON-RPC from its first line on; anything else is a prompt.
const said = []
let isClient
for await (const line of createInterface({ input: process.stdin })) {
  isClient ??= line.startsWith('{"jsonrpc"') || line.includes('"method":"initialize"')
  if (!isClient) said.push(line)
  else if (line.trim() !== '') void take(JSON.parse(line))
}
if (!isClient) await runOnce(said.join('\n'))
