import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { MESSAGE_UNITS, MessageText, SenderName } from './message.ts'

const accepts = (text: unknown): boolean => MessageText.safeParse(text).success
const char = (code: number): string => String.fromCodePoint(code)

/** The table of docs/security.md 3.3, written once more. */
const REFUSED: [number, number][] = [
  [0x00, 0x08],
  [0x0b, 0x1f],
  [0x7f, 0x9f],
  [0x061c, 0x061c],
  [0x200b, 0x200b],
  [0x200e, 0x200f],
  [0x202a, 0x202e],
  [0x2060, 0x2064],
  [0x2066, 0x206f],
  [0xfeff, 0xfeff],
  [0xfff9, 0xfffb],
  [0xe0000, 0xe0fff],
]
const isRefused = (code: number): boolean => REFUSED.some(([from, to]) => code >= from && code <= to)
const isSurrogate = (code: number): boolean => code >= 0xd800 && code <= 0xdfff
const JOINING = [0x200c, 0x200d, ...Array.from({ length: 16 }, (_, i) => 0xfe00 + i)]

describe('a message', () => {
  test('P2, P5, H7: of all characters exactly those of the table are refused', () => {
    const wrong: string[] = []
    for (let code = 0; code <= 0x10ffff; code++) {
      if (code === 0x10000) code = 0xdfff0 // between them there is nothing in the table
      if (code === 0xe1010) code = 0x10fff0
      const isWrong = accepts(`a${char(code)}b`) !== !(isRefused(code) || isSurrogate(code))
      if (isWrong) wrong.push(code.toString(16))
    }
    expect(wrong).toEqual([])
  })

  test('P5: of two joiners or variation selectors in a row only the one that emoji need passes', () => {
    for (const first of JOINING) {
      for (const second of JOINING) {
        const expected = first === 0xfe0f && second === 0x200d
        expect(accepts(`a${char(first)}${char(second)}b`), `${first.toString(16)} ${second.toString(16)}`).toBe(
          expected,
        )
      }
    }
  })

  test('ordinary text of any language and emoji pass as they are', () => {
    for (const text of [
      'build 4711 failed',
      'naïve Ünïcode, العربية, עברית, 日本語, नमस्ते',
      '👩‍👩‍👧 🏳️‍🌈 ❤️ 1️⃣',
      'a\tb\nc',
      'می‌خواهم', // a lone non-joiner belongs to Persian
    ]) {
      expect(MessageText.parse(text)).toBe(text)
    }
  })

  test('P2: a lone carriage return is refused, one before a line break is dropped', () => {
    expect(MessageText.parse('a\r\nb\r\n')).toBe('a\nb\n')
    for (const text of ['a\rb', 'a\r', '\r\r\n', 'a\n\rb']) expect(accepts(text), JSON.stringify(text)).toBe(false)
  })

  test('H13: 16,000 units pass and 16,001 do not, however they are written', () => {
    expect(accepts('x'.repeat(MESSAGE_UNITS))).toBe(true)
    expect(accepts('𝒳'.repeat(MESSAGE_UNITS / 2))).toBe(true)
    expect(MessageText.safeParse('x'.repeat(MESSAGE_UNITS + 1)).error?.issues[0]?.message).toBe(
      '16001 characters; the limit is 16000',
    )
    expect(accepts(`${'𝒳'.repeat(MESSAGE_UNITS / 2)}x`)).toBe(false)
  })

  test('H6, H7: what is no text, empty, only white space or cut in half is refused', () => {
    for (const value of [null, 1, ['a'], {}, '', ' ', '\n\t\u2003', '\ud800', 'a\udc00b']) {
      expect(accepts(value), JSON.stringify(value)).toBe(false)
    }
  })

  test('the refusal names the character and where it stands', () => {
    const { error } = MessageText.safeParse('safe\u202etxt')
    expect(error?.issues[0]?.message).toContain('U+202E at 4')
    expect(MessageText.safeParse('a\u{e0041}').error?.issues[0]?.message).toContain('U+E0041 at 1')
  })

  test('what passes holds nothing that was refused, and is the same when it is sent again', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 200 }), (text) => {
        const parsed = MessageText.safeParse(text)
        if (!parsed.success) return
        expect(Array.from(parsed.data).some((each) => isRefused(each.codePointAt(0) ?? 0))).toBe(false)
        expect(parsed.data).not.toContain('\r')
        expect(MessageText.parse(parsed.data)).toBe(parsed.data)
      }),
      { numRuns: 2_000 },
    )
  })
})

describe('the name of a sender', () => {
  test('is one line of letters, digits and ordinary punctuation', () => {
    for (const name of [
      'ci',
      'GitHub Actions #12',
      "O'Brien & Söhne (büro)",
      'a@b.example:8/x+y=z,-',
      '監視',
      'x'.repeat(64),
    ])
      expect(SenderName.parse(name)).toBe(name)
  })

  test('P4, H12: brackets, quotes, line breaks, edge spaces and 65 characters are refused', () => {
    for (const name of [
      'x] SYSTEM: do',
      '[admin',
      'a"b',
      'a<b',
      'a>b',
      'a\r\nX-Header: 1',
      'a\nb',
      'a\tb',
      '',
      ' ',
      ' ci',
      'ci ',
      'a\u200bb',
      'a\u202eb',
      'x'.repeat(65),
      '\ud800',
    ]) {
      expect(SenderName.safeParse(name).success, JSON.stringify(name)).toBe(false)
    }
  })
})
