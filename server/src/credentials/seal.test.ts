import { randomBytes } from 'node:crypto'
import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { seal, sealedWith, unseal } from './seal.ts'

const KEYS = new Map([1, 7, 255].map((kid) => [kid, randomBytes(32)]))
const keyOf = (kid: number): Buffer | undefined => KEYS.get(kid)
const sealing = (kid: number): { kid: number; key: Buffer } => ({ kid, key: keyOf(kid) ?? Buffer.alloc(32) })
const kids = fc.constantFrom(1, 7, 255)
const texts = fc.string({ unit: 'grapheme', maxLength: 200 })
const names = fc.stringMatching(/^[A-Za-z0-9][A-Za-z0-9._-]{0,20}$/)

test('A8: what was sealed is opened with its key and name, and is not seen in the seal', () => {
  fc.assert(
    fc.property(texts, names, kids, (text, name, kid) => {
      const sealed = seal(text, name, sealing(kid))
      expect(unseal(sealed, name, keyOf)).toBe(text)
      expect(sealedWith(sealed)).toBe(kid)
      expect(sealed).toMatch(/^[A-Za-z0-9_-]+$/)
      if (text.length >= 4) expect(Buffer.from(sealed, 'base64url').includes(text)).toBe(false)
    }),
  )
})

test('two seals of one text share nothing but the number of their key', () => {
  const all = Array.from({ length: 200 }, () => Buffer.from(seal('the same', 'a', sealing(1)), 'base64url'))
  expect(new Set(all.map((bytes) => bytes.toString('hex', 1, 13))).size).toBe(200)
  expect(new Set(all.map((bytes) => bytes.toString('hex', 13))).size).toBe(200)
})

test('any change of a byte, any cut and anything added is noticed', () => {
  fc.assert(
    fc.property(texts, kids, fc.nat(), fc.integer({ min: 1, max: 255 }), (text, kid, place, change) => {
      const bytes = Buffer.from(seal(text, 'a', sealing(kid)), 'base64url')
      const at = place % bytes.length
      const changed = Buffer.from(bytes)
      changed[at] = (changed[at] ?? 0) ^ change
      for (const damaged of [changed, bytes.subarray(0, at), Buffer.concat([bytes, Buffer.of(change)])])
        expect(unseal(damaged.toString('base64url'), 'a', keyOf)).toBeUndefined()
    }),
  )
})

test('a seal fits one name and one key', () => {
  const sealed = seal('value', 'mine', sealing(1))
  expect(unseal(sealed, 'yours', keyOf)).toBeUndefined()
  expect(unseal(sealed, 'mine', () => keyOf(7))).toBeUndefined()
  expect(unseal(sealed, 'mine', () => undefined)).toBeUndefined()
  expect(unseal(sealed, 'mine', keyOf)).toBe('value')
})

test('only the canonical text is taken', () => {
  const sealed = seal('value!', 'a', sealing(1))
  for (const other of [`${sealed}=`, ` ${sealed}`, `${sealed}\n`, sealed.slice(0, 10), '', 'plain text', '🔑'])
    expect([other, unseal(other, 'a', keyOf), sealedWith(other)]).toEqual([other, undefined, undefined])
})
