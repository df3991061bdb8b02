// An agent over ACP that starts a run for `run <prompt>`, also waits for it for `wait <prompt>`, or a second of it for
// `brief <prompt>`, and repeats everything else; for tests of who hears of what.
import { createInterface } from 'node:readline'

const send = (message) => process.stdout.write(`${JSON.stringify({ jsonrpc: '2.0', ...message })}\n`)
const { POSTERN_URL, POSTERN_TOKEN, POSTERN_WORKSPACE_ID } = process.env

async function prompt({ sessionId, prompt: [{ text }] }) {
  let said = `heard ${text}`
  const [, how, order] = /^(run|wait|brief) (.*)$/s.exec(text) ?? []
  if (how) {
    const authorization = `Bearer ${POSTERN_TOKEN}`
    const answer = await fetch(`${POSTERN_URL}/api/workspaces/${POSTERN_WORKSPACE_ID}/headless`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', authorization, ...(how === 'brief' && { prefer: 'wait=1' }) },
      body: JSON.stringify({ agent: process.argv[2] ?? 'demo', prompt: order }),
    })
    let { taskId, status } = await answer.json()
    if (how === 'wait') {
      const headers = { authorization, prefer: 'wait=30' }
      status = (await (await fetch(`${POSTERN_URL}/api/headless/${taskId}`, { headers })).json()).status
    }
    said = `${answer.status} ${taskId} ${status}`
  }
  const content = { type: 'text', text: said }
  send({ method: 'session/update', params: { sessionId, update: { sessionUpdate: 'agent_message_chunk', content } } })
  return { stopReason: 'end_turn' }
}

const answers = {
  initialize: () => ({
    protocolVersion: 1,
    agentCapabilities: { sessionCapabilities: { resume: {} } },
    authMethods: [],
  }),
  'session/new': () => ({ sessionId: 'one' }),
  'session/resume': () => ({}),
  'session/prompt': prompt,
}
for await (const line of createInterface({ input: process.stdin })) {
  const { id, method, params } = JSON.parse(line)
  if (id === undefined) continue
  const answer = answers[method]
  if (answer) send({ id, result: await answer(params) })
  else send({ id, error: { code: -32601, message: method } })
}
