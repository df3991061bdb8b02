import { execFileSync } from 'node:child_process'
import { mkdir, readFile, rm, statfs, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import type { EventPage, Run } from '../../src/model.ts'
import { systemDisk, type Disk } from '../../src/store/disk.ts'
import { diskError, faultyDisk } from '../faulty-disk.ts'
import { startTestServer } from '../harness.ts'
import { checkInvariants, checkState, figures, newLedger } from '../invariants.ts'
import type { Receipt, Session } from '../../src/model/sessions.ts'
import { get, replies, send } from '../session-client.ts'
import { adminToken, call, serve, tryServe } from '../server-process.ts'
import { eventually, temporaryDirectory } from '../temporary.ts'

const agents = { sh: { command: ['bash', '--norc', '-s'] } }

/** A file system of 1 MiB, where mounting is allowed; undefined where not. Gone before the directory it lies in. */
async function smallDisk(path: string): Promise<AsyncDisposable | undefined> {
  await mkdir(path, { recursive: true })
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1m,mode=0700', 'tmpfs', path], { stdio: 'ignore' })
  } catch {
    return undefined
  }
  return {
    [Symbol.asyncDispose]: () => Promise.resolve(void execFileSync('umount', ['-l', path], { stdio: 'ignore' })),
  }
}

test('F4, D3: on a full disk a run is refused as retryable, what was there stays readable, and it recovers alone', async (context) => {
  await using directory = await temporaryDirectory()
  const dataDir = join(directory.path, 'small')
  await using disk = await smallDisk(dataDir)
  if (!disk) return context.skip('mounting a small tmpfs is not allowed here; F5 fails the same calls one by one')
  await writeFile(join(dataDir, 'config.json'), JSON.stringify({ agents }))
  const server = await serve({ dataDir })
  const authorization = `Bearer ${await adminToken(dataDir)}`
  const work = join(directory.path, 'work') // not on the small disk: agents keep their room
  for (let i = 0; i < 40; i++) await mkdir(join(work, String(i)), { recursive: true })
  await call(server.url, 'POST', '/api/workspaces', { id: 'ws-disk', tag: 'disk', path: work }, { authorization })
  const ledger = newLedger()
  const post = async (key: string, prompt: string) => {
    const body = { agent: 'sh', prompt, metadata: { key } }
    const answer = await call<Run & { retryable: boolean; code: string }>(
      server.url,
      'POST',
      '/api/workspaces/ws-disk/headless',
      body,
      {
        'idempotency-key': key,
      },
    )
    if (answer.status === 202) ledger.acknowledged.set(key, answer.body.taskId)
    else ledger.refused.add(key)
    return answer
  }
  expect((await post('before', 'echo before')).status).toBe(202)
  await eventually(
    async () =>
      (await call<Run>(server.url, 'GET', `/api/headless/${ledger.acknowledged.get('before')}`)).body.finishedAt,
  )

  const filler = join(dataDir, 'filler')
  const { bavail, bsize } = await statfs(dataDir)
  await writeFile(filler, Buffer.alloc(bavail * bsize)).catch(() => undefined)
  const state = await readFile(join(dataDir, 'db.json'), 'utf8').catch(() => '')
  for (let i = 0; i < 20; i++) {
    const refused = await post(`full-${i}`, 'x'.repeat(4_000))
    expect([refused.status, refused.body.code, refused.body.retryable]).toEqual([500, 'run_not_recorded', true])
  }
  expect((await call<Run>(server.url, 'GET', `/api/headless/${ledger.acknowledged.get('before')}`)).body.status).toBe(
    'succeeded',
  )
  // The last page of a file may have room for a small record or two.
  const others: number[] = []
  for (let i = 0; i < 40 && !others.includes(503); i++) {
    others.push(
      (await call(server.url, 'POST', '/api/workspaces', { tag: `more ${i}`, path: `${work}/${i}` }, { authorization }))
        .status,
    )
  }
  expect(others).toContain(503)
  expect(await readFile(join(dataDir, 'db.json'), 'utf8').catch(() => '')).toBe(state)

  await rm(filler)
  const again = await eventually(async () => {
    ledger.refused.delete('full-0')
    const answer = await post('full-0', 'echo recovered')
    return answer.status === 202 && answer
  })
  const done = await eventually(async () => {
    const { body } = await call<Run>(server.url, 'GET', `/api/headless/${again.body.taskId}`)
    return body.finishedAt !== null && body
  })
  expect(done).toMatchObject({ status: 'succeeded', result: { text: 'recovered\n' } })
  const result = await checkInvariants(server.url, dataDir, ledger)
  await server.end('SIGTERM')
  figures('F4', { ...result, refused: ledger.refused.size })
})

test('F4: a run at work when the disk fills up waits for room and ends with everything it said', async (context) => {
  await using directory = await temporaryDirectory()
  const dataDir = join(directory.path, 'small')
  await using disk = await smallDisk(dataDir)
  if (!disk) return context.skip('mounting a small tmpfs is not allowed here')
  await writeFile(join(dataDir, 'config.json'), JSON.stringify({ agents }))
  const work = join(directory.path, 'work')
  await mkdir(work)
  const server = await serve({ dataDir })
  const authorization = `Bearer ${await adminToken(dataDir)}`
  await call(server.url, 'POST', '/api/workspaces', { id: 'ws-disk', tag: 'disk', path: work }, { authorization })
  const prompt = 'for i in $(seq 20); do echo "line $i"; sleep 0.1; done'
  const { body } = await call<Run>(server.url, 'POST', '/api/workspaces/ws-disk/headless', { agent: 'sh', prompt })
  await new Promise((resolve) => setTimeout(resolve, 500))
  const filler = join(dataDir, 'filler')
  const { bavail, bsize } = await statfs(dataDir)
  await writeFile(filler, Buffer.alloc(bavail * bsize)).catch(() => undefined)
  await new Promise((resolve) => setTimeout(resolve, 3_000))
  await rm(filler)
  const done = await eventually(async () => {
    const found = await call<Run>(server.url, 'GET', `/api/headless/${body.taskId}`)
    return found.body.finishedAt !== null && found.body
  })
  expect(done.status).toBe('succeeded')
  expect(done.result.text).toBe(Array.from({ length: 20 }, (_, i) => `line ${i + 1}\n`).join(''))
  await server.end('SIGTERM')
})

test('F5: whichever file call fails, nothing acknowledged is lost and nothing refused runs', async () => {
  const figuresOf = { points: 0, acknowledged: 0, refused: 0 }
  const errors = ['EIO', 'ENOSPC', 'short'] as const
  for (let n = 1; n <= 60; n++) {
    await using directory = await temporaryDirectory()
    const dataDir = directory.path
    const ledger = newLedger()
    const faulty = faultyDisk()
    const error = errors[n % errors.length] ?? 'EIO'
    {
      await using server = await startTestServer({
        dataDir,
        disk: faulty.disk,
        config: { agents: { none: { command: ['true'] } } },
      })
      const wsId = await server.workspace()
      const from = faulty.calls.length
      faulty.onCall = (_, call) => {
        if (call !== from + n) return undefined
        if (error === 'short') return 'short'
        throw diskError(error)
      }
      for (const key of ['a', 'b', 'c']) {
        const body = { agent: 'none', prompt: 'x'.repeat(600), wait: true, metadata: { key } }
        const answer = await server.call<Run>('POST', `/api/workspaces/${wsId}/headless`, body, {
          headers: { 'idempotency-key': key },
        })
        if (answer.status === 200) ledger.acknowledged.set(key, answer.body.taskId)
        else {
          expect([answer.status, (answer.body as unknown as { retryable: boolean }).retryable], answer.text).toEqual([
            500,
            true,
          ])
          ledger.refused.add(key)
        }
      }
      faulty.onCall = undefined
      // What was refused may be repeated with its key, and runs then.
      for (const key of ledger.refused) {
        const body = { agent: 'none', prompt: 'x'.repeat(600), wait: true, metadata: { key } }
        const answer = await server.call<Run>('POST', `/api/workspaces/${wsId}/headless`, body, {
          headers: { 'idempotency-key': key },
        })
        expect(answer.status, answer.text).toBe(200)
        ledger.acknowledged.set(key, answer.body.taskId)
        ledger.unknown.add(key)
      }
      await checkInvariants(server.url, dataDir, ledger, [server.token])
    }
    await using again = await startTestServer({ dataDir })
    await checkInvariants(again.url, dataDir, ledger)
    figuresOf.points++
    figuresOf.acknowledged += ledger.acknowledged.size
    figuresOf.refused += ledger.refused.size
  }
  figures('F5', figuresOf)
  expect(figuresOf.refused).toBeGreaterThan(0)
})

test('F5: a run ends once in its log, also when what comes after its last event fails', async () => {
  const faulty = faultyDisk()
  await using server = await startTestServer({ disk: faulty.disk, config: { agents } })
  const wsId = await server.workspace()
  let failures = 0
  faulty.onCall = (name) => {
    if (name === 'rm' && ++failures <= 4) throw diskError('EIO')
    return undefined
  }
  const body = { agent: 'sh', prompt: 'true', wait: true }
  const { taskId, lastSeq } = (await server.call<Run>('POST', `/api/workspaces/${wsId}/headless`, body)).body
  expect(failures).toBeGreaterThan(4)
  const { events } = (await server.call<EventPage>('GET', `/api/headless/${taskId}/events`)).body
  expect(events.filter(({ type }) => type === 'run.ended').map(({ seq }) => seq)).toEqual([lastSeq])
})

test('F5: a run canceled in the queue while the disk is full is canceled once there is room, and never runs', async () => {
  await using directory = await temporaryDirectory()
  const faulty = faultyDisk()
  const options = { dataDir: directory.path, config: { agents, maxRuns: 1 } }
  let taskId: string
  {
    await using server = await startTestServer({ ...options, disk: faulty.disk })
    const wsId = await server.workspace()
    const post = (prompt: string) =>
      server.call<Run>('POST', `/api/workspaces/${wsId}/headless`, { agent: 'sh', prompt, whenBusy: 'queue' })
    await post('sleep 60')
    ;({ taskId } = (await post('echo no')).body)
    await eventually(async () => (await server.call<Run>('GET', `/api/headless/${taskId}`)).body.lastSeq === 1)
    let failures = 0
    faulty.onCall = (name) => {
      if (name !== 'write' && name !== 'datasync') return undefined
      failures++
      throw diskError('ENOSPC')
    }
    const canceling = server.call<Run>('POST', `/api/headless/${taskId}/cancel`)
    await eventually(() => failures > 1)
    faulty.onCall = undefined
    expect((await canceling).body).toMatchObject({ status: 'canceled', reason: 'canceled_by_caller' })
  }
  await using again = await startTestServer(options)
  expect((await again.call<Run>('GET', `/api/headless/${taskId}`)).body.status).toBe('canceled')
  const { events } = (await again.call<EventPage>('GET', `/api/headless/${taskId}/events`)).body
  expect(events.map(({ type }) => type)).toEqual(['run.queued', 'run.ended'])
})

test('F5: whichever file call of a session fails, nothing acknowledged is lost, and the server lives', async () => {
  const figuresOf = { points: 0, refused: 0 }
  const errors = ['EIO', 'ENOSPC', 'short'] as const
  for (let n = 1; n <= 30; n++) {
    const faulty = faultyDisk()
    const error = errors[n % errors.length] ?? 'EIO'
    await using server = await startTestServer({ disk: faulty.disk })
    const wsId = await server.workspace()
    const from = faulty.calls.length
    faulty.onCall = (_, call) => {
      if (call !== from + n) return undefined
      if (error === 'short') return 'short'
      throw diskError(error)
    }
    const refusedFirst = async <T extends object>(path: string, body: object, key: string): Promise<T> => {
      for (;;) {
        const headers = { 'idempotency-key': key }
        const answer = await server.call<T & { code?: string }>('POST', path, body, { token: true, headers })
        if (answer.status < 300) return answer.body
        expect([answer.status, answer.body.code], answer.text).toEqual([503, 'storage_unavailable'])
        figuresOf.refused++
      }
    }
    const { id } = await refusedFirst<Session>('/api/sessions', { wsId, agent: 'demo', prompt: 'first' }, 'open')
    const input = `/api/sessions/${id}/input`
    for (const message of ['second', 'third']) await refusedFirst<Receipt>(input, { message }, message)
    await eventually(async () => {
      if ((await replies(server, id)).length >= 3) return true
      // It says what kept it from its start, and is started again with the next message.
      if ((await get(server, id)).reason === 'agent_not_startable') await send(server, id, 'again')
      return false
    })
    const said = (await replies(server, id)).map((text) => /received "(\w+)"/.exec(text)?.[1]).slice(0, 3)
    expect(said, `call ${n}, ${faulty.calls[from + n - 1]}: ${error}`).toEqual(['first', 'second', 'third'])
    await server.call('POST', `/api/sessions/${id}/end`, undefined, { token: true })
    expect((await get(server, id)).state).toBe('ended')
    figuresOf.points++
  }
  figures('F5 (sessions)', figuresOf)
  expect(figuresOf.refused).toBeGreaterThan(0)
})

test('F5: a run waits with its prompt until the disk takes who works it', async () => {
  let failures = 0
  const open: Disk['open'] = async (...args) => {
    if (String(args[0]).includes('/live/') && ++failures <= 2) throw diskError('ENOSPC')
    return await systemDisk.open(...args)
  }
  await using server = await startTestServer({ disk: { ...systemDisk, open }, config: { agents } })
  const wsId = await server.workspace()
  const body = { agent: 'sh', prompt: 'echo done', wait: true }
  const ended = await server.call<Run>('POST', `/api/workspaces/${wsId}/headless`, body)
  expect(ended.body).toMatchObject({ status: 'succeeded', result: { text: 'done\n' } })
  expect(failures).toBe(3)
})

test('F6, D4-D6, D12: a server refuses damaged state by name with exit 65, and leaves it as it is', async () => {
  await using directory = await temporaryDirectory()
  const dataDir = directory.path
  {
    await using server = await startTestServer({ dataDir, config: { agents } })
    const wsId = await server.workspace()
    for (let i = 0; i < 3; i++)
      await server.call('POST', `/api/workspaces/${wsId}/headless`, { agent: 'sh', prompt: 'true', wait: true })
  }
  const path = join(dataDir, 'db.json')
  const good = await readFile(path)
  const cases: [string, Buffer | string][] = [
    ['empty', ''],
    ['null', 'null'],
    ['list', '[]'],
    ['cut', good.subarray(0, good.length / 2)],
    ['newer', good.toString().replace('"schemaVersion":1', '"schemaVersion":99')],
  ]
  for (const [name, content] of cases) {
    await writeFile(path, content)
    const refused = await tryServe({ dataDir })
    expect('code' in refused && [name, refused.code], JSON.stringify(refused)).toEqual([name, 65])
    expect('stderr' in refused && typeof refused.stderr === 'string' && refused.stderr).toContain('db.json')
    expect((await readFile(path)).equals(Buffer.from(content))).toBe(true)
  }
  await writeFile(path, good)
  const claims = join(dataDir, 'claims.journal')
  await writeFile(claims, '00000000 {"id":"x"}\n')
  const refused = await tryServe({ dataDir })
  expect('code' in refused && refused.code).toBe(65)
  expect('stderr' in refused && typeof refused.stderr === 'string' && refused.stderr).toContain(
    'claims.journal at byte 0',
  )
  await writeFile(claims, '00000000 {"id":"cut')
  const mended = await serve({ dataDir }) // an unterminated last line was never acknowledged
  const { runs } = await checkInvariants(mended.url, dataDir, newLedger())
  expect(runs).toBe(3)
  await mended.end('SIGTERM')
  await checkState(dataDir)
  figures('F6', { 'damaged files refused': cases.length + 1 })
})
