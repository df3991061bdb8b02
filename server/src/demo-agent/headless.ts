import { realpathSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import type { Conversations } from './conversations.ts'
import { rewriteCarelessly } from './faults.ts'
import type { Door } from './door.ts'
import { covers, type Level, type Stage, type ToolCall } from './stage.ts'
import { runTurn } from './turn.ts'

/** Exit codes of a program that was told to stop, as shells count them. */
const STOPPED = { SIGTERM: 143, SIGINT: 130 } as const
const MAX_OUTPUT_CHARACTERS = 8_000

/**
 * One prompt from stdin to its end, printed as JSON Lines in Postern's event words: `agent.session` first, `agent.end`
 * last. Resolves with the exit code.
 */
export async function runHeadless(options: {
  prompt: string
  resume: string | undefined
  level: Level
  faults: boolean
  conversations: Conversations
  door: Door | undefined
}): Promise<number> {
  const { prompt, resume, level, faults, conversations, door } = options
  const emit = (event: { type: string } & Record<string, unknown>): void => {
    process.stdout.write(`${JSON.stringify(event)}\n`)
  }
  const fail = (kind: string, message: string): void => {
    process.stderr.write(`error: ${message}\n`)
    emit({ type: 'agent.end', ok: false, error: { kind, message } })
  }

  const earlier = resume === undefined ? [] : conversations.read(resume)
  if (!earlier) {
    fail('agent', `there is no conversation ${resume}`)
    return 1
  }
  const asks = (fault: string): boolean => faults && prompt.split('\n').some((line) => line.trim() === fault)
  const forgets = asks('/forget')
  // Before the first word, as real programs do.
  const rewritten = asks('/shared') ? rewriteCarelessly(conversations.home) : undefined
  await rewritten?.catch(() => undefined)
  const id = resume === undefined || forgets ? conversations.start() : resume
  emit({ type: 'agent.session', conversationId: id })

  const stop = new AbortController()
  let stoppedBy: keyof typeof STOPPED | undefined
  for (const name of ['SIGTERM', 'SIGINT'] as const) {
    process.on(name, () => {
      stoppedBy ??= name
      stop.abort()
    })
  }

  let said = ''
  let calls = 0
  const stage: Stage = {
    kind: 'headless',
    root: realpathSync(process.cwd()),
    home: conversations.home,
    faults,
    door,
    signal: stop.signal,
    earlier,
    say(text) {
      said += text
      emit({ type: 'agent.message', text, delta: true })
    },
    tool,
    ask: async () => undefined,
    retrying: (news) => emit({ type: 'agent.waiting', kind: 'rate_limit', ...news }),
    ...(rewritten && { rewritten }),
    raw: (bytes) => void process.stdout.write(bytes),
  }
  async function tool({ name, input, needs, work }: ToolCall): Promise<{ ok: boolean; output: string }> {
    const toolCallId = `call_${++calls}`
    const end = (ok: boolean, output: string): { ok: boolean; output: string } => {
      emit({ type: 'tool.ended', toolCallId, isError: !ok, output: output.slice(0, MAX_OUTPUT_CHARACTERS) })
      return { ok, output }
    }
    emit({ type: 'tool.started', toolCallId, name, input })
    if (!covers(level, needs)) {
      const message = `needs the permission level "${needs}"; this run has "${level}", and there is nobody to ask`
      emit({ type: 'permission.denied', name, message })
      return end(false, `denied: ${message}`)
    }
    try {
      return end(true, await work())
    } catch (error) {
      stop.signal.throwIfAborted()
      return end(false, (error as Error).message)
    }
  }

  conversations.add(id, { role: 'user', text: prompt })
  try {
    const ending = await runTurn(prompt, stage)
    conversations.add(id, { role: 'agent', text: said })
    emit({ type: 'usage', ...ending.usage, costUsd: 0 })
    if (!ending.record && ending.error) process.stderr.write(`error: ${ending.error.message}\n`)
    else if (ending.error) fail(ending.error.kind, ending.error.message)
    else if (ending.record) emit({ type: 'agent.end', ok: true, text: said })
    if (ending.stays) await delay(2 ** 31 - 1, undefined, { signal: stop.signal })
    return ending.exitCode
  } catch (error) {
    if (stoppedBy) return STOPPED[stoppedBy]
    throw error
  }
}
