import { isoTime, type Clock } from '../clock.ts'
import type { KeyRing } from '../keys/keys.ts'
import type { GrantRow, KeyRotation, RotateKeys } from '../model/channels.ts'
import type { Table } from '../store/table.ts'

/** Rotation of the root keys, which looks at every grant; what is minted meanwhile is waited for. */
export function createRotation(deps: {
  table: Table<GrantRow>
  keys: KeyRing
  clock: Clock
  revoke(id: string): Promise<unknown>
  reseal(): Promise<void>
}): {
  /** Records a grant with the current key, so that no rotation overlooks it. */
  minting<T>(record: (kid: number) => Promise<T>): Promise<T>
  rotate(request: RotateKeys): Promise<KeyRotation>
} {
  const { table, keys, clock, revoke, reseal } = deps
  const underWay = new Set<Promise<unknown>>()
  let turn: Promise<unknown> = Promise.resolve()

  async function rotate({ drop = false }: RotateKeys): Promise<KeyRotation> {
    const kid = await keys.rotate()
    // From here on nothing is made with an older key, but what began before may still be written.
    await Promise.all([...underWay].map((each) => each.catch(() => undefined)))
    await reseal()
    const old = keys.kids().filter((each) => each !== kid)
    const live = (await table.list()).filter(
      ({ kid: signedBy, revokedAt, exp }) => signedBy !== kid && revokedAt === null && exp * 1_000 > clock.now(),
    )
    const previous: KeyRotation['previous'] = []
    if (drop) for (const grant of live) await revoke(grant.id)
    for (const each of old) {
      const lastExpiry = Math.max(0, ...live.filter((grant) => grant.kid === each).map(({ exp }) => exp))
      const isNeeded = !drop && lastExpiry > 0
      if (isNeeded) await keys.retire(each, lastExpiry * 1_000)
      else await keys.drop(each)
      previous.push({ kid: each, verifyUntil: isNeeded ? isoTime(lastExpiry * 1_000) : null })
    }
    return { kid, previous, revoked: drop ? live.map(({ id }) => id) : [] }
  }

  return {
    async minting(record) {
      const mine = record(keys.current)
      underWay.add(mine)
      try {
        return await mine
      } finally {
        underWay.delete(mine)
      }
    },
    rotate(request) {
      const mine = turn.then(() => rotate(request))
      turn = mine.catch(() => undefined)
      return mine
    },
  }
}
