import { chmod, readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { temporaryDirectory } from '../../test/temporary.ts'
import { systemClock, type Clock } from '../clock.ts'
import { systemDisk } from '../store/disk.ts'
import { openKeyRing, type KeyRing } from './keys.ts'

const open = (dataDir: string, clock: Clock = systemClock): Promise<KeyRing> =>
  openKeyRing({ disk: systemDisk, dataDir, clock })

const ringOf = (secret: Buffer): string =>
  JSON.stringify({
    current: 1,
    keys: { 1: { secret: secret.toString('base64url'), createdAt: '2026-11-20T09:00:00.000Z' } },
  })

test('the ring is made at the first start, for its owner alone, and is the same at the next', async () => {
  await using directory = await temporaryDirectory()
  const keys = await open(directory.path)
  expect(keys.current).toBe(1)
  expect((await stat(join(directory.path, 'keys.json'))).mode & 0o777).toBe(0o600)
  const again = await open(directory.path)
  expect(again.deriveKey('hook-token', 1)).toEqual(keys.deriveKey('hook-token', 1))
})

test('every purpose and every number has a key of its own', async () => {
  await using directory = await temporaryDirectory()
  const keys = await open(directory.path)
  await keys.rotate()
  const all = [1, 2].flatMap((kid) => [keys.deriveKey('hook-token', kid), keys.deriveKey('credential-seal', kid)])
  expect(new Set(all.map((key) => key?.toString('hex'))).size).toBe(4)
  expect(all.every((key) => key?.length === 32)).toBe(true)
  expect(keys.deriveKey('hook-token', 3)).toBeUndefined()
})

test('a key is HKDF-SHA-256 of the secret, without salt', async () => {
  await using directory = await temporaryDirectory()
  const secret = Buffer.from(Array.from({ length: 32 }, (_, i) => i))
  await writeFile(join(directory.path, 'keys.json'), ringOf(secret), { mode: 0o600 })
  const keys = await open(directory.path)
  // Computed by another implementation.
  expect(keys.deriveKey('hook-token', 1)?.toString('hex')).toBe(
    '2b852d4cbab23d8ee6f684973cdb4aed8f210a813280508ab76c378a73a6ad7e',
  )
})

test('after a rotation the old key verifies until its moment, and no longer; a dropped one is gone at once', async () => {
  await using directory = await temporaryDirectory()
  const clock = { ...systemClock, now: () => 1_800_000_000_000 }
  const keys = await open(directory.path, clock)
  expect(await keys.rotate()).toBe(2)
  expect([keys.current, keys.kids()]).toEqual([2, [1, 2]])
  await keys.retire(1, clock.now() + 1)
  expect(keys.deriveKey('hook-token', 1)).toBeDefined()
  const restarted = await open(directory.path, { ...clock, now: () => 1_800_000_000_001 })
  expect(restarted.current).toBe(2)
  expect(restarted.deriveKey('hook-token', 1)).toBeUndefined()
  await keys.drop(1)
  expect([keys.kids(), keys.deriveKey('hook-token', 1)]).toEqual([[2], undefined])
  expect((await open(directory.path, clock)).kids()).toEqual([2])
})

test('the current key can be neither retired nor dropped', async () => {
  await using directory = await temporaryDirectory()
  const keys = await open(directory.path)
  await keys.retire(1, 0)
  await keys.drop(1)
  expect(keys.deriveKey('hook-token', 1)).toBeDefined()
})

test('a rotation forgets what is out of date, and numbers begin again after 255', async () => {
  await using directory = await temporaryDirectory()
  const path = join(directory.path, 'keys.json')
  const keys = await open(directory.path)
  await keys.rotate()
  await keys.retire(1, 0)
  await keys.rotate()
  expect(keys.kids()).toEqual([2, 3])
  const text = await readFile(path, 'utf8')
  await writeFile(path, text.replace('"3": {', '"255": {').replace('"current": 3', '"current": 255'))
  const late = await open(directory.path)
  expect(await late.rotate()).toBe(1)
})

test('a ring that cannot be written stays as it was', async () => {
  await using directory = await temporaryDirectory()
  const disk = { ...systemDisk, rename: () => Promise.reject(new Error('planted')) }
  const keys = await openKeyRing({ disk, dataDir: directory.path, clock: systemClock })
  await expect(keys.rotate()).rejects.toMatchObject({ code: 'storage_unavailable' })
  expect([keys.current, keys.kids()]).toEqual([1, [1]])
  expect((await open(directory.path)).kids()).toEqual([1])
})

test.each([0o644, 0o640, 0o604])('T18: a ring with mode %o is refused', async (mode) => {
  await using directory = await temporaryDirectory()
  await open(directory.path)
  await chmod(join(directory.path, 'keys.json'), mode)
  await expect(open(directory.path)).rejects.toMatchObject({
    name: 'ConfigError',
    message: expect.stringContaining('chmod 0600') as string,
  })
})

const secret = 'A'.repeat(43)
const createdAt = '2026-11-20T09:00:00.000Z'
test.each([
  ['empty', ''],
  ['cut', '{"current":1,"keys":{"1":{"secret":"AAAA'],
  ['null', 'null'],
  ['without the current key', JSON.stringify({ current: 2, keys: { 1: { secret, createdAt } } })],
  [
    'with a number beyond a byte',
    JSON.stringify({ current: 1, keys: { 1: { secret, createdAt }, 256: { secret, createdAt } } }),
  ],
  ['with a short secret', JSON.stringify({ current: 1, keys: { 1: { secret: 'AAAA', createdAt } } })],
  ['with an unknown field', JSON.stringify({ current: 1, keys: { 1: { secret, createdAt, alg: 'none' } } })],
])('T18: a ring that is %s is refused, and left as it is', async (_, text) => {
  await using directory = await temporaryDirectory()
  const path = join(directory.path, 'keys.json')
  await writeFile(path, text, { mode: 0o600 })
  await expect(open(directory.path)).rejects.toMatchObject({ name: 'ConfigError' })
  expect(await readFile(path, 'utf8')).toBe(text)
})
