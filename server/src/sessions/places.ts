/** Places among the live sessions: each process takes one and gives it back. Who finds none waits in order. */
export interface Places {
  /** Takes a place if one is free and nobody waits for it. Decides at once. */
  tryTake(id: string): boolean
  /** Calls `start` once a place is taken for it, perhaps at once. */
  wait(id: string, start: () => void): void
  free(id: string): void
  taken(): number
}

export function createPlaces(limit: number): Places {
  const taken = new Set<string>()
  const waiting = new Map<string, () => void>()

  function next(): void {
    for (const [id, start] of waiting) {
      if (taken.size >= limit) return
      waiting.delete(id)
      taken.add(id)
      start()
    }
  }

  return {
    tryTake(id) {
      if (taken.size >= limit || waiting.size > 0) return false
      taken.add(id)
      return true
    },
    wait(id, start) {
      waiting.set(id, start)
      next()
    },
    free(id) {
      waiting.delete(id)
      if (taken.delete(id)) next()
    },
    taken: () => taken.size,
  }
}
