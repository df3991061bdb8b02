import { expect, test } from 'vitest'
import { nodeRange, satisfies } from './version.ts'

test.each([
  ['22.23.1', false],
  ['22.23.2', true],
  ['22.24.0', true],
  ['23.11.0', false],
  ['24.18.0', false],
  ['24.18.1', true],
  ['25.9.0', false],
  ['26.5.0', false],
  ['26.5.1', true],
  ['27.0.0', true],
])('Node %s is taken: %s', (version, taken) => {
  expect(satisfies(version, '^22.23.2 || ^24.18.1 || >=26.5.1')).toBe(taken)
})

test('the range of the package is one that this reads', () => {
  expect(satisfies(process.versions.node, nodeRange)).toBe(true)
  expect(satisfies('0.0.1', nodeRange)).toBe(false)
})
