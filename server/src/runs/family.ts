import { encodeTime } from 'ulid'
import { DomainError } from '../errors.ts'
import { LIMITS, type RunRow, type Trigger } from '../model.ts'
import type { Table } from '../store/table.ts'
import type { Control } from './attend.ts'

/** Rows looked at at once. */
const PAGE = 200

/** What the runs that are at work know of each other. */
export interface Kin {
  control: Control
}

/** Runs that start runs: what may start, what a run has started, and whom its cancel reaches. */
export function createFamily(deps: { runs: Table<RunRow>; active: ReadonlyMap<string, Kin>; now(): number }) {
  const { runs, active, now } = deps

  return {
    /**
     * The runs above one with this trigger, from its parent on, and the session that started the first of them.
     *
     * @throws DomainError `nested_too_deep` when the run would stand deeper below the first than `LIMITS.runDepth`
     */
    async ancestors(trigger: Trigger): Promise<string[]> {
      const above: string[] = []
      let started: Trigger | undefined = trigger
      for (let depth = 1; started; depth++) {
        const { parentTaskId, parentSessionId }: Trigger = started
        if (parentSessionId !== undefined) above.push(parentSessionId)
        if (parentTaskId === null) break
        if (depth > LIMITS.runDepth) {
          throw new DomainError(
            'nested_too_deep',
            `the run would stand ${depth} levels below the first; the limit is ${LIMITS.runDepth}`,
            { hint: 'let a run nearer to the first one start it' },
          )
        }
        above.push(parentTaskId)
        started = (await runs.get(parentTaskId))?.trigger
      }
      return above
    },

    /** Whether a run above it was canceled, or died with its server: nobody waits for it. */
    async isOrphan(ancestors: string[]): Promise<boolean> {
      const above = await Promise.all(ancestors.map((id) => runs.get(id)))
      return above.some((row) => row?.status === 'canceled' || row?.status === 'interrupted')
    },

    /**
     * Whether the run that starts another is still at work: asked in the same step in which the other is registered, so
     * that a cancel reaches it or it does not start. @throws DomainError `run_ended`
     */
    checkParent({ parentTaskId }: Trigger): void {
      if (parentTaskId === null) return
      const parent = active.get(parentTaskId)
      if (parent && !parent.control.abort.signal.aborted) return
      throw new DomainError('run_ended', `${parentTaskId} has ended or is being canceled: it starts nothing any more`)
    },

    /** The runs at work that this run or session started, and those that they started, whether they are at work or not. */
    descendants: (id: string): string[] =>
      [...active].filter(([, { control }]) => control.ancestors.includes(id)).map(([taskId]) => taskId),

    /** The runs that a run started, oldest first; they were made while it lived, which bounds the look. */
    async children(parent: RunRow): Promise<RunRow[]> {
      const until = parent.finishedAt === null ? now() : Date.parse(parent.finishedAt)
      const found: RunRow[] = []
      let after = `headless_${encodeTime(until + 1)}${'Z'.repeat(16)}`
      for (;;) {
        const page = await runs.list({ after, limit: PAGE })
        found.push(...page.filter((row) => row.trigger.parentTaskId === parent.id))
        const last = page.at(-1)
        if (page.length < PAGE || last === undefined || last.id < parent.id) return found.reverse()
        after = last.id
      }
    },
  }
}
