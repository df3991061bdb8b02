// An agent over ACP that answers one message and exits at once.
import { createInterface } from 'node:readline'

const send = (message) => process.stdout.write(`${JSON.stringify({ jsonrpc: '2.0', ...message })}\n`)
const answers = {
  initialize: { protocolVersion: 1, agentCapabilities: { sessionCapabilities: { resume: {} } } },
  'session/new': { sessionId: 'one' },
  'session/resume': {},
  'session/prompt': { stopReason: 'end_turn' },
}
for await (const line of createInterface({ input: process.stdin })) {
  const { id, method } = JSON.parse(line)
  if (id === undefined) continue
  const update = { sessionUpdate: 'agent_message_chunk', content: { type: 'text', text: 'the answer' } }
  if (method === 'session/prompt') send({ method: 'session/update', params: { sessionId: 'one', update } })
  send({ id, result: answers[method] })
  if (method === 'session/prompt') process.exit()
}
