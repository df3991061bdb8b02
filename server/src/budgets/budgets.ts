import type { Clock } from '../clock.ts'
import { DomainError } from '../errors.ts'
import type { RunRow } from '../model.ts'
import { dayOf, inDollars, spentOf, type Budget, type Spent } from '../model/budget.ts'
import type { SessionRow } from '../model/sessions.ts'
import { cached } from '../store/cached.ts'
import type { Table } from '../store/table.ts'
import type { Budgets } from './types.ts'

const DAY_MS = 24 * 60 * 60 * 1_000
/** Rows looked through at once. */
const PAGE = 500
/** Days of one workspace that are remembered: a clock that jumps to another day and back finds its sums again. */
const DAYS_KEPT = 3
/** Ended sessions looked at for what they used today, newest first. */
const ENDED_SESSIONS = 1_000

/** A day's sums of one workspace. */
interface Day extends Spent {
  day: string
  runs: number
}

/**
 * See `Budgets`. What this server sees is summed in memory; what earlier ones saw today is read off the rows, which
 * lets nothing be counted twice or lost with a crash.
 */
export async function openBudgets(deps: {
  runs: Table<RunRow>
  sessions: Table<SessionRow>
  clock: Clock
}): Promise<Budgets> {
  const { runs, sessions, clock } = deps
  const startedAt = clock.now()
  const firstDay = dayOf(startedAt)
  const midnight = Date.parse(firstDay)
  /** By workspace, the newest made last. */
  const days = new Map<string, Day[]>()
  /** Reading what earlier servers left of a workspace, once. */
  const readings = new Map<string, Promise<void>>()

  function dayFor(wsId: string): Day {
    const day = dayOf(clock.now())
    const kept = days.get(wsId) ?? []
    const found = kept.find((each) => each.day === day)
    if (found) return found
    const made = { day, runs: 0, tokens: 0, costUsd: 0 }
    days.set(wsId, [...kept, made].slice(-DAYS_KEPT))
    return made
  }
  function add(wsId: string, { tokens, costUsd }: Spent, count: number): void {
    const found = dayFor(wsId)
    found.runs += count
    found.tokens += tokens
    found.costUsd += costUsd
  }

  const open = await sessions.list({ where: { state: 'suspended' } })
  const ended = await sessions.list({ where: { state: 'ended' }, limit: ENDED_SESSIONS })
  for (const { wsId, createdAt, spent } of [...open, ...ended]) {
    const count = Date.parse(createdAt) >= midnight ? 1 : 0
    add(wsId, spent?.day === firstDay ? spent : { tokens: 0, costUsd: 0 }, count)
  }

  /** Runs of earlier servers: begun today, or ended today though begun the day before. Counted once all were read. */
  async function readRuns(wsId: string): Promise<void> {
    const sum = { tokens: 0, costUsd: 0 }
    let count = 0
    for (let after: string | undefined, isOver = false; !isOver;) {
      const rows = await runs.list({ where: { wsId }, limit: PAGE, ...(after !== undefined && { after }) })
      for (const { createdAt, finishedAt, usage } of rows) {
        const [begun, over] = [Date.parse(createdAt), finishedAt === null ? Infinity : Date.parse(finishedAt)]
        isOver ||= begun < midnight - DAY_MS
        if (begun >= midnight && begun < startedAt) count++
        if (isOver || over < midnight || over >= startedAt) continue
        const spent = spentOf(usage)
        sum.tokens += spent.tokens
        sum.costUsd += spent.costUsd
      }
      isOver ||= rows.length < PAGE
      after = rows.at(-1)?.id
    }
    if (dayOf(clock.now()) === firstDay) add(wsId, sum, count) // else another day has begun meanwhile
  }

  function refuse(what: string): never {
    const now = clock.now()
    const seconds = Math.max(1, Math.ceil((Date.parse(dayOf(now)) + DAY_MS - now) / 1_000))
    throw new DomainError('budget_reached', `${what}; it begins anew at midnight UTC`, {
      retryAfterSeconds: seconds,
      hint: 'postern workspace set <id> --budget-…',
    })
  }

  function overToday(wsId: string, { tokensPerDay, costUsdPerDay }: Budget, isReached = false): string | undefined {
    const { tokens, costUsd } = dayFor(wsId)
    const isOver = (spent: number, cap: number): boolean => (isReached ? spent >= cap : spent > cap)
    if (tokensPerDay !== undefined && isOver(tokens, tokensPerDay))
      return `${tokens} tokens were used today in ${wsId}; the budget of a day is ${tokensPerDay}`
    if (costUsdPerDay !== undefined && isOver(costUsd, costUsdPerDay))
      return `${inDollars(costUsd)} were used today in ${wsId}; the budget of a day is ${inDollars(costUsdPerDay)}`
    return undefined
  }
  function check(wsId: string, budget: Budget): void {
    const reached = overToday(wsId, budget, true)
    if (reached !== undefined) refuse(reached)
  }

  return {
    async ready(wsId, { runsPerDay, tokensPerDay, costUsdPerDay }) {
      if (runsPerDay === undefined && tokensPerDay === undefined && costUsdPerDay === undefined) return
      await cached(readings, wsId, () => readRuns(wsId))
    },
    take(wsId, budget) {
      check(wsId, budget)
      const day = dayFor(wsId)
      if (budget.runsPerDay !== undefined && day.runs >= budget.runsPerDay)
        refuse(`${day.runs} runs were started today in ${wsId}; the budget of a day is ${budget.runsPerDay}`)
      day.runs++
      return { giveBack: () => void day.runs-- }
    },
    check,
    overToday: (wsId, budget) => overToday(wsId, budget),
    spend: (wsId, spent) => add(wsId, spent, 0),
  }
}
