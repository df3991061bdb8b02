import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { parseJson } from './json.ts'

const parse = (text: string): unknown => parseJson(Buffer.from(text))
const depthOf = (value: unknown): number =>
  typeof value === 'object' && value !== null ? 1 + Math.max(0, ...Object.values(value).map(depthOf)) : 0

test('what JSON.parse takes is taken, and means the same', () => {
  fc.assert(
    fc.property(fc.json({ noUnicodeString: false, maxDepth: 6 }), (text) => {
      fc.pre(!text.includes('__proto__') && !text.includes('constructor'))
      const value: unknown = JSON.parse(text)
      fc.pre(JSON.stringify(value).length === JSON.stringify(JSON.parse(JSON.stringify(value))).length)
      // fast-check's objects may be written with a key twice only by way of escapes, which it does not use.
      expect(parse(text)).toEqual(value)
    }),
    { numRuns: 500 },
  )
})

test('what JSON.parse refuses is refused, and nothing else happens', () => {
  fc.assert(
    fc.property(fc.string(), (text) => {
      let valid = true
      try {
        JSON.parse(text)
      } catch {
        valid = false
      }
      fc.pre(!valid)
      expect(() => parse(text)).toThrow(expect.objectContaining({ code: 'invalid_json' }))
    }),
    { numRuns: 500 },
  )
})

test('an object with a key twice is refused, at any depth and however the key is written', () => {
  fc.assert(
    fc.property(fc.string(), fc.nat(5), fc.boolean(), (key, depth, isEscaped) => {
      const written = isEscaped ? `"${escapeAll(key)}"` : JSON.stringify(key)
      const text = `${'{"a":['.repeat(depth)}{${JSON.stringify(key)}:1,"${'_'.repeat(key.length + 1)}":"{,}",${written}:2}${']}'.repeat(depth)}`
      expect(() => parse(text)).toThrow('twice')
    }),
  )
})
const escapeAll = (text: string): string =>
  text.replace(/[^]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`)

test('the same key in different objects is no repeat', () => {
  expect(parse('{"a":{"a":[{"a":1},{"a":2}],"b":"a"},"b":{"a":"\\"a\\":","c":"}"}}')).toBeTruthy()
})

test('32 levels pass and 33 do not, in any mixture, and brackets in texts do not count', () => {
  fc.assert(
    fc.property(fc.array(fc.boolean(), { minLength: 30, maxLength: 36 }), (kinds) => {
      const open = kinds.map((isArray) => (isArray ? '[' : '{"k":')).join('')
      const close = kinds
        .toReversed()
        .map((isArray) => (isArray ? ']' : '}'))
        .join('')
      const text = `${open}"[[[[{{{{\\"[["${close}`
      if (kinds.length > 32) expect(() => parse(text)).toThrow('32 levels')
      else expect(depthOf(parse(text))).toBe(kinds.length)
    }),
  )
})

test('half a megabyte of any one character is judged at once', () => {
  for (const character of ['[', '{', '"', '\\', ',', ' ', '{"a":', '["', '\\"', '0']) {
    expect(() => parse(character.repeat(Math.floor(500_000 / character.length)))).toThrow(
      expect.objectContaining({ code: 'invalid_json' }),
    )
  }
  expect(parse(`"${'\\\\'.repeat(250_000)}"`)).toBe('\\'.repeat(250_000))
  expect(parse(`"${'\\"'.repeat(250_000)}"`)).toBe('"'.repeat(250_000))
})
