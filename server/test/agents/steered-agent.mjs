// An agent over ACP that works at a prompt until it is steered or canceled. Steered with `late`, it ends its turn first and
// then begins one with the message, as agents do when the two meet; with `mute`, it never answers.
import { createInterface } from 'node:readline'
import { setTimeout as delay } from 'node:timers/promises'

const send = (message) => process.stdout.write(`${JSON.stringify({ jsonrpc: '2.0', ...message })}\n`)
const update = (what) => send({ method: 'session/update', params: { sessionId: 'one', update: what } })
const say = (text) => update({ sessionUpdate: 'agent_message_chunk', content: { type: 'text', text } })
const status = (type) => update({ sessionUpdate: 'session_info_update', _meta: { codex: { threadStatus: { type } } } })

let working
let isBusy = false
async function prompt(text) {
  if (isBusy) say('two prompts at once! ')
  say(`heard ${text}`)
  if (!text.includes('work')) return { stopReason: 'end_turn' }
  working = Promise.withResolvers()
  return { stopReason: await working.promise }
}
async function steer(id, text) {
  if (text === 'mute') return
  if (text !== 'late') {
    say(`, then ${text}`)
    working.resolve('end_turn')
    return send({ id, result: { outcome: 'injected' } })
  }
  isBusy = true
  working.resolve('end_turn')
  await delay(100)
  send({ id, result: { outcome: 'startedNewTurn' } })
  status('active')
  await delay(200)
  say(`heard ${text}`)
  isBusy = false
  status('idle')
}

const answers = {
  initialize: () => ({
    protocolVersion: 1,
    agentCapabilities: { sessionCapabilities: { resume: {} } },
    _meta: { steering: { supported: true } },
  }),
  'session/new': () => ({ sessionId: 'one' }),
  'session/resume': () => ({}),
  'session/prompt': (params) => prompt(params.prompt[0].text),
}
for await (const line of createInterface({ input: process.stdin })) {
  const { id, method, params } = JSON.parse(line)
  if (method === '_session/steering') void steer(id, params.prompt[0].text)
  else if (method === 'session/cancel') working?.resolve('cancelled')
  else if (id !== undefined) void Promise.resolve(answers[method](params)).then((result) => send({ id, result }))
}
