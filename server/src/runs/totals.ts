import type { Counting } from '../agents/agent.ts'
import type { Folded } from '../agents/fold.ts'
import type { RunRow, Totals, Usage } from '../model.ts'
import type { Table } from '../store/table.ts'

/** What an agent had counted in a conversation before this run of it; undefined: nothing. */
export async function totalsBefore(
  runs: Table<RunRow>,
  conversationId: string,
  taskId: string,
): Promise<Totals | undefined> {
  const newest = await runs.list({ where: { conversationId }, limit: 2 })
  return newest.find(({ id }) => id !== taskId)?.totals
}

/** What an agent told of its usage; see `Folded`. */
export type Reported = Pick<Folded, 'usage' | 'isUsageOwn'>

const NO_TOKENS = { inputTokens: 0, outputTokens: 0 }

/**
 * What a run used itself, where its agent reports totals of the whole conversation: less what an earlier run of that
 * conversation left. A total below that means that the program counts anew. `totals` is for the next run.
 */
export function ownUsage(
  { usage: reported, isUsageOwn }: Reported,
  counting: { tokens: Counting; cost: Counting },
  before: Totals | undefined,
): { usage: Usage; totals?: Totals } {
  const isTotal = { tokens: counting.tokens === 'conversation', cost: counting.cost === 'conversation' }
  if (!isTotal.tokens && !isTotal.cost) return { usage: reported }
  const earlier = before ?? { inputTokens: 0, outputTokens: 0, costUsd: 0 }
  const less = (total: number, part: number): number => (total < part ? total : total - part)
  const { inputTokens, outputTokens, costUsd } = reported
  if (isUsageOwn) {
    const { inputTokens: input, outputTokens: output } = isTotal.tokens ? reported : NO_TOKENS
    const totals = { inputTokens: earlier.inputTokens + input, outputTokens: earlier.outputTokens + output }
    return { usage: reported, totals: { ...totals, costUsd: earlier.costUsd } }
  }
  return {
    usage: {
      inputTokens: isTotal.tokens ? less(inputTokens, earlier.inputTokens) : inputTokens,
      outputTokens: isTotal.tokens ? less(outputTokens, earlier.outputTokens) : outputTokens,
      costUsd: isTotal.cost && costUsd !== null ? dollars(less(costUsd, earlier.costUsd)) : costUsd,
      source: reported.source,
    },
    totals: {
      inputTokens: isTotal.tokens ? Math.max(inputTokens, earlier.inputTokens) : 0,
      outputTokens: isTotal.tokens ? Math.max(outputTokens, earlier.outputTokens) : 0,
      costUsd: isTotal.cost ? Math.max(costUsd ?? 0, earlier.costUsd) : 0,
    },
  }
}

/** Without the dust of a subtraction of binary fractions. */
function dollars(amount: number): number {
  return Number(amount.toFixed(10))
}
