// Plays the agent's side of a recorded connection: node trace-player.ts <trace.jsonl> <life>
// Says what the agent said, as far as it had said it before the client spoke, and goes on when the client says what was
// recorded. When it waits for anything but an answer it writes `wants <method> <text>` to stderr. `life` counts the processes in
// a trace, from 0. What a client of ours never sends (a prompt while one is at work) counts as sent. A trace with
// session/load is played as an agent that cannot resume.
import { readFileSync } from 'node:fs'

interface Message {
  id?: number | string
  method?: string
  type?: string
  message?: string
  params?: { sessionId?: string; prompt?: { text?: string }[] }
  result?: Record<string, unknown>
  error?: unknown
}
interface Entry {
  from: 'client' | 'agent'
  message: Message
}

const [file = '', life = '0'] = process.argv.slice(2)
const all = readFileSync(file, 'utf8')
  .trim()
  .split('\n')
  .map((line) => JSON.parse(line) as Entry)
const starts = all.flatMap(({ message }, index) => (message.method === 'initialize' ? [index] : []))
const trace = starts.length === 0 ? all : all.slice(starts[Number(life)], starts[Number(life) + 1])
const loads = trace.some(({ message }) => message.method === 'session/load')

const isPi = starts.length === 0
const nameOf = (message: Message): string | undefined => (isPi ? message.type : message.method)
const isCall = (message: Message): boolean => nameOf(message) !== undefined
const textOf = (message: Message): string =>
  isPi ? (message.message ?? '') : (message.params?.prompt ?? []).map(({ text }) => text ?? '').join('')
const promptName = isPi ? 'prompt' : 'session/prompt'
const known = new Set(isPi ? ['get_state', 'prompt', 'steer', 'abort'] : [])

/** Recorded ids of calls, and the ids they really have; undefined: nobody awaits the answer. */
const ids = new Map<unknown, number | string | undefined>()
/** Ids of the agent's requests that were answered, and names of the notifications that came. */
const answered = new Set<unknown>()
const told: string[] = []
let at = 0
/** Recorded id of the prompt at work. */
let open: unknown

function send(message: Message): void {
  process.stdout.write(`${JSON.stringify(message)}\n`)
}

function say(message: Message): void {
  const isAnswer = isPi ? message.type === 'response' : message.method === undefined
  if (!isPi && isAnswer && message.id === open) open = undefined
  if (isPi && message.type === 'agent_settled') open = undefined
  if (!isAnswer) return send(message)
  const id = ids.get(message.id)
  if (id === undefined) return
  const capabilities = message.result?.['agentCapabilities'] as
    | { sessionCapabilities?: { resume?: unknown } }
    | undefined
  if (loads) delete capabilities?.sessionCapabilities?.resume
  send({ ...message, id })
}

/** Says all there is to say before the client must speak. */
function goOn(): void {
  for (let entry = trace[at]; entry; entry = trace[at]) {
    const { from, message } = entry
    if (from === 'agent') say(message)
    else if (isCall(message) && message.id !== undefined) {
      const name = nameOf(message) ?? ''
      const isPretended = (name === promptName && open !== undefined) || (isPi && !known.has(name))
      if (!isPretended) return void process.stderr.write(`wants ${name} ${textOf(message)}\n`)
    } else if (isCall(message)) {
      const index = told.indexOf(nameOf(message) ?? '')
      if (index === -1) return void process.stderr.write(`wants ${nameOf(message)} \n`)
      told.splice(index, 1)
    } else if (!answered.has(message.id)) return
    at++
  }
}

function hear(message: Message): void {
  if (!isCall(message)) {
    const expected = trace.find(({ from, message: one }) => from === 'client' && !isCall(one) && one.id === message.id)
    if (JSON.stringify(expected?.message.result) !== JSON.stringify(message.result)) {
      process.stderr.write(`unlike the record: ${JSON.stringify(message)}\n`)
      process.exit(3)
    }
    answered.add(message.id)
    return goOn()
  }
  const name = nameOf(message) ?? ''
  if (message.id === undefined) {
    told.push(name)
    return goOn()
  }
  const index = trace.findIndex(
    ({ from, message: one }, place) =>
      place >= at &&
      from === 'client' &&
      nameOf(one) === name &&
      textOf(one) === textOf(message) &&
      (!/load|resume/.test(name) || one.params?.sessionId === message.params?.sessionId),
  )
  const found = trace[index]
  if (found) {
    at = index + 1
    ids.set(found.message.id, message.id)
    if (name === promptName) open = found.message.id
    return goOn()
  }
  if (name === 'session/set_mode') return send({ jsonrpc: '2.0', id: message.id, result: {} } as Message)
  if (name === 'get_state') {
    const answer = { id: message.id, type: 'response', success: true, data: { sessionId: 'unrecorded' } }
    return send(answer)
  }
  process.stderr.write(`not in the record: ${JSON.stringify(message)}\n`)
  process.exit(3)
}

let rest = ''
for await (const chunk of process.stdin) {
  const lines = (rest + String(chunk)).split('\n')
  rest = lines.pop() ?? ''
  for (const line of lines) if (line !== '') hear(JSON.parse(line) as Message)
}
