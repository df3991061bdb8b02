import { randomUUID } from 'node:crypto'
import { realpathSync } from 'node:fs'
import type { Conversations } from './conversations.ts'
import type { Door } from './door.ts'
import { covers, isLevel, LEVELS, type Level, type Stage, type ToolCall } from './stage.ts'
import { runTurn } from './turn.ts'

/** Codes of JSON-RPC 2.0, and of the Agent Client Protocol for a session nobody knows. */
const CODES = {
  parse: -32700,
  invalidRequest: -32600,
  unknownMethod: -32601,
  invalidParams: -32602,
  internal: -32603,
  notFound: -32002,
}
const PROTOCOL_VERSION = 1

interface Session {
  id: string
  root: string
  level: Level
  /** Present while a prompt is at work. */
  turn: AbortController | undefined
}
interface Message {
  id?: unknown
  method?: string
  params?: Record<string, unknown>
  result?: unknown
  error?: unknown
}
class RpcError extends Error {
  readonly code: number
  constructor(code: number, message: string) {
    super(message)
    this.code = code
  }
}

/**
 * Serves the Agent Client Protocol, version 1, over stdio until stdin ends: sessions with modes, permission requests,
 * cancel, load (with replay) and resume. Source: agentclientprotocol.com.
 *
 * @param begun what was read of stdin already
 */
export async function serveAcp(options: {
  begun: Buffer
  input: AsyncIterator<Buffer>
  faults: boolean
  conversations: Conversations
  door: Door | undefined
}): Promise<number> {
  const { begun, input, faults, conversations, door } = options
  const sessions = new Map<string, Session>()
  const asked = new Map<string, (answer: Message) => void>()
  const send = (message: Record<string, unknown>): void => {
    process.stdout.write(`${JSON.stringify({ jsonrpc: '2.0', ...message })}\n`)
  }
  const update = (sessionId: string, what: Record<string, unknown>): void =>
    send({ method: 'session/update', params: { sessionId, update: what } })
  const speak = (role: 'user' | 'agent', text: string): Record<string, unknown> => ({
    sessionUpdate: `${role}_message_chunk`,
    content: { type: 'text', text },
  })

  function ask(sessionId: string, toolCall: Record<string, unknown>, signal: AbortSignal): Promise<boolean> {
    const id = `ask_${randomUUID()}`
    return new Promise((resolve, reject) => {
      const cancel = (): void => reject(signal.reason as Error)
      signal.addEventListener('abort', cancel, { once: true })
      asked.set(id, ({ result }) => {
        signal.removeEventListener('abort', cancel)
        const { outcome } = (result ?? {}) as { outcome?: { optionId?: string } }
        resolve(outcome?.optionId === 'allow')
      })
      const choices = [
        { optionId: 'allow', name: 'Allow', kind: 'allow_once' },
        { optionId: 'reject', name: 'Reject', kind: 'reject_once' },
      ]
      send({ id, method: 'session/request_permission', params: { sessionId, toolCall, options: choices } })
    })
  }

  function stageOf(session: Session, turn: AbortController, heard: (text: string) => void): Stage {
    const { id, root } = session
    const { signal } = turn
    async function tool({ name, input: rawInput, needs, work }: ToolCall): Promise<{ ok: boolean; output: string }> {
      const toolCallId = `call_${randomUUID()}`
      const kind = { ask: 'read', edit: 'edit', full: 'execute' }[needs]
      const call = { toolCallId, title: name, kind, status: 'pending', rawInput }
      const end = (ok: boolean, output: string): { ok: boolean; output: string } => {
        const content = [{ type: 'content', content: { type: 'text', text: output } }]
        update(id, { sessionUpdate: 'tool_call_update', toolCallId, status: ok ? 'completed' : 'failed', content })
        return { ok, output }
      }
      update(id, { sessionUpdate: 'tool_call', ...call })
      if (!covers(session.level, needs) && !(await ask(id, call, signal))) return end(false, 'denied')
      update(id, { sessionUpdate: 'tool_call_update', toolCallId, status: 'in_progress' })
      try {
        return end(true, await work())
      } catch (error) {
        signal.throwIfAborted()
        return end(false, (error as Error).message)
      }
    }
    return {
      kind: 'session',
      root,
      home: conversations.home,
      faults,
      door,
      signal,
      earlier: conversations.read(id) ?? [],
      say(text) {
        heard(text)
        update(id, speak('agent', text))
      },
      tool,
      ask: (question) =>
        ask(id, { toolCallId: `call_${randomUUID()}`, title: question, kind: 'other', status: 'pending' }, signal),
      retrying: ({ message }) => update(id, speak('agent', `${message}\n`)),
      raw: (bytes) => void process.stdout.write(bytes),
    }
  }

  const modes = (level: Level): Record<string, unknown> => ({
    currentModeId: level,
    availableModes: LEVELS.map((each) => ({ id: each, name: each })),
  })
  function open(id: string, cwd: unknown): { modes: Record<string, unknown> } {
    if (typeof cwd !== 'string') throw new RpcError(CODES.invalidParams, 'cwd must be a path')
    sessions.set(id, { id, root: realpathSync(cwd), level: 'ask', turn: undefined })
    return { modes: modes('ask') }
  }
  function known(sessionId: unknown): Session {
    const session = sessions.get(String(sessionId))
    if (!session) throw new RpcError(CODES.notFound, `there is no session ${String(sessionId)}`)
    return session
  }
  function saidIn(sessionId: unknown) {
    const said = conversations.read(String(sessionId))
    if (!said) throw new RpcError(CODES.notFound, `there is no session ${String(sessionId)}`)
    return said
  }

  async function prompt({ sessionId, prompt: blocks }: Record<string, unknown>): Promise<unknown> {
    const session = known(sessionId)
    if (session.turn) throw new RpcError(CODES.invalidRequest, 'a prompt is at work in this session already')
    if (!Array.isArray(blocks)) throw new RpcError(CODES.invalidParams, 'prompt must be a list of content blocks')
    const text = (blocks as { text?: string }[]).map((block) => block.text ?? '').join('\n')
    const turn = (session.turn = new AbortController())
    let said = ''
    try {
      const stage = stageOf(session, turn, (more) => (said += more))
      conversations.add(session.id, { role: 'user', text })
      const ending = await runTurn(text, stage)
      if (ending.error) throw new RpcError(CODES.internal, ending.error.message)
      return {
        stopReason: 'end_turn',
        usage: { ...ending.usage, totalTokens: ending.usage.inputTokens + ending.usage.outputTokens },
      }
    } catch (error) {
      if (turn.signal.aborted) return { stopReason: 'cancelled' }
      throw error
    } finally {
      if (said !== '') conversations.add(session.id, { role: 'agent', text: said })
      session.turn = undefined
    }
  }

  const methods: Record<string, (params: Record<string, unknown>) => unknown> = {
    initialize: () => ({
      protocolVersion: PROTOCOL_VERSION,
      agentInfo: { name: 'postern-demo', title: 'Demo agent (no model)', version: '1' },
      agentCapabilities: {
        loadSession: true,
        promptCapabilities: { image: false, audio: false, embeddedContext: false },
        sessionCapabilities: { resume: {}, close: {} },
      },
      authMethods: [],
    }),
    'session/new'({ cwd }) {
      const sessionId = conversations.start()
      return { sessionId, ...open(sessionId, cwd) }
    },
    'session/load'({ sessionId, cwd }) {
      const said = saidIn(sessionId)
      const opened = open(String(sessionId), cwd)
      for (const { role, text } of said) update(String(sessionId), speak(role, text))
      return opened
    },
    'session/resume'({ sessionId, cwd }) {
      saidIn(sessionId)
      return open(String(sessionId), cwd)
    },
    'session/set_mode'({ sessionId, modeId }) {
      if (!isLevel(String(modeId))) throw new RpcError(CODES.invalidParams, `there is no mode ${String(modeId)}`)
      known(sessionId).level = modeId as Level
      return {}
    },
    'session/cancel': ({ sessionId }) => sessions.get(String(sessionId))?.turn?.abort(),
    'session/close'({ sessionId }) {
      known(sessionId).turn?.abort()
      sessions.delete(String(sessionId))
      return {}
    },
    'session/prompt': prompt,
  }

  async function take(line: string): Promise<void> {
    let message: Message
    try {
      message = JSON.parse(line) as Message
    } catch {
      return send({ id: null, error: { code: CODES.parse, message: 'this line is not JSON' } })
    }
    if (message === null || typeof message !== 'object') return
    const { id, method, params = {} } = message
    if (method === undefined) {
      asked.get(String(id))?.(message)
      asked.delete(String(id))
      return
    }
    try {
      const call = Object.hasOwn(methods, method) ? methods[method] : undefined
      if (!call) throw new RpcError(CODES.unknownMethod, `there is no method ${method}`)
      const result = await call(params)
      if (id !== undefined) send({ id, result: result ?? {} })
    } catch (error) {
      const code = error instanceof RpcError ? error.code : CODES.internal
      if (id !== undefined) send({ id, error: { code, message: (error as Error).message } })
    }
  }

  const stopAll = (): void => {
    for (const { turn } of sessions.values()) turn?.abort()
  }
  process.on('SIGTERM', () => {
    stopAll()
    process.exit(143)
  })
  let rest = begun
  for (;;) {
    for (let end = rest.indexOf(10); end !== -1; end = rest.indexOf(10)) {
      const line = rest.subarray(0, end).toString('utf8')
      rest = rest.subarray(end + 1)
      if (line.trim() !== '') void take(line)
    }
    const { done, value } = await input.next()
    if (done) break
    rest = Buffer.concat([rest, value])
  }
  stopAll()
  return 0
}
