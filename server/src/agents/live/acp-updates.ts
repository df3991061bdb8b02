import type { AgentEvent } from '../event.ts'
import { compact, fields, items, number, text, tokens, toolOutput, usage, type Fields } from '../decoders/record.ts'
import { createReply } from '../fold.ts'

/** Kinds of update that say how the session stands, not what the turn does. They are no sign of a turn. */
const STANDING = new Set(['available_commands_update', 'current_mode_update', 'config_option_update', 'usage_update'])
const NAME_CHARACTERS = 100
/** Tools that are remembered, at work or ended, of a session that lasts. */
const MAX_TOOLS = 1_000

interface ToolCall {
  id: string
  name: string | undefined
  title: string | undefined
  kind: string | undefined
  input: unknown
  started: boolean
}

/** Translates what an agent says through ACP into our events, and remembers what its turn comes to. */
export interface Translator {
  /** One `session/update`. Returns true when it is a sign of the turn at work. */
  update(update: Fields): boolean
  /** The agent asks about a tool: of some it is the first news. */
  asked(toolCall: Fields): void
  /** A turn begins. */
  begin(): void
  /**
   * The turn has ended: closes tools that were left open and reports what it used.
   *
   * @param answer the result of `session/prompt`, as it came; none when it was an error
   */
  finish(answer: Fields): void
  /** True while a tool is at work. */
  readonly isAtTool: boolean
  /** Of the turn: what was said after its last tool, and whether the agent lost its model (codex). */
  readonly turn: { text(): string; readonly lostModel: boolean }
  /** True: totals are noted and nothing is reported. What is replayed was reported when it happened. */
  muted: boolean
  /** An earlier conversation is open: its total of cost began before us, so a turn's cost is known from the second on. */
  resumed(): void
}

export function createTranslator(onEvent: (event: AgentEvent) => void): Translator {
  const tools = new Map<string, ToolCall>()
  const ended = new Set<string>()
  let reply = createReply()
  let lostModel = false
  let messageId: string | undefined
  let speaking = false
  let muted = false
  let steps = { inputTokens: 0, outputTokens: 0, counted: false }
  /** US dollars: the newest total, and the one before this turn; undefined while a total may hide earlier turns. */
  let cost: number | undefined
  let costBefore: number | undefined = 0
  let sawCost = false

  function emit(event: AgentEvent): void {
    if (!muted) onEvent(event)
  }

  function message(update: Fields): void {
    const used = fields(fields(update['_meta'])['usage'])
    if (number(used['totalTokens']) !== undefined) {
      // qwen counts each step beside an empty piece of text, and nothing in its answer.
      const counted = countedTokens(used)
      steps = {
        inputTokens: steps.inputTokens + counted.inputTokens,
        outputTokens: steps.outputTokens + counted.outputTokens,
        counted: true,
      }
    }
    const said = contentText(update['content'])
    if (said === '') return
    startHeld()
    const id = text(update['messageId'])
    const piece = speaking && id !== messageId ? `\n\n${said}` : said
    messageId = id
    speaking = true
    reply.append(piece)
    emit({ type: 'agent.message', text: piece, delta: true })
  }

  function thought(update: Fields): void {
    const said = contentText(update['content'])
    if (said === '') return
    startHeld()
    speaking = false
    emit({ type: 'agent.thought', text: said, delta: true })
  }

  function toolCall(update: Fields, isAsked: boolean): void {
    const id = text(update['toolCallId']) ?? ''
    const status = text(update['status'])
    if (ended.has(id)) return // codex goes on about a tool after its end
    if (tools.size >= MAX_TOOLS) tools.clear()
    const tool = tools.get(id) ?? { id, name: undefined, title: undefined, kind: undefined, input: {}, started: false }
    tools.set(id, tool)
    tool.name ??= nameOf(update)
    tool.title ??= text(update['title'])
    tool.kind ??= text(update['kind'])
    if (!tool.started && update['rawInput'] !== undefined && update['rawInput'] !== null)
      tool.input = update['rawInput']
    const isEnd = status === 'completed' || status === 'failed'
    if (!tool.started && (isAsked || isEnd || status === 'in_progress' || isTelling(tool.input))) start(tool)
    if (isEnd && !isAsked) end(tool, update, status === 'failed')
  }

  function start(tool: ToolCall): void {
    tool.started = true
    reply = createReply()
    speaking = false
    const { title } = tool
    const name = tool.name ?? (tool.kind === 'other' ? undefined : tool.kind) ?? title ?? 'a tool'
    const given = isEmpty(tool.input) ? undefined : tool.input
    emit(
      compact<Extract<AgentEvent, { type: 'tool.started' }>>({
        type: 'tool.started',
        toolCallId: tool.id,
        name: name.slice(0, NAME_CHARACTERS),
        // gemini gives no input at all, and says the command in the title.
        input: given ?? (title === undefined || title === name ? undefined : { title }),
      }),
    )
  }

  function forget(id: string): void {
    tools.delete(id)
    if (ended.size >= MAX_TOOLS) ended.clear()
    ended.add(id)
  }

  function end(tool: ToolCall, update: Fields, failed: boolean): void {
    forget(tool.id)
    const isError = failed || (exitCodeOf(update) ?? 0) !== 0
    emit({ type: 'tool.ended', toolCallId: tool.id, isError, ...toolOutput(outputOf(update)) })
  }

  /** Tools whose input was awaited: other news comes first, so it will not come. */
  function startHeld(): void {
    for (const tool of tools.values()) if (!tool.started) start(tool)
  }

  function standing(update: Fields): void {
    const { amount, currency } = fields(update['cost'])
    const total = number(amount)
    if (total !== undefined && total >= 0 && (currency ?? 'USD') === 'USD') {
      cost = total
      sawCost = true
    }
  }

  return {
    get isAtTool() {
      return tools.size > 0
    },
    turn: {
      text: () => reply.text() ?? '',
      get lostModel() {
        return lostModel
      },
    },
    get muted() {
      return muted
    },
    set muted(value) {
      muted = value
      if (!value) tools.clear()
    },
    resumed() {
      costBefore = cost
    },
    begin() {
      reply = createReply()
      lostModel = speaking = sawCost = false
      steps = { inputTokens: 0, outputTokens: 0, counted: false }
    },
    update(update) {
      const kind = text(update['sessionUpdate']) ?? 'none'
      switch (kind) {
        case 'agent_message_chunk':
          message(update)
          return true
        case 'agent_thought_chunk':
          thought(update)
          return true
        case 'user_message_chunk': // ours, repeated
          return true
        case 'tool_call':
        case 'tool_call_update':
          toolCall(update, false)
          return true
        case 'plan':
          emit({ type: 'log', message: planText(update) })
          return true
        case 'session_info_update': {
          const status = fields(fields(fields(update['_meta'])['codex'])['threadStatus'])['type']
          if (status === 'systemError') lostModel = true
          return status === 'active' || status === 'systemError'
        }
        default:
          if (STANDING.has(kind)) standing(update)
          else {
            const name = kind.slice(0, NAME_CHARACTERS)
            emit({ type: 'log', code: 'unknown_record', message: `an update of kind "${name}"` })
          }
          return false
      }
    },
    asked: (tool) => toolCall(tool, true),
    finish(answer) {
      startHeld()
      for (const id of tools.keys()) {
        forget(id)
        emit({ type: 'tool.ended', toolCallId: id, isError: true })
      }
      speaking = false
      const counted = turnTokens(answer) ?? (steps.counted ? steps : undefined)
      const spent =
        sawCost && cost !== undefined && costBefore !== undefined ? Math.max(0, cost - costBefore) : undefined
      costBefore = cost ?? costBefore
      if (counted || spent) emit(usage(counted?.inputTokens ?? 0, counted?.outputTokens ?? 0, spent))
    },
  }
}

/**
 * How an agent says that it is through. The answer to a prompt says it to everybody; of a turn that no prompt began nothing
 * else does: codex is `idle`, claude has `counted` one thing that a person asked for.
 */
export function saysThrough(update: Fields): 'idle' | 'counted' | undefined {
  const meta = fields(update['_meta'])
  if (fields(fields(meta['codex'])['threadStatus'])['type'] === 'idle') return 'idle'
  const isCounted = update['sessionUpdate'] === 'usage_update' && update['cost'] !== undefined
  return isCounted && fields(meta['_claude/origin'])['kind'] === 'human' ? 'counted' : undefined
}

/** An input that says something of the call: opencode begins with the directory alone, claude and qwen with nothing. */
function isTelling(input: unknown): boolean {
  if (typeof input !== 'object' || input === null) return input !== undefined && input !== null
  return Object.keys(input).some((key) => key !== 'cwd')
}

const isEmpty = (input: unknown): boolean =>
  input === undefined || (typeof input === 'object' && input !== null && Object.keys(input).length === 0)

/** The tool's own name: two agents hide it, and the first title of one that says a single word is it. */
function nameOf(update: Fields): string | undefined {
  const meta = fields(update['_meta'])
  const title = text(update['title'])
  const given = text(update['name']) ?? text(fields(meta['claudeCode'])['toolName']) ?? text(meta['toolName'])
  if (given !== undefined) return given
  return update['sessionUpdate'] === 'tool_call' && title !== undefined && /^[\w.-]+$/.test(title) ? title : undefined
}

function contentText(content: unknown): string {
  const block = fields(content)
  return block['type'] === 'text' ? (text(block['text']) ?? '') : ''
}

function outputOf(update: Fields): string | undefined {
  const said = items(update['content'])
    .map((part) => contentText(part['content']))
    .filter(Boolean)
    .join('\n')
  const raw = update['rawOutput']
  const parts = fields(raw)
  return said || (text(raw) ?? text(parts['output']) ?? text(parts['error']))
}

/** Of a shell command, where the agent says it: codex beside the update, opencode in its output, both as "completed". */
function exitCodeOf(update: Fields): number | undefined {
  const exit = fields(fields(update['_meta'])['terminal_exit'])['exit_code']
  return number(exit) ?? number(fields(fields(update['rawOutput'])['metadata'])['exit'])
}

/** Tokens of a turn as its answer counts them. Input is everything the model read, from its cache or not. */
function turnTokens(answer: Fields): { inputTokens: number; outputTokens: number } | undefined {
  const used = fields(answer['usage'])
  if (number(used['inputTokens']) !== undefined) return countedTokens(used)
  const quota = fields(fields(fields(answer['_meta'])['quota'])['token_count'])
  const input = quota['input_tokens'] ?? quota['inputTokens']
  if (number(input) === undefined) return undefined
  return { inputTokens: tokens(input), outputTokens: tokens(quota['output_tokens'] ?? quota['outputTokens']) }
}

function countedTokens(used: Fields): { inputTokens: number; outputTokens: number } {
  const input = tokens(used['inputTokens'])
  const outputTokens = tokens(used['outputTokens'])
  const cached = tokens(used['cachedReadTokens']) + tokens(used['cachedWriteTokens'])
  // Some count what came from the cache as input, some beside it: the total tells which.
  const isApart = input + cached + outputTokens <= tokens(used['totalTokens'])
  return { inputTokens: isApart ? input + cached : input, outputTokens }
}

function planText(update: Fields): string {
  const entries = items(update['entries']).map((entry) => {
    const mark = { completed: 'x', in_progress: '~' }[text(entry['status']) ?? ''] ?? ' '
    return `[${mark}] ${text(entry['content']) ?? ''}`
  })
  return `plan: ${entries.join(' ')}`.slice(0, 500)
}
