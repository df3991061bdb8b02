import type { Turn, TurnEnd } from '../live.ts'

/** A turn and the ends of its promises. None of the three rejects unheard. */
export interface OpenTurn {
  readonly turn: Turn
  /** True until it has ended, one way or the other. */
  readonly isOpen: boolean
  wrote(): void
  /** The program's first sign of this turn. */
  sign(): void
  /** Its answer, which is also a sign. */
  end(end: TurnEnd): void
  /** The program is gone: rejects what is still open. */
  fail(error: Error): void
}

/** A turn that was just begun. */
export function openTurn(): OpenTurn {
  const written = Promise.withResolvers<void>()
  const confirmed = Promise.withResolvers<void>()
  const ended = Promise.withResolvers<TurnEnd>()
  let isOpen = true
  for (const { promise } of [written, confirmed, ended]) (promise as Promise<unknown>).catch(() => undefined)
  return {
    turn: { written: written.promise, confirmed: confirmed.promise, ended: ended.promise },
    get isOpen() {
      return isOpen
    },
    wrote: written.resolve,
    sign: confirmed.resolve,
    end(end) {
      isOpen = false
      written.resolve()
      confirmed.resolve()
      ended.resolve(end)
    },
    fail(error) {
      isOpen = false
      for (const { reject } of [written, confirmed, ended]) reject(error)
    },
  }
}
