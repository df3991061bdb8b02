import { describe, expect, test } from 'vitest'
import { inert, shortIds, span, table, type Screen } from './text.ts'

const nothing = (): void => undefined
const screen = (width: number): Screen => ({
  print: nothing,
  printJson: nothing,
  note: nothing,
  complain: nothing,
  write: nothing,
  isTerminal: width !== Infinity,
  showsProgress: false,
  width,
  style: (format, text) => (format === 'gray' ? text : `\u001b[32m${text}\u001b[39m`),
})

describe('what agents wrote', () => {
  test('C3: loses every sequence a terminal would obey, and keeps its words', () => {
    const clipboard = '\u001b]52;c;cm0gLXJm\u0007'
    expect(inert(`a${clipboard}b\u001b[2Jc\u001b[31md\u009b31me\u0008f\u007f`)).toBe('abcdef')
    expect(inert('one\rtwo\nthree\tfour\u0000')).toBe('onetwo\nthree\tfour')
  })

  test('fits one line when it has to', () => {
    expect(inert('one\r\ntwo\u2028three\u0085four', true)).toBe('one two three four')
  })

  test('may be in any script', () => {
    expect(inert('grüße 🚪 日本語 e\u0301')).toBe('grüße 🚪 日本語 e\u0301')
  })
})

describe('a table', () => {
  const rows = [
    ['headless_1', `\u001b[32m✓ succeeded\u001b[39m`, 'a long prompt that goes on'],
    ['headless_22', '● running', 'x'],
  ]
  test('is aligned on a terminal, colours taking no room', () => {
    expect(table(screen(80), ['ID', 'STATUS', 'PROMPT'], rows).split('\n')).toEqual([
      'ID           STATUS       PROMPT',
      'headless_1   \u001b[32m✓ succeeded\u001b[39m  a long prompt that goes on',
      'headless_22  ● running    x',
    ])
  })

  test('is cut to the width of the terminal', () => {
    const [, first = ''] = table(screen(32), ['ID', 'STATUS', 'PROMPT'], rows).split('\n')
    expect(first).toBe('headless_1   \u001b[32m✓ succeeded\u001b[39m  a lon…')
  })

  test('is separated by tabs and plain elsewhere', () => {
    expect(table(screen(Infinity), ['ID', 'STATUS', 'PROMPT'], rows)).toBe(
      'ID\tSTATUS\tPROMPT\nheadless_1\t✓ succeeded\ta long prompt that goes on\nheadless_22\t● running\tx',
    )
  })
})

test('short ids grow until each is the only one', () => {
  const ids = ['headless_01M7W3P0ZCAAAA', 'headless_01M7W3P0ZCAAAB', 'headless_01M7W1CTH0XXXX']
  expect([...shortIds(ids).values()].toSorted()).toEqual([
    'headless_01M7W1CTH0',
    'headless_01M7W3P0ZCAAAA',
    'headless_01M7W3P0ZCAAAB',
  ])
})

test.each([
  [0, '0.0s'],
  [900, '0.9s'],
  [9_949, '9.9s'],
  [9_950, '10s'],
  [59_499, '59s'],
  [64_000, '1m04s'],
  [3_599_499, '59m59s'],
  [7_500_000, '2h05m'],
  [300_000_000, '3d'],
])('a span of %i ms is %s', (ms, text) => {
  expect(span(ms)).toBe(text)
})
