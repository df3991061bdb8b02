// An agent over ACP whose conversation is a file beside it, and that works on without a word when it hears `work` for the
// first time; a message with `unheard` it does not note down. For tests of what becomes of a message in a crash.
import { appendFileSync, existsSync, readFileSync } from 'node:fs'
import { createInterface } from 'node:readline'

const send = (message) => process.stdout.write(`${JSON.stringify({ jsonrpc: '2.0', ...message })}\n`)
const say = (sessionId, kind, text) =>
  send({
    method: 'session/update',
    params: { sessionId, update: { sessionUpdate: kind, content: { type: 'text', text } } },
  })
const CONVERSATION = 'conversation.ndjson'
/** Those of gemini, whose place it can take. */
const MODES = { availableModes: [{ id: 'default' }, { id: 'autoEdit' }, { id: 'yolo' }] }
const said = () =>
  existsSync(CONVERSATION)
    ? readFileSync(CONVERSATION, 'utf8')
        .trimEnd()
        .split('\n')
        .map((line) => JSON.parse(line))
    : []

async function prompt({ sessionId, prompt: [{ text }] }) {
  if (!text.includes('unheard')) appendFileSync(CONVERSATION, `${JSON.stringify(text)}\n`)
  if (text.includes('work') && !text.includes('possible-duplicate')) await new Promise(() => undefined)
  say(sessionId, 'agent_message_chunk', `heard ${text}`)
  return { stopReason: 'end_turn' }
}

const answers = {
  initialize: () => ({
    protocolVersion: 1,
    agentCapabilities: { loadSession: true, sessionCapabilities: { resume: {} } },
    authMethods: [],
  }),
  'session/new': () => ({ sessionId: 'one', modes: MODES }),
  'session/resume': () => ({ modes: MODES }),
  'session/set_mode': () => ({}),
  // In pieces, as some do it.
  'session/load': ({ sessionId }) => {
    for (const text of said()) for (const piece of text.match(/.{1,7}/gs)) say(sessionId, 'user_message_chunk', piece)
    return { modes: MODES }
  },
  'session/prompt': prompt,
}
for await (const line of createInterface({ input: process.stdin })) {
  const { id, method, params } = JSON.parse(line)
  if (id === undefined) continue
  const answer = answers[method]
  if (answer) void Promise.resolve(answer(params)).then((result) => send({ id, result }))
  else send({ id, error: { code: -32601, message: method } })
}
