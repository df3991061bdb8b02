import { readFileSync } from 'node:fs'
import { assert, constantFrom, json, oneof, property, record, string } from 'fast-check'
import { describe, expect, test } from 'vitest'
import { createLineSplitter } from '../process/lines.ts'
import type { EndReason } from '../process/types.ts'
import { judge, type Verdict } from '../runs/outcome.ts'
import { DEFINITIONS } from './adapters.ts'
import type { AgentEvent } from './agent.ts'
import { createFold, type Folded } from './fold.ts'

const SAMPLES = new URL('../../test/samples/', import.meta.url)

interface Sample {
  file: string
  stderr?: string
  agent: string
  exitCode: number | null
  signal: string | null
  stoppedBy: 'fatal' | 'caller' | 'timeout' | 'interrupt' | null
  expect: {
    status: string
    errorKind: string | null
    terminalRecord: boolean
    text: string
    sessionId: string | null
    usage: { inputTokens: number; outputTokens: number; cachedTokens: number; costUsd?: number } | null
  }
}
const read = (name: string): Buffer => readFileSync(new URL(name, SAMPLES))
const samples = JSON.parse(read('index.json').toString('utf8')) as Sample[]
const sample = (name: string): Sample => {
  const found = samples.find(({ file }) => file === `${name}.stdout.jsonl`)
  if (!found) throw new Error(`no sample ${name}`)
  return found
}

const REASONS: Record<string, EndReason> = { fatal: 'fatal', caller: 'canceled', timeout: 'timed_out' }
const KINDS: Record<string, string> = {
  agent_not_logged_in: 'auth',
  rate_limited: 'rate_limit',
  provider_error: 'provider',
  agent_error: 'agent',
  exit_nonzero: 'agent',
  no_result: 'agent',
}

/** A small generator, so that a failure happens again (Lehmer, modulus 2^31 - 1). */
function randomly(seed: number): (below: number) => number {
  let state = seed
  return (below) => (state = (state * 48_271) % 2_147_483_647) % below
}

/** The sample as a run would meet it: cut into chunks anywhere, split, decoded, folded and judged. */
function replay(one: Sample, seed = 1): { events: AgentEvent[]; folded: Folded; verdict: Verdict } {
  const definition = DEFINITIONS.find(({ id }) => id === one.agent)
  if (!definition) throw new Error(`no agent ${one.agent}`)
  const splitter = createLineSplitter()
  const fold = createFold(definition.usage)
  const events: AgentEvent[] = []
  const bytes = read(one.file)
  const next = randomly(seed)
  const lines = []
  for (let at = 0; at < bytes.length;) {
    const size = 1 + next(400)
    lines.push(...splitter.push(Buffer.from(bytes.subarray(at, at + size))))
    at += size
  }
  for (const line of [...lines, ...splitter.end()]) {
    if (line.tooLong || line.text.trim() === '') continue
    for (const event of definition.decode(line.text)) {
      events.push(event)
      fold.add(event)
    }
  }
  const reason = REASONS[one.stoppedBy ?? ''] ?? 'exited'
  const exit = { reason, exitCode: one.exitCode, signal: one.signal, durationMs: 1, survivors: 0, error: null }
  const stderr = one.stderr ? read(one.stderr).toString('utf8') : ''
  for (const line of stderr.split('\n')) events.push(...(definition.decodeStderr?.(line) ?? []))
  const times = { timeoutMs: 30_000, idleTimeoutMs: null }
  const verdict = judge({ exit, folded: fold.state, endsWithRecord: true, stderr, ...times })
  return { events, folded: fold.state, verdict }
}
const eventsOf = (name: string): AgentEvent[] => replay(sample(name)).events

describe('a recorded run comes to what its index says', () => {
  for (const [number, one] of samples.entries()) {
    test(one.file.replace('.stdout.jsonl', ''), () => {
      const { events, folded, verdict } = replay(one, number + 1)
      const { usage, ...expected } = one.expect
      expect({
        status: verdict.status,
        errorKind: verdict.status === 'failed' ? KINDS[verdict.reason ?? ''] : null,
        terminalRecord: folded.end !== undefined,
        text: folded.text ?? '',
        sessionId: folded.conversationId,
      }).toEqual(expected)
      expect(folded.usage.source).toBe(usage ? 'agent_reported' : 'none')
      if (usage) {
        expect(folded.usage).toMatchObject({ inputTokens: usage.inputTokens, outputTokens: usage.outputTokens })
        expect(folded.usage.costUsd ?? undefined).toEqual(
          usage.costUsd === undefined ? undefined : (expect.closeTo(usage.costUsd, 9) as number),
        )
      }
      expect(events.filter((event) => event.type === 'log' && event.code === 'unknown_record')).toEqual([])
    })
  }
})

describe('the events of a run', () => {
  test('show tools from their start to their end, failed ones as such where the program tells', () => {
    for (const agent of ['claude', 'codex', 'opencode', 'pi', 'gemini', 'qwen']) {
      const events = eventsOf(`${agent}-tool-fails`)
      const started = events.flatMap((event) => (event.type === 'tool.started' ? [event.toolCallId] : []))
      const ended = events.flatMap((event) => (event.type === 'tool.ended' ? [event] : []))
      expect(started).toHaveLength(1)
      const output = expect.stringContaining('/nowhere') as string
      expect(ended).toEqual([{ type: 'tool.ended', toolCallId: started[0], isError: agent !== 'gemini', output }])
    }
  })

  test('show what a program thinks, where it prints that', () => {
    for (const agent of ['claude', 'codex', 'pi', 'qwen']) {
      expect(eventsOf(`${agent}-thought`)).toContainEqual({ type: 'agent.thought', text: 'weighing the options' })
    }
  })

  test('show every attempt, and a wrong key as one that is not to be repeated', () => {
    expect(eventsOf('claude-500')).toContainEqual(
      expect.objectContaining({ type: 'agent.retry', attempt: 1, of: 2, status: 500 }),
    )
    expect(eventsOf('claude-401')).toContainEqual(
      expect.objectContaining({ type: 'agent.retry', status: 401, fatal: true }),
    )
    expect(eventsOf('codex-401')).toContainEqual(expect.objectContaining({ type: 'agent.retry', attempt: 1, of: 2 }))
    expect(eventsOf('qwen-429')).toContainEqual(expect.objectContaining({ type: 'agent.retry', delayMs: 60_000 }))
    expect(eventsOf('gemini-500')).toContainEqual(expect.objectContaining({ type: 'agent.retry', status: 500 }))
  })

  test('show a limit that is waited for as that, with all the program tells of it; opencode tells nothing', () => {
    const waits = (agent: string) => eventsOf(`${agent}-429`).filter(({ type }) => type === 'agent.waiting')
    const kind = 'rate_limit'
    expect(waits('claude')).toEqual([
      { type: 'agent.waiting', kind, attempt: 1, of: 2, delayMs: 1_175, status: 429, message: 'rate_limit' },
      { type: 'agent.waiting', kind, attempt: 2, of: 2, delayMs: 1_248, status: 429, message: 'rate_limit' },
    ])
    expect(waits('codex')).toMatchObject([
      { kind, attempt: 1, of: 2 },
      { kind, attempt: 2, of: 2 },
    ])
    expect(waits('pi')).toMatchObject(
      [2_000, 4_000, 8_000].map((delayMs, n) => ({ kind, attempt: n + 1, of: 3, delayMs })),
    )
    expect(waits('gemini')).toMatchObject([
      { kind, attempt: 1, status: 429 },
      { kind, attempt: 2, status: 429 },
    ])
    expect(waits('qwen')).toMatchObject([{ kind, attempt: 1, of: 10, delayMs: 60_000 }])
    expect(waits('opencode')).toEqual([])
    for (const agent of ['claude', 'codex', 'pi', 'gemini']) {
      expect(eventsOf(`${agent}-429`).filter(({ type }) => type === 'agent.retry')).toEqual([])
    }
  })

  test('have the time that the service asks codex to wait', () => {
    const message = 'Reconnecting... 1/5 (Rate limit reached for gpt-5. Please try again in 1.25s.)'
    expect(decoder('codex')(JSON.stringify({ type: 'error', message }))).toMatchObject([
      { type: 'agent.waiting', attempt: 1, of: 5, delayMs: 1_250 },
    ])
  })

  test('show a tool that was not allowed', () => {
    expect(eventsOf('claude-permission-denied')).toContainEqual(
      expect.objectContaining({ type: 'permission.denied', name: 'Bash' }),
    )
  })
})

const decoder = (id: string): ((line: string) => AgentEvent[]) =>
  DEFINITIONS.find((definition) => definition.id === id)?.decode ?? (() => [])

test('a record that nobody knows is one log event with its type', () => {
  for (const { decode } of DEFINITIONS) {
    expect(decode('{"type":"from_the_future","secret":1}')).toEqual([
      { type: 'log', code: 'unknown_record', message: 'a record of type "from_the_future"' },
    ])
    expect(decode('not JSON')).toEqual([{ type: 'log', message: 'not JSON' }])
    const deep = `{"type":"deep","input":${'['.repeat(1_000)}${']'.repeat(1_000)}}`
    expect(decode(deep)).toEqual([{ type: 'log', message: deep.slice(0, 500) }])
  }
  expect(decoder('claude')('{"type":"system","subtype":"new"}')).toMatchObject([
    { message: 'a record of type "system/new"' },
  ])
})

test('pi says how its conversation stands, and nothing of that is news', () => {
  const decode = decoder('pi')
  const silent =
    'compaction_end queue_update session_info_changed thinking_level_changed summarization_retry_attempt_start summarization_retry_finished'
  for (const type of silent.split(' ')) expect([type, decode(JSON.stringify({ type }))]).toEqual([type, []])
  expect(decode('{"type":"compaction_start","reason":"threshold"}')).toEqual([
    { type: 'log', message: 'the conversation is summarized: threshold' },
  ])
  const again =
    '{"type":"summarization_retry_scheduled","attempt":1,"maxAttempts":3,"delayMs":2000,"errorMessage":"no"}'
  expect(decode(again)).toEqual([{ type: 'agent.retry', attempt: 1, of: 3, delayMs: 2000, message: 'no' }])
})

test('what a tool came to is in its event, of a long text both ends, and of parts their texts', () => {
  const long = `begin${'x'.repeat(20_000)}end`
  const claude = (content: unknown) =>
    decoder('claude')(JSON.stringify({ type: 'user', message: { content: [{ type: 'tool_result', content }] } }))
  expect(claude([{ type: 'text', text: 'a' }, { type: 'image' }, { type: 'text', text: 'b' }])).toMatchObject([
    { output: 'a\nb' },
  ])
  const [cut] = claude(long)
  expect(cut).toMatchObject({ output: expect.stringMatching(/^beginx+\n\[12008 characters cut\]\nx+end$/) as string })
  expect(claude('x'.repeat(8_000))).toMatchObject([{ output: 'x'.repeat(8_000) }])
  expect(claude(7)[0]).not.toHaveProperty('output')
  const codex = (item: object) => decoder('codex')(JSON.stringify({ type: 'item.completed', item }))
  expect(codex({ type: 'file_change', changes: [{ path: 'a.ts', kind: 'update' }] })).toMatchObject([
    { output: 'update a.ts' },
  ])
  const content = [{ type: 'text', text: 'from a server' }]
  expect(codex({ type: 'mcp_tool_call', result: { content } })).toMatchObject([{ output: 'from a server' }])
})

test('what the cache gave counts as input, where the program counts it apart', () => {
  const apart = { input_tokens: 1, cache_creation_input_tokens: 20, cache_read_input_tokens: 300, output_tokens: 4 }
  const result = (usage: object): string => JSON.stringify({ type: 'result', is_error: false, usage })
  expect(decoder('claude')(result(apart))[0]).toMatchObject({ inputTokens: 321, outputTokens: 4 })
  const within = { input_tokens: 301, cache_read_input_tokens: 300, output_tokens: 4 }
  expect(decoder('qwen')(result(within))[0]).toMatchObject({ inputTokens: 301 })
})

test('the end of a usage limit is told, when it is known', () => {
  const info = { status: 'rejected', resetsAt: 1_800_000_000 }
  expect(decoder('claude')(JSON.stringify({ type: 'rate_limit_event', rate_limit_info: info }))).toEqual([
    {
      type: 'agent.waiting',
      kind: 'rate_limit',
      status: 429,
      message: 'usage limit reached',
      resetsAt: '2027-01-15T08:00:00.000Z',
    },
  ])
  expect(decoder('claude')('{"type":"rate_limit_event","rate_limit_info":{"status":"allowed"}}')).toEqual([])
})

test('no line makes a decoder throw, and an id that could be taken for an option is not believed', () => {
  const types = [...new Set(samples.flatMap((one) => typesOf(one)))]
  const known = record({ type: constantFrom(...types), subtype: string(), item: json(), message: json(), part: json() })
  const line = oneof(
    string(),
    json(),
    known.map((value) => JSON.stringify(value)),
  )
  assert(property(line, (text) => DEFINITIONS.every(({ decode }) => Array.isArray(decode(text)))))
  expect(decoder('codex')('{"type":"thread.started","thread_id":"--dangerous"}')).toEqual([])
})

function typesOf(one: Sample): string[] {
  const lines = read(one.file).toString('utf8').split('\n').filter(Boolean)
  return lines.map((line) => (JSON.parse(line) as { type: string }).type)
}
