import type { Candidate, Dispatch, Place } from './dispatch.ts'

/** Places and queue of one server, in memory: the rows are the truth after a restart. */
export function createDispatch(limits: { maxRuns: number; maxQueued: number }): Dispatch {
  const running = new Map<string, Candidate>()
  let waiting: { run: Candidate; start: (place: Place) => void }[] = []

  function hasRoom(run: Candidate): boolean {
    if (running.size >= limits.maxRuns) return false
    if (run.workspaceLimit === null) return true
    let here = 0
    for (const other of running.values()) if (other.wsId === run.wsId) here++
    return here < run.workspaceLimit
  }
  function occupy(run: Candidate): Place {
    running.set(run.id, run)
    let mine = true
    return {
      free() {
        if (!mine) return
        mine = false
        running.delete(run.id)
        startNext()
      },
    }
  }
  /** The oldest that has room; one whose workspace is full does not hold up the others. */
  function startNext(): void {
    const next = waiting.find(({ run }) => hasRoom(run))
    if (!next) return
    waiting = waiting.filter((other) => other !== next)
    next.start(occupy(next.run))
  }

  return {
    // A free place goes to the queue at once, so whoever finds one here overtakes nobody.
    take: (run) => (hasRoom(run) ? occupy(run) : undefined),
    queue(run, start, always = false) {
      if (hasRoom(run)) {
        start(occupy(run))
        return true
      }
      if (!always && waiting.length >= limits.maxQueued) return false
      waiting.push({ run, start })
      return true
    },
    leave(id) {
      const before = waiting.length
      waiting = waiting.filter(({ run }) => run.id !== id)
      return waiting.length < before
    },
    counts: () => ({
      running: running.size,
      queued: waiting.length,
      limit: limits.maxRuns,
      queueLimit: limits.maxQueued,
    }),
  }
}
