import { appendFile, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { systemClock } from '../clock.ts'
import type { Event } from '../model.ts'
import { diskError, faultyDisk } from '../../test/faulty-disk.ts'
import { temporaryDirectory } from '../../test/temporary.ts'
import { systemDisk, type Disk } from '../store/disk.ts'
import { createEventLog } from './event-log.ts'
import type { EventLog } from './types.ts'

async function open(disk: Disk = systemDisk) {
  const directory = await temporaryDirectory()
  const path = (log: string): string => join(directory.path, log, 'events.ndjson')
  const made: EventLog[] = []
  const make = (): EventLog => {
    const log = createEventLog({ disk, clock: systemClock, path })
    made.push(log)
    return log
  }
  async function dispose(): Promise<void> {
    for (const log of made) await log.closeAll()
    await directory[Symbol.asyncDispose]()
  }
  return { log: make(), again: make, path, [Symbol.asyncDispose]: dispose }
}
const never = new AbortController().signal

async function collect(events: AsyncIterable<Event>): Promise<Event[]> {
  const all: Event[] = []
  for await (const event of events) all.push(event)
  return all
}
const numbers = (events: Event[]): number[] => events.map((event) => event.seq)
const upTo = (count: number, from = 1): number[] => Array.from({ length: count - from + 1 }, (_, i) => from + i)

test('events are numbered from 1 without gaps, in the order they were added', async () => {
  await using opened = await open()
  const seqs = await Promise.all(Array.from({ length: 50 }, (_, i) => opened.log.append('a', [{ type: 'log', i }])))
  expect(seqs).toEqual(upTo(50))
  const read = await opened.log.read('a', 0, 1_000)
  expect(read.map((event) => [event.seq, event['i']])).toEqual(upTo(50).map((n) => [n, n - 1]))
  expect(numbers(await opened.log.read('a', 20, 5))).toEqual([21, 22, 23, 24, 25])
})

test('a follower is given the past, then what happens, and ends with the terminal event', async () => {
  await using opened = await open()
  await opened.log.append('a', [{ type: 'log' }, { type: 'log' }])
  const following = collect(opened.log.follow('a', 0, never))
  for (let i = 0; i < 5; i++) await opened.log.append('a', [{ type: 'agent.message', text: String(i) }])
  await opened.log.append('a', [{ type: 'run.ended' }])
  expect(numbers(await following)).toEqual(upTo(8))
})

test('a reader that reconnects at any point is given exactly the events it missed', async () => {
  await using opened = await open()
  const count = 3_000 // more than one page, more than what is kept in memory
  const text = 'x'.repeat(200)
  await opened.log.append(
    'a',
    upTo(count).map(() => ({ type: 'agent.message', text })),
  )
  await opened.log.append('a', [{ type: 'run.ended' }])
  await opened.log.close('a')
  for (const after of [0, 1, 499, 500, 501, 2_999, 3_000]) {
    expect(numbers(await collect(opened.log.follow('a', after, never)))).toEqual(upTo(count + 1, after + 1))
  }
})

test('many followers at different places of a live log all see everything', async () => {
  await using opened = await open()
  const readers = Array.from({ length: 20 }, (_, i) => collect(opened.log.follow('a', i * 10, never)))
  for (let i = 0; i < 400; i++) void opened.log.append('a', [{ type: 'agent.message', text: 'y'.repeat(2_000) }])
  await opened.log.append('a', [{ type: 'run.ended' }])
  for (const [i, events] of (await Promise.all(readers)).entries())
    expect(numbers(events)).toEqual(upTo(401, i * 10 + 1))
})

test('a follower whose reader leaves ends, and waits for nothing', async () => {
  await using opened = await open()
  await opened.log.append('a', [{ type: 'log' }])
  const abort = new AbortController()
  const following = collect(opened.log.follow('a', 0, abort.signal))
  setTimeout(() => abort.abort(), 50)
  expect(numbers(await following)).toEqual([1])
})

test('a log goes on behind its last complete line after a restart', async () => {
  await using opened = await open()
  await opened.log.append('a', [{ type: 'log' }, { type: 'log' }])
  await appendFile(opened.path('a'), '{"seq":3,"at":"2026-')
  const again = opened.again()
  expect(await again.lastSeq('a')).toBe(2)
  expect(await again.append('a', [{ type: 'run.ended' }])).toBe(3)
  expect(numbers(await collect(again.follow('a', 0, never)))).toEqual([1, 2, 3])
})

test('what could not be written is shown to nobody and leaves no gap', async () => {
  const faulty = faultyDisk()
  await using opened = await open(faulty.disk)
  await opened.log.append('a', [{ type: 'log', n: 1 }])
  faulty.onCall = (name) => {
    if (name === 'datasync') throw diskError('ENOSPC')
    return undefined
  }
  await expect(opened.log.append('a', [{ type: 'log', n: 2 }])).rejects.toMatchObject({ code: 'storage_unavailable' })
  expect(await opened.log.lastSeq('a')).toBe(1)
  faulty.onCall = undefined
  expect(await opened.log.append('a', [{ type: 'log', n: 3 }])).toBe(2)
  const lines = (await readFile(opened.path('a'), 'utf8')).trim().split('\n')
  expect(lines.map((line) => (JSON.parse(line) as Event)['n'])).toEqual([1, 3])
})
