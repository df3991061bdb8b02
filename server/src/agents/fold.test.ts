import { expect, test } from 'vitest'
import type { AgentEvent } from './agent.ts'
import { createFold, REPLY_BYTES, type Folded } from './fold.ts'

const STEP = { tokens: 'step', cost: 'step' } as const

function fold(events: AgentEvent[], counting: Parameters<typeof createFold>[0] = STEP): Folded {
  const made = createFold(counting)
  for (const event of events) made.add(event)
  return made.state
}
const message = (text: string, delta?: boolean): AgentEvent => ({
  type: 'agent.message',
  text,
  ...(delta !== undefined && { delta }),
})
const started: AgentEvent = { type: 'tool.started', toolCallId: '1', name: 'npm test' }
const ended: AgentEvent = { type: 'tool.ended', toolCallId: '1', isError: false }

test('the reply is the last message, unless the end gives another', () => {
  expect(fold([]).text).toBeNull()
  expect(fold([message('one'), message('two')]).text).toBe('two')
  expect(fold([message('one'), { type: 'agent.end', ok: true, text: 'final' }]).text).toBe('final')
  expect(fold([message('one'), { type: 'agent.end', ok: true }]).text).toBe('one')
})

test('deltas join; one after a tool, or after a whole message, begins a new message', () => {
  expect(fold([message('a', true), message('b', true)]).text).toBe('ab')
  expect(fold([message('a', true), started, ended, message('b', true), message('c', true)]).text).toBe('bc')
  expect(fold([message('whole'), message('b', true)]).text).toBe('b')
  expect(fold([message('a', true), { type: 'log', message: 'x' }, message('b', true)]).text).toBe('ab')
})

test('of a long reply the end is kept, whole characters only, and it is told', () => {
  const long = fold([message('€'.repeat(REPLY_BYTES))])
  expect(long.textTruncated).toBe(true)
  expect(long.text).toBe('€'.repeat(Math.floor(REPLY_BYTES / 3)))
  const exact = fold([message('x'.repeat(REPLY_BYTES))])
  expect([exact.text?.length, exact.textTruncated]).toEqual([REPLY_BYTES, false])
  expect(fold([message('x'.repeat(2 * REPLY_BYTES)), message('short')]).textTruncated).toBe(false)
})

test('a reply in a million pieces is kept by its end', () => {
  const made = createFold(STEP)
  for (let n = 0; n < 1_000_000; n++) made.add(message(`${n} `, true))
  expect(made.state.textTruncated).toBe(true)
  expect(made.state.text?.endsWith('999998 999999 ')).toBe(true)
  expect(Buffer.byteLength(made.state.text ?? '')).toBe(REPLY_BYTES)
})

test('figures of steps are added up, totals replace, and each cost has its own way', () => {
  const usage = (inputTokens: number, costUsd: number | null): AgentEvent => ({
    type: 'usage',
    inputTokens,
    outputTokens: 1,
    costUsd,
  })
  const events = [usage(10, 0.25), usage(20, null), usage(5, 0.5)]
  const source = 'agent_reported'
  expect(fold(events).usage).toEqual({ inputTokens: 35, outputTokens: 3, costUsd: 0.75, source })
  expect(fold(events, { tokens: 'step', cost: 'total' }).usage).toEqual({
    inputTokens: 35,
    outputTokens: 3,
    costUsd: 0.5,
    source,
  })
  expect(fold(events, { tokens: 'total', cost: 'total' }).usage).toMatchObject({ inputTokens: 5, outputTokens: 1 })
  expect(fold([]).usage).toEqual({ inputTokens: 0, outputTokens: 0, costUsd: null, source: 'none' })
})

test('what single messages used counts once for each, until the whole is told', () => {
  const of = (messageId: string | undefined, inputTokens: number): AgentEvent => ({
    type: 'usage',
    inputTokens,
    outputTokens: 1,
    costUsd: messageId === undefined ? 0.5 : null,
    ...(messageId !== undefined && { messageId }),
  })
  const counting = { tokens: 'conversation', cost: 'conversation' } as const
  const cut = [of('a', 100), of('a', 100), of('b', 110)]
  expect(fold(cut, counting)).toMatchObject({ usage: { inputTokens: 210, outputTokens: 2 }, isUsageOwn: true })
  const whole = fold([...cut, of(undefined, 330), of('c', 120)], counting)
  expect(whole).toMatchObject({ usage: { inputTokens: 330, outputTokens: 1, costUsd: 0.5 }, isUsageOwn: false })
  const many = Array.from({ length: 5_000 }, (_, n) => of(`m${n}`, 1))
  expect(fold(many, counting).usage).toMatchObject({ inputTokens: 5_000, outputTokens: 5_000 })
})

test('the conversation, the last end, and an error it would repeat are kept', () => {
  const retry: AgentEvent = { type: 'agent.retry', attempt: 1, status: 401, message: 'bad key', fatal: true }
  const state = fold([
    { type: 'agent.session', conversationId: 'c-1' },
    { type: 'agent.end', ok: false, error: { kind: 'provider', message: 'first attempt' } },
    { type: 'agent.end', ok: true },
    retry,
  ])
  expect(state).toMatchObject({ conversationId: 'c-1', end: { ok: true }, fatal: { kind: 'auth', message: 'bad key' } })
  expect(fold([{ ...retry, fatal: false }]).fatal).toBeUndefined()
})

test('the tool at work is known while it is', () => {
  expect(fold([started]).openTool).toBe('npm test')
  expect(fold([started, ended]).openTool).toBeNull()
})
