import { expect, test } from 'vitest'
import { census } from './census.ts'
import { runQuick, type QuickRequest } from './quick.ts'

const sh = (script: string, more: Partial<QuickRequest> = {}) =>
  runQuick({
    program: '/bin/sh',
    args: ['-c', script],
    cwd: '/',
    env: { PATH: '/usr/bin:/bin' },
    timeoutMs: 20_000,
    maxBytes: 1_000_000,
    ...more,
  })

test('a program gets its stdin, its own environment and no more, and its output comes back whole', async () => {
  const done = await sh('cat; env; echo complaint >&2; exit 3', {
    stdin: Buffer.from([0xff, 0x00]),
    env: { ONLY: 'this' },
  })
  expect(done.stdout.subarray(0, 2)).toEqual(Buffer.from([0xff, 0x00]))
  const names = done.stdout
    .subarray(2)
    .toString()
    .trim()
    .split('\n')
    .map((line) => line.split('=')[0])
  expect(names.filter((name) => !['PWD', 'SHLVL', '_'].includes(name ?? ''))).toEqual(['ONLY'])
  expect(done).toMatchObject({ exitCode: 3, stderr: 'complaint\n', timedOut: false, truncated: false })
})

test('one that cannot be started is a result, not an exception', async () => {
  expect(await sh('', { program: '/nonexistent' })).toMatchObject({ exitCode: null, stderr: 'ENOENT' })
  expect(await sh('', { cwd: '/nonexistent' })).toMatchObject({ exitCode: null })
})

test('one that takes too long is ended with all it started', async () => {
  const mark = `quick-${process.pid}`
  const done = await sh('trap "" TERM; sleep 600 & sleep 600', {
    timeoutMs: 200,
    env: { PATH: '/usr/bin:/bin', POSTERN_RUN_ID: mark },
  })
  expect(done).toMatchObject({ exitCode: null, timedOut: true })
  expect(census().get(mark) ?? []).toEqual([])
})

test('one that writes too much is ended', async () => {
  expect(await sh('yes')).toMatchObject({ exitCode: null, truncated: true })
})

test('what it leaves behind with its stdout is not waited for', async () => {
  const done = await sh('sleep 600 & echo done')
  expect(done).toMatchObject({ exitCode: 0, timedOut: false })
  expect(done.stdout.toString()).toBe('done\n')
})

test('one that does not read its stdin is no failure', async () => {
  expect(await sh('exit 0', { stdin: 'x'.repeat(1_000_000) })).toMatchObject({ exitCode: 0 })
})
