import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { createBuckets } from './buckets.ts'

const standing = () => {
  const clock = { now: 0, monotonic: () => clock.now }
  return clock
}

test('I10: ten at once pass, the eleventh waits two seconds', () => {
  const clock = standing()
  const buckets = createBuckets({ size: 10, perMinute: 30, clock })
  const taken = Array.from({ length: 11 }, () => buckets.take('grant'))
  expect(taken.map(({ isTaken }) => isTaken)).toEqual([...Array.from({ length: 10 }, () => true), false])
  expect(taken.map(({ left }) => left)).toEqual([9, 8, 7, 6, 5, 4, 3, 2, 1, 0, 0])
  expect(taken[10]).toMatchObject({ nextMs: 2_000, fullMs: 20_000 })
  clock.now += 1_999
  expect(buckets.take('grant').isTaken).toBe(false)
  clock.now += 1
  expect(buckets.take('grant').isTaken).toBe(true)
  expect(buckets.take('grant').isTaken).toBe(false)
})

test('one bucket takes nothing from another', () => {
  const buckets = createBuckets({ size: 1, perMinute: 1, clock: standing() })
  expect([buckets.take('a').isTaken, buckets.take('a').isTaken, buckets.take('b').isTaken]).toEqual([true, false, true])
})

test('never more pass than the bucket holds and what came back', () => {
  fc.assert(
    fc.property(fc.array(fc.nat(5_000), { minLength: 1, maxLength: 200 }), (pauses) => {
      const clock = standing()
      const buckets = createBuckets({ size: 10, perMinute: 30, clock })
      let passed = 0
      for (const pause of pauses) {
        clock.now += pause
        if (buckets.take('grant').isTaken) passed++
      }
      expect(passed).toBeLessThanOrEqual(10 + clock.now / 2_000)
    }),
  )
})

test('full buckets are forgotten when there are too many', () => {
  const clock = standing()
  const buckets = createBuckets({ size: 2, perMinute: 60, clock, maxBuckets: 3 })
  for (const name of ['a', 'a', 'b', 'c']) buckets.take(name)
  clock.now += 1_500 // b and c are full again, a is not
  buckets.take('d')
  expect([buckets.take('a').isTaken, buckets.take('a').isTaken]).toEqual([true, false])
})
