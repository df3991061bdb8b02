import { client, methods, type AnyMessage } from '@agentclientprotocol/sdk'
import { fields, type Fields } from '../decoders/record.ts'
import { parseJson } from '../json.ts'
import { AgentGone, type LiveIo } from '../live.ts'
import { readLines } from './lines.ts'

/** Not part of the protocol; `initialize` says who has it. */
export const STEER = '_session/steering'
/** Characters of a line that is no message, kept in its `log` event. */
const LOG_CHARACTERS = 500

/** What comes over the wire and is no answer to `call`; everything in the order in which the agent said it. */
export interface WireHandlers {
  /** One `session/update`, before the SDK sees it, which would drop the kinds it does not know. Decision 0018. */
  onUpdate(update: Fields): void
  /** The agent asks something, whatever it is, in order with its updates. */
  onRequest(request: Fields): void
  /**
   * The same request for a permission, checked; it may come later than what followed it.
   *
   * @param signal aborts when the agent takes its question back
   * @returns the id of the option; undefined: cancelled. Rejections count as cancelled.
   */
  onPermission(id: unknown, params: Fields, signal: AbortSignal): Promise<string | undefined>
  /** The line with the prompt was handed over whole. */
  onPromptWritten(): void
  /** The answer to the prompt, as it came. */
  onPromptAnswer(answer: { result: Fields } | { error: unknown }): void
  /** The result of a `call` to steer; what the agent says next comes after it. */
  onSteered(result: Fields): void
  onLog(message: string): void
  /** Once, when the output has ended, broken, or takes nothing more. */
  onGone(error: AgentGone): void
}

/** JSON-RPC over the two ends of a program, by the ACP SDK. */
export interface Wire {
  /** @throws what the agent answered as an error, or AgentGone */
  call(method: string, params: Fields): Promise<Fields>
  /** Sends `session/prompt`; its answer goes to `onPromptAnswer`. */
  prompt(params: Fields): void
  notify(method: string, params: Fields): Promise<void>
}

/**
 * Connects to an agent. The SDK matches answers to requests, answers requests that we do not know with -32601, and sees
 * nothing but well-formed requests and answers that are awaited: on everything else it writes to the server's stderr.
 */
export function openWire(io: LiveIo, handlers: WireHandlers): Wire {
  /** By the id of a request, its method. */
  const awaited = new Map<unknown, string>()
  let gone: AgentGone | undefined
  const lost = Promise.withResolvers<never>()
  lost.promise.catch(() => undefined)
  let feed: ReadableStreamDefaultController<AnyMessage> | undefined

  const readable = new ReadableStream<AnyMessage>({
    start(controller) {
      feed = controller
    },
  })
  const writable = new WritableStream<AnyMessage>({
    async write(message) {
      const { id, method } = fields(message)
      if (typeof method === 'string' && id !== undefined) awaited.set(id, method)
      try {
        await io.write(`${JSON.stringify(message)}\n`)
      } catch (error) {
        leave(new AgentGone('the agent takes no more input', { cause: error }))
        throw error
      }
      if (method === methods.agent.session.prompt) handlers.onPromptWritten()
    },
  })

  function take(line: string): void {
    let parsed: unknown
    try {
      parsed = parseJson(line)
    } catch {
      return handlers.onLog(line.slice(0, LOG_CHARACTERS))
    }
    const message = fields(parsed)
    const { id, method } = message
    if (message['jsonrpc'] !== '2.0') return handlers.onLog(line.slice(0, LOG_CHARACTERS))
    if (method === methods.client.session.update) {
      return handlers.onUpdate(fields(fields(message['params'])['update']))
    }
    if (typeof method === 'string') {
      if (id !== undefined) handlers.onRequest(message)
      else if (method !== methods.protocol.cancelRequest) return // one of its own, which we may ignore
    } else {
      const asked = awaited.get(id)
      if (!awaited.delete(id)) return handlers.onLog(`an answer nobody awaits: ${line}`.slice(0, LOG_CHARACTERS))
      answered(asked, message)
    }
    feed?.enqueue(parsed as AnyMessage)
  }

  function answered(asked: string | undefined, { result, error }: Fields): void {
    if (asked === methods.agent.session.prompt)
      handlers.onPromptAnswer(error === undefined ? { result: fields(result) } : { error })
    if (asked === STEER && error === undefined) handlers.onSteered(fields(result))
  }

  function leave(error: AgentGone): void {
    if (gone) return
    gone = error
    lost.reject(error)
    handlers.onGone(error)
    connection.close(error)
    try {
      feed?.close()
    } catch {
      // closed with the connection
    }
  }

  const connection = client({ name: 'postern' })
    .onRequest(methods.client.session.requestPermission, async ({ requestId, params, signal }) => {
      const optionId = await handlers.onPermission(requestId, fields(params), signal).catch(() => undefined)
      return { outcome: optionId === undefined ? { outcome: 'cancelled' } : { outcome: 'selected', optionId } }
    })
    .connect({ readable, writable })

  readLines(io.output, take, handlers.onLog).then(
    () => leave(new AgentGone('the agent has ended')),
    (error: unknown) => leave(new AgentGone('the output of the agent broke', { cause: error })),
  )

  return {
    async call(method, params) {
      if (gone) throw gone
      const answer = connection.agent.request(method, params)
      answer.catch(() => undefined)
      try {
        return fields(await Promise.race([answer, lost.promise]))
      } catch (error) {
        throw gone ?? error
      }
    },
    prompt(params) {
      if (gone) return
      connection.agent.request(methods.agent.session.prompt as string, params).catch(() => undefined)
    },
    async notify(method, params) {
      if (gone) throw gone
      await Promise.race([connection.agent.notify(method, params), lost.promise])
    },
  }
}
