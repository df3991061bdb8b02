/** Why a process group ended, recorded once, by whoever ended it first. */
export type EndReason =
  | 'exited' // by itself
  | 'settled' // its result was seen and it stayed: ended after a grace, which is no failure
  | 'timed_out'
  | 'idle'
  | 'canceled'
  | 'hung_up' // it closed its stdin or stdout and stayed: nobody can talk to it any more
  | 'server_stopped'
  | 'output_limit'
  | 'process_limit'
  | 'budget_exceeded'
  | 'fatal' // the agent reported what repeating cannot mend
  | 'not_started'

/** How a supervised process group ended. */
export interface Exit {
  reason: EndReason
  exitCode: number | null
  signal: string | null
  durationMs: number
  /** Processes of the group or the mark that were found alive and could not be ended. */
  survivors: number
  /** Why it could not be started, for `not_started`. */
  error: string | null
}

/** What tells one process from a later one with its pid. Source: proc(5), field 22 of `stat`; random(4) for the boot id. */
export interface ProcessIdentity {
  pid: number
  startTime: string | null
  bootId: string | null
}
