/** A run as the places see it. */
export interface Candidate {
  id: string
  wsId: string
  /** Most runs at once in its workspace; null: no own limit. */
  workspaceLimit: number | null
}

/** The right to run one run; one owner, freed once. */
export interface Place {
  free(): void
}

/**
 * Places for runs and the queue before them. `take` and `free` decide without awaiting: finding a place and taking it
 * is one synchronous step (decision 0009).
 */
export interface Dispatch {
  /** A place, or undefined when the server or the workspace is full, or others wait for the same. */
  take(run: Candidate): Place | undefined
  /**
   * Waits in order for a place; false: the queue is full. `start` is called once, with the place. `always`: also beyond
   * the limit, for runs that were accepted before.
   */
  queue(run: Candidate, start: (place: Place) => void, always?: boolean): boolean
  /** Leaves the queue; false: it was not waiting. */
  leave(id: string): boolean
  counts(): { running: number; queued: number; limit: number; queueLimit: number }
}
