import { array, assert, constantFrom, integer, property } from 'fast-check'
import { expect, test } from 'vitest'
import { createLineFilter } from './line-filter.ts'

const PREFIXES = ['{"type":"noise"', '{"type":"more"']

function filtered(text: string, size: number) {
  const filter = createLineFilter(PREFIXES)
  const bytes = Buffer.from(text)
  const kept: Buffer[] = []
  for (let at = 0; at < bytes.length; at += size) kept.push(filter.push(bytes.subarray(at, at + size)))
  return { text: Buffer.concat([...kept, filter.end()]).toString('utf8'), dropped: filter.dropped }
}

test('drops the lines that begin so, whatever the pieces, and keeps every byte of the others', () => {
  const lines = constantFrom(
    '{"type":"noise","n":1}\n',
    '{"type":"more"}\n',
    '{"type":"words","text":"{\\"type\\":\\"noise\\" ü🙂"}\n',
    '{"type":"no\n',
    '\n',
    'x\n',
    '{"type":"noi',
    ' {"type":"noise"}\n',
  )
  assert(
    property(array(lines, { maxLength: 20 }), integer({ min: 1, max: 40 }), (all, size) => {
      const text = all.join('')
      const parts = text.split('\n').map((line, n, every) => (n < every.length - 1 ? `${line}\n` : line))
      const isDropped = (line: string): boolean => PREFIXES.some((prefix) => line.startsWith(prefix))
      const gone = parts.filter(isDropped)
      expect(filtered(text, size)).toEqual({
        text: parts.filter((line) => !isDropped(line)).join(''),
        dropped: { lines: gone.length, bytes: Buffer.byteLength(gone.join('')) },
      })
    }),
  )
})

test('a long line costs no memory: its pieces pass, or go, as they come', () => {
  const filter = createLineFilter(PREFIXES)
  const piece = Buffer.alloc(1024 * 1024, 'x')
  filter.push(Buffer.from('{"type":"noise",'))
  expect(filter.push(piece)).toHaveLength(0)
  expect(filter.push(Buffer.from('\nkept'))).toEqual(Buffer.from('kept'))
  expect(filter.push(piece)).toHaveLength(piece.length)
  expect(filter.dropped).toEqual({ lines: 1, bytes: 16 + piece.length + 1 })
})
