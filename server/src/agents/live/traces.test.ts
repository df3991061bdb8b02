import { describe, expect, test } from 'vitest'
import { play, type Played } from '../../../test/live-trace.ts'
import { systemClock } from '../../clock.ts'
import { DEFINITIONS } from '../adapters.ts'
import type { AgentEvent } from '../agent.ts'
import { programAgent } from '../definition.ts'

/**
 * Recorded connections of six programs, played by a process, and what ours makes of each turn: how it ended, with which words
 * or which kind of failure; its tools, `!` for those that failed; its tokens in and out, and its dollars.
 */
const TURNS: Record<string, string[]> = {
  'acp-claude-cancel': [
    'canceled | !Bash() | 100/20 $0.0016',
    'canceled "one two " |  | 0/0 $0.00126',
    'canceled | !Bash() | 100/20 $0.0016',
    'completed "alive after cancel" |  | 100/20 $0.0016',
  ],
  'acp-claude-error-400': [
    'failed agent: API Error: 400 scripted error 400 (fake) |  | -',
    'completed "alive after the error" |  | 100/20 $0.0016',
  ],
  'acp-claude-error-401': ['failed auth: Failed to authenticate. API Error: 401 invalid API key (fake) |  | -'],
  'acp-claude-load': ['completed "first answer" | Bash() | 210/41 $0.00246'],
  'acp-claude-load#1': ['completed "after load" |  | 100/20'],
  'acp-claude-permissions': [
    'completed "all done" | Bash() Write() | 330/63 $0.00338',
    'completed "after the refusal" | !Bash() | 210/41 $0.00246',
  ],
  'acp-claude-resume': ['completed "after resume" |  | 100/20'],
  'acp-claude-steer': ['completed "steered" | Bash() | 200/40 $0.0024'],
  'acp-claude-thought': ['completed "the answer after the thought" |  | 100/20 $0.0016'],
  'acp-codex-cancel': [
    'canceled | !exec_command() | 100/20',
    'canceled "one two " |  | -',
    'completed "alive after cancel" |  | 100/20',
  ],
  'acp-codex-error-400': [
    'failed agent: scripted error 400 (fake) |  | -',
    'completed "alive after the error" |  | 100/20',
  ],
  'acp-codex-error-401': ['failed auth: Authentication required |  | -'],
  'acp-codex-load': ['completed "first answer" | exec_command() | 210/41'],
  'acp-codex-load#1': ['completed "after load" |  | 100/20'],
  'acp-codex-permissions': [
    'completed "all done" | exec_command() exec_command() | 330/63',
    'completed "after the refusal" | exec_command() | 210/41',
    'completed "after asking" | execute() | 210/41',
    'canceled agent: the agent gave up its turn, because it was refused: echo up > /home/user/.cache/reject_once | !execute() | 100/20',
  ],
  'acp-codex-resume': ['completed "after resume" |  | 100/20'],
  'acp-codex-steer': ['completed "steered" | exec_command() | 200/40'],
  'acp-codex-thought': ['completed "the answer after the thought" |  | 100/20'],
  'acp-gemini-cancel': [
    'canceled | execute() | -',
    'canceled "one two " |  | -',
    'canceled | !execute() | -',
    'completed "alive after cancel" |  | 100/20',
  ],
  'acp-gemini-error-400': [
    'failed agent: scripted error 400 (fake) |  | -',
    'completed "alive after the error" |  | 100/20',
  ],
  'acp-gemini-error-401': ['failed auth: invalid API key (fake) |  | -'],
  'acp-gemini-load-too-early': ['completed "first answer" |  | 100/20'],
  'acp-gemini-load': ['completed "first answer" | execute() | 210/41'],
  'acp-gemini-load#1': ['completed "after load" |  | 100/20'],
  'acp-gemini-permissions': [
    'completed "all done" | execute() edit() | 330/63',
    'completed "after the refusal" | !execute() | 210/41',
  ],
  'acp-gemini-thought': ['completed "the answer after the thought" |  | 100/20'],
  'acp-opencode-cancel': [
    'canceled | bash() | 0/0 $0',
    'canceled "one two " |  | 0/0 $0',
    'canceled | !bash() | 0/0 $0',
    'completed "alive after cancel" |  | 100/20 $0.00014',
  ],
  'acp-opencode-error-400': [
    'failed agent: scripted error 400 (fake) |  | -',
    'completed "alive after the error" |  | 100/20 $0.00014',
  ],
  'acp-opencode-error-401': ['failed auth: invalid API key (fake) |  | -'],
  'acp-opencode-load': ['completed "first answer" | bash() | 110/21 $0.000292'],
  'acp-opencode-load#1': ['completed "after load" |  | 100/20'],
  'acp-opencode-permissions': [
    'completed "all done" | bash() write() | 120/22 $0.000456',
    'failed agent: the agent said nothing more after it was refused: echo no > /home/user/project/no.txt | !bash() | 100/20 $0.00014',
  ],
  'acp-opencode-resume': ['completed "after resume" |  | 100/20'],
  'acp-opencode-thought': ['completed "the answer after the thought" |  | 100/20 $0.00014'],
  'acp-qwen-cancel': [
    'canceled | !run_shell_command() | 100/20',
    'canceled "one two " |  | -',
    'canceled | !run_shell_command() | 100/20',
    'completed "alive after cancel" |  | 100/20',
  ],
  'acp-qwen-error-400': [
    'failed agent: 400 scripted error 400 (fake) |  | -',
    'completed "alive after the error" |  | 100/20',
  ],
  'acp-qwen-error-401': ['failed auth: 401 invalid API key (fake) |  | -'],
  'acp-qwen-load': ['completed "first answer" | run_shell_command() | 210/41'],
  'acp-qwen-load#1': ['completed "after load" |  | 100/20'],
  'acp-qwen-permissions': [
    'completed "all done" | run_shell_command() write_file() | 330/63',
    'failed agent: the agent said nothing more after it was refused: echo no > /home/user/project/no.txt | !run_shell_command() | 100/20',
  ],
  'acp-qwen-resume': ['completed "after resume" |  | 100/20'],
  'acp-qwen-thought': ['completed "the answer after the thought" |  | 100/20'],
  'pi-rpc-401': [
    'failed auth: 401: {"message":"invalid API key (fake)","type":"invalid_request_error","param":null,"code":"invalid_api_key"} |  | 0/0 $0',
  ],
  'pi-rpc-resume': ['completed "after resume" |  | 100/20 $0.00014'],
  'pi-rpc': [
    'completed "first answer" | bash() | 210/41 $0.000292',
    'completed "steered answer\\n\\nfollow-up answer" | bash() | 300/60 $0.00042',
    'canceled | !bash() | 100/20 $0.00014',
    'failed agent: 400: {"message":"scripted error 400 (fake)","type":"invalid_request_error","param":null,"code":null} |  | 0/0 $0',
    'completed "the answer after the thought" |  | 100/20 $0.00014',
  ],
}

const STEERED = /^(acp-claude|acp-codex|pi)/

function connectOf(name: string) {
  const id = name.startsWith('pi') ? 'pi' : name.split('-')[1]
  const definition = DEFINITIONS.find((one) => one.id === id)
  const connect = definition && programAgent(definition, systemClock).live?.connect
  if (!connect) throw new Error(`no agent for ${name}`)
  return connect
}

function linesOf({ ends, events }: Played): string[] {
  return ends.map(({ status, text, error }, turn) => {
    const said = [text === '' ? [] : JSON.stringify(text), error ? `${error.kind}: ${error.message}` : []].flat()
    const heard = untilUsage(events[turn] ?? [])
    return [[status, ...said].join(' '), toolsOf(heard), usageOf(heard)].join(' | ')
  })
}

/** Without what came between two turns. */
function untilUsage(events: AgentEvent[]): AgentEvent[] {
  const last = events.findIndex(({ type }) => type === 'usage')
  return last === -1 ? events : events.slice(0, last + 1)
}

function toolsOf(events: AgentEvent[]): string {
  const started = events.flatMap((event) => (event.type === 'tool.started' ? [event] : []))
  const tools = started.map(({ toolCallId, name, input }) => {
    const end = events.find((event) => event.type === 'tool.ended' && event.toolCallId === toolCallId)
    const how = end?.type === 'tool.ended' ? (end.isError ? '!' : '') : '?'
    return `${how}${name}${input === undefined ? '' : '()'}`
  })
  return tools.join(' ')
}

function usageOf(events: AgentEvent[]): string {
  const used = events.find((event) => event.type === 'usage')
  if (used?.type !== 'usage') return '-'
  const cost = used.costUsd === null ? '' : ` $${Number(used.costUsd.toFixed(6))}`
  return `${used.inputTokens}/${used.outputTokens}${cost}`
}

describe('a recorded connection', () => {
  test.each(Object.entries(TURNS))('comes out as it was: %s', async (name, turns) => {
    const [trace = '', life = '0'] = name.split('#')
    const played = await play(trace, connectOf(trace), { life: Number(life) })
    expect(linesOf(played)).toEqual(turns)
    expect(played.canSteer).toBe(STEERED.test(trace))
    expect(played.conversationId).toMatch(/\S/)
    const unknown = played.events.flat().filter((event) => event.type === 'log' && event.code === 'unknown_record')
    expect(unknown).toEqual([])
  })
})

describe('what the agent reports', () => {
  test('of a tool is its name, its input and its output, whatever it calls them', async () => {
    const tools = async (name: string) =>
      (await play(name, connectOf(name))).events
        .flat()
        .filter((event) => event.type === 'tool.started' || event.type === 'tool.ended')
        .slice(0, 2)
    expect(await tools('acp-claude-permissions')).toMatchObject([
      { name: 'Bash', input: { command: 'echo hi > /home/user/project/out.txt' } },
      { isError: false, output: '(Bash completed with no output)' },
    ])
    expect(await tools('acp-opencode-permissions')).toMatchObject([
      { name: 'bash', input: { command: 'echo hi > /home/user/project/out.txt' } },
      { isError: false, output: '(no output)' },
    ])
    expect(await tools('acp-qwen-permissions')).toMatchObject([
      { name: 'run_shell_command', input: { command: 'echo hi > /home/user/project/out.txt' } },
      { isError: false, output: expect.stringContaining('Exit Code: 0') as string },
    ])
  })

  test('is asked with what it wants, and the options it offers', async () => {
    const { asks } = await play('acp-gemini-permissions', connectOf('acp-gemini'))
    expect(asks[0]).toMatchObject({ title: 'echo hi > /home/user/project/out.txt', kind: 'execute' })
    expect(asks[0]?.options).toContainEqual({ id: 'proceed_once', name: 'Allow', kind: 'allow_once' })
    expect(asks).toHaveLength(3)
  })

  test('of its thoughts is kept apart from its words', async () => {
    for (const name of [
      'acp-claude-thought',
      'acp-codex-thought',
      'acp-opencode-thought',
      'acp-qwen-thought',
      'pi-rpc',
    ]) {
      const { events } = await play(name, connectOf(name))
      const thoughts = events.flat().flatMap((event) => (event.type === 'agent.thought' ? [event.text] : []))
      expect([name, thoughts.join('')]).toEqual([name, expect.stringContaining('weighing the options')])
    }
  })
})

describe('a conversation that is to go on', () => {
  const NOBODY = '00000000-0000-4000-8000-000000000000'
  test.each(['claude', 'codex', 'opencode', 'gemini', 'qwen'])(
    'and is unknown to %s is refused as that',
    async (id) => {
      const name = `acp-${id}-load`
      await expect(play(name, connectOf(name), { life: 1, conversationId: NOBODY })).rejects.toMatchObject({
        name: 'AgentRefused',
        kind: 'unknown_conversation',
      })
    },
  )

  test('but is not yet written by gemini is refused as unknown too', async () => {
    const name = 'acp-gemini-load-too-early'
    await expect(play(name, connectOf(name), { life: 1 })).rejects.toMatchObject({ kind: 'unknown_conversation' })
  })

  test('is opened under its own id', async () => {
    for (const name of ['acp-claude-resume', 'acp-codex-resume', 'acp-opencode-resume', 'acp-qwen-resume']) {
      const { conversationId } = await play(name, connectOf(name))
      expect(conversationId).toMatch(/^(ses_|[0-9a-f]{8}-)/)
    }
    await expect(play('pi-rpc-resume', connectOf('pi'), { conversationId: NOBODY })).rejects.toMatchObject({
      kind: 'unknown_conversation',
    })
  })
})

test('an agent that lacks the mode of the level is refused, not run in another', async () => {
  const claude = DEFINITIONS.find(({ id }) => id === 'claude')
  const qwen = DEFINITIONS.find(({ id }) => id === 'qwen')
  if (!claude || !qwen) throw new Error('no such agents')
  const { live } = programAgent({ ...qwen, session: claude.session }, systemClock)
  if (!live) throw new Error('no sessions')
  await expect(play('acp-qwen-thought', live.connect, { task: { permissions: 'full' } })).rejects.toMatchObject({
    name: 'AgentRefused',
    message: expect.stringContaining('has no mode "bypassPermissions"') as string,
  })
})
