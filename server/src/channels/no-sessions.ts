import { DomainError } from '../errors.ts'
import type { Sessions } from '../sessions/types.ts'

const unknown = (id: string): Promise<never> =>
  Promise.reject(new DomainError('session_not_found', `there is no session "${id}"`))

/** Sessions of a server that has none. */
export const noSessions: Pick<Sessions, 'get' | 'deliver' | 'receipt' | 'delivery' | 'deliveries' | 'revoke'> = {
  get: unknown,
  deliver: ({ sessionId }) => unknown(sessionId),
  receipt: () => Promise.resolve(undefined),
  delivery: (id) => Promise.reject(new DomainError('delivery_not_found', `there is no delivery "${id}"`)),
  deliveries: () => Promise.resolve({ deliveries: [], nextCursor: null }),
  revoke: () => Promise.resolve(),
}
