import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import type { AgentEvent } from '../src/agents/agent.ts'
import type { AgentConnection, LiveHandlers, LiveIo, LiveTask, PermissionAsk, TurnEnd } from '../src/agents/live.ts'
import { endsOf } from './live-program.ts'

const PLAYER = join(import.meta.dirname, 'trace-player.ts')
const SAMPLES = join(import.meta.dirname, 'samples')

interface Entry {
  from: 'client' | 'agent'
  message: {
    id?: unknown
    method?: string
    type?: string
    message?: string
    params?: { sessionId?: string; prompt?: { text: string }[] }
    result?: { outcome?: { optionId?: string } }
  }
}

/** What the real connection made of a recorded one. */
export interface Played {
  conversationId: string
  canSteer: boolean
  ends: TurnEnd[]
  /** Events of each turn. */
  events: AgentEvent[][]
  asks: PermissionAsk[]
}

/**
 * Drives a connection through a recorded trace, played by a process: sends the recorded prompts, one after another, answers
 * what is asked as it was answered, cancels and steers where that was done.
 *
 * @param life which of the processes in the trace, from 0
 * @param conversationId to open another one than the recorded one
 */
export async function play(
  name: string,
  connect: (io: LiveIo, handlers: LiveHandlers) => AgentConnection,
  options: { life?: number; task?: Partial<LiveTask>; conversationId?: string } = {},
): Promise<Played> {
  const { life = 0 } = options
  const file = join(SAMPLES, `${name}.jsonl`)
  const trace = livesOf(readFileSync(file, 'utf8'))[life] ?? []
  const child = spawn(process.execPath, [PLAYER, file, String(life)], { stdio: 'pipe' })
  const exited = once(child, 'exit')
  const complaints: string[] = []
  let events: AgentEvent[] = []
  const asks: PermissionAsk[] = []
  const answers = trace.flatMap(({ from, message }) =>
    from === 'client' && message.result?.outcome ? [message.result.outcome.optionId] : [],
  )
  const connection = connect(endsOf(child), {
    onEvent: (event) => void events.push(event),
    async onRequest(ask, signal) {
      const optionId = answers[asks.length]
      asks.push(ask)
      if (optionId === undefined) await once(signal, 'abort')
      return optionId
    },
  })
  let isOpen = false
  createInterface(child.stderr).on('line', (line) => {
    const [, what, text = ''] = /^wants (\S+) (.*)$/.exec(line) ?? []
    if (what === undefined) complaints.push(line)
    else if (!isOpen) return
    else if (what === 'session/cancel' || what === 'abort') void connection.cancel()
    else if (what === '_session/steering' || what === 'steer') connection.steer(text).catch(() => complaints.push(line))
  })
  try {
    const opening = trace.find(({ message }) => /^session\/(new|load|resume)$/.test(message.method ?? ''))?.message
    const conversationId = options.conversationId ?? opening?.params?.sessionId ?? null
    const task: LiveTask = { cwd: '/home/user/project', permissions: 'ask', model: null, ...options.task }
    const opened = await connection.open(task, conversationId)
    const ends: TurnEnd[] = []
    const heard: AgentEvent[][] = []
    for (const text of promptsOf(trace)) {
      events = []
      heard.push(events)
      const turn = connection.prompt(text)
      isOpen = true
      await turn.written
      await turn.confirmed
      ends.push(await turn.ended)
      isOpen = false
    }
    if (complaints.length > 0) throw new Error(complaints.join('\n'))
    return { ...opened, ends, events: heard, asks }
  } finally {
    child.stdin.end()
    child.kill()
    await exited
  }
}

function livesOf(text: string): Entry[][] {
  const lives: Entry[][] = []
  for (const line of text.trim().split('\n')) {
    const entry = JSON.parse(line) as Entry
    if (entry.message.method === 'initialize' || lives.length === 0) lives.push([])
    lives.at(-1)?.push(entry)
  }
  return lives
}

/** The prompts that were sent while none was at work. */
function promptsOf(trace: Entry[]): string[] {
  const prompts: string[] = []
  let open: unknown
  for (const { from, message } of trace) {
    const text = message.type === 'prompt' ? message.message : message.params?.prompt?.map((part) => part.text).join('')
    const isPrompt = message.type === 'prompt' || message.method === 'session/prompt'
    if (from === 'client' && isPrompt && open === undefined) {
      open = message.id
      prompts.push(text ?? '')
    } else if (message.type === 'agent_settled') open = undefined
    else if (from === 'agent' && message.method === undefined && message.type === undefined && message.id === open)
      open = undefined
  }
  return prompts
}
