import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import type { Session } from '../src/model/sessions.ts'
import { systemDisk, type Disk } from '../src/store/disk.ts'
import { startTestServer } from './harness.ts'
import { createJumpingClock } from './jumping-clock.ts'
import { startKillable, type Killable } from './killable.ts'
import { confirmed, events, get, inState, open, processesOf, replies, send } from './session-client.ts'
import { eventually, temporaryDirectory } from './temporary.ts'

/** What becomes of a session, and of the others, when its log cannot be opened. */

const logOf = (dataDir: string, id: string): string => join(dataDir, 'sessions', id, 'events.ndjson')

/** Makes the second line of a session's log unreadable; returns the log without that line. */
async function damage(dataDir: string, id: string): Promise<string> {
  const [first = '', second = '', ...rest] = (await readFile(logOf(dataDir, id), 'utf8')).split('\n')
  await writeFile(logOf(dataDir, id), [first, '\0'.repeat(second.length), ...rest].join('\n'))
  return [first, ...rest].join('\n')
}

/** The real disk, on which no log of events can be opened while `isFailing` says so. */
function diskWithoutLogs(isFailing: () => boolean): Disk {
  return {
    ...systemDisk,
    open: async (...args) => {
      const fails = String(args[0]).endsWith('events.ndjson') && isFailing()
      if (fails) throw Object.assign(new Error('EMFILE: simulated'), { code: 'EMFILE' })
      return await systemDisk.open(...args)
    },
  }
}

/** A server with a session that has answered one message. */
async function answered(dataDir: string): Promise<{ server: Killable; id: string }> {
  const server = await startKillable(dataDir)
  const { id } = await open(server, { prompt: 'hello' })
  await eventually(async () => (await replies(server, id)).length === 1)
  await inState(server, id, 'idle')
  return { server, id }
}

test('a damaged log stops its session alone, which says so and goes on once the damage is taken out', async () => {
  await using directory = await temporaryDirectory()
  const first = await answered(directory.path)
  const { id } = first
  await first.server.process.end('SIGTERM')
  const mended = await damage(directory.path, id)

  let server = await startKillable(directory.path)
  const { body: waiting } = await send(server, id, 'are you there?')
  const stopped = (): Promise<Session> =>
    eventually(async () => {
      const now = await get(server, id)
      return now.reason === 'log_damaged' && now
    })
  expect(await stopped()).toMatchObject({
    state: 'suspended',
    detail: 'its events.ndjson is damaged; take the damaged line out, then send it a message',
    waiting: 1,
  })
  expect(server.process.stderr()).toMatch(/events\.ndjson at byte \d+: damaged line/)
  const other = await open(server, { prompt: 'hello' })
  await eventually(async () => (await replies(server, other.id)).length === 1)
  await server.process.end('SIGKILL')

  server = await startKillable(directory.path)
  await stopped()
  await writeFile(logOf(directory.path, id), mended)
  const { body: next } = await send(server, id, 'and now?')
  await confirmed(server, id, waiting.deliveryId)
  await confirmed(server, id, next.deliveryId)
  await server.process.end('SIGTERM')
})

test('a session that was live when the server died keeps it from no start with a damaged log', async () => {
  await using directory = await temporaryDirectory()
  const first = await answered(directory.path)
  const { id } = first
  await first.server.process.end('SIGKILL')
  await damage(directory.path, id)
  const server = await startKillable(directory.path)
  expect(await get(server, id)).toMatchObject({ state: 'suspended', reason: 'server_died' })
  expect(server.process.stderr()).toMatch(/events\.ndjson at byte \d+: damaged line/)
  expect(processesOf(id)).toEqual([])
  await server.process.end('SIGTERM')
})

test('a session with a damaged log can be ended, and takes nothing afterwards', async () => {
  await using directory = await temporaryDirectory()
  const first = await answered(directory.path)
  const { id } = first
  await first.server.process.end('SIGTERM')
  await damage(directory.path, id)
  const server = await startKillable(directory.path)
  const ended = await server.call<Session>('POST', `/api/sessions/${id}/end`)
  expect(ended).toMatchObject({ status: 200, body: { state: 'ended', reason: 'ended_by_caller' } })
  expect((await send(server, id, 'still there?')).status).toBe(410)
  await server.process.end('SIGTERM')
})

test('a log that cannot be opened for a moment has everything afterwards', async () => {
  let failures = 0
  await using server = await startTestServer({ disk: diskWithoutLogs(() => failures > 0 && failures-- > 0) })
  failures = 2
  const { id } = await open(server)
  await inState(server, id, 'idle')
  await send(server, id, 'first')
  for (const pid of processesOf(id)) process.kill(pid, 'SIGKILL')
  await eventually(async () => (await events(server, id)).some(({ state }) => state === 'suspended'))
  failures = 1
  const { body } = await send(server, id, 'second')
  await confirmed(server, id, body.deliveryId)
  expect((await events(server, id)).map(({ seq }) => seq)).toEqual((await events(server, id)).map((_, i) => i + 1))
})

test('a session whose log cannot be opened at all is opened, answers and is ended all the same', async () => {
  const clock = createJumpingClock(Date.now())
  let isFailing = true
  await using server = await startTestServer({ clock, disk: diskWithoutLogs(() => isFailing) })
  const { id } = await open(server, { prompt: 'hello' })
  await eventually(async () => (await get(server, id)).turns === 1)
  const call = server.call<Session>('POST', `/api/sessions/${id}/end`, undefined, { token: true })
  const passing = setInterval(() => clock.pass(1_000), 50)
  expect(await call.finally(() => clearInterval(passing))).toMatchObject({ status: 200, body: { state: 'ended' } })
  expect((await send(server, id, 'still there?')).status).toBe(410)
  expect(processesOf(id)).toEqual([])
  isFailing = false
})
