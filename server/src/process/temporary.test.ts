import { existsSync } from 'node:fs'
import { chmod, mkdir, mkdtemp, readFile, rename, rm, stat, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { expect, test } from 'vitest'
import { MAX_BASE_BYTES, openTemporaries } from './temporary.ts'

async function place() {
  const path = await mkdtemp(join(tmpdir(), 'postern-test-'))
  const troubles: string[] = []
  const recordFile = join(path, 'temporary.json')
  const open = (base: string | undefined = path) =>
    openTemporaries({ base, recordFile, onTrouble: (message) => void troubles.push(message) })
  return {
    path,
    recordFile,
    troubles,
    open,
    [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }),
  }
}

test('each directory is empty, ours alone, another one, and short enough for a socket', async () => {
  await using here = await place()
  const temporaries = await here.open()
  const [first, second] = [await temporaries.open(), await temporaries.open()]
  expect(first.path).not.toBe(second.path)
  expect((await stat(first.path)).mode & 0o777).toBe(0o700)
  const socket = createServer().listen(join(first.path, 'an-agent-of-some-name', '..', `${'s'.repeat(40)}.sock`))
  await new Promise((resolve, reject) => socket.once('listening', resolve).once('error', reject))
  socket.close()
  await temporaries.close()
})

test('a long base is not used, one at the limit is', async () => {
  await using here = await place()
  for (const [bytes, isUsed] of [
    [MAX_BASE_BYTES, true],
    [MAX_BASE_BYTES + 1, false],
  ] as const) {
    const base = join(here.path, 'x'.repeat(bytes - here.path.length - 1))
    await mkdir(base)
    const temporaries = await here.open(base)
    expect((await temporaries.open()).path.startsWith(base)).toBe(isUsed)
    await temporaries.close()
  }
})

test('goes with everything in it, also with what may not be written', async () => {
  await using here = await place()
  const temporaries = await here.open()
  const one = await temporaries.open()
  await mkdir(join(one.path, 'cache/deep'), { recursive: true })
  await writeFile(join(one.path, 'cache/deep/file'), 'x')
  await chmod(join(one.path, 'cache/deep'), 0o500)
  await chmod(join(one.path, 'cache'), 0o500)
  await one.remove()
  expect(existsSync(one.path)).toBe(false)
  expect(here.troubles).toEqual([])
  await temporaries.close()
  expect([existsSync(dirname(one.path)), existsSync(here.recordFile)]).toEqual([false, false])
})

test('what a killed server left is removed by the next one, and nothing else', async () => {
  await using here = await place()
  const left = await (await here.open()).open()
  await writeFile(join(left.path, 'file'), 'x')
  const next = await here.open()
  expect(existsSync(dirname(left.path))).toBe(false)

  // Of the same name, but not the one that we made.
  const root = dirname((await next.open()).path)
  await rename(root, `${root}-moved`)
  await mkdir(root)
  await writeFile(join(root, 'precious'), 'x')
  const third = await here.open()
  expect(await readFile(join(root, 'precious'), 'utf8')).toBe('x')
  await third.close()
})

test('a record that cannot be read is told, and hinders nothing', async () => {
  await using here = await place()
  await writeFile(here.recordFile, '{"path":')
  const temporaries = await here.open()
  expect(here.troubles).toEqual(['an old temporary directory is left'])
  expect(existsSync((await temporaries.open()).path)).toBe(true)
  await temporaries.close()
})

test('a machine that cleans up does not hinder the next run', async () => {
  await using here = await place()
  const temporaries = await here.open()
  const root = dirname((await temporaries.open()).path)
  await rm(root, { recursive: true })
  expect(dirname((await temporaries.open()).path)).toBe(root)
  await temporaries.close()
})
