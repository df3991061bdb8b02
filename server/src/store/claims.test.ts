import { expect, test } from 'vitest'
import type { Clock } from '../clock.ts'
import { temporaryDirectory } from '../../test/temporary.ts'
import { fingerprintOf, KEY_WINDOW_MS, once, openClaims, SERVER_KEYS } from './claims.ts'
import { systemDisk } from './disk.ts'

function fakeClock(): Clock & { wall: number; steady: number } {
  return {
    wall: 1_800_000_000_000,
    steady: 5_000,
    now() {
      return this.wall
    },
    monotonic() {
      return this.steady
    },
    sleep: () => Promise.resolve(),
  }
}
const scope = ['local', 'POST', '/api/x', 'key']
const open = (dataDir: string, clock: Clock, maxKeys = 100) => openClaims({ disk: systemDisk, dataDir, clock, maxKeys })

test('I1, I2: a key is remembered with its record; with another body it is refused', async () => {
  await using directory = await temporaryDirectory()
  const claims = await open(directory.path, fakeClock())
  const first = claims.begin(scope, 'body')
  expect(first.recordId).toBeUndefined()
  expect(() => claims.begin(scope, 'body')).toThrow(expect.objectContaining({ code: 'idempotency_in_flight' }))
  expect(() => claims.begin(scope, 'other')).toThrow(expect.objectContaining({ code: 'idempotency_mismatch' }))
  await first.commit('headless_1')
  first.release()
  expect(claims.begin(scope, 'body').recordId).toBe('headless_1')
  expect(() => claims.begin(scope, 'other')).toThrow(expect.objectContaining({ code: 'idempotency_mismatch' }))
  expect(claims.begin(['local', 'POST', '/api/y', 'key'], 'other').recordId).toBeUndefined()
  await claims.close()
  const again = await open(directory.path, fakeClock())
  expect(again.begin(scope, 'body').recordId).toBe('headless_1')
  await again.close()
})

test('I13: a request that was refused leaves its key free', async () => {
  await using directory = await temporaryDirectory()
  const claims = await open(directory.path, fakeClock())
  const refused = claims.begin(scope, 'body')
  refused.release()
  refused.release()
  expect(claims.begin(scope, 'other body').recordId).toBeUndefined()
  await claims.close()
})

test('I6: a key named like a part of every object is a key like any other', async () => {
  await using directory = await temporaryDirectory()
  const claims = await open(directory.path, fakeClock())
  for (const key of ['__proto__', 'constructor', '../../etc/passwd']) {
    const claim = claims.begin(['local', 'POST', '/api/x', key], 'body')
    expect(claim.recordId).toBeUndefined()
    await claim.commit(`for ${key}`)
    claim.release()
    expect(claims.begin(['local', 'POST', '/api/x', key], 'body').recordId).toBe(`for ${key}`)
  }
  await claims.close()
})

test('I7: one key more than the limit is refused and none is forgotten early', async () => {
  await using directory = await temporaryDirectory()
  const claims = await open(directory.path, fakeClock(), 3)
  for (const key of ['a', 'b', 'c']) {
    const claim = claims.begin([key], 'body')
    await claim.commit(key)
    claim.release()
  }
  expect(() => claims.begin(['d'], 'body')).toThrow(expect.objectContaining({ code: 'too_many_keys' }))
  for (const key of ['a', 'b', 'c']) expect(claims.begin([key], 'body').recordId).toBe(key)
  await claims.close()
})

test('I4, I7: a group of keys has a limit of its own, which a restart keeps and no other group feels', async () => {
  await using directory = await temporaryDirectory()
  const clock = fakeClock()
  const claims = await open(directory.path, clock)
  const group = { id: 'grant_a', limit: 2 }
  for (const key of ['a', 'b']) {
    const claim = claims.begin(['grant_a', key], 'body', group)
    await claim.commit(key)
    claim.release()
  }
  const full = expect.objectContaining({ code: 'too_many_keys' }) as Error
  expect(() => claims.begin(['grant_a', 'c'], 'body', group)).toThrow(full)
  expect(claims.begin(['grant_a', 'a'], 'body', group).recordId).toBe('a')
  const other = claims.begin(['grant_b', 'a'], 'other body', { id: 'grant_b', limit: 2 })
  expect(other.recordId).toBeUndefined()
  other.release()
  await claims.close()
  const again = await open(directory.path, clock)
  expect(() => again.begin(['grant_a', 'c'], 'body', group)).toThrow(full)
  clock.wall += KEY_WINDOW_MS + 1
  clock.steady += KEY_WINDOW_MS + 1
  again.begin(['grant_a', 'c'], 'body', group).release()
  await again.close()
})

test('I7: keys of the server take no room from those of callers, nor callers from the server, also after a restart', async () => {
  await using directory = await temporaryDirectory()
  const clock = fakeClock()
  const full = expect.objectContaining({ code: 'too_many_keys' }) as Error
  let claims = await open(directory.path, clock, 1)
  const keep = async (key: string, group?: typeof SERVER_KEYS): Promise<void> => {
    const claim = claims.begin([key], 'body', group)
    await claim.commit(key)
    claim.release()
  }
  for (const key of ['told 1', 'told 2']) await keep(key, SERVER_KEYS)
  await claims.close()
  claims = await open(directory.path, clock, 1)
  await keep('mine')
  expect(() => claims.begin(['yours'], 'body')).toThrow(full)
  await keep('told 3', SERVER_KEYS)
  expect(claims.begin(['told 1'], 'body', SERVER_KEYS).recordId).toBe('told 1')
  await claims.close()
})

test('I13: keys in flight count in their group, and those of refused requests do not', async () => {
  await using directory = await temporaryDirectory()
  const claims = await open(directory.path, fakeClock())
  const group = { id: 'grant_a', limit: 1 }
  const refused = claims.begin(['a'], 'body', group)
  expect(() => claims.begin(['b'], 'body', group)).toThrow(expect.objectContaining({ code: 'too_many_keys' }))
  refused.release()
  refused.release()
  const accepted = claims.begin(['b'], 'body', group)
  await accepted.commit('b')
  accepted.release()
  expect(() => claims.begin(['a'], 'body', group)).toThrow(expect.objectContaining({ code: 'too_many_keys' }))
  await claims.close()
})

test('I13: a key whose record could not be made is free, also after a restart; one that was known before stays', async () => {
  await using directory = await temporaryDirectory()
  const group = { id: 'grant_a', limit: 1 }
  const fail = (): Promise<never> => Promise.reject(new Error('no room'))
  let claims = await open(directory.path, fakeClock())
  const claim = claims.begin(scope, 'body', group)
  await expect(once(claim, 'headless_1', fail)).rejects.toThrow('no room')
  claim.release()
  for (let start = 0; start < 2; start++) {
    const free = claims.begin(scope, 'another body', group)
    expect([free.recordId, claims.size]).toEqual([undefined, 0])
    free.release()
    await claims.close()
    claims = await open(directory.path, fakeClock())
  }
  const kept = claims.begin(scope, 'body', group)
  await once(kept, 'headless_2', () => Promise.resolve())
  kept.release()
  const again = claims.begin(scope, 'body', group)
  await expect(once(again, 'headless_2', fail)).rejects.toThrow('no room')
  again.release()
  expect(claims.begin(scope, 'body', group).recordId).toBe('headless_2')
  await claims.close()
})

test.each([
  ['only the wall clock', { wall: KEY_WINDOW_MS + 1, steady: 0 }, 'headless_1'],
  ['the wall clock by ten years', { wall: 10 * 365 * 86_400_000, steady: 0 }, 'headless_1'],
  ['only the monotonic clock', { wall: -3_600_000, steady: KEY_WINDOW_MS + 1 }, 'headless_1'],
  ['both clocks', { wall: KEY_WINDOW_MS + 1, steady: KEY_WINDOW_MS + 1 }, undefined],
])('I8: after %s moved past the window, a key is %s', async (_, moved, recordId) => {
  await using directory = await temporaryDirectory()
  const clock = fakeClock()
  const claims = await open(directory.path, clock)
  const claim = claims.begin(scope, 'body')
  await claim.commit('headless_1')
  claim.release()
  clock.wall += moved.wall
  clock.steady += moved.steady
  expect(claims.begin(scope, 'body').recordId).toBe(recordId)
  await claims.close()
})

test('the order of keys does not make a body another one', () => {
  expect(fingerprintOf({ a: 1, b: { c: [1, 2], d: null } })).toBe(fingerprintOf({ b: { d: null, c: [1, 2] }, a: 1 }))
  expect(fingerprintOf({ a: [1, 2] })).not.toBe(fingerprintOf({ a: [2, 1] }))
  expect(fingerprintOf({ a: '1' })).not.toBe(fingerprintOf({ a: 1 }))
})
