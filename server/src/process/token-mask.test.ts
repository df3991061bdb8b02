import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { newToken } from '../keys/random-token.ts'
import { createTokenMask } from './token-mask.ts'

/** What comes out when the bytes go in cut at these places. */
function through(bytes: Buffer, cuts: number[]): string {
  const mask = createTokenMask()
  const places = [0, ...cuts.map((cut) => cut % (bytes.length + 1)).toSorted((a, b) => a - b), bytes.length]
  const parts = places.slice(1).map((to, i) => mask.push(bytes.subarray(places[i], to)))
  return Buffer.concat([...parts, mask.end()]).toString('latin1')
}

test('C5: a token is masked wherever the stream is cut', () => {
  const token = newToken('pstn_run1_')
  const text = Buffer.from(`TOKEN=${token}\npp pst pstn_ ${token} ${token}`)
  for (let first = 0; first <= text.length; first++) {
    const out = through(text, [first, first + 7, first + 61])
    expect(out).toBe('TOKEN=pstn_run1_[redacted]\npp pst pstn_ pstn_run1_[redacted] pstn_run1_[redacted]')
  }
})

test('bytes without a token pass as they are, however they are cut', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 500 }), fc.array(fc.nat(), { maxLength: 5 }), (bytes, cuts) => {
      expect(through(Buffer.from(bytes), cuts)).toBe(Buffer.from(bytes).toString('latin1'))
    }),
  )
  expect(through(Buffer.from('stop'), [2])).toBe('stop')
})

test('what ends like the beginning of a token comes out at the end', () => {
  const mask = createTokenMask()
  expect(mask.push(Buffer.from('a pstn_run')).toString()).toBe('a ')
  expect(mask.end().toString()).toBe('pstn_run')
})
