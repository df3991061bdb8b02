import { createHash } from 'node:crypto'
import { join } from 'node:path'
import type { Clock } from '../clock.ts'
import { DomainError } from '../errors.ts'
import type { Disk } from './disk.ts'
import { decodeLine, encodeLine, openJournal, recoverLines } from './journal.ts'

/** Milliseconds for which a key is remembered: until the wall clock and the monotonic clock both say so. */
export const KEY_WINDOW_MS = 24 * 60 * 60 * 1000
const COMPACT_BYTES = 4 * 1024 * 1024

/**
 * What must happen once: a request with an idempotency key. The claim is made first and names the record's id; who
 * finds a claim without its record finishes it. Decision 0003.
 */
export interface Claims {
  /**
   * Looks the key up and, when it is new, holds it until `release`. Decides before returning, so two requests with one
   * key cannot both be new.
   *
   * @param scope what the key belongs to: caller, method, path and key
   * @param fingerprint of the checked body, see `fingerprintOf`
   * @param group whose keys are also counted by themselves: at most `limit` of them are remembered at a time. Those of
   * `SERVER_KEYS` are counted nowhere else
   * @throws DomainError `idempotency_mismatch` (known with another body), `idempotency_in_flight`, `too_many_keys`
   */
  begin(scope: string[], fingerprint: string, group?: KeyGroup): Claim
  /** What this record was is gone on purpose: its keys make it no second time. On disk when it resolves. */
  retire(recordId: string): Promise<void>
  /** Keys remembered now. */
  readonly size: number
  close(): Promise<void>
}

export interface KeyGroup {
  id: string
  limit: number
}

/** What the server itself must do once, such as telling people: it takes no room from callers, and they none from it. */
export const SERVER_KEYS: KeyGroup = { id: 'server', limit: Infinity }

export interface Claim {
  /** Id of the record that an earlier request with this key made (or was about to make, when the server died). */
  readonly recordId: string | undefined
  /** True when that record was removed on purpose. */
  readonly isRetired: boolean
  /** Remembers the key with the record's id; on disk when it resolves. @throws DomainError `storage_unavailable` */
  commit(recordId: string): Promise<void>
  /** Forgets the key that this claim has remembered: its record was not made. A key that was known before stays. */
  withdraw(): void
  /** Lets the next request with the key look again. Safe to repeat. */
  release(): void
}

/**
 * Claim, then record. When the record cannot be made the key is free again: only accepted work leaves one.
 *
 * @throws what either throws
 */
export async function once<T>(claim: Claim | undefined, recordId: string, make: () => Promise<T>): Promise<T> {
  await claim?.commit(recordId)
  try {
    return await make()
  } catch (error) {
    claim?.withdraw()
    throw error
  }
}

interface Known {
  id: string
  fingerprint: string
  recordId: string
  createdAt: number
  /** Id of the group it counts in. */
  group?: string
  /** True once the record was removed on purpose. */
  isRetired?: boolean
  /** True on the line that takes it back. */
  isWithdrawn?: boolean
}

/** SHA-256 of a JSON value in canonical form: keys sorted, so that order does not make a body another one. */
export function fingerprintOf(value: unknown): string {
  return createHash('sha256').update(canonical(value)).digest('base64url')
}

function canonical(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonical).join(',')}]`
  if (typeof value !== 'object' || value === null) return JSON.stringify(value) ?? 'null'
  const entries = Object.entries(value).filter(([, inner]) => inner !== undefined)
  entries.sort(([a], [b]) => (a < b ? -1 : 1))
  return `{${entries.map(([key, inner]) => `${JSON.stringify(key)}:${canonical(inner)}`).join(',')}}`
}

/** @throws DamagedStateError when `claims.journal` cannot be trusted */
export async function openClaims(options: {
  disk: Disk
  dataDir: string
  clock: Clock
  maxKeys: number
}): Promise<Claims> {
  const { disk, dataDir, clock, maxKeys } = options
  const path = join(dataDir, 'claims.journal')
  // Insertion order is age: the oldest are looked at first when keys expire.
  const known = new Map<string, Known & { madeAt: number }>()
  const held = new Map<string, string>() // id → fingerprint of the request in flight
  const inGroup = new Map<string, number>() // group → keys remembered or held
  let ofCallers = 0 // the same, of all but the server's own

  await recoverLines(disk, path, (line) => {
    const claim = decodeLine(line) as Known
    if (claim.isWithdrawn) return forget(claim)
    const age = Math.max(0, clock.now() - claim.createdAt)
    if (!known.has(claim.id)) count(claim.group, 1)
    known.set(claim.id, { ...claim, madeAt: clock.monotonic() - age })
  })
  const journal = await openJournal({ disk, path })

  function count(group: string | undefined, change: 1 | -1): void {
    if (group !== SERVER_KEYS.id) ofCallers += change
    if (group === undefined) return
    const left = (inGroup.get(group) ?? 0) + change
    if (left > 0) inGroup.set(group, left)
    else inGroup.delete(group)
  }
  function forget({ id, group }: Known): void {
    if (known.delete(id)) count(group, -1)
  }
  function expire(): void {
    for (const claim of known.values()) {
      const old = clock.now() - claim.createdAt > KEY_WINDOW_MS && clock.monotonic() - claim.madeAt > KEY_WINDOW_MS
      if (!old) break
      forget(claim)
    }
  }
  async function compact(): Promise<void> {
    await journal.compact(() => {
      expire()
      const lines = [...known.values()].map(({ madeAt: _madeAt, ...claim }) => encodeLine(claim satisfies Known))
      return Buffer.from(lines.join(''))
    })
    compactAt = Math.max(COMPACT_BYTES, 2 * journal.sizeBytes)
  }
  let compactAt = Math.max(COMPACT_BYTES, journal.sizeBytes)
  let compacting = false

  return {
    begin(scope, fingerprint, group) {
      expire()
      const id = fingerprintOf(scope)
      const claim = known.get(id)
      const used = claim?.fingerprint ?? held.get(id)
      if (used !== undefined && used !== fingerprint) {
        throw new DomainError(
          'idempotency_mismatch',
          `key ${JSON.stringify(scope.at(-1))} was used with another body`,
          {
            hint: 'a new request needs a new key',
          },
        )
      }
      if (held.has(id)) {
        throw new DomainError(
          'idempotency_in_flight',
          `the first request with key ${JSON.stringify(scope.at(-1))} is still in flight`,
          {
            retryAfterSeconds: 1,
          },
        )
      }
      if (!claim && group !== SERVER_KEYS && ofCallers >= maxKeys) {
        throw new DomainError(
          'too_many_keys',
          `${maxKeys} of ${maxKeys} idempotency keys of the last 24 hours are in use`,
          {
            retryAfterSeconds: 60,
            hint: 'raise maxIdempotencyKeys in config.json',
          },
        )
      }
      if (!claim && group && (inGroup.get(group.id) ?? 0) >= group.limit) {
        const { limit } = group
        throw new DomainError(
          'too_many_keys',
          `${limit} of ${limit} idempotency keys of the last 24 hours are in use`,
          {
            retryAfterSeconds: 60,
            hint: 'mint another address, or send without a key',
          },
        )
      }
      // A known key is not held: whoever finds its record missing inserts it, and of two one inserts.
      let mine = claim === undefined
      let isKept = false
      if (mine) {
        held.set(id, fingerprint)
        count(group?.id, 1)
      }
      return {
        recordId: claim?.recordId,
        isRetired: claim?.isRetired ?? false,
        async commit(recordId) {
          const made: Known = { id, fingerprint, recordId, createdAt: clock.now(), ...(group && { group: group.id }) }
          await journal.append(encodeLine(made), () => {
            known.set(id, { ...made, madeAt: clock.monotonic() })
            isKept = true
          })
          if (journal.sizeBytes > compactAt && !compacting) {
            compacting = true
            compact()
              .catch(() => (compactAt *= 2))
              .finally(() => (compacting = false))
          }
        },
        withdraw() {
          const made = known.get(id)
          if (!mine || !isKept || !made) return
          isKept = false
          known.delete(id)
          // What the disk does not take back now is known again after a restart: with the same body that does no harm.
          const { madeAt: _madeAt, ...line } = made
          void journal.append(encodeLine({ ...line, isWithdrawn: true } satisfies Known)).catch(() => undefined)
        },
        release() {
          if (!mine) return
          mine = false
          held.delete(id)
          if (!isKept) count(group?.id, -1)
        },
      }
    },
    async retire(recordId) {
      const claims = [...known.values()].filter((claim) => claim.recordId === recordId)
      for (const { madeAt, ...claim } of claims) {
        const retired: Known = { ...claim, isRetired: true }
        await journal.append(encodeLine(retired), () => known.set(claim.id, { ...retired, madeAt }))
      }
    },
    get size() {
      return known.size
    },
    close: () => journal.close(),
  }
}
