/** Counts the records of programs that their decoders do not know: a program that was updated says new things. */
export interface Drift {
  note(agentId: string): void
  /** Records counted of this version. One other than that counted so far begins at nothing; one that nobody could tell does not. */
  of(agentId: string, version: string | null): number
}

/** In memory: what was printed is in the raw output of its run, and a restart looks anew. */
export function createDrift(): Drift {
  const counts = new Map<string, { version?: string; records: number }>()
  return {
    note(agentId) {
      const found = counts.get(agentId)
      if (found) found.records++
      else counts.set(agentId, { records: 1 })
    },
    of(agentId, version) {
      const found = counts.get(agentId)
      if (!found) return 0
      if (version === null) return found.records
      found.version ??= version
      if (found.version !== version) counts.delete(agentId)
      return found.version === version ? found.records : 0
    },
  }
}
