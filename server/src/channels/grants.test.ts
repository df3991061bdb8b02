import { expect, test } from 'vitest'
import { faultyDisk, diskError } from '../../test/faulty-disk.ts'
import { temporaryDirectory } from '../../test/temporary.ts'
import { systemClock } from '../clock.ts'
import { openKeyRing } from '../keys/keys.ts'
import type { GrantRow } from '../model/channels.ts'
import { systemDisk, type Disk } from '../store/disk.ts'
import { openStore, type Store } from '../store/store.ts'
import { openGrants } from './grants.ts'
import { createRotation } from './rotation.ts'
import { keepGrants } from './upkeep.ts'

const DAY_MS = 86_400_000
const storeIn = (dataDir: string, disk: Disk = systemDisk): Promise<Store> =>
  openStore({ disk, dataDir, clock: systemClock, maxIdempotencyKeys: 100, onTrouble: () => undefined })

const row = (n: number, more: Partial<GrantRow> = {}): GrantRow => ({
  id: `grant_0000000000000000000000000${n}`,
  channel: 'postern:/sessions/sess_01K00000000000000000000002',
  sessionId: 'sess_01K00000000000000000000002',
  verb: 'send_input',
  label: null,
  revokedAt: null,
  createdAt: '2026-11-20T09:00:00.000Z',
  exp: Math.floor(Date.now() / 1_000) + 3_600,
  createdBy: 'admin',
  kid: 1,
  lastUsedAt: null,
  deliveries: 0,
  ...more,
})

test('a revocation is known at once, and after a restart', async () => {
  await using directory = await temporaryDirectory()
  const store = await storeIn(directory.path)
  const grants = await openGrants({ table: store.grants, clock: systemClock })
  await store.grants.insert(row(1))
  const revoking = grants.revoke(row(1).id)
  const [first, again] = await Promise.all([revoking, grants.revoke(row(1).id)])
  expect(grants.isRevoked(row(1).id)).toBe(true)
  expect([first.revokedAt, again.revokedAt]).toEqual([first.revokedAt, first.revokedAt])
  expect(first.revokedAt).not.toBeNull()
  await expect(grants.revoke(row(2).id)).rejects.toMatchObject({ code: 'grant_not_found' })
  await store.close()
  const reopened = await storeIn(directory.path)
  expect((await openGrants({ table: reopened.grants, clock: systemClock })).isRevoked(row(1).id)).toBe(true)
  await reopened.close()
})

test('a revocation that cannot be written is none: its caller is told, and the address is as good as before', async () => {
  await using directory = await temporaryDirectory()
  const faulty = faultyDisk()
  const store = await storeIn(directory.path, faulty.disk)
  const grants = await openGrants({ table: store.grants, clock: systemClock })
  await store.grants.insert(row(1))
  faulty.onCall = (name) => {
    if (name === 'write') throw diskError('ENOSPC')
    return undefined
  }
  await expect(grants.revoke(row(1).id)).rejects.toMatchObject({ code: 'storage_unavailable' })
  expect(grants.isRevoked(row(1).id)).toBe(false)
  faulty.onCall = undefined
  await grants.revoke(row(1).id)
  expect(grants.isRevoked(row(1).id)).toBe(true)
  await store.close()
})

test('what came through is counted at once and written later', async () => {
  await using directory = await temporaryDirectory()
  const store = await storeIn(directory.path)
  const grants = await openGrants({ table: store.grants, clock: systemClock })
  await store.grants.insert(row(1))
  grants.used(row(1))
  grants.used(row(1))
  expect(grants.usage(await grants.find(row(1).id)).deliveries).toBe(2)
  expect((await grants.find(row(1).id)).deliveries).toBe(0)
  await grants.flush()
  const written = await grants.find(row(1).id)
  expect([written.deliveries, grants.usage(written).deliveries]).toEqual([2, 2])
  grants.used(written)
  await grants.flush()
  expect((await grants.find(row(1).id)).deliveries).toBe(3)
  await store.close()
})

test('records of grants that ended long ago are removed, and no others; the loop goes on after a failure', async () => {
  await using directory = await temporaryDirectory()
  const store = await storeIn(directory.path)
  const grants = await openGrants({ table: store.grants, clock: systemClock })
  const ago = (days: number): number => Date.now() - days * DAY_MS
  const rows = [
    row(1, { exp: Math.floor(ago(91) / 1_000) }),
    row(2, { exp: Math.floor(ago(89) / 1_000) }),
    row(3, { revokedAt: new Date(ago(91)).toISOString() }),
    row(4, { revokedAt: new Date(ago(1)).toISOString() }),
    row(5),
  ]
  for (const each of rows) await store.grants.insert(each)
  const errors: unknown[] = []
  const ending = new AbortController()
  let rounds = 0
  await keepGrants({
    grants: {
      ...grants,
      flush: () => (rounds === 0 ? Promise.reject(new Error('planted')) : grants.flush()),
    },
    clock: {
      ...systemClock,
      async sleep() {
        await Promise.resolve()
        if (++rounds === 2) ending.abort()
      },
    },
    keepDays: 90,
    onError: (_, error) => errors.push(error),
    signal: ending.signal,
  })
  expect(errors).toHaveLength(1)
  expect((await store.grants.list({ order: 'oldest' })).map(({ id }) => id)).toEqual([2, 4, 5].map((n) => row(n).id))
  await store.close()
})

test('what is sealed is sealed again before an older key goes', async () => {
  await using directory = await temporaryDirectory()
  const store = await storeIn(directory.path)
  const keys = await openKeyRing({ disk: systemDisk, dataDir: directory.path, clock: systemClock })
  const seen: number[][] = []
  const rotation = createRotation({
    table: store.grants,
    keys,
    clock: systemClock,
    revoke: () => Promise.resolve(),
    reseal: () => {
      seen.push([keys.current, ...keys.kids()])
      return seen.length === 2 ? Promise.reject(new Error('planted')) : Promise.resolve()
    },
  })
  await rotation.rotate({ drop: true })
  expect([seen, keys.kids()]).toEqual([[[2, 1, 2]], [2]])
  // What could not be sealed again keeps its key.
  await expect(rotation.rotate({ drop: true })).rejects.toThrow('planted')
  expect(keys.kids()).toEqual([2, 3])
  await rotation.rotate({})
  expect(keys.kids()).toEqual([4])
  await store.close()
})

test('an older key without live grants goes with the rotation', async () => {
  await using directory = await temporaryDirectory()
  const store = await storeIn(directory.path)
  const keys = await openKeyRing({ disk: systemDisk, dataDir: directory.path, clock: systemClock })
  const revoked: string[] = []
  const rotation = createRotation({
    table: store.grants,
    keys,
    clock: systemClock,
    revoke: (id) => Promise.resolve(revoked.push(id)),
    reseal: () => Promise.resolve(),
  })
  await store.grants.insert(row(1, { exp: 1_000 }))
  expect(await rotation.rotate({})).toEqual({ kid: 2, previous: [{ kid: 1, verifyUntil: null }], revoked: [] })
  await store.grants.insert(row(2, { kid: 2, exp: 4_000_000_000 }))
  await store.grants.insert(row(3, { kid: 2, exp: 4_000_000_001 }))
  expect((await rotation.rotate({})).previous).toEqual([{ kid: 2, verifyUntil: '2096-10-02T07:06:41.000Z' }])
  expect((await rotation.rotate({ drop: true })).revoked.toSorted()).toEqual([row(2).id, row(3).id])
  expect(revoked.toSorted()).toEqual([row(2).id, row(3).id])
  await store.close()
})
