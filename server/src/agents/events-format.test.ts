import { assert, json, oneof, property, string } from 'fast-check'
import { expect, test } from 'vitest'
import { decodeEvents } from './events-format.ts'

const decode = (event: unknown): unknown => decodeEvents(JSON.stringify(event))

test('a line in our words is that event, without fields we do not know', () => {
  expect(decode({ type: 'agent.message', text: 'hi', delta: true, model: 'x' })).toEqual([
    { type: 'agent.message', text: 'hi', delta: true },
  ])
  expect(decode({ type: 'tool.ended', toolCallId: '1' })).toEqual([
    { type: 'tool.ended', toolCallId: '1', isError: false },
  ])
  expect(decode({ type: 'usage', inputTokens: 3 })).toEqual([
    { type: 'usage', inputTokens: 3, outputTokens: 0, costUsd: null },
  ])
  expect(decode({ type: 'agent.end', ok: false, error: { message: 'no' } })).toEqual([
    { type: 'agent.end', ok: false, error: { kind: 'agent', message: 'no' } },
  ])
})

test('what is none of our words, or ours with wrong fields, is one log event of at most 500 characters', () => {
  const lines = [
    'plain text',
    '{"type":"agent.unheard"}',
    '{"type":"usage","inputTokens":-1}',
    '{"type":"usage","inputTokens":1.5}',
    '{"type":"agent.message"}',
    '[1]',
    `{"type":"agent.waiting","resetsAt":"2026-01-01T00:00:00.${'0'.repeat(1_000)}Z"}`,
    `{"type":"tool.started","toolCallId":"1","name":"x","input":${'['.repeat(60_000)}${']'.repeat(60_000)}}`,
    'null',
    '{"type":"agent.message","text":',
    'x'.repeat(2_000),
  ]
  for (const line of lines) expect(decodeEvents(line)).toEqual([{ type: 'log', message: line.slice(0, 500) }])
})

test('a conversation id that could be taken for an option, or for several words, is not believed', () => {
  for (const conversationId of ['--dangerous', '-x', 'a b', 'a\nb', '', 'x'.repeat(201), '\u0000']) {
    expect(decode({ type: 'agent.session', conversationId })).toMatchObject([{ type: 'log' }])
  }
  const conversationId = '0199-a_b.c:d/é'
  expect(decode({ type: 'agent.session', conversationId })).toEqual([{ type: 'agent.session', conversationId }])
})

test('no line makes it throw', () => {
  assert(property(oneof(string(), json()), (line) => decodeEvents(line).length === 1))
})

test('a limit that is waited for has the time of its end, when that is a time', () => {
  const waiting = { type: 'agent.waiting', delayMs: 5, resetsAt: '2027-01-15T08:00:00Z' }
  expect(decode(waiting)).toEqual([{ ...waiting, kind: 'rate_limit' }])
  expect(decode({ type: 'agent.waiting', resetsAt: 'tomorrow' })).toMatchObject([{ type: 'log' }])
})
