import type { Counting } from '../agents/agent.ts'
import type { RunRow, Usage } from '../model.ts'
import type { Reported } from './totals.ts'

/** What a run is asked that ended without a word to anybody, where its workspace wants that. */
export const NUDGE_PROMPT = [
  'You have ended without reporting. Nothing else is asked of you now but this:',
  'if there is a result that a person should see, run `postern inbox push --title "<one line>" --body "<markdown>"`',
  '(with `--file <path>` for each document); if there is none, run `postern inbox none "<why>"`.',
].join('\n')

/** Milliseconds below which another turn is not worth its start. */
export const LEAST_NUDGE_MS = 1_000

/** `reported` when it left Inbox entries, `silent` when it said that there is nothing to report, else `no_report`. */
export function outcomeOf(inboxIds: string[], silentWhy: string | null): NonNullable<RunRow['outcome']> {
  if (inboxIds.length > 0) return 'reported'
  return silentWhy === null ? 'no_report' : 'silent'
}

/** What two programs of one run used: totals of a conversation hold the first already, all others are added. */
export function usageOfBoth(
  { usage: first, isUsageOwn }: Reported,
  { usage: second, isUsageOwn: isSecondOwn }: Reported,
  counting: { tokens: Counting; cost: Counting },
): Reported {
  if (second.source === 'none') return { usage: first, isUsageOwn }
  const isTotal = { tokens: counting.tokens === 'conversation' && !isSecondOwn, cost: counting.cost === 'conversation' }
  const costs = isTotal.cost && second.costUsd !== null ? [second.costUsd] : [first.costUsd, second.costUsd]
  const known = costs.filter((cost) => cost !== null)
  const usage: Usage = {
    inputTokens: isTotal.tokens ? second.inputTokens : first.inputTokens + second.inputTokens,
    outputTokens: isTotal.tokens ? second.outputTokens : first.outputTokens + second.outputTokens,
    costUsd: known.length === 0 ? null : known.reduce((sum, cost) => sum + cost, 0),
    source: second.source,
  }
  return { usage, isUsageOwn: isUsageOwn && isSecondOwn }
}
