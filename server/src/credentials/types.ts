import type { IdempotencyScope } from '../model.ts'
import type { Credential, SetCredential } from '../model/credentials.ts'

export type { Credential, SetCredential } from '../model/credentials.ts'

/** Named sets of environment variables: write-only, sealed at rest. Source: docs/contract.md 5; docs/security.md 2.1, 5. */
export interface Credentials {
  /** Every credential, by name; never a value. */
  list(): Promise<Credential[]>
  /**
   * Sets a credential; one of that name is replaced whole. On disk when it resolves.
   *
   * @throws DomainError `variable_not_allowed`, `unknown_agent`, `too_many_credentials`, `storage_unavailable`, and what
   * a key brings: `idempotency_mismatch`, `idempotency_in_flight`, `too_many_keys`; `credential_not_found` when the key
   * set one that was removed since
   */
  set(
    body: SetCredential,
    idempotency?: IdempotencyScope,
  ): Promise<{ credential: Credential; created: boolean; replayed: boolean }>
  /** Forgets it: what starts from now on does not get it. The credential as it was. @throws DomainError `credential_not_found` */
  remove(name: string): Promise<Credential>
}

/** Of a workspace's credentials, what one agent is given. */
export interface Given {
  /** Variables by name; of two credentials that set the same one, the later in the list wins. */
  variables: Record<string, string>
  /** Every value of them, also of those that another one covers. */
  values: string[]
}

/** What the server itself needs of credentials. */
export interface CredentialKeeper extends Credentials {
  /**
   * The variables that the credentials of these names hold for an agent; those limited to other agents are passed over.
   *
   * @throws DomainError `credential_not_found` (also for one that cannot be opened): nothing is started without what it
   * was to be given
   */
  open(names: readonly string[], agent: string): Promise<Given>
  /** Values of those that can be opened, to take them out of what an agent has said. */
  valuesFor(names: readonly string[], agent: string): Promise<string[]>
  /** @throws DomainError `unknown_credential` for a name that no credential has */
  check(names: readonly string[]): Promise<void>
  /** Seals everything with the current key; on disk when it resolves. What cannot be opened stays as it is. */
  reseal(): Promise<void>
}
