import { readFile } from 'node:fs/promises'
import { expect, test } from 'vitest'
import { newId, systemClock } from '../src/clock.ts'
import { fingerprintOf, openClaims } from '../src/store/claims.ts'
import { systemDisk } from '../src/store/disk.ts'
import { HAND_OVER_MS } from '../src/sessions/hand-over.ts'
import {
  deliveriesOf,
  deliveryOf,
  handedOver,
  keepBusy,
  knock,
  mint,
  NO_LIMITS,
  openSession,
  settled,
  startWithSession,
  untilState,
} from './channels.ts'
import { diskError, faultyDisk, heldDisk } from './faulty-disk.ts'
import { startTestServer } from './harness.ts'
import { createJumpingClock } from './jumping-clock.ts'
import { rawJson } from './raw-http.ts'
import { eventually, temporaryDirectory } from './temporary.ts'

/** A knock with a key happens once: rows I of docs/security.md 7. */

test('I1: the same key and body again: the same bytes, one hand-over, also after a restart', async () => {
  await using directory = await temporaryDirectory()
  const body = { message: 'deploy finished', from: 'ci', idempotency_key: 'build-812' }
  let first = ''
  let token = ''
  let grantId = ''
  let sessionId = ''
  {
    await using made = await startWithSession({ dataDir: directory.path })
    const minted = await mint(made.server, { sessionId: made.sessionId })
    ;({ token, grantId } = minted)
    ;({ sessionId } = made)
    const answer = await knock(made.server, token, body)
    expect([answer.status, answer.headers.get('idempotency-replayed')]).toEqual([200, null])
    first = answer.text
    await settled(made.server, grantId)
    const { idempotency_key: key, ...rest } = body
    // By header as by field, with quotes or without, fields in any order.
    for (const again of [
      await knock(made.server, token, body),
      await knock(made.server, token, { idempotency_key: key, from: 'ci', message: 'deploy finished' }),
      await knock(made.server, token, rest, { 'idempotency-key': key }),
      await knock(made.server, token, body, { 'idempotency-key': `"${key}"` }),
    ]) {
      expect([again.status, again.text, again.headers.get('idempotency-replayed')]).toEqual([200, first, 'true'])
    }
    expect(await handedOver(made.server, sessionId)).toHaveLength(1)
  }
  await using server = await startTestServer({ dataDir: directory.path, channelLimits: NO_LIMITS })
  const later = await knock(server, token, body)
  expect([later.status, later.text, later.headers.get('idempotency-replayed')]).toEqual([200, first, 'true'])
  expect(await deliveriesOf(server, grantId)).toHaveLength(1)
})

test('I1, I14: a buffered message is replayed as buffered, at capacity and after the session has ended', async () => {
  await using made = await startWithSession()
  const { server, sessionId } = made
  const { token, grantId } = await mint(server, { sessionId })
  await keepBusy(server, sessionId)
  const first = await knock(server, token, { message: 'm', idempotency_key: 'k' })
  expect([first.status, first.body.status]).toEqual([202, 'buffered'])
  for (let i = 1; i < 100; i++) expect((await knock(server, token, `m${i}`)).status).toBe(202)
  expect((await knock(server, token, 'too many')).status).toBe(429)
  const full = await knock(server, token, { message: 'm', idempotency_key: 'k' })
  expect([full.status, full.text]).toEqual([202, first.text])
  await server.call('POST', `/api/sessions/${sessionId}/end`, undefined, { token: true })
  await untilState(server, sessionId, 'ended')
  const all = await settled(server, grantId)
  expect(new Set(all.map(({ status, reason }) => `${status} ${reason ?? ''}`))).toEqual(
    new Set(['failed session_ended']),
  )
  const over = await knock(server, token, { message: 'm', idempotency_key: 'k' })
  expect([over.status, over.text, over.headers.get('idempotency-replayed')]).toEqual([202, first.text, 'true'])
  expect((await knock(server, token, { message: 'm', idempotency_key: 'new' })).status).toBe(410)
})

test('I3, I9: twenty at once whose key was claimed before a crash, and nothing recorded, make one delivery', async () => {
  await using directory = await temporaryDirectory()
  const { path: dataDir } = directory
  const message = 'deploy finished'
  let minted
  let sessionId = ''
  {
    await using made = await startWithSession({ dataDir })
    minted = await mint(made.server, { sessionId: made.sessionId })
    ;({ sessionId } = made)
  }
  // What a server leaves that dies between the claim and the record.
  const claims = await openClaims({ disk: systemDisk, dataDir, clock: systemClock, maxKeys: 100 })
  const claim = claims.begin(['hook', minted.grantId, 'build-812'], fingerprintOf({ message, from: null }))
  const id = newId('dlv')
  await claim.commit(id)
  await claims.close()

  await using server = await startTestServer({ dataDir, channelLimits: NO_LIMITS })
  const body = { message, idempotency_key: 'build-812' }
  const { token, grantId } = minted
  const answers = await Promise.all(Array.from({ length: 20 }, () => knock(server, token, body)))
  for (const { status } of answers) expect([202, 409]).toContain(status)
  expect(answers.filter(({ status }) => status === 202)).not.toHaveLength(0)
  const [delivery, ...more] = await settled(server, grantId)
  expect([delivery?.id, delivery?.status, delivery?.possibleDuplicate, more]).toEqual([id, 'confirmed', false, []])
  expect(await handedOver(server, sessionId)).toEqual([id])
})

test('I1: where the disk holds the hand-over up, the first answer is the one that is replayed', async () => {
  const clock = createJumpingClock(Date.now())
  const held = heldDisk('"status":"delivered"')
  await using made = await startWithSession({ clock, disk: held.disk })
  const { server, sessionId } = made
  const { token } = await mint(server, { sessionId })
  const body = { message: 'deploy finished', idempotency_key: 'k' }
  const answered = knock(server, token, body)
  await eventually(() => held.isHeld)
  clock.pass(HAND_OVER_MS)
  await new Promise((resolve) => setTimeout(resolve, 100))
  held.release()
  const first = await answered
  expect([first.status, first.body.status]).toEqual([200, 'delivered'])
  const again = await knock(server, token, body)
  expect([again.status, again.text, again.headers.get('idempotency-replayed')]).toEqual([200, first.text, 'true'])
})

test('I2: the same key with another body is refused, and the first one stands', async () => {
  await using made = await startWithSession()
  const { server, sessionId } = made
  const { token, grantId } = await mint(server, { sessionId })
  await knock(server, token, { message: 'one', idempotency_key: 'k' })
  for (const body of [
    { message: 'two', idempotency_key: 'k' },
    { message: 'one', from: 'ci', idempotency_key: 'k' },
  ]) {
    const answer = await knock(server, token, body)
    expect([answer.status, answer.body.code]).toEqual([422, 'idempotency_mismatch'])
  }
  expect((await settled(server, grantId)).map(({ message }) => message)).toEqual(['one'])
})

test('I3: of fifty at once with one key one is accepted', async () => {
  await using made = await startWithSession()
  const { server, sessionId } = made
  const { token, grantId } = await mint(server, { sessionId })
  const answers = await Promise.all(
    Array.from({ length: 50 }, () => knock(server, token, { message: 'once', idempotency_key: 'k' })),
  )
  const accepted = answers.filter(
    ({ status, headers }) => status === 200 && headers.get('idempotency-replayed') === null,
  )
  expect(accepted).toHaveLength(1)
  for (const { status, text, headers } of answers) {
    if (status === 200) expect(text).toBe(accepted[0]?.text)
    else expect([status, headers.get('retry-after')]).toEqual([409, '1'])
  }
  await settled(server, grantId)
  expect(await handedOver(server, sessionId)).toHaveLength(1)
})

test('I4: the same key on another address is another one', async () => {
  await using made = await startWithSession()
  const { server, sessionId } = made
  const [one, other] = [await mint(server, { sessionId }), await mint(server, { sessionId })]
  const ids = new Set<string>()
  for (const { token } of [one, other]) {
    const answer = await knock(server, token, { message: token === one.token ? 'a' : 'b', idempotency_key: 'k' })
    expect([200, 202]).toContain(answer.status)
    ids.add(answer.body.deliveryId)
  }
  expect(ids.size).toBe(2)
})

test('I5, I6: two keys that differ, two headers, a bad key: refused; a key that looks like a trap is one like any other', async () => {
  await using made = await startWithSession()
  const { server, sessionId } = made
  const { token, grantId } = await mint(server, { sessionId })
  const post = (body: Record<string, unknown>, ...keys: string[]) =>
    rawJson(
      server.port,
      `POST /hook/${token}`,
      JSON.stringify({ message: 'x', ...body }),
      keys.map((key) => `Idempotency-Key: ${key}`),
    )
  for (const answer of [
    await post({ idempotency_key: 'a' }, 'b'),
    await post({}, 'a', 'b'),
    await post({}, 'a', 'a'),
    await post({}, 'x'.repeat(256)),
    await post({ idempotency_key: 'x'.repeat(256) }),
    await post({ idempotency_key: '' }),
    await post({ idempotency_key: 'a b' }),
    await post({ idempotency_key: 'é' }),
    await post({ idempotency_key: 'a\nb' }),
  ]) {
    expect([answer.status, answer.json?.['code']]).toEqual([400, 'idempotency_key_invalid'])
  }
  expect((await post({ idempotency_key: 5 })).status).toBe(400)
  expect(await deliveriesOf(server, grantId)).toEqual([])
  const ids = new Set<string>()
  for (const key of ['__proto__', 'constructor', '../../etc/passwd', 'x'.repeat(255)]) {
    const [first, again] = [await post({ idempotency_key: key }), await post({ idempotency_key: key })]
    expect([again.status, again.body, again.headers['idempotency-replayed']]).toEqual([
      first.status,
      first.body,
      'true',
    ])
    ids.add(String(first.json?.['deliveryId']))
  }
  expect(ids.size).toBe(4)
})

test('I7: one key more than an address may have is refused, none is forgotten, and another address is free', async () => {
  await using made = await startWithSession({ channelLimits: { ...NO_LIMITS, keysPerGrant: 3 } })
  const { server, sessionId } = made
  const { token } = await mint(server, { sessionId })
  for (const key of ['a', 'b', 'c'])
    expect([200, 202]).toContain((await knock(server, token, { message: key, idempotency_key: key })).status)
  const over = await knock(server, token, { message: 'd', idempotency_key: 'd' })
  expect([over.status, over.body.code]).toEqual([429, 'too_many_keys'])
  const replayed = await knock(server, token, { message: 'a', idempotency_key: 'a' })
  expect(replayed.headers.get('idempotency-replayed')).toBe('true')
  expect([200, 202]).toContain((await knock(server, token, 'without a key')).status)
  const other = await mint(server, { sessionId })
  expect([200, 202]).toContain((await knock(server, other.token, { message: 'd', idempotency_key: 'd' })).status)
})

test('I8: an hour forward and back, a message is still delivered once', async () => {
  let shift = 0
  await using made = await startWithSession({ clock: { ...systemClock, now: () => Date.now() + shift } })
  const { server, sessionId } = made
  const { token, grantId } = await mint(server, { sessionId })
  const first = await knock(server, token, { message: 'once', idempotency_key: 'k' })
  for (shift of [3_600_000, -3_600_000, 25 * 3_600_000, 0]) {
    const again = await knock(server, token, { message: 'once', idempotency_key: 'k' })
    expect([again.status, again.text]).toEqual([first.status, first.text])
  }
  await settled(server, grantId)
  expect(await handedOver(server, sessionId)).toHaveLength(1)
})

test('I13: what was refused leaves its key free', async () => {
  await using made = await startWithSession({ channelLimits: { ...NO_LIMITS, burst: 1, perMinute: 120 } })
  const { server, sessionId } = made
  const { token, grantId } = await mint(server, { sessionId })
  const statuses: number[] = []
  for (let i = 0; statuses.at(-1) !== 429; i++)
    statuses.push((await knock(server, token, { message: 'x', idempotency_key: `k${i}` })).status)
  const key = `k${statuses.length - 1}`
  const first = await deliveriesOf(server, grantId)
  for (;;) {
    const again = await knock(server, token, { message: 'another body', idempotency_key: key })
    if (again.status === 429) continue
    expect([200, 202]).toContain(again.status)
    expect((await deliveryOf(server, again.body.deliveryId)).message).toBe('another body')
    break
  }
  expect(await deliveriesOf(server, grantId)).toHaveLength(first.length + 1)
})

test('I13, D3: on a disk that takes nothing a knock is refused with 503, nothing of it is kept, and the same key works later', async () => {
  const faulty = faultyDisk()
  await using made = await startWithSession({ disk: faulty.disk })
  const { server, sessionId } = made
  const { token, grantId } = await mint(server, { sessionId })
  faulty.onCall = (name) => {
    if (name === 'write') throw diskError('ENOSPC')
    return undefined
  }
  for (const body of [{ message: 'x', idempotency_key: 'k' }, { message: 'without a key' }]) {
    const answer = await knock(server, token, body)
    expect([answer.status, answer.body.code]).toEqual([503, 'storage_unavailable'])
    expect(Number(answer.headers.get('retry-after'))).toBeGreaterThan(0)
  }
  const revoking = await server.call<{ code: string }>('DELETE', `/api/channels/${grantId}`, undefined, { token: true })
  expect([revoking.status, revoking.body.code]).toEqual([503, 'storage_unavailable'])
  expect(await deliveriesOf(server, grantId)).toEqual([])
  faulty.onCall = undefined
  await untilState(server, sessionId, 'idle')
  expect((await knock(server, token, { message: 'x', idempotency_key: 'k' })).status).toBe(200)
  await settled(server, grantId)
  expect(await handedOver(server, sessionId)).toHaveLength(1)
})

test('I13, D3: a key whose message could not be stored is free for another one', async () => {
  const faulty = faultyDisk()
  await using made = await startWithSession({ disk: faulty.disk })
  const { server, sessionId } = made
  const { token, grantId } = await mint(server, { sessionId })
  let writes = 0
  faulty.onCall = (name) => {
    if (name === 'write' && ++writes > 1) throw diskError('ENOSPC') // the claim is written, the message is not
    return undefined
  }
  const refused = await knock(server, token, { message: 'one', idempotency_key: 'k' })
  expect([refused.status, refused.body.code]).toEqual([503, 'storage_unavailable'])
  faulty.onCall = undefined
  await untilState(server, sessionId, 'idle')
  const taken = await eventually(async () => {
    const answer = await knock(server, token, { message: 'two', idempotency_key: 'k' })
    return answer.status !== 503 && answer
  })
  expect(taken.status).toBe(200)
  expect((await settled(server, grantId)).map(({ message }) => message)).toEqual(['two'])
})

test('keys are kept as hashes', async () => {
  await using made = await startWithSession()
  const { server, sessionId } = made
  const { token } = await mint(server, { sessionId })
  await knock(server, token, { message: 'x', idempotency_key: 'a-key-that-is-easily-found' })
  expect(await readFile(`${server.dataDir}/claims.journal`, 'utf8')).not.toContain('easily-found')
  const other = await openSession(server, await server.workspace())
  expect(other).toMatch(/^sess_/)
})
