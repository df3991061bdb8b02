import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { temporaryDirectory } from '../../test/temporary.ts'
import { LockedError, lockDataDirectory } from './lock.ts'

/** A process that takes the lock and keeps it. */
async function owner(dataDir: string) {
  const source = `
    import { lockDataDirectory } from ${JSON.stringify(new URL('lock.ts', import.meta.url).href)}
    await lockDataDirectory(${JSON.stringify(dataDir)})
    console.log('locked')
    setInterval(() => undefined, 1000)`
  const child = spawn(process.execPath, ['--input-type=module', '-e', source], { stdio: ['ignore', 'pipe', 'inherit'] })
  await once(child.stdout, 'data')
  return child
}

test('D7: a second server is refused and told the pid of the first, also while that is stopped', async () => {
  await using directory = await temporaryDirectory()
  const first = await owner(directory.path)
  await expect(lockDataDirectory(directory.path)).rejects.toThrow(`in use by pid ${first.pid}`)
  first.kill('SIGSTOP')
  await expect(lockDataDirectory(directory.path)).rejects.toThrow(LockedError)
  first.kill('SIGKILL')
  await once(first, 'exit')
  const release = await lockDataDirectory(directory.path)
  await release()
})

test('what a dead server left behind locks nobody out', async () => {
  await using directory = await temporaryDirectory()
  await writeFile(join(directory.path, 'owner.json'), JSON.stringify({ pid: process.pid, startTime: '1' }))
  await writeFile(join(directory.path, 'lock.sock'), '')
  const release = await lockDataDirectory(directory.path)
  await expect(lockDataDirectory(directory.path)).rejects.toThrow(`in use by pid ${process.pid}`)
  await release()
  await (
    await lockDataDirectory(directory.path)
  )()
})
