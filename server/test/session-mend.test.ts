import { appendFile, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import type { Event } from '../src/model.ts'
import type { Receipt, Session } from '../src/model/sessions.ts'
import { mint } from './channels.ts'
import { startKillable } from './killable.ts'
import { confirmed, delivery, events, get, inState, open, processesOf, send } from './session-client.ts'
import { eventually, temporaryDirectory } from './temporary.ts'

/** What a server that died did not get to tell in the log of a session, the next one tells. */

const logOf = (dataDir: string, id: string): string => join(dataDir, 'sessions', id, 'events.ndjson')

/** Takes away what comes after the last event of a type, as a crash does with what was not yet on disk. */
async function cutAfter(dataDir: string, id: string, type: string): Promise<number> {
  const lines = (await readFile(logOf(dataDir, id), 'utf8')).split('\n')
  const kept = lines.slice(0, lines.findLastIndex((line) => line.includes(`"type":"${type}"`)) + 1)
  await writeFile(logOf(dataDir, id), kept.map((line) => `${line}\n`).join(''))
  return kept.length
}
const told = (all: Event[]): unknown[] =>
  all.map(({ type, deliveryId, state, status }) => [type, deliveryId ?? state ?? status])

test('what was accepted, asked, failed and at work is told from the rows, once, and what the turn used is counted', async () => {
  await using directory = await temporaryDirectory()
  let server = await startKillable(directory.path)
  const { id } = await open(server, { wsId: await server.workspace({ permissions: 'ask' }) })
  const { token, grantId } = await mint(server, { sessionId: id })
  await inState(server, id, 'idle')
  const { body: atWork } = await send(server, id, '/check')
  await inState(server, id, 'waiting')
  await confirmed(server, id, atWork.deliveryId)
  const { body: next } = await send(server, id, 'next')
  const headers = { authorization: `Bearer ${token}` }
  const { body: revoked } = await server.call<Receipt>('POST', '/hook', { message: 'revoked' }, { headers })
  await server.call('DELETE', `/api/channels/${grantId}`)
  await server.process.end('SIGKILL')
  const kept = await cutAfter(directory.path, id, 'permission.requested')
  const used = { type: 'usage', inputTokens: 10, outputTokens: 5, costUsd: null }
  const line = { seq: kept + 1, at: new Date().toISOString(), ...used }
  await appendFile(logOf(directory.path, id), `${JSON.stringify(line)}\n`)

  server = await startKillable(directory.path)
  await confirmed(server, id, next.deliveryId)
  await inState(server, id, 'idle')
  const log = await events(server, id)
  expect(told(log.slice(kept + 1, kept + 7))).toEqual([
    ['input.accepted', next.deliveryId],
    ['input.accepted', revoked.deliveryId],
    ['input.failed', revoked.deliveryId],
    ['permission.answered', 'canceled'],
    ['turn.ended', atWork.deliveryId],
    ['session.state', 'suspended'],
  ])
  expect(log.find(({ type }) => type === 'turn.ended')).toMatchObject({
    status: 'failed',
    error: { kind: 'agent', message: 'the server died in the turn; what became of it is not known' },
    usage: { inputTokens: 10, outputTokens: 5, costUsd: null, source: 'agent_reported' },
  })
  expect((await get(server, id)).usage).toMatchObject({ inputTokens: 10, outputTokens: 5 })
  await server.process.end('SIGKILL')
  server = await startKillable(directory.path)
  const more = (await events(server, id)).slice(log.length)
  expect(told(more.filter(({ type }) => type !== 'log'))).toEqual([['session.state', 'suspended']])
  expect((await get(server, id)).usage).toMatchObject({ inputTokens: 10, outputTokens: 5 })
  await server.process.end('SIGTERM')
})

test('a session whose server died while it was ended has its last event', async () => {
  await using directory = await temporaryDirectory()
  let server = await startKillable(directory.path)
  const { id } = await open(server, { prompt: '/sleep 60' })
  const { body: waiting } = await eventually(async () => {
    const answer = await send(server, id, 'next')
    return answer.status === 202 && answer
  })
  await inState(server, id, 'busy')
  for (const pid of processesOf(id)) process.kill(pid, 'SIGSTOP')
  void server.call<Session>('POST', `/api/sessions/${id}/end`).catch(() => undefined)
  await inState(server, id, 'ended')
  await server.process.end('SIGKILL')

  for (let start = 0; start < 2; start++) {
    server = await startKillable(directory.path)
    const log = await events(server, id)
    const ends = log.filter(({ state }) => state === 'ended')
    expect(ends).toMatchObject([{ seq: log.length, reason: 'ended_by_caller', detail: 'ended by a caller' }])
    expect(
      log.filter(({ type, deliveryId }) => type === 'input.failed' && deliveryId === waiting.deliveryId),
    ).toHaveLength(1)
    expect(await get(server, id)).toMatchObject({ state: 'ended', lastSeq: log.length })
    expect(await delivery(server, id, waiting.deliveryId)).toMatchObject({ status: 'failed', reason: 'session_ended' })
    expect(processesOf(id)).toEqual([])
    await server.process.end('SIGKILL')
  }
})
