import { overCap, spentOf, type Budget, type Spent } from '../model/budget.ts'
import type { Budgets } from '../budgets/types.ts'
import type { Usage } from '../model.ts'

/** Watches what one run uses. */
export interface Meter {
  /** Told what the run has used up to now; why it has to end, or undefined. */
  read(usage: Usage): string | undefined
}

/** Each part of what a run reports is counted for the day once, whatever becomes of the run. */
export function createMeter(budgets: Budgets, { id: wsId, budget }: { id: string; budget: Budget }): Meter {
  let counted: Spent = { tokens: 0, costUsd: 0 }
  return {
    read(usage) {
      const now = spentOf(usage)
      budgets.spend(wsId, { tokens: now.tokens - counted.tokens, costUsd: now.costUsd - counted.costUsd })
      counted = now
      return overCap(budget, now) ?? budgets.overToday(wsId, budget)
    },
  }
}
