import { z } from 'zod'

/** What a workspace may use: of one run, and of one day (UTC). Source: docs/contract.md 5. */

const tokens = z.int().min(1).max(1_000_000_000_000)
const dollars = z.number().positive().max(1_000_000)

/** Caps on what agents report; what is absent has none. */
export const Budget = z
  .strictObject({
    maxTokensPerRun: tokens.meta({ description: 'Tokens, in and out, after which a run is ended.' }).optional(),
    maxCostUsdPerRun: dollars.meta({ description: 'US dollars after which a run is ended.' }).optional(),
    runsPerDay: z
      .int()
      .min(1)
      .max(1_000_000)
      .meta({ description: 'Runs started and sessions opened in a day, UTC.' })
      .optional(),
    tokensPerDay: tokens
      .meta({ description: 'Tokens, in and out, of all runs and sessions of a day, UTC.' })
      .optional(),
    costUsdPerDay: dollars.meta({ description: 'US dollars of all runs and sessions of a day, UTC.' }).optional(),
  })
  .meta({
    id: 'Budget',
    description:
      'Caps on what agents report, whatever becomes of the run. A run over a cap ends `budget_exceeded`; over a cap of the ' +
      'day nothing is started until midnight UTC: 429 `budget_reached`.',
  })
export type Budget = z.infer<typeof Budget>

/** What was used, of one run or so far in a day. */
export interface Spent {
  tokens: number
  costUsd: number
}

/** What a session's turns used on the last day that it had one. */
export const DaySpent = z.object({ day: z.iso.date(), tokens: z.int().min(0), costUsd: z.number().min(0) })
export type DaySpent = z.infer<typeof DaySpent>

/** What usage that somebody reported comes to; a cost that nobody reported is none. */
export const spentOf = (usage: { inputTokens: number; outputTokens: number; costUsd: number | null }): Spent => ({
  tokens: usage.inputTokens + usage.outputTokens,
  costUsd: usage.costUsd ?? 0,
})

/** The day, UTC, of a moment in milliseconds. */
export const dayOf = (now: number): string => new Date(now).toISOString().slice(0, 10)

/** The day's sum with this added; what was of another day is left behind. */
export function addToDay(before: DaySpent | undefined, { tokens, costUsd }: Spent, day: string): DaySpent {
  const earlier = before?.day === day ? before : { tokens: 0, costUsd: 0 }
  return { day, tokens: earlier.tokens + tokens, costUsd: earlier.costUsd + costUsd }
}

/** Why a run that used this much is over its own cap, in a sentence; undefined while it is not. */
export function overCap({ maxTokensPerRun, maxCostUsdPerRun }: Budget, spent: Spent): string | undefined {
  if (maxTokensPerRun !== undefined && spent.tokens > maxTokensPerRun)
    return `${spent.tokens} tokens; the budget of one run is ${maxTokensPerRun}`
  if (maxCostUsdPerRun !== undefined && spent.costUsd > maxCostUsdPerRun)
    return `${inDollars(spent.costUsd)}; the budget of one run is ${inDollars(maxCostUsdPerRun)}`
  return undefined
}

/** US dollars, to a hundredth of a cent. */
export const inDollars = (amount: number): string => `$${Number(amount.toFixed(4))}`
