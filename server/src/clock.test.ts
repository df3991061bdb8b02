import { expect, test } from 'vitest'
import { systemClock } from './clock.ts'

test('a sleep longer than a timer can be is not over at once, nor for ever asked again', async () => {
  const warned: string[] = []
  const onWarning = ({ name }: Error): void => void warned.push(name)
  process.on('warning', onWarning)
  for (const ms of [30 * 24 * 60 * 60 * 1_000, Infinity]) {
    await expect(systemClock.sleep(ms, AbortSignal.timeout(50))).rejects.toThrow('timeout')
  }
  await new Promise((resolve) => setImmediate(resolve))
  process.off('warning', onWarning)
  expect(warned).toEqual([])
})
