import { mkdir, readFile } from 'node:fs/promises'
import { copyFileSync, mkdirSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { FORBIDDEN } from '../../src/http/hook.ts'
import type { EventPage, Run } from '../../src/model.ts'
import type { Delivery, Receipt } from '../../src/model/sessions.ts'
import {
  deliveriesOf,
  interrupt,
  keepBusy,
  knock,
  mint,
  NO_LIMITS,
  startWithSession,
  untilState,
  type ServerLike,
} from '../channels.ts'
import { heardDeliveries } from '../delivery-invariants.ts'
import { faultyDisk, type FaultyDisk } from '../faulty-disk.ts'
import { startTestServer, type Answer, type TestServer } from '../harness.ts'
import { figures } from '../invariants.ts'
import { eventually, temporaryDirectory } from '../temporary.ts'

/**
 * F2: the server dies at one named moment, of each in turn. Before every call that changes the disk the data directory
 * is copied: a copy is what the disk held if the server had died there. Each copy is then started, and must make good
 * what was promised until then.
 */

interface Moment {
  /** Which call came next. */
  name: string
  dataDir: string
  /** What callers had been told. */
  told: Told
}
interface Told {
  answer?: Answer<Receipt>
  isRevoked?: true
}

/** What belongs to the server that made it, or is too much to copy. */
const LEFT_OUT = ['workspaces', 'bin', 'server.json', 'live-sessions', 'temporary.json']

function copyState(from: string, to: string): void {
  mkdirSync(to, { mode: 0o700 })
  for (const entry of readdirSync(from, { withFileTypes: true })) {
    if (LEFT_OUT.includes(entry.name)) continue
    if (entry.isDirectory()) copyState(join(from, entry.name), join(to, entry.name))
    else if (entry.isFile()) copyFileSync(join(from, entry.name), join(to, entry.name))
  }
}

/** Copies the data directory at every change, until the work is done and the disk is quiet. */
async function momentsOf(
  faulty: FaultyDisk,
  server: TestServer,
  copies: string,
  work: (told: Told) => Promise<void>,
): Promise<Moment[]> {
  const moments: Moment[] = []
  const told: Told = {}
  const copy = (name: string): void => {
    const dataDir = join(copies, String(moments.length))
    copyState(server.dataDir, dataDir)
    moments.push({ name, dataDir, told: { ...told } })
  }
  faulty.onCall = (name) => {
    copy(name)
    return undefined
  }
  await work(told)
  faulty.onCall = undefined
  copy('nothing')
  return moments
}

/** Starts a copy, and lets what it finds run its course. */
async function afterwards<T>(moment: Moment, look: (server: TestServer) => Promise<T>): Promise<T> {
  await using server = await startTestServer({ dataDir: moment.dataDir, channelLimits: NO_LIMITS })
  return await look(server)
}

const FINAL = ['confirmed', 'failed', 'uncertain']
async function settledOn(server: ServerLike, grantId: string): Promise<Delivery[]> {
  return await eventually(async () => {
    const all = await deliveriesOf(server, grantId)
    return all.every(({ status }) => FINAL.includes(status)) && all
  })
}

test('F2, I9: dead at each moment of a hand-over: what was accepted is heard, at most once more and then marked; what was not leaves its key free', async () => {
  await using directory = await temporaryDirectory()
  // Stays until the end: the workspace lies in it.
  const [original, copies] = [join(directory.path, 'original'), join(directory.path, 'copies')]
  for (const path of [original, copies]) await mkdir(path, { mode: 0o700 })
  const faulty = faultyDisk()
  const body = { message: 'deploy finished', from: 'ci', idempotency_key: 'build-812' }
  let moments: Moment[]
  let grantId: string
  let token: string
  let sessionId: string
  {
    await using made = await startWithSession({ disk: faulty.disk, dataDir: original })
    const { server } = made
    ;({ sessionId } = made)
    ;({ grantId, token } = await mint(server, { sessionId }))
    await untilState(server, sessionId, 'idle')
    moments = await momentsOf(faulty, server, copies, async (told) => {
      told.answer = await knock(server, token, body)
      await settledOn(server, grantId)
      await untilState(server, sessionId, 'idle')
    })
    expect(moments.at(-1)?.told.answer?.status).toBe(200)
  }
  const states: Record<string, number> = {}
  let copiesSent = 0
  for (const moment of moments) {
    const where = `before ${moment.name} (${moment.dataDir.split('/').at(-1) ?? ''} of ${moments.length})`
    await afterwards(moment, async (server) => {
      const [found, ...more] = await settledOn(server, grantId)
      expect(more, where).toEqual([])
      states[found?.status ?? 'never accepted'] = (states[found?.status ?? 'never accepted'] ?? 0) + 1
      if (moment.told.answer) expect(found?.id, where).toBe(moment.told.answer.body.deliveryId)
      // The sender hears nothing, and sends it again.
      const again = await knock(server, token, body)
      expect([200, 202], `${where}: ${again.text}`).toContain(again.status)
      if (moment.told.answer)
        expect([again.status, again.text], where).toEqual([moment.told.answer.status, moment.told.answer.text])
      if (found) expect(again.body.deliveryId, where).toBe(found.id)
      const [settled, ...others] = await settledOn(server, grantId)
      expect([settled?.status, others], where).toEqual(['confirmed', []])
      const heard = await heardDeliveries(server, moment.dataDir, sessionId)
      const unmarked = heard.filter(({ isCopy }) => !isCopy)
      expect(heard.length, where).toBeGreaterThanOrEqual(1)
      expect(unmarked.length, where).toBeLessThanOrEqual(1)
      expect(heard.length - unmarked.length, where).toBeLessThanOrEqual(1)
      copiesSent += heard.length - unmarked.length
      for (const each of heard)
        expect([each.deliveryId, each.message], where).toEqual([settled?.id, '[ci] deploy finished'])
    })
  }
  figures('F2', { moments: moments.length, ...states, copies: copiesSent })
  expect(moments.length).toBeGreaterThan(6)
  expect(states['never accepted']).toBeGreaterThan(0)
})

test('F2, T19, I-5: dead at each moment of a revocation: once it was answered, nothing of the grant is ever heard', async () => {
  await using directory = await temporaryDirectory()
  // Stays until the end: the workspace lies in it.
  const [original, copies] = [join(directory.path, 'original'), join(directory.path, 'copies')]
  for (const path of [original, copies]) await mkdir(path, { mode: 0o700 })
  const faulty = faultyDisk()
  let moments: Moment[]
  let grantId: string
  let token: string
  let sessionId: string
  {
    await using made = await startWithSession({ disk: faulty.disk, dataDir: original })
    const { server } = made
    ;({ sessionId } = made)
    ;({ grantId, token } = await mint(server, { sessionId }))
    await keepBusy(server, sessionId)
    for (const message of ['one', 'two']) expect((await knock(server, token, message)).status).toBe(202)
    moments = await momentsOf(faulty, server, copies, async (told) => {
      const revoked = await server.call('DELETE', `/api/channels/${grantId}`, undefined, { token: true })
      expect(revoked.status).toBe(200)
      told.isRevoked = true
      await interrupt(server, sessionId)
      await untilState(server, sessionId, 'idle')
    })
  }
  const states: Record<string, number> = {}
  for (const moment of moments) {
    const where = `before ${moment.name} (${moment.dataDir.split('/').at(-1) ?? ''} of ${moments.length})`
    await afterwards(moment, async (server) => {
      const answer = await knock(server, token, 'after')
      const isRevoked = answer.status === 403
      if (moment.told.isRevoked) expect([answer.status, answer.text], where).toEqual([403, FORBIDDEN])
      else expect([200, 202, 403], where).toContain(answer.status)
      // What waits resumes its session, revoked or not.
      const other = await mint(server, { sessionId })
      await knock(server, other.token, 'of another')
      await settledOn(server, other.grantId)
      const all = await settledOn(server, grantId)
      const heard = (await heardDeliveries(server, moment.dataDir, sessionId)).map(({ message }) => message)
      expect(heard, where).toEqual([...(isRevoked ? [] : ['one', 'two', 'after']), 'of another'])
      expect(new Set(all.map(({ status, reason }) => `${status} ${reason ?? ''}`)), where).toEqual(
        new Set([isRevoked ? 'failed grant_revoked' : 'confirmed ']),
      )
      const state = isRevoked ? 'revoked' : 'in force'
      states[state] = (states[state] ?? 0) + 1
    })
  }
  figures('F2 (revocation)', { moments: moments.length, ...states })
  expect(states['in force']).toBeGreaterThan(0)
  expect(states['revoked']).toBeGreaterThan(0)
})

test('F2: dead at each moment of a cancel in the queue: a run that is canceled has its end in its log', async () => {
  await using directory = await temporaryDirectory()
  const [original, copies] = [join(directory.path, 'original'), join(directory.path, 'copies')]
  for (const path of [original, copies]) await mkdir(path, { mode: 0o700 })
  const faulty = faultyDisk()
  let moments: Moment[]
  let taskId: string
  {
    await using server = await startTestServer({ disk: faulty.disk, dataDir: original, config: { maxRuns: 1 } })
    const wsId = await server.workspace()
    const post = (prompt: string) =>
      server.call<Run>('POST', `/api/workspaces/${wsId}/headless`, { prompt, whenBusy: 'queue' })
    const working = await post('/sleep 60')
    ;({ taskId } = (await post('/files')).body)
    await eventually(async () => (await server.call<Run>('GET', `/api/headless/${taskId}`)).body.lastSeq === 1)
    await eventually(
      async () => (await server.call<Run>('GET', `/api/headless/${working.body.taskId}`)).body.lastActivityAt,
    )
    moments = await momentsOf(faulty, server, copies, async () => {
      expect((await server.call<Run>('POST', `/api/headless/${taskId}/cancel`)).body.status).toBe('canceled')
    })
  }
  const states: Record<string, number> = {}
  for (const moment of moments) {
    const where = `before ${moment.name} (${moment.dataDir.split('/').at(-1) ?? ''} of ${moments.length})`
    await afterwards(moment, async (server) => {
      const run = await eventually(async () => {
        const { body } = await server.call<Run>('GET', `/api/headless/${taskId}`)
        return body.finishedAt !== null && body
      })
      states[run.status] = (states[run.status] ?? 0) + 1
      const { events } = (await server.call<EventPage>('GET', `/api/headless/${taskId}/events`)).body
      expect([events.at(-1)?.type, events.at(-1)?.seq], where).toEqual(['run.ended', run.lastSeq])
    })
  }
  figures('F2 (cancel)', { moments: moments.length, ...states })
  expect(states['succeeded']).toBeGreaterThan(0)
  expect(states['canceled']).toBeGreaterThan(1)
})

test('F2: dead at each moment of the end of a run: what it changed is in its diff', async () => {
  await using directory = await temporaryDirectory()
  const [original, copies] = [join(directory.path, 'original'), join(directory.path, 'copies')]
  for (const path of [original, copies]) await mkdir(path, { mode: 0o700 })
  const faulty = faultyDisk()
  const agents = { sh: { command: ['bash', '--norc', '-s'] } }
  let moments: Moment[]
  let taskId = ''
  {
    await using server = await startTestServer({ disk: faulty.disk, dataDir: original, config: { agents } })
    const body = { agent: 'sh', prompt: 'echo written > written.txt', wait: true }
    const wsId = await server.workspace()
    moments = await momentsOf(faulty, server, copies, async () => {
      const ended = await server.call<Run>('POST', `/api/workspaces/${wsId}/headless`, body)
      expect(ended.body.git.filesChanged).toBe(1)
      ;({ taskId } = ended.body)
    })
  }
  let known = 0
  for (const moment of moments) {
    const where = `before ${moment.name} (${moment.dataDir.split('/').at(-1) ?? ''} of ${moments.length})`
    const live = await readFile(join(moment.dataDir, 'live', `${taskId}.json`), 'utf8').catch(() => '')
    if (live === '') continue
    known++
    await afterwards(moment, async (server) => {
      expect((await server.call<Run>('GET', `/api/headless/${taskId}`)).body.git.filesChanged, where).toBe(1)
      expect((await server.call('GET', `/api/headless/${taskId}/diff`)).text, where).toContain('+written')
    })
  }
  figures('F2 (diff)', { moments: moments.length, known })
  expect(known).toBeGreaterThan(3)
})
