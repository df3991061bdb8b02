import { createHmac } from 'node:crypto'
import { isoTime, type Clock } from '../clock.ts'
import { DomainError } from '../errors.ts'
import type { KeyRing } from '../keys/keys.ts'
import type { IdempotencyScope } from '../model.ts'
import { CREDENTIAL_LIMITS, type Credential, type CredentialRow, type SetCredential } from '../model/credentials.ts'
import { fingerprintOf, type Claim, type Claims } from '../store/claims.ts'
import type { Table } from '../store/table.ts'
import { seal, sealedWith, unseal, type SealingKey } from './seal.ts'
import type { CredentialKeeper, Given } from './types.ts'

/** See `Credentials`. Opens what an interrupted rotation left sealed with an older key, and seals it again. */
export async function openCredentials(deps: {
  table: Table<CredentialRow>
  claims: Claims
  keys: KeyRing
  clock: Clock
  /** False for a variable that nobody may set for an agent. */
  maySet(variable: string): boolean
  /** Ids of the agents there are. */
  agentIds(): string[]
  /** Told of a credential that cannot be opened. */
  onTrouble(message: string): void
}): Promise<CredentialKeeper> {
  const { table, claims, keys, clock, maySet, agentIds, onTrouble } = deps
  const keyOf = (kid: number): Buffer | undefined => keys.deriveKey('credential-seal', kid)
  let turn: Promise<unknown> = Promise.resolve()

  /** Changes take turns, so that what is sealed with the key of this moment is on disk before a rotation looks for it. */
  function inTurn<T>(work: () => Promise<T>): Promise<T> {
    const mine = turn.then(work)
    turn = mine.catch(() => undefined)
    return mine
  }
  function currentKey(): SealingKey {
    const kid = keys.current
    const key = keyOf(kid)
    if (!key) throw new Error(`the key ring has no key ${kid}`)
    return { kid, key }
  }
  const variablesOf = ({ id, sealed }: CredentialRow): Record<string, string> | undefined => {
    const text = unseal(sealed, id, keyOf)
    return text === undefined ? undefined : (JSON.parse(text) as Record<string, string>)
  }
  function view(row: CredentialRow): Credential {
    const { id: name, sealed: _, ...shown } = row
    return { name, ...shown, usable: variablesOf(row) !== undefined }
  }

  function checkAgent(id: string): void {
    const known = agentIds()
    if (known.includes(id)) return
    throw new DomainError('unknown_agent', `there is no agent "${id}" (known: ${known.join(', ')})`, {
      hint: 'postern agents',
    })
  }

  /** Whether it was new. */
  async function write({ name, variables, agents = [] }: SetCredential): Promise<boolean> {
    const now = isoTime(clock.now())
    const changed = {
      variables: Object.keys(variables).toSorted(),
      agents: [...new Set(agents)],
      sealed: seal(JSON.stringify(variables), name, currentKey()),
      updatedAt: now,
    }
    if (await table.update(name, changed)) return false
    const { length } = await table.list()
    if (length >= CREDENTIAL_LIMITS.credentials) {
      throw new DomainError(
        'too_many_credentials',
        `${length} of ${CREDENTIAL_LIMITS.credentials} credentials are set`,
        {
          hint: 'postern cred rm <name>',
        },
      )
    }
    await table.insert({ id: name, createdAt: now, ...changed })
    return true
  }

  /**
   * The claim of a key. A plain hash of the body on disk would let values be guessed, so it is keyed; and a key of before
   * a rotation is recognised by the root key of then.
   */
  function beginClaim({ caller, method, path, key }: IdempotencyScope, body: SetCredential): Claim {
    const secrets = [keys.current, ...keys.kids().filter((kid) => kid !== keys.current)].flatMap(
      (kid) => keys.deriveKey('credential-fingerprint', kid) ?? [],
    )
    const plain = fingerprintOf(body)
    for (const [index, secret] of secrets.entries()) {
      try {
        const fingerprint = createHmac('sha256', secret).update(plain).digest('base64url')
        return claims.begin([caller, method, path, key], fingerprint)
      } catch (error) {
        const isOther = error instanceof DomainError && error.code === 'idempotency_mismatch'
        if (!isOther || index === secrets.length - 1) throw error
      }
    }
    throw new Error('the key ring is empty')
  }

  async function find(name: string): Promise<CredentialRow> {
    const row = await table.get(name)
    if (row) return row
    throw new DomainError('credential_not_found', `there is no credential "${name}"`, { hint: 'postern cred ls' })
  }

  async function sealAgain(): Promise<void> {
    const now = currentKey()
    for (const row of await table.list()) {
      if (sealedWith(row.sealed) === now.kid) continue
      const text = unseal(row.sealed, row.id, keyOf)
      if (text !== undefined) await table.update(row.id, { sealed: seal(text, row.id, now) })
    }
  }

  for (const row of await table.list()) {
    if (variablesOf(row) === undefined)
      onTrouble(`credential "${row.id}" was sealed with another key ring and cannot be opened: set it again`)
  }
  await sealAgain()

  return {
    list: async () => (await table.list({ order: 'oldest' })).map(view),

    async set(body, idempotency) {
      for (const agent of body.agents ?? []) checkAgent(agent)
      for (const variable of Object.keys(body.variables)) {
        if (maySet(variable)) continue
        const detail = `"${variable}" may not be set for an agent: it changes what runs, what is loaded, or is ours`
        throw new DomainError('variable_not_allowed', detail, {
          errors: [{ pointer: `/variables/${variable}`, detail }],
        })
      }
      const claim = idempotency && beginClaim(idempotency, body)
      try {
        if (claim?.recordId !== undefined) {
          const created = claim.recordId.startsWith('created ')
          return { credential: view(await find(body.name)), created, replayed: true }
        }
        return await inTurn(async () => {
          const created = await write(body)
          // After the row: cut off in between, the next request with the key sets the same values again.
          await claim?.commit(`${created ? 'created' : 'replaced'} ${body.name}`)
          return { credential: view(await find(body.name)), created, replayed: false }
        })
      } finally {
        claim?.release()
      }
    },

    remove: (name) =>
      inTurn(async () => {
        const row = await find(name)
        await table.remove(name)
        return view(row)
      }),

    async open(names, agent) {
      const given: Given = { variables: {}, values: [] }
      for (const name of names) {
        const row = await find(name)
        if (row.agents.length > 0 && !row.agents.includes(agent)) continue
        const variables = variablesOf(row)
        if (!variables) {
          throw new DomainError('credential_not_found', `credential "${name}" cannot be opened any more`, {
            hint: `postern cred set ${name}`,
          })
        }
        Object.assign(given.variables, variables)
        given.values.push(...Object.values(variables))
      }
      return given
    },

    async valuesFor(names, agent) {
      const rows = await Promise.all(names.map((name) => table.get(name)))
      const mine = rows.filter((row) => row && (row.agents.length === 0 || row.agents.includes(agent)))
      return mine.flatMap((row) => Object.values((row && variablesOf(row)) ?? {}))
    },

    async check(names) {
      const known = (await table.list({ order: 'oldest' })).map(({ id }) => id)
      const unknown = names.find((name) => !known.includes(name))
      if (unknown === undefined) return
      const list = known.length === 0 ? 'none is set' : `set: ${known.join(', ')}`
      throw new DomainError('unknown_credential', `there is no credential "${unknown}" (${list})`, {
        hint: `postern cred set ${unknown}`,
      })
    },

    reseal: () => inTurn(sealAgain),
  }
}
