import { expect, test } from 'vitest'
import { createLogger, maskTokens } from './log.ts'

const logged = (use: (log: ReturnType<typeof createLogger>) => void): string[] => {
  const lines: string[] = []
  use(createLogger({ write: (line) => void lines.push(line) }))
  return lines
}

test('T24: tokens are masked in messages, fields and errors', () => {
  const token = `pstn_adm1_${'a'.repeat(43)}000000`
  const [line = ''] = logged((log) =>
    log.error({ error: new Error(`refused ${token}`), url: `/hook/pstn_h1_${'x'.repeat(103)}` }, `got ${token}`),
  )
  expect(line).not.toContain('aaaa')
  expect(line).not.toContain('xxxx')
  expect(JSON.parse(line)).toMatchObject({ msg: 'got pstn_adm1_[redacted]' })
  expect(maskTokens('pstn_run1_abc and pstn_h2_abc')).toBe('pstn_run1_[redacted] and pstn_h2_abc')
})

test('C1: text with line breaks and escapes is one record', () => {
  const lines = logged((log) => log.info({ text: '\u001b[31m\n{"level":60}' }, 'said\n\u001b[2J\u009b1mfake'))
  expect(lines).toHaveLength(1)
  // oxlint-disable-next-line no-control-regex
  expect(lines[0]?.trimEnd()).not.toMatch(/[\u0000-\u001f\u007f-\u009f]/)
})

test('a level keeps quieter messages out', () => {
  const lines: string[] = []
  const log = createLogger({ level: 'warn', write: (line) => void lines.push(line) })
  log.info({}, 'no')
  log.warn({}, 'yes')
  expect(lines.map((line) => (JSON.parse(line) as { msg: string }).msg)).toEqual(['yes'])
})
