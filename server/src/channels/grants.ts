import { isoTime, type Clock } from '../clock.ts'
import { DomainError } from '../errors.ts'
import type { GrantRow } from '../model/channels.ts'
import type { Table } from '../store/table.ts'

/** What came through a grant. */
export type Usage = Pick<GrantRow, 'deliveries' | 'lastUsedAt'>

/** The records of grants, and which of them are revoked, at any moment and without waiting. */
export interface Grants {
  /** True from the moment a revocation begins. To be asked again when a message is handed over. */
  isRevoked(id: string): boolean
  /** @throws DomainError `grant_not_found` */
  find(id: string): Promise<GrantRow>
  /** Sets the flag, then makes it durable: on disk when it resolves. Safe to repeat. @throws DomainError `grant_not_found`, `storage_unavailable` */
  revoke(id: string): Promise<GrantRow>
  /** Counts a message that was accepted. In memory at once, on disk with the next `flush`. */
  used(row: GrantRow): void
  usage(row: GrantRow): Usage
  /** Writes the counts that changed. What cannot be written stays for the next time. */
  flush(): Promise<void>
  /** Removes records that ended before a moment (milliseconds since the epoch). How many. */
  retire(endedBefore: number): Promise<number>
}

/** Reads which grants are revoked; nothing may be delivered before. */
export async function openGrants({ table, clock }: { table: Table<GrantRow>; clock: Clock }): Promise<Grants> {
  const revoked = new Set<string>()
  // A knock does not wait for its count: what is here is newer than the row.
  const counted = new Map<string, Usage>()
  for (const { id, revokedAt } of await table.list()) if (revokedAt !== null) revoked.add(id)

  async function find(id: string): Promise<GrantRow> {
    const row = await table.get(id)
    if (row) return row
    throw new DomainError('grant_not_found', `there is no grant "${id}"`, { hint: 'postern channel ls' })
  }
  const usage = ({ id, deliveries, lastUsedAt }: GrantRow): Usage => counted.get(id) ?? { deliveries, lastUsedAt }

  return {
    isRevoked: (id) => revoked.has(id),
    find,
    async revoke(id) {
      const row = await find(id)
      if (row.revokedAt !== null) return row
      revoked.add(id)
      try {
        const changed = await table.update(id, { revokedAt: isoTime(clock.now()) }, { revokedAt: null })
        revoked.add(id)
        return changed ?? (await find(id))
      } catch (error) {
        // Nothing was promised: the address is as good as before.
        revoked.delete(id)
        throw error
      }
    },
    used(row) {
      counted.set(row.id, { deliveries: usage(row).deliveries + 1, lastUsedAt: isoTime(clock.now()) })
    },
    usage,
    async flush() {
      // Together: they share the sync of one batch.
      await Promise.all(
        [...counted].map(async ([id, written]) => {
          await table.update(id, written)
          // Kept when a message came meanwhile.
          if (counted.get(id) === written) counted.delete(id)
        }),
      )
    },
    async retire(endedBefore) {
      const old = (await table.list()).filter(({ exp, revokedAt }) => {
        const endedAt = Math.min(exp * 1_000, revokedAt === null ? Infinity : Date.parse(revokedAt))
        return endedAt < endedBefore
      })
      for (const { id } of old) {
        await table.remove(id)
        counted.delete(id)
      }
      return old.length
    },
  }
}
