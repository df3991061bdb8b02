import type { FailureKind } from './agent.ts'

/**
 * What kind of failure a message tells of, by the status of the model's service when it is known, else by its words. The
 * words are those of real programs: they have no codes in common.
 */
export function failureKind(message: string, status?: number): FailureKind {
  if (status !== undefined) {
    if (status === 401 || status === 403) return 'auth'
    if (status === 429) return 'rate_limit'
    if (status >= 500) return 'provider'
  }
  if (/\b40[13]\b|authenticat|unauthori[sz]ed|api.?key|environment variable|not logged in/i.test(message)) return 'auth'
  if (/\b429\b|rate.?limit|usage limit/i.test(message)) return 'rate_limit'
  if (/\b5\d\d\b|overloaded|high demand|server_error|disconnected|connection/i.test(message)) return 'provider'
  return 'agent'
}
