import { spawn } from 'node:child_process'
import { mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { newId, systemClock } from '../clock.ts'
import { eventually, temporaryDirectory } from '../../test/temporary.ts'
import { census, identify, isAlive, MARK } from './census.ts'
import { openCgroups } from './cgroup.ts'
import { createProcesses, type SuperviseRequest } from './supervise.ts'
import type { ProcessIdentity } from './types.ts'

const cgroups = openCgroups()
const withGroups = createProcesses({ clock: systemClock, cgroups })
const withoutGroups = createProcesses({ clock: systemClock, cgroups: undefined })

function bash(script: string, more: Partial<SuperviseRequest> = {}, processes = withoutGroups) {
  const mark = newId('headless')
  const output = { stdout: '', stderr: '', bytes: 0 }
  let identity: ProcessIdentity | undefined
  const supervised = processes.supervise({
    mark,
    program: '/bin/bash',
    args: ['--norc', '-c', script], // bash takes a socket on stdin for a remote shell and would read ~/.bashrc
    cwd: '/tmp',
    env: { PATH: process.env['PATH'] ?? '', [MARK]: mark },
    stdin: '',
    timeoutMs: 60_000,
    idleTimeoutMs: null,
    signal: new AbortController().signal,
    onStarted(known) {
      identity = known
      return Promise.resolve()
    },
    onOutput(stream, chunk) {
      output.bytes += chunk.length
      if (output.bytes < 1_000_000) output[stream] += chunk.toString()
    },
    ...more,
  })
  return { ...supervised, mark, output, identity: () => identity, left: () => census().get(mark) ?? [] }
}

describe('a supervised program', () => {
  test('gets its prompt on stdin, and its output and exit code are told', async () => {
    const run = bash('cat; echo problem >&2; exit 3', { stdin: 'a prompt — with ünïcode' })
    const exit = await run.ended
    expect(exit).toMatchObject({ reason: 'exited', exitCode: 3, signal: null, survivors: 0, error: null })
    expect(run.output).toMatchObject({ stdout: 'a prompt — with ünïcode', stderr: 'problem\n' })
  })

  test('that never reads its prompt and exits is no failure of ours', async () => {
    const exit = await bash('exit 0', { stdin: 'x'.repeat(1_000_000) }).ended
    expect(exit).toMatchObject({ reason: 'exited', exitCode: 0 })
  })

  test('sees its prompt only after its start was recorded', async () => {
    const { promise, resolve } = Promise.withResolvers<void>()
    const run = bash('read line; echo "got $line"', { stdin: 'go\n', onStarted: () => promise })
    await systemClock.sleep(300)
    expect(run.output.stdout).toBe('')
    resolve()
    await run.ended
    expect(run.output.stdout).toBe('got go\n')
  })

  test('whose start cannot be recorded is ended without its prompt', async () => {
    const run = bash('cat; sleep 60', { stdin: 'secret work', onStarted: () => Promise.reject(new Error('disk full')) })
    expect(await run.ended).toMatchObject({ reason: 'not_started', error: 'disk full' })
    expect(run.output.stdout).toBe('')
  })

  test('that stays is written to again and again, and ends with its stdin', async () => {
    const run = bash('while read line; do echo "got $line"; done; echo bye', { stdin: null, timeoutMs: null })
    await run.write('one\n')
    await eventually(() => run.output.stdout === 'got one\n')
    await run.write('two\n')
    run.close('canceled')
    expect(await run.ended).toMatchObject({ reason: 'exited', exitCode: 0, survivors: 0 })
    expect(run.output.stdout).toBe('got one\ngot two\nbye\n')
    await expect(run.write('three\n')).rejects.toThrow()
  })

  test('that closes its stdout and stays is ended, when it was to speak', async () => {
    const run = bash('echo hello; exec >&-; sleep 60', { stdin: null, timeoutMs: null })
    expect(await run.ended).toMatchObject({ reason: 'hung_up', survivors: 0 })
    expect(run.output.stdout).toBe('hello\n')
    const last = bash('exec >&-; exit 3', { stdin: null, timeoutMs: null })
    expect(await last.ended).toMatchObject({ reason: 'exited', exitCode: 3 })
    const busy = bash('exec >&-; sleep 1.5; exit 3')
    expect(await busy.ended).toMatchObject({ reason: 'exited', exitCode: 3 })
  })

  test('that reads nothing and dies has not been handed what was written', async () => {
    const run = bash('sleep 60', { stdin: null, timeoutMs: null })
    const written = run.write('x'.repeat(10_000_000)) // more than a pipe holds
    run.stop('canceled')
    await expect(written).rejects.toThrow()
    expect(await run.ended).toMatchObject({ reason: 'canceled' })
  })

  test('that never started cannot be written to', async () => {
    const run = bash('', { program: '/nonexistent/agent', stdin: null })
    await expect(run.write('hello\n')).rejects.toThrow('has ended')
    await run.ended
  })

  test('that does not exist is not started, and says why', async () => {
    const exit = await bash('', { program: '/nonexistent/agent' }).ended
    expect(exit).toMatchObject({ reason: 'not_started', exitCode: null, error: 'ENOENT' })
  })

  test('is ended at its time limit', async () => {
    const run = bash('sleep 60', { timeoutMs: 200 })
    expect(await run.ended).toMatchObject({ reason: 'timed_out', signal: 'SIGTERM' })
  })

  test('is ended when it has been silent for too long, and not while it speaks', async () => {
    const run = bash('for i in 1 2 3 4; do echo $i; sleep 0.3; done; sleep 60', { idleTimeoutMs: 1_500 })
    expect(await run.ended).toMatchObject({ reason: 'idle' })
    expect(run.output.stdout).toBe('1\n2\n3\n4\n')
  })

  test('is ended when it is canceled, also before it was started', async () => {
    const early = AbortSignal.abort('canceled')
    expect(await bash('echo never', { signal: early }).ended).toMatchObject({ reason: 'canceled', exitCode: null })
    const abort = new AbortController()
    const run = bash('echo started; sleep 60', { signal: abort.signal })
    await eventually(() => run.output.stdout !== '')
    abort.abort('canceled')
    expect(await run.ended).toMatchObject({ reason: 'canceled', signal: 'SIGTERM' })
  })

  test('S12: that ignores TERM is killed after the grace, with the reason that came first', async () => {
    const run = bash('trap "" TERM; while :; do sleep 0.1; done', { timeoutMs: 200 })
    setTimeout(() => run.stop('server_stopped', 400), 400)
    expect(await run.ended).toMatchObject({ reason: 'timed_out', signal: 'SIGKILL', survivors: 0 })
    expect(run.left()).toEqual([])
  })

  test('S14: a child left behind with stdout open does not hold the run open, and is gone after it', async () => {
    const run = bash('(sleep 1000 & echo $! ); echo done')
    const exit = await run.ended
    expect(exit).toMatchObject({ reason: 'exited', exitCode: 0, survivors: 0 })
    expect(run.output.stdout).toContain('done')
    expect(exit.durationMs).toBeLessThan(30_000) // the child sleeps a thousand seconds
    expect(run.left()).toEqual([])
  })

  test('S13: a double fork in a session of its own is found by its mark', async () => {
    const run = bash('(setsid bash -c "sleep 1000 & sleep 1000" >/dev/null 2>&1 &); sleep 0.3; echo done')
    expect(await run.ended).toMatchObject({ reason: 'exited', survivors: 0 })
    expect(run.left()).toEqual([])
  })

  /** Starts a child without group, session and environment; resolves with its pid once the run has ended. */
  async function escape(processes: typeof withGroups): Promise<number> {
    await using directory = await temporaryDirectory()
    const file = join(directory.path, 'pid')
    const script = `(env -i setsid bash -c 'echo $$ > ${file}; exec sleep 1000' >/dev/null 2>&1 &); while [ ! -s ${file} ]; do sleep 0.05; done`
    expect(await bash(script, {}, processes).ended).toMatchObject({ reason: 'exited', survivors: 0 })
    return Number(readFileSync(file, 'utf8'))
  }

  test.skipIf(!cgroups)('S13: without its mark too, where there are control groups', async () => {
    const pid = await escape(withGroups)
    await eventually(() => !isRunning(pid))
  })

  test('S13: without its mark it is not found where there are none, and nothing else is taken for it', async () => {
    const pid = await escape(withoutGroups)
    expect(isRunning(pid)).toBe(true)
    process.kill(pid, 'SIGKILL')
  })

  test('S15: a program that forks without end is stopped', async () => {
    const run = bash('for i in $(seq 700); do sleep 1000 & done; wait', {}, withGroups)
    expect(await run.ended).toMatchObject({ reason: 'process_limit', survivors: 0 })
    expect(run.left()).toEqual([])
  })

  test('S16: a flood of output is read on, is not kept in memory, and stops at the limit', async () => {
    const before = process.memoryUsage().rss
    let most = before
    const run = bash('exec yes', {
      onOutput: () => {
        most = Math.max(most, process.memoryUsage().rss)
      },
    })
    expect(await run.ended).toMatchObject({ reason: 'output_limit' })
    expect(most - before).toBeLessThan(100 * 1024 * 1024)
  })

  test('is held back while what it wrote is not taken', async () => {
    let taken = 0
    const run = bash('yes | head -c 50000000', {
      async onOutput(_, chunk) {
        taken += chunk.length
        await systemClock.sleep(1)
      },
    })
    await run.ended
    expect(taken).toBe(50_000_000)
  })

  test('forty at once all run, none is lost', async () => {
    const exits = await Promise.all(Array.from({ length: 40 }, () => bash('echo x').ended))
    expect(exits.every((exit) => exit.reason === 'exited' && exit.exitCode === 0)).toBe(true)
  })
})

describe('after the server died', () => {
  function orphan(mark: string): { pid: number; identity: ProcessIdentity } {
    const child = spawn('/bin/bash', ['-c', 'trap "" TERM; setsid sleep 1000 & while :; do sleep 0.1; done'], {
      detached: true,
      stdio: 'ignore',
      env: { PATH: process.env['PATH'] ?? '', [MARK]: mark },
    })
    const pid = child.pid ?? 0
    return { pid, identity: identify(pid) ?? { pid, startTime: null, bootId: null } }
  }

  test('its recorded group and everything with its mark is ended', async () => {
    const mark = newId('headless')
    const { pid, identity } = orphan(mark)
    await eventually(() => (census().get(mark)?.length ?? 0) >= 2)
    expect(await withoutGroups.reap([{ mark, identity }])).toMatchObject({ survivors: 0 })
    expect(census().get(mark)).toBeUndefined()
    await eventually(() => !isRunning(pid))
  })

  test('S18: a recorded pid that belongs to somebody else by now is not signalled', async () => {
    const { pid, identity } = orphan('someone-else')
    try {
      await withoutGroups.reap([{ mark: newId('headless'), identity: { ...identity, startTime: '1' } }])
      await withoutGroups.reap([{ mark: newId('headless'), identity: { ...identity, bootId: 'another boot' } }])
      expect(isAlive(pid)).toBe(true)
    } finally {
      await withoutGroups.reap([{ mark: 'someone-else', identity }])
    }
  })

  test.skipIf(!cgroups)('a control group that was left is emptied and removed', async () => {
    const mark = newId('headless')
    const group = cgroups?.create(mark)
    const child = spawn('/bin/sleep', ['1000'], { detached: true, stdio: 'ignore', env: {} })
    writeFileSync(join(group?.path ?? '', 'cgroup.procs'), String(child.pid))
    await withGroups.reap([{ mark, identity: undefined }])
    await eventually(() => !isRunning(child.pid ?? 0))
    expect(() => mkdirSync(group?.path ?? '')).not.toThrow()
    rmdirSync(group?.path ?? '')
  })
})

/** Alive and not only waiting to be collected by its parent. */
function isRunning(pid: number): boolean {
  try {
    return !/\) Z /.test(readFileSync(`/proc/${pid}/stat`, 'latin1'))
  } catch {
    return false
  }
}
