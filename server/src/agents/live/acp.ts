import { methods, PROTOCOL_VERSION } from '@agentclientprotocol/sdk'
import type { Clock } from '../../clock.ts'
import type { PermissionLevel } from '../../model.ts'
import { PermissionOption } from '../../model/sessions.ts'
import { fields, items, text, type Fields } from '../decoders/record.ts'
import { isConversationId } from '../events-format.ts'
import {
  AgentGone,
  AgentRefused,
  type AgentConnection,
  type LiveHandlers,
  type LiveIo,
  type LiveTask,
  type TurnEnd,
} from '../live.ts'
import {
  countedNothing,
  errorInReply,
  failureOf,
  isErrorText,
  isUnknownConversation,
  readable,
} from './acp-failures.ts'
import { createTranslator, saysThrough } from './acp-updates.ts'
import { openWire, STEER } from './acp-wire.ts'
import { searchFor, type Search } from './search.ts'
import { openTurn, type OpenTurn } from './turn.ts'

/** Older than the options of a session, and gone from the SDK; gemini has nothing else. */
const SET_MODEL = 'session/set_model'
/** Milliseconds of silence after which a replay is over: gemini sends it after its answer. */
const REPLAY_SILENCE_MS = 300
/** Looks at most so often for that silence. */
const REPLAY_LOOKS = 100
/** Milliseconds without a word and without a tool after which a turn that no prompt began counts as over. */
const SILENT_TURN_MS = 120_000

export interface AcpOptions {
  clock: Clock
  /** Name of the mode for each permission level; absent: the level is set another way. */
  modes?: Record<PermissionLevel, string>
  /** True: an agent without that mode is taken as it is. False: it is refused, as it would do what it may not. */
  modesOptional?: boolean
  /** True: the model was chosen when the program was started. */
  modelIsSet?: boolean
}

/**
 * One conversation with an agent that speaks the Agent Client Protocol, version 1, on its two ends. Resumes rather than
 * loads, unless something is sought in what a load replays; has no files and no terminal to offer. Source:
 * agentclientprotocol.com.
 */
export function connectAcp(io: LiveIo, handlers: LiveHandlers, options: AcpOptions): AgentConnection {
  const translator = createTranslator(handlers.onEvent)
  /** By the id of the request: what the agent has asked and was not answered. */
  const asked = new Map<unknown, AbortController>()
  let turn: OpenTurn | undefined
  /** Turns that the agent began with what it was to be steered with: those nobody has asked for yet, and one that waits for the end of the turn at work. */
  const begunBySteer: OpenTurn[] = []
  let next: OpenTurn | undefined
  /** Present while such a turn is at work; aborted at its end. */
  let unprompted: AbortController | undefined
  /** Messages in such a turn, each of which claude counts by itself. */
  let messagesAtWork = 0
  let sessionId = ''
  let updates = 0
  let search: Search | undefined
  let canceled = false
  let gone: AgentGone | undefined
  /** What the agent was not allowed to do in this turn. */
  let refused: string | undefined

  const wire = openWire(io, {
    onUpdate(update) {
      updates++
      if (update['sessionUpdate'] === 'user_message_chunk') search?.read(text(fields(update['content'])['text']) ?? '')
      if (translator.update(update)) turn?.sign()
      if (!unprompted) return
      const through = saysThrough(update)
      if (through === 'idle' || (through === 'counted' && --messagesAtWork === 0)) endUnprompted()
    },
    onRequest({ id, method, params }) {
      turn?.sign()
      if (method !== methods.client.session.requestPermission) return
      translator.asked(fields(fields(params)['toolCall']))
      const own = new AbortController()
      asked.set(id, own)
      if (canceled) own.abort()
    },
    onPermission: ask,
    onPromptWritten: () => turn?.wrote(),
    onPromptAnswer(answer) {
      end('result' in answer ? answer.result : {}, (result, lastWords) =>
        'result' in answer ? endOf(result, lastWords) : endOfError(answer.error, lastWords),
      )
      if (next) beginUnprompted(next)
    },
    onSteered({ outcome }) {
      if (outcome === 'injected') messagesAtWork++
      if (outcome !== 'startedNewTurn') return
      const begun = openTurn()
      begun.wrote()
      begun.sign()
      begunBySteer.push(begun)
      if (turn?.isOpen) next ??= begun
      else beginUnprompted(begun)
    },
    onLog: (message) => handlers.onEvent({ type: 'log', message }),
    onGone(error) {
      gone = error
      for (const each of asked.values()) each.abort()
      unprompted?.abort()
      turn?.fail(error)
      next?.fail(error)
    },
  })

  /** What comes after it belongs to the next turn. */
  function end(result: Fields, judge: (result: Fields, lastWords: string) => TurnEnd): void {
    for (const each of asked.values()) each.abort()
    const lastWords = translator.turn.text() // before tools that were left open are closed
    translator.finish(result)
    turn?.end(judge(result, lastWords))
    translator.begin()
  }

  function beginUnprompted(begun: OpenTurn): void {
    turn = begun
    next = undefined
    canceled = false
    refused = undefined
    messagesAtWork = 1
    const over = (unprompted = new AbortController())
    void untilSilent(over.signal).then(endUnprompted, () => undefined)
  }

  function endUnprompted(): void {
    unprompted?.abort()
    unprompted = undefined
    end({ stopReason: canceled ? 'cancelled' : 'end_turn' }, endOf)
    if (next) beginUnprompted(next)
  }

  /** Not every agent says that it is through. Rejects when the signal aborts. */
  async function untilSilent(signal: AbortSignal): Promise<void> {
    for (let seen = -1; seen !== updates || translator.isAtTool || asked.size > 0;) {
      seen = updates
      await options.clock.sleep(SILENT_TURN_MS, signal)
    }
  }

  async function ask(id: unknown, params: Fields, signal: AbortSignal): Promise<string | undefined> {
    const own = asked.get(id)
    // Its turn may be over: what follows a request is read before the request gets here.
    if (!own || own.signal.aborted) return void asked.delete(id)
    const call = fields(params['toolCall'])
    const offered = items(params['options']).flatMap(({ optionId, name, kind }) => {
      const parsed = PermissionOption.safeParse({ id: optionId, name, kind })
      return parsed.success ? [parsed.data] : []
    })
    const title = text(call['title']) ?? 'a tool'
    const withdrawn = Promise.withResolvers<undefined>()
    own.signal.addEventListener('abort', () => withdrawn.resolve(undefined), { once: true })
    const withdraw = (): void => own.abort() // the agent takes its question back
    signal.addEventListener('abort', withdraw, { once: true })
    try {
      const answered = handlers.onRequest(
        {
          toolCallId: text(call['toolCallId']) ?? null,
          title,
          kind: text(call['kind']) ?? null,
          ...(call['rawInput'] !== undefined && { input: call['rawInput'] }),
          options: offered,
        },
        own.signal,
      )
      const chosen = await Promise.race([answered, withdrawn.promise])
      const option = offered.find((each) => each.id === chosen)
      if (!own.signal.aborted && !option?.kind.startsWith('allow')) refused = title
      return option?.id
    } finally {
      signal.removeEventListener('abort', withdraw)
      asked.delete(id)
    }
  }

  function endOf(result: Fields, said: string): TurnEnd {
    const reason = text(result['stopReason']) ?? 'none'
    const fail = (message: string, kind = failureOf({ message }).kind): TurnEnd => ({
      status: 'failed',
      text: '',
      error: { kind, message },
    })
    if (reason === 'cancelled') {
      const why = `the agent gave up its turn, because it was refused: ${refused}`
      return {
        status: 'canceled',
        text: said,
        ...(!canceled && refused !== undefined && { error: { kind: 'agent', message: why } }),
      }
    }
    if (reason !== 'end_turn') {
      const why = { max_tokens: 'the answer grew too long', refusal: 'the model refused to go on' }[reason]
      return { ...fail(why ?? `the agent stopped: ${reason}`, 'agent'), text: said }
    }
    const complaint = errorInReply(said)
    if (complaint !== undefined) return fail(complaint)
    if (translator.turn.lostModel || countedNothing(result)) return fail(readable(said) || 'the model gave no answer')
    if (said === '' && refused !== undefined)
      return fail(`the agent said nothing more after it was refused: ${refused}`, 'agent')
    return { status: 'completed', text: said }
  }

  function endOfError(error: unknown, said: string): TurnEnd {
    if (canceled) return { status: 'canceled', text: said }
    const { kind, message } = failureOf(error)
    // claude says the error as its own words as well, and there alone the reason of a bad key.
    return isErrorText(said)
      ? { status: 'failed', text: '', error: { kind, message: said } }
      : { status: 'failed', text: said, error: { kind, message } }
  }

  /** @throws AgentRefused for an error that the agent answered with */
  async function call(method: string, params: Fields): Promise<Fields> {
    try {
      return await wire.call(method, params)
    } catch (error) {
      if (error instanceof AgentGone) throw error
      const { kind, message } = failureOf(error)
      throw new AgentRefused(kind, message, { cause: error })
    }
  }

  /** Opens the conversation, with the modes and settings it has. */
  async function enter(able: Fields, cwd: string, conversationId: string | null): Promise<Fields> {
    const how = { cwd, mcpServers: [] }
    if (conversationId === null) return await call(methods.agent.session.new, how)
    const again = { ...how, sessionId: conversationId }
    const canResume = fields(able['sessionCapabilities'])['resume'] !== undefined
    const canLoad = able['loadSession'] === true
    if (!canResume && !canLoad)
      throw new AgentRefused('unknown_conversation', 'the agent cannot continue a conversation')
    if (!canResume || (canLoad && search)) {
      try {
        const session = await call(methods.agent.session.load, again)
        await silence()
        return { sessionId: conversationId, ...session }
      } catch (error) {
        // What was only to be looked up is not worth a conversation.
        if (!canResume || error instanceof AgentGone) throw named(error)
      }
    }
    try {
      return { sessionId: conversationId, ...(await call(methods.agent.session.resume, again)) }
    } catch (error) {
      throw named(error)
    }
  }

  async function setMode(session: Fields, level: PermissionLevel): Promise<void> {
    const modeId = options.modes?.[level]
    if (modeId === undefined) return
    const offered = items(fields(session['modes'])['availableModes']).map(({ id }) => text(id) ?? '')
    if (offered.includes(modeId)) return void (await call(methods.agent.session.setMode, { sessionId, modeId }))
    if (options.modesOptional) return
    const known = offered.length === 0 ? 'none' : offered.join(', ')
    throw new AgentRefused('agent', `the agent has no mode "${modeId}" for the permission level "${level}": ${known}`)
  }

  async function setModel(session: Fields, model: string | null): Promise<void> {
    if (model === null || options.modelIsSet) return
    const option = items(session['configOptions']).find(({ category, id }) => (category ?? id) === 'model')
    if (option) {
      await call(methods.agent.session.setConfigOption, { sessionId, configId: option['id'], value: model })
    } else if (items(fields(session['models'])['availableModels']).length > 0) {
      await call(SET_MODEL, { sessionId, modelId: model })
    } else {
      throw new AgentRefused('agent', `the agent cannot be told to use the model "${model}"`)
    }
  }

  /** Waits until the replay of an earlier conversation is over. */
  async function silence(): Promise<void> {
    for (let seen = -1, looks = 0; seen !== updates && looks < REPLAY_LOOKS; looks++) {
      seen = updates
      await options.clock.sleep(REPLAY_SILENCE_MS)
      if (gone) throw gone
    }
  }

  return {
    async open(task: LiveTask, conversationId, sought = []) {
      const hello = await call(methods.agent.initialize, {
        protocolVersion: PROTOCOL_VERSION,
        clientInfo: { name: 'postern', title: 'Postern', version: '1' },
        clientCapabilities: { fs: { readTextFile: false, writeTextFile: false }, terminal: false },
      })
      const version = hello['protocolVersion']
      if (version !== PROTOCOL_VERSION)
        throw new AgentRefused('agent', `the agent speaks version ${String(version)} of ACP, not ${PROTOCOL_VERSION}`)
      const able = fields(hello['agentCapabilities'])
      translator.muted = conversationId !== null
      search = sought.length > 0 ? searchFor(sought) : undefined
      const session = await enter(able, task.cwd, conversationId)
      const heard = search?.found() ?? []
      search = undefined
      const id = text(session['sessionId'])
      if (!isConversationId(id)) throw new AgentRefused('agent', 'the agent names its conversation in an unusable way')
      sessionId = id
      await setMode(session, task.permissions)
      await setModel(session, task.model)
      if (conversationId !== null) translator.resumed()
      translator.muted = false
      const canSteer = fields(fields(hello['_meta'])['steering'])['supported'] === true
      return { conversationId: id, canSteer, heard }
    },
    prompt(message) {
      if (turn?.isOpen) throw new Error('a turn is at work: one prompt at a time')
      const begun = openTurn()
      turn = begun
      canceled = false
      refused = undefined
      translator.begin()
      if (gone) begun.fail(gone)
      else wire.prompt({ sessionId, prompt: [{ type: 'text', text: message }] })
      return begun.turn
    },
    async steer(message) {
      if (!turn?.isOpen) throw new AgentRefused('agent', 'no turn is at work')
      const { outcome } = await call(STEER, { sessionId, prompt: [{ type: 'text', text: message }] })
      return outcome === 'startedNewTurn' ? begunBySteer.shift()?.turn : undefined
    },
    async cancel() {
      if (!turn?.isOpen) return
      canceled = true
      for (const each of asked.values()) each.abort()
      await wire.notify(methods.agent.session.cancel, { sessionId })
    },
  }
}

/** The same error, by its kind when it says that nobody knows the conversation. */
function named(error: unknown): unknown {
  if (!(error instanceof AgentRefused) || !isUnknownConversation(error.cause)) return error
  return new AgentRefused('unknown_conversation', error.message, { cause: error })
}
