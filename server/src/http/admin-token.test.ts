import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { isTokenShaped, newToken } from '../keys/random-token.ts'
import { tokenCheck } from './admin-token.ts'

const tokens = fc.constant(undefined).map(() => newToken('pstn_adm1_'))

test('a new token has its shape, 59 characters, and no twin', () => {
  const made = Array.from({ length: 500 }, () => newToken('pstn_adm1_'))
  for (const token of made) {
    expect(token).toMatch(/^pstn_adm1_[A-Za-z0-9_-]{43}[0-9A-Za-z]{6}$/)
    expect(isTokenShaped('pstn_adm1_', token)).toBe(true)
  }
  expect(new Set(made).size).toBe(500)
})

test('the checksum is CRC-32 in base62, the most significant digit first', () => {
  // Computed by another implementation.
  expect(isTokenShaped('pstn_adm1_', `pstn_adm1_${'A'.repeat(43)}42de9H`)).toBe(true)
  expect(isTokenShaped('pstn_adm1_', `pstn_adm1_${'A'.repeat(43)}42de9I`)).toBe(false)
})

test('only the very same text passes', () => {
  fc.assert(
    fc.property(tokens, fc.string({ unit: 'grapheme' }), (token, other) => {
      const check = tokenCheck(token)
      expect(check(token)).toBe(true)
      expect(check(other)).toBe(other === token)
    }),
  )
})

test('T1: a token with any one character changed is neither shaped nor accepted', () => {
  const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_'
  fc.assert(
    fc.property(tokens, fc.nat(58), fc.constantFrom(...alphabet.split('')), (token, at, character) => {
      fc.pre(token[at] !== character)
      const changed = token.slice(0, at) + character + token.slice(at + 1)
      expect(tokenCheck(token)(changed)).toBe(false)
      expect(isTokenShaped('pstn_adm1_', changed)).toBe(false)
    }),
    { numRuns: 1_000 },
  )
})

test('T5, T6, T7: shorter, longer, padded and differently written forms are not tokens', () => {
  const token = newToken('pstn_adm1_')
  const check = tokenCheck(token)
  const forms = [
    ...Array.from({ length: 59 }, (_, length) => token.slice(0, length)),
    ...['=', ' ', '\n', '\0', '!', 'A'].flatMap((extra) => [token + extra, extra + token]),
    token.toUpperCase(),
    token.toLowerCase(),
    token.replace('p', '\u0440'),
    token.normalize('NFKD') + '\u200b',
    encodeURIComponent(`${token}%`),
  ]
  for (const form of forms) expect([check(form), isTokenShaped('pstn_adm1_', form)]).toEqual([false, false])
})
