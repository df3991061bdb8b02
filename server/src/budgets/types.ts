import type { Budget, Spent } from '../model/budget.ts'

/** What each workspace has used today (UTC), as far as agents report it, and what it still may. */
export interface Budgets {
  /** Knows what earlier servers counted today, where the budget has a cap of the day; before the others are called. */
  ready(wsId: string, budget: Budget): Promise<void>
  /** Counts a start. Decides at once. @throws DomainError `budget_reached`, with the seconds to midnight */
  take(wsId: string, budget: Budget): { giveBack(): void }
  /** @throws DomainError `budget_reached` when the tokens or the cost of the day have reached their cap */
  check(wsId: string, budget: Budget): void
  /** Why what is at work is to be ended: the day's cap was passed. */
  overToday(wsId: string, budget: Budget): string | undefined
  /** Adds what was reported since it was last told. */
  spend(wsId: string, spent: Spent): void
}
