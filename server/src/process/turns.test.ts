import { expect, test } from 'vitest'
import type { Clock } from '../clock.ts'
import { createTurns, TURN_MS } from './turns.ts'

const never = new AbortController().signal

function place() {
  const sleeps: { ms: number; wake: () => void }[] = []
  const clock: Clock = {
    now: () => 0,
    monotonic: () => 0,
    sleep: (ms, signal) =>
      new Promise((resolve, reject) => {
        sleeps.push({ ms, wake: resolve })
        signal?.addEventListener('abort', () => reject(new Error('aborted')), { once: true })
      }),
  }
  const turns = createTurns({ clock })
  const order: string[] = []
  const take = (name: string, key = 'home', signal = never): Promise<() => void> =>
    turns.take(key, signal).then((end) => {
      order.push(name)
      return end
    })
  return { turns, order, take, sleeps }
}
/** After everything that can go on has gone on. */
const settled = () => new Promise((resolve) => setImmediate(resolve))

test('starts of one key come one after another, in order; another key does not wait', async () => {
  const { take, order } = place()
  const first = await take('first')
  const [second, third] = [take('second'), take('third')]
  await take('other', 'another home')
  await settled()
  expect(order).toEqual(['first', 'other'])
  first()
  ;(await second)()
  ;(await third)()
  expect(order).toEqual(['first', 'other', 'second', 'third'])
})

test('one that says nothing keeps the next waiting for so long and no longer', async () => {
  const { take, order, sleeps } = place()
  await take('silent')
  const next = take('next')
  await settled()
  expect([order, sleeps.map(({ ms }) => ms)]).toEqual([['silent'], [TURN_MS]])
  sleeps[0]?.wake()
  ;(await next)()
  expect(order).toEqual(['silent', 'next'])
})

test('one that is canceled while it waits is let go at once, and the next keeps its turn', async () => {
  const { take, order } = place()
  const first = await take('first')
  const cancel = new AbortController()
  const canceled = take('canceled', 'home', cancel.signal)
  const next = take('next')
  cancel.abort()
  ;(await canceled)()
  await settled()
  expect(order).toEqual(['first', 'canceled'])
  first()
  ;(await next)()
  const late = await take('late', 'home', AbortSignal.abort())
  late()
  expect(order).toEqual(['first', 'canceled', 'next', 'late'])
})
