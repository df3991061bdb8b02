import { createHash } from 'node:crypto'
import { isTokenShaped, newToken } from './random-token.ts'

/** The run or session that a process works for; one of the two ids is null. */
export interface ProcessIdentity {
  taskId: string | null
  sessionId: string | null
  wsId: string
}

/** A narrow key for one agent process and its children. */
export interface ProcessToken {
  readonly token: string
  /** Makes it void; safe to repeat. Whoever has started the process calls it once that has ended. */
  revoke(): void
}

export interface ProcessTokens {
  /** @param secrets what the process is given beside its key */
  mint(process: ProcessIdentity, secrets?: readonly string[]): ProcessToken
  /** Whose it is; undefined for anything but a token of a process that lives. */
  find(token: string): ProcessIdentity | undefined
  /** What the living processes of a run or session were given, whatever their credentials hold by now. */
  secretsOf(id: string): string[]
}

/**
 * The keys of agent processes, `pstn_run1_…`. Kept as SHA-256, in memory alone: after a restart no process lives, so no
 * key does. A digest is looked up, so that time says nothing about a token. Source: docs/security.md 2.1.
 */
export function createProcessTokens(): ProcessTokens {
  const known = new Map<string, { process: ProcessIdentity; secrets: readonly string[] }>()
  const digest = (token: string): string => createHash('sha256').update(token).digest('base64url')
  return {
    mint(process, secrets = []) {
      const token = newToken('pstn_run1_')
      const key = digest(token)
      known.set(key, { process, secrets })
      return { token, revoke: () => void known.delete(key) }
    },
    find: (token) => (isTokenShaped('pstn_run1_', token) ? known.get(digest(token))?.process : undefined),
    secretsOf: (id) =>
      [...known.values()].flatMap(({ process: { taskId, sessionId }, secrets }) =>
        (taskId ?? sessionId) === id ? secrets : [],
      ),
  }
}
