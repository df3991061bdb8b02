import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { NewEvent } from '../model.ts'
import { createRedactor, REDACTED } from './redactor.ts'

const HOOK = `pstn_h1_${'aB3-_'.repeat(20)}xyz`
const ADMIN = `pstn_adm1_${'Z9'.repeat(24)}q`
const RUN = `pstn_run1_${'k'.repeat(49)}`

/** The text as it comes out when it goes in cut at these places. */
function inPieces(secrets: string[], whole: Buffer, cuts: number[]): string {
  const stream = createRedactor(secrets).stream()
  const places = [...new Set(cuts.map((cut) => cut % (whole.length + 1)))].toSorted((a, b) => a - b)
  const out: Buffer[] = []
  let at = 0
  for (const place of [...places, whole.length]) {
    out.push(stream.push(whole.subarray(at, place)))
    at = place
  }
  return Buffer.concat([...out, stream.end()]).toString('latin1')
}

/** The rule itself, byte by byte: what some secret covers is marked, and each marked run is one `[redacted]`. */
function slowly(secrets: string[], whole: Buffer): string {
  const isCovered = Array.from<boolean>({ length: whole.length }).fill(false)
  const spellings = secrets
    .filter((each) => each.length >= 8)
    .flatMap((each) => [each, JSON.stringify(each).slice(1, -1)])
  for (const secret of spellings.map((each) => Buffer.from(each)))
    for (let i = 0; i + secret.length <= whole.length; i++)
      if (whole.subarray(i, i + secret.length).equals(secret)) isCovered.fill(true, i, i + secret.length)
  const text = whole.toString('latin1')
  for (let i = 0; i < text.length; i++) {
    const [, prefix = '', secret = ''] = /^(pstn_(?:h1|adm1|run1)_)([A-Za-z0-9_-]{1,200})/.exec(text.slice(i)) ?? []
    isCovered.fill(true, i + prefix.length, i + prefix.length + secret.length)
  }
  let out = ''
  for (const [i, covered] of isCovered.entries())
    if (!covered) out += text[i]
    else if (!isCovered[i - 1]) out += REDACTED
  return out
}

// Few letters, so that secrets overlap, repeat and almost begin.
const secret = fc.oneof(
  fc.string({ unit: fc.constantFrom('a', 'b', '"', 'é', '\n'), minLength: 7, maxLength: 12 }),
  fc.constantFrom('run1_abba', 'n_h1_aB3-_aB', 'kkkkkkkkkk'),
)
const secrets = fc.array(secret, { minLength: 0, maxLength: 3 })
const noise = fc.oneof(
  fc.string({ unit: fc.constantFrom('a', 'b', '"', '\\', 'n', 'é', 'p', '_'), maxLength: 12 }),
  fc.constantFrom(
    HOOK,
    ADMIN,
    RUN,
    HOOK.slice(0, 70),
    'pstn_',
    `${RUN}${ADMIN}`,
    'pspstn_run1_',
    '-'.repeat(180),
    'run1_abbab',
  ),
)
const cases = secrets.chain((all) => {
  const parts = fc.array(
    fc.oneof(noise, ...all.flatMap((each) => [fc.constant(each), fc.constant(each.slice(0, -1))])),
    { maxLength: 8 },
  )
  return fc.tuple(
    fc.constant(all),
    parts.map((list) => Buffer.from(list.join(''))),
    fc.array(fc.nat(), { maxLength: 12 }),
  )
})

describe('a stream', () => {
  test('is redacted in pieces as it is as a whole, and as the rule says', () => {
    fc.assert(
      fc.property(cases, ([all, whole, cuts]) => {
        const expected = slowly(all, whole)
        expect(inPieces(all, whole, [])).toBe(expected)
        expect(inPieces(all, whole, cuts)).toBe(expected)
        expect(
          inPieces(
            all,
            whole,
            Array.from({ length: whole.length }, (_, i) => i),
          ),
        ).toBe(expected)
      }),
      { numRuns: 1_000 },
    )
  })

  test('passes bytes that are no text, and holds nothing back that no secret begins with', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        const whole = Buffer.from(bytes)
        const stream = createRedactor(['\u0000never-said']).stream()
        expect(Buffer.concat([stream.push(whole), stream.end()])).toEqual(whole)
      }),
    )
    const stream = createRedactor(['sk-canary-1234']).stream()
    expect(stream.push(Buffer.from('nothing here')).toString()).toBe('nothing here')
    expect(stream.push(Buffer.from('and sk-can')).toString()).toBe('and ')
    expect(stream.push(Buffer.from('ned food')).toString()).toBe('sk-canned food')
    expect(stream.push(Buffer.from('sk-canary-12')).toString()).toBe('')
    expect(stream.push(Buffer.from('34!')).toString()).toBe('[redacted]!')
  })

  test('of secrets that overlap leaves nothing, and of repeated ones makes one mark', () => {
    expect(createRedactor(['abcdefgh', 'efghijkl']).text('<abcdefghijkl>')).toBe('<[redacted]>')
    expect(createRedactor(['abcdefgh', 'abcdefghij']).text('<abcdefghij>')).toBe('<[redacted]>')
    expect(createRedactor(['abababab']).text('<ababababab>')).toBe('<[redacted]>')
  })
})

describe('a value', () => {
  test('is replaced wherever it stands, also in names and as JSON writes it', () => {
    const tricky = 'pass"word\nof mine'
    const { value } = createRedactor([tricky])
    const event = {
      type: 'tool.started',
      input: { [tricky]: [1, { a: `x ${tricky}` }], b: JSON.stringify({ tricky }) },
    }
    expect(value(event)).toEqual({
      type: 'tool.started',
      input: { [REDACTED]: [1, { a: `x ${REDACTED}` }], b: `{"tricky":"${REDACTED}"}` },
    })
  })

  test('of seven characters is left alone, of eight is replaced', () => {
    const { text } = createRedactor(['1234567', 'abcdefgh'])
    expect(text('1234567 abcdefgh')).toBe('1234567 [redacted]')
  })

  test('without a secret is the same one', () => {
    const given = { a: ['x', { b: null }], c: 1 }
    expect(createRedactor(['abcdefgh']).value(given)).toBe(given)
  })
})

describe('our tokens', () => {
  test('C5: are replaced though nobody named them, what only looks like one is not', () => {
    const { text } = createRedactor([])
    const kinds = { [HOOK]: 'h1', [ADMIN]: 'adm1', [RUN]: 'run1' }
    for (const [token, kind] of Object.entries(kinds))
      expect(text(`see http://x/hook/${token}?a`)).toBe(`see http://x/hook/pstn_${kind}_[redacted]?a`)
    for (const other of ['pstn_h1_', 'pstn_', `pstn_x1_${'a'.repeat(110)}`]) expect(text(other)).toBe(other)
  })
})

describe('events', () => {
  const said = (events: NewEvent[], secrets: string[]): NewEvent[] => {
    const redacting = createRedactor(secrets).events<NewEvent>()
    return [...events.flatMap((event) => redacting.push(event)), ...redacting.flush()]
  }
  const piece = (text: string, type = 'agent.message'): NewEvent => ({ type, text, delta: true })

  test('a value said in pieces is replaced, whatever is between the pieces', () => {
    const usage = { type: 'usage', inputTokens: 1 }
    const thought = piece('hm', 'agent.thought')
    expect(
      said([piece('the key is sk-'), usage, piece('cana'), thought, piece('ry-1234.')], ['sk-canary-1234']),
    ).toEqual([piece('the key is '), usage, thought, piece('[redacted].')])
  })

  test('what was held back and is no secret comes before what ends the text', () => {
    const tool = { type: 'tool.started', toolCallId: '1', name: 'sk-canary-1234' }
    expect(said([piece('risk-'), piece('sk-can'), tool, piece('x')], ['sk-canary-1234'])).toEqual([
      piece('ri'),
      piece('sk-'),
      piece('sk-can'),
      { ...tool, name: REDACTED },
      piece('x'),
    ])
  })

  test('the words are those that were said, however they are cut', () => {
    fc.assert(
      fc.property(cases, ([all, whole, cuts]) => {
        const text = whole.toString('utf8')
        const places = [...new Set(cuts.map((cut) => cut % (text.length + 1)))].toSorted((a, b) => a - b)
        const pieces = [...places, text.length].map((end, i) => piece(text.slice(places[i - 1] ?? 0, end)))
        const joined = said(pieces, all)
          .map((event) => String(event['text']))
          .join('')
        expect(joined).toBe(Buffer.from(slowly(all, whole), 'latin1').toString('utf8'))
      }),
    )
  })
})
