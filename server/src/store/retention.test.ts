import { mkdir, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { temporaryDirectory } from '../../test/temporary.ts'
import { newId, systemClock, type Clock } from '../clock.ts'
import { systemDisk } from './disk.ts'
import { madeAt, retireOldLogs } from './retention.ts'

const DAY_MS = 86_400_000

/** A clock whose days pass when it is told to. */
function days() {
  let now = Date.now()
  let wake: (() => void) | undefined
  const clock: Clock = {
    now: () => now,
    monotonic: () => now,
    sleep: (_, signal) =>
      new Promise((resolve, reject) => {
        wake = resolve
        signal?.addEventListener('abort', () => reject(signal.reason as Error), { once: true })
      }),
  }
  return {
    clock,
    isAsleep: () => wake !== undefined,
    pass(count: number) {
      now += count * DAY_MS
      const woken = wake
      wake = undefined
      woken?.()
    },
  }
}

test('what is older than its days goes, day by day; what may still grow, and what is not ours, stays', async () => {
  await using directory = await temporaryDirectory()
  const { clock, pass, isAsleep } = days()
  const old = newId('headless', { ...clock, now: () => clock.now() - 90 * DAY_MS - 1 })
  const young = newId('headless', { ...clock, now: () => clock.now() - 90 * DAY_MS + 1 })
  const open = newId('headless', { ...clock, now: () => clock.now() - 400 * DAY_MS })
  for (const name of [old, young, open, 'notes']) await mkdir(join(directory.path, name, 'inner'), { recursive: true })
  const stop = new AbortController()
  const done = retireOldLogs({
    disk: systemDisk,
    clock,
    directory: directory.path,
    days: 90,
    doneSince: (id) => (id === open ? undefined : madeAt(id)),
    onError: (_, error) => expect.unreachable(String(error)),
    signal: stop.signal,
  })
  const asleep = async (): Promise<void> => {
    while (!isAsleep()) await systemClock.sleep(10)
  }
  await asleep()
  expect((await readdir(directory.path)).toSorted()).toEqual([young, open, 'notes'].toSorted())
  pass(1)
  await asleep()
  expect((await readdir(directory.path)).toSorted()).toEqual([open, 'notes'].toSorted())
  stop.abort()
  await done
})
