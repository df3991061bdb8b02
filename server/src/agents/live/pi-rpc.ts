import type { AgentEvent } from '../event.ts'
import { fields, items, text, usage, type Fields } from '../decoders/record.ts'
import { decodePi, PI_STANDING } from '../decoders/pi.ts'
import { isConversationId } from '../events-format.ts'
import { failureKind } from '../failures.ts'
import { createReply } from '../fold.ts'
import { parseJson } from '../json.ts'
import { AgentGone, AgentRefused, type AgentConnection, type LiveHandlers, type LiveIo, type TurnEnd } from '../live.ts'
import { readLines } from './lines.ts'
import { searchFor } from './search.ts'
import { openTurn, type OpenTurn } from './turn.ts'

/** Characters of a line that is no record, kept in its `log` event. */
const LOG_CHARACTERS = 500
/** Dialogs of extensions that wait for an answer nobody here can give. */
const DIALOGS = new Set(['select', 'input', 'editor'])

/**
 * One conversation with pi in its rpc mode: commands and records as JSON Lines. The conversation to continue and what pi may do
 * are in its arguments; a confirmation that one of its extensions wants is asked like a permission. Source: pi's docs/rpc.md,
 * as of 0.87, whose turns end with `agent_settled`.
 */
export function connectPiRpc(io: LiveIo, handlers: LiveHandlers): AgentConnection {
  const waiting = new Map<string, { resolve(answer: Fields): void; reject(error: Error): void }>()
  const asked = new Set<AbortController>()
  /** What the conversation remembers is being asked for; its answer may be too long to be read. */
  let recalling: PromiseWithResolvers<string[]> | undefined
  let lastId = 0
  let turn: OpenTurn | undefined
  let gone: AgentGone | undefined
  let canceled = false
  let began = false
  let speaking = false
  let reply = createReply()
  let end: Extract<AgentEvent, { type: 'agent.end' }> | undefined
  let used = { inputTokens: 0, outputTokens: 0, costUsd: 0, counted: false }

  readLines(io.output, take, skipped).then(
    () => leave(new AgentGone('the agent has ended')),
    (error: unknown) => leave(new AgentGone('the output of the agent broke', { cause: error })),
  )

  function skipped(why: string): void {
    recalling?.resolve([])
    handlers.onEvent({ type: 'log', message: why })
  }

  function leave(error: AgentGone): void {
    if (gone) return
    gone = error
    for (const each of asked) each.abort()
    for (const { reject } of waiting.values()) reject(error)
    waiting.clear()
    turn?.fail(error)
  }

  async function send(command: Fields): Promise<void> {
    if (gone) throw gone
    try {
      await io.write(`${JSON.stringify(command)}\n`)
    } catch (error) {
      leave(new AgentGone('the agent takes no more input', { cause: error }))
      throw gone ?? error
    }
  }

  /** Sends a command and resolves with its answer, also one that says that it failed. */
  async function call(command: Fields, written?: () => void): Promise<Fields> {
    const id = `c${++lastId}`
    const answer = Promise.withResolvers<Fields>()
    answer.promise.catch(() => undefined)
    waiting.set(id, answer)
    await send({ id, ...command })
    written?.()
    return await answer.promise
  }

  function take(line: string): void {
    let record: Fields
    try {
      record = fields(parseJson(line))
    } catch {
      return handlers.onEvent({ type: 'log', message: line.slice(0, LOG_CHARACTERS) })
    }
    const type = text(record['type'])
    if (type === 'response') {
      const id = text(record['id']) ?? ''
      waiting.get(id)?.resolve(record)
      waiting.delete(id)
    } else if (type === 'extension_ui_request') {
      void dialog(record)
    } else if (PI_STANDING.has(type)) {
      for (const decoded of decodePi(line)) handlers.onEvent(decoded)
    } else if (type === 'extension_error') {
      const error = text(record['error']) ?? ''
      handlers.onEvent({ type: 'log', message: `an extension failed: ${error}`.slice(0, LOG_CHARACTERS) })
    } else event(record, line)
  }

  function event(record: Fields, line: string): void {
    if (turn?.isOpen) turn.sign()
    if (record['type'] === 'agent_start') began = true
    if (record['type'] === 'message_update') return piece(fields(record['assistantMessageEvent']))
    for (const decoded of decodePi(line)) note(decoded)
    if (record['type'] === 'agent_settled') settle()
  }

  /** A message comes in pieces first, which are reported; the whole one at its end would only repeat them. */
  function piece({ type, delta }: Fields): void {
    if (type === 'text_start' && speaking) say('\n\n')
    else if (type === 'text_delta') say(text(delta) ?? '')
    else if (type === 'thinking_delta') {
      handlers.onEvent({ type: 'agent.thought', text: text(delta) ?? '', delta: true })
    }
  }

  function say(words: string): void {
    if (words === '') return
    speaking = true
    reply.append(words)
    handlers.onEvent({ type: 'agent.message', text: words, delta: true })
  }

  function note(decoded: AgentEvent): void {
    switch (decoded.type) {
      case 'agent.message':
      case 'agent.thought':
      case 'agent.session':
        return
      case 'agent.end':
        end = decoded
        return
      case 'usage':
        used = {
          inputTokens: used.inputTokens + decoded.inputTokens,
          outputTokens: used.outputTokens + decoded.outputTokens,
          costUsd: used.costUsd + (decoded.costUsd ?? 0),
          counted: true,
        }
        return
      case 'tool.started':
        reply = createReply()
        speaking = false
        break
      default: // reported as it is
    }
    handlers.onEvent(decoded)
  }

  function settle(): void {
    for (const each of asked) each.abort()
    if (used.counted) handlers.onEvent(usage(used.inputTokens, used.outputTokens, used.costUsd))
    turn?.end(outcome())
    turn = undefined
  }

  function outcome(): TurnEnd {
    const said = reply.text() ?? ''
    if (end === undefined) return { status: canceled ? 'canceled' : 'completed', text: said }
    if (end.ok) return { status: 'completed', text: said }
    if (canceled) return { status: 'canceled', text: said }
    return { status: 'failed', text: said, ...(end.error && { error: end.error }) }
  }

  async function dialog(request: Fields): Promise<void> {
    const answer = (more: Fields): Promise<void> =>
      send({ type: 'extension_ui_response', id: request['id'], ...more }).catch(() => undefined)
    const method = text(request['method']) ?? ''
    if (DIALOGS.has(method)) return await answer({ cancelled: true })
    if (method !== 'confirm') return // news for a screen
    turn?.sign()
    const own = new AbortController()
    const withdrawn = Promise.withResolvers<undefined>()
    own.signal.addEventListener('abort', () => withdrawn.resolve(undefined), { once: true })
    asked.add(own)
    try {
      const title = [text(request['title']), text(request['message'])].filter(Boolean).join(': ') || 'an extension asks'
      const options = [
        { id: 'yes', name: 'Yes', kind: 'allow_once' as const },
        { id: 'no', name: 'No', kind: 'reject_once' as const },
      ]
      const answered = handlers.onRequest({ toolCallId: null, title, kind: null, options }, own.signal)
      const chosen = await Promise.race([answered, withdrawn.promise]).catch(() => undefined)
      await answer(chosen === undefined ? { cancelled: true } : { confirmed: chosen === 'yes' })
    } finally {
      asked.delete(own)
    }
  }

  async function begin(begun: OpenTurn, message: string): Promise<void> {
    const answer = await call({ type: 'prompt', message }, begun.wrote)
    begun.sign()
    if (answer['success'] !== true) {
      const complaint = text(answer['error']) ?? 'the agent did not take the message'
      return begun.end({
        status: 'failed',
        text: '',
        error: { kind: failureKind(complaint), message: complaint },
      })
    }
    if (!message.trimStart().startsWith('/')) return
    // A command of an extension is done when it is answered, and no turn follows.
    const state = fields((await call({ type: 'get_state' }))['data'])
    if (!began && state['isStreaming'] === false) begun.end({ status: 'completed', text: '' })
  }

  /** Those of these texts that stand in the messages of the conversation. */
  async function recall(sought: string[]): Promise<string[]> {
    const skippedAnswer = (recalling = Promise.withResolvers())
    try {
      const answered = call({ type: 'get_messages' }).then(({ data }) => {
        const search = searchFor(sought)
        for (const message of items(fields(data)['messages']))
          if (message['role'] === 'user') search.read(JSON.stringify(message['content'] ?? ''))
        return search.found()
      })
      return await Promise.race([answered, skippedAnswer.promise])
    } finally {
      recalling = undefined
    }
  }

  return {
    async open(_task, conversationId, sought = []) {
      const answer = await call({ type: 'get_state' })
      const id = text(fields(answer['data'])['sessionId'])
      if (answer['success'] !== true || !isConversationId(id)) {
        const complaint = text(answer['error']) ?? 'the agent does not name its conversation'
        throw new AgentRefused(failureKind(complaint), complaint)
      }
      if (conversationId !== null && id !== conversationId)
        throw new AgentRefused('unknown_conversation', `the agent opened another conversation: ${id}`)
      const heard = conversationId === null || sought.length === 0 ? [] : await recall(sought)
      return { conversationId: id, canSteer: true, heard }
    },
    prompt(message) {
      if (turn?.isOpen) throw new Error('a turn is at work: one prompt at a time')
      const begun = openTurn()
      turn = begun
      canceled = began = speaking = false
      reply = createReply()
      end = undefined
      used = { inputTokens: 0, outputTokens: 0, costUsd: 0, counted: false }
      begin(begun, message).catch((error: unknown) => begun.fail(error instanceof Error ? error : new Error('gone')))
      return begun.turn
    },
    async steer(message) {
      if (!turn?.isOpen) throw new AgentRefused('agent', 'no turn is at work')
      const answer = await call({ type: 'steer', message })
      if (answer['success'] === true) return undefined
      const complaint = text(answer['error']) ?? 'the agent did not take the message'
      throw new AgentRefused(failureKind(complaint), complaint)
    },
    async cancel() {
      if (!turn?.isOpen) return
      canceled = true
      for (const each of asked) each.abort()
      await send({ id: `c${++lastId}`, type: 'abort' }) // answered once the turn has ended
    },
  }
}
