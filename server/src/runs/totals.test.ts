import { expect, test } from 'vitest'
import type { Usage } from '../model.ts'
import { ownUsage, type Reported } from './totals.ts'

const reported = (inputTokens: number, outputTokens: number, costUsd: number | null = null): Usage => ({
  inputTokens,
  outputTokens,
  costUsd,
  source: 'agent_reported',
})
/** As the program told it in the end. */
const of = (usage: Usage): Reported => ({ usage, isUsageOwn: false })

test('figures of the run itself stay as they are, and leave nothing for the next', () => {
  const counting = { tokens: 'step', cost: 'total' } as const
  expect(ownUsage(of(reported(3, 2, 1)), counting, undefined)).toEqual({ usage: reported(3, 2, 1) })
})

test('of totals of the conversation a run counts what it added', () => {
  const counting = { tokens: 'conversation', cost: 'total' } as const
  const first = ownUsage(of(reported(210, 41)), counting, undefined)
  expect(first).toEqual({ usage: reported(210, 41), totals: { inputTokens: 210, outputTokens: 41, costUsd: 0 } })
  const second = ownUsage(of(reported(310, 61)), counting, first.totals)
  expect(second).toEqual({ usage: reported(100, 20), totals: { inputTokens: 310, outputTokens: 61, costUsd: 0 } })
})

test('tokens of a turn and cost of the conversation go together', () => {
  const counting = { tokens: 'total', cost: 'conversation' } as const
  const first = ownUsage(of(reported(330, 63, 0.00258)), counting, undefined)
  const second = ownUsage(of(reported(100, 20, 0.0033799999999999998)), counting, first.totals)
  expect(second.usage).toEqual(reported(100, 20, 0.0008))
})

test('a run that reported nothing hands on what was before; a total that shrank is taken for the run’s own', () => {
  const counting = { tokens: 'conversation', cost: 'conversation' } as const
  const before = { inputTokens: 10, outputTokens: 5, costUsd: 1 }
  const none: Usage = { inputTokens: 0, outputTokens: 0, costUsd: null, source: 'none' }
  expect(ownUsage(of(none), counting, before)).toEqual({ usage: none, totals: before })
  expect(ownUsage(of(reported(4, 2, 0.5)), counting, before).usage).toEqual(reported(4, 2, 0.5))
})

test('what single messages used is the run’s own, and moves on what the conversation has counted', () => {
  const cut = { usage: reported(100, 20), isUsageOwn: true }
  const tokens = { tokens: 'conversation', cost: 'total' } as const
  const before = { inputTokens: 430, outputTokens: 83, costUsd: 0.5 }
  const totals = { inputTokens: 530, outputTokens: 103, costUsd: 0.5 }
  expect(ownUsage(cut, tokens, before)).toEqual({ usage: cut.usage, totals })
  const cost = { tokens: 'total', cost: 'conversation' } as const
  expect(ownUsage(cut, cost, { inputTokens: 0, outputTokens: 0, costUsd: 0.5 })).toEqual({
    usage: cut.usage,
    totals: { inputTokens: 0, outputTokens: 0, costUsd: 0.5 },
  })
})
