import { randomBytes } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { systemClock } from '../clock.ts'
import { diskError, faultyDisk } from '../../test/faulty-disk.ts'
import { temporaryDirectory } from '../../test/temporary.ts'
import { systemDisk, type Disk } from './disk.ts'
import { createStreamOutput, createTextDecoder, MAX_FILE_BYTES, outputName, TAIL_BYTES, tailName } from './output.ts'

async function open(disk: Disk = systemDisk) {
  const directory = await temporaryDirectory()
  const { signal } = new AbortController()
  const output = createStreamOutput({ disk, clock: systemClock, directory: directory.path, stream: 'stdout', signal })
  const path = (name: string): string => join(directory.path, name)
  return { output, path, [Symbol.asyncDispose]: () => directory[Symbol.asyncDispose]() }
}

test('the end of a stream is kept exactly, in chunks of any size', async () => {
  await using opened = await open()
  const all = randomBytes(3 * TAIL_BYTES).toString('base64')
  for (let at = 0, size = 1; at < all.length; at += size, size = (size * 7) % 90_001) {
    await opened.output.write(Buffer.from(all.slice(at, at + size)))
  }
  expect(opened.output.tailText(TAIL_BYTES)).toBe(all.slice(-TAIL_BYTES))
  expect(opened.output.tailText(10)).toBe(all.slice(-10))
  expect([opened.output.sizeBytes, opened.output.truncated]).toEqual([all.length, false])
  await opened.output.close()
  expect(await readFile(opened.path(outputName('stdout')), 'utf8')).toBe(all)
})

test('the end of a stream is what was written last, however it was cut', async () => {
  const chunks = fc.array(fc.integer({ min: 0, max: 70_000 }), { minLength: 1, maxLength: 12 })
  await fc.assert(
    fc.asyncProperty(chunks, async (sizes) => {
      await using opened = await open()
      let all = ''
      for (const [i, size] of [...sizes, 4_096, 4_096, 8_192].entries()) {
        const chunk = String.fromCharCode(97 + (i % 26)).repeat(size)
        all += chunk
        await opened.output.write(Buffer.from(chunk))
        expect(opened.output.tailText(TAIL_BYTES) === all.slice(-TAIL_BYTES)).toBe(true)
      }
      await opened.output.close()
    }),
    { numRuns: 60, examples: [[[2_048, 2_048, 1, 4_096]], [[4_096]]] },
  )
})

test('a chunk larger than what is kept leaves its end', async () => {
  await using opened = await open()
  await opened.output.write(Buffer.from('early'))
  await opened.output.write(Buffer.alloc(2 * TAIL_BYTES, 'x'))
  await opened.output.write(Buffer.from('end'))
  expect(opened.output.tailText(6)).toBe('xxxend')
  await opened.output.close()
})

test('a tail never begins inside a character', async () => {
  await using opened = await open()
  await opened.output.write(Buffer.from('€'.repeat(100)))
  expect(opened.output.tailText(10)).toBe('€€€')
  await opened.output.close()
})

test('a file is cut at its limit, says so, and the end is kept beside it', async () => {
  await using opened = await open()
  const chunk = Buffer.alloc(1024 * 1024, 'a')
  for (let i = 0; i < MAX_FILE_BYTES / chunk.length; i++) await opened.output.write(chunk)
  expect(opened.output.truncated).toBe(false)
  await opened.output.write(Buffer.from('one byte more'))
  expect(opened.output.truncated).toBe(true)
  await opened.output.close()
  expect((await readFile(opened.path(outputName('stdout')))).length).toBe(MAX_FILE_BYTES)
  expect((await readFile(opened.path(tailName('stdout')), 'utf8')).endsWith('aone byte more')).toBe(true)
})

test('a full disk is waited for, and nothing is written twice', async () => {
  const faulty = faultyDisk()
  await using opened = await open(faulty.disk)
  await opened.output.write(Buffer.from('before '))
  let failures = 0
  faulty.onCall = (name) => {
    if (name === 'write' && failures++ < 2) throw diskError('ENOSPC')
    return failures % 2 ? 'short' : undefined
  }
  await opened.output.write(Buffer.from('and after'))
  faulty.onCall = undefined
  await opened.output.close()
  expect(await readFile(opened.path(outputName('stdout')), 'utf8')).toBe('before and after')
  expect(failures).toBeGreaterThan(2)
})

test('a character split between chunks survives', () => {
  const bytes = Buffer.from('a€😀ü')
  for (let cut = 0; cut <= bytes.length; cut++) {
    const decoder = createTextDecoder()
    expect(decoder.push(bytes.subarray(0, cut)) + decoder.push(bytes.subarray(cut)) + decoder.end()).toBe('a€😀ü')
  }
})
