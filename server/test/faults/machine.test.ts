import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { systemClock, type Clock } from '../../src/clock.ts'
import type { Event, Run } from '../../src/model.ts'
import { census } from '../../src/process/census.ts'
import { openCgroups } from '../../src/process/cgroup.ts'
import { startTestServer } from '../harness.ts'
import { checkInvariants, figures, newLedger } from '../invariants.ts'
import { adminToken, call, serve, tryServe } from '../server-process.ts'
import { temporaryDirectory } from '../temporary.ts'

const agents = {
  sh: { command: ['bash', '--norc', '-s'] },
  lines: { command: ['bash', '--norc', '-s'], output: 'jsonl' },
}

test('F7, D7: a second server on the directory is refused with 73 and the pid, also while the first is stopped', async () => {
  await using directory = await temporaryDirectory()
  const dataDir = directory.path
  const first = await serve({ dataDir })
  const second = await tryServe({ dataDir })
  expect('code' in second && second.code).toBe(73)
  expect('stderr' in second && typeof second.stderr === 'string' && second.stderr).toContain(String(first.child.pid))
  first.child.kill('SIGSTOP')
  await new Promise((resolve) => setTimeout(resolve, 15_000))
  const third = await tryServe({ dataDir })
  expect('code' in third && third.code).toBe(73)
  first.child.kill('SIGCONT')
  expect((await call(first.url, 'GET', '/healthz')).status).toBe(200)
  await first.end('SIGKILL')
  const fourth = await serve({ dataDir })
  figures('F7', { 'start after kill -9, ms': fourth.startMs })
  await fourth.end('SIGTERM')
})

test('F8, D8, I8: when the wall clock jumps, limits hold, events stay in order and a key still means one run', async () => {
  for (const jumpMs of [3_600_000, -3_600_000, 10 * 365 * 86_400_000]) {
    await using directory = await temporaryDirectory()
    let offset = 0
    const clock: Clock = { ...systemClock, now: () => Date.now() + offset }
    await using server = await startTestServer({ dataDir: directory.path, clock, config: { agents } })
    const wsId = await server.workspace()
    const ledger = newLedger()
    const post = (key: string, body: object) =>
      server.call<Run>(
        'POST',
        `/api/workspaces/${wsId}/headless`,
        { agent: 'sh', metadata: { key }, ...body },
        { headers: { 'idempotency-key': key } },
      )
    const first = await post('a', { prompt: 'echo one' })
    const limited = await post('b', { prompt: 'sleep 60', timeoutMs: 2_000 })
    const unlimited = await post('c', { prompt: 'sleep 3; echo whole' })
    for (const [key, answer] of [
      ['a', first],
      ['b', limited],
      ['c', unlimited],
    ] as const)
      ledger.acknowledged.set(key, answer.body.taskId)
    await new Promise((resolve) => setTimeout(resolve, 300))
    offset = jumpMs
    const again = await post('a', { prompt: 'echo one' })
    expect([again.status, again.body.taskId, again.headers.get('idempotency-replayed')]).toEqual([
      202,
      first.body.taskId,
      'true',
    ])
    const end = async (id: string): Promise<Run> =>
      (await server.call<Run>('GET', `/api/headless/${id}`, undefined, { headers: { prefer: 'wait=30' } })).body
    const [timedOut, whole] = [await end(limited.body.taskId), await end(unlimited.body.taskId)]
    expect(timedOut).toMatchObject({ status: 'timed_out', reason: 'timeout' })
    expect(timedOut.durationMs).toBeGreaterThanOrEqual(1_900)
    expect(timedOut.durationMs).toBeLessThan(30_000)
    expect(whole).toMatchObject({ status: 'succeeded', result: { text: 'whole\n' } })
    const { body } = await server.call<{ events: Event[] }>('GET', `/api/headless/${whole.taskId}/events`)
    expect(body.events.map((event) => event.seq)).toEqual(body.events.map((_, i) => i + 1))
    await checkInvariants(server.url, server.dataDir, ledger)
  }
  figures('F8', { jumps: 3 })
})

test('F9: children that ignore TERM, fork twice, drop their environment or hold stdout are gone when their run is', async () => {
  await using server = await startTestServer({ config: { agents } })
  const wsId = await server.workspace()
  const cases: [string, string, boolean][] = [
    ['ignores TERM', 'trap "" TERM; while :; do sleep 0.1; done', true],
    ['forks twice', '(setsid bash --norc -c "sleep 1000 & sleep 1000" &); sleep 1000', true],
    ['holds stdout', 'setsid sleep 1000 & disown; echo done', true],
    ['stays behind', 'nohup sleep 1000 >/dev/null 2>&1 & echo done', true],
    // Without environment, group and session only a control group knows it.
    ['drops all', '(env -i setsid sleep 1003 >/dev/null 2>&1 &); sleep 0.3; echo done', openCgroups() !== undefined],
  ]
  let found = 0
  for (const [name, prompt, findable] of cases) {
    if (!findable) {
      console.log(`SKIP F9 "${name}": no control groups may be made here`)
      continue
    }
    const { body } = await server.call<Run>('POST', `/api/workspaces/${wsId}/headless`, {
      agent: 'sh',
      prompt,
      timeoutMs: 1_500,
      wait: true,
    })
    expect([name, body.survivors, census().has(body.taskId)]).toEqual([name, 0, false])
    found++
  }
  const { survivors } = await checkInvariants(server.url, server.dataDir, newLedger())
  figures('F9', { cases: found, survivors })
})

async function rssMb(pid: number): Promise<number> {
  const { readFile } = await import('node:fs/promises')
  return Number(/VmRSS:\s+(\d+)/.exec(await readFile(`/proc/${pid}/status`, 'latin1'))?.[1] ?? 0) / 1024
}

test('F10, S15, S16: forks, a gigabyte of output and a line of 100 MB leave the server answering, and small', async () => {
  await using directory = await temporaryDirectory()
  const dataDir = directory.path
  await writeFile(join(dataDir, 'config.json'), JSON.stringify({ agents }))
  const server = await serve({ dataDir })
  const pid = server.child.pid ?? 0
  const authorization = `Bearer ${await adminToken(dataDir)}`
  await call(server.url, 'POST', '/api/workspaces', { id: 'ws-load', tag: 'load' }, { authorization })
  const answered: number[] = []
  const watching = new AbortController()
  const health = (async () => {
    while (!watching.signal.aborted) {
      const from = performance.now()
      expect((await call(server.url, 'GET', '/healthz')).status).toBe(200)
      answered.push(performance.now() - from)
      await new Promise((resolve) => setTimeout(resolve, 50))
    }
  })()
  const run = async (agent: string, prompt: string): Promise<{ run: Run; mb: number }> => {
    const before = await rssMb(pid)
    let most = before
    const timer = setInterval(() => void rssMb(pid).then((mb) => (most = Math.max(most, mb))), 100)
    const { body } = await call<Run>(server.url, 'POST', '/api/workspaces/ws-load/headless', {
      agent,
      prompt,
      wait: true,
    })
    clearInterval(timer)
    return { run: body, mb: most - before }
  }
  await run('sh', 'seq 100000') // warm
  const forks = await run('sh', 'for i in $(seq 300); do sleep 2 & done; wait; echo done')
  expect(forks.run).toMatchObject({ status: 'succeeded', result: { text: 'done\n' } })
  const flood = await run('sh', `yes 'some words on a line' | head -c 1000000000`)
  expect(flood.run).toMatchObject({ status: 'succeeded', result: { truncated: true } })
  const line = await run(
    'lines',
    `head -c 100000000 /dev/zero | tr '\\0' x; echo; echo '{"type":"agent.message","text":"after"}'`,
  )
  expect(line.run).toMatchObject({ status: 'succeeded', result: { text: 'after' } })
  const { events } = (await call<{ events: Event[] }>(server.url, 'GET', `/api/headless/${line.run.taskId}/events`))
    .body
  expect(events.find((event) => event['code'] === 'line_too_long')).toMatchObject({ sizeBytes: 100_000_000 })
  const output = await call(server.url, 'GET', `/api/headless/${flood.run.taskId}/output?tailBytes=22`)
  expect('some words on a line\n'.repeat(3)).toContain(output.text)
  watching.abort()
  await health
  answered.sort((a, b) => a - b)
  figures('F10', {
    'RSS + forks MB': forks.mb,
    'RSS + 1 GB MB': flood.mb,
    'RSS + 100 MB line MB': line.mb,
    'healthz p50 ms': answered[Math.floor(answered.length * 0.5)] ?? 0,
    'healthz p99 ms': answered[Math.floor(answered.length * 0.99)] ?? 0,
  })
  expect(flood.mb).toBeLessThan(90) // some 30 are aimed at; a garbage collector on two busy cores is given room
  await checkInvariants(server.url, dataDir, newLedger())
  await server.end('SIGTERM')
})
