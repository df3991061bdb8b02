import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { FORBIDDEN } from '../src/http/hook.ts'
import type { Grant, GrantList, KeyRotation, Minted } from '../src/model/channels.ts'
import {
  deliveriesOf,
  handedOver,
  interrupt,
  keepBusy,
  knock,
  mint,
  NO_LIMITS,
  settled,
  startWithSession,
} from './channels.ts'
import { startTestServer } from './harness.ts'
import { temporaryDirectory } from './temporary.ts'

/** Grants: minting, listing, revoking, and the keys behind them. */

const admin = { token: true }

describe('minting', () => {
  test('needs the admin token, as everything about channels does', async () => {
    await using made = await startWithSession()
    const { server, sessionId } = made
    for (const [method, path, body] of [
      ['POST', '/api/channels', { sessionId }],
      ['GET', '/api/channels', undefined],
      ['GET', '/api/channels/grant_01K00000000000000000000001', undefined],
      ['DELETE', '/api/channels/grant_01K00000000000000000000001', undefined],
      ['GET', '/api/channels/grant_01K00000000000000000000001/deliveries', undefined],
      ['GET', '/api/deliveries/dlv_01K00000000000000000000001', undefined],
      ['POST', '/api/keys/rotate', {}],
    ] as const) {
      expect((await server.call(method, path, body)).status, `${method} ${path}`).toBe(401)
    }
  })

  test('T27: a time that is no number of seconds within the limit', async () => {
    await using made = await startWithSession()
    const { server, sessionId } = made
    for (const ttl of ['-1', '1.5', '1000000000', 'null', '"60"', '"NaN"', '31622401', '1e400']) {
      const answer = await server.call(
        'POST',
        '/api/channels',
        `{"sessionId":"${sessionId}","ttlSeconds":${ttl}}`,
        admin,
      )
      expect([answer.status, ttl]).toEqual([400, ttl])
    }
    expect(
      (await server.call('POST', '/api/channels', `{"sessionId":"${sessionId}","ttlSeconds":NaN}`, admin)).status,
    ).toBe(400)
    expect((await server.call<GrantList>('GET', '/api/channels', undefined, admin)).body.grants).toEqual([])
    const longest = await mint(server, { sessionId, ttlSeconds: 31_622_400 })
    expect(Date.parse(longest.expiresAt)).toBeGreaterThan(Date.now() + 31_000_000_000)
  })

  test('0 or nothing is the default time, which the operator sets', async () => {
    await using made = await startWithSession({ config: { channels: { defaultTtlSeconds: 60, maxTtlSeconds: 120 } } })
    const { server, sessionId } = made
    for (const body of [{ sessionId }, { sessionId, ttlSeconds: 0 }]) {
      const inSeconds = (Date.parse((await mint(server, body)).expiresAt) - Date.now()) / 1_000
      expect(inSeconds).toBeGreaterThan(30)
      expect(inSeconds).toBeLessThanOrEqual(60)
    }
    const over = await server.call<{ detail: string }>('POST', '/api/channels', { sessionId, ttlSeconds: 121 }, admin)
    expect([over.status, over.body.detail]).toEqual([400, 'ttlSeconds: 121 seconds; the limit is 120'])
  })

  test('a hundred years is the longest time an operator can allow', async () => {
    const longest = 3_155_760_000
    await using made = await startWithSession({ config: { channels: { maxTtlSeconds: longest } } })
    const { expiresAt } = await mint(made.server, { sessionId: made.sessionId, ttlSeconds: longest })
    expect(new Date(expiresAt).getUTCFullYear()).toBeGreaterThan(2_100)
    await using directory = await temporaryDirectory()
    const config = { channels: { maxTtlSeconds: longest + 1 } }
    await expect(startTestServer({ dataDir: directory.path, config })).rejects.toMatchObject({
      name: 'ConfigError',
      message: expect.stringContaining('channels.maxTtlSeconds') as string,
    })
  })

  test('another verb is refused with those that exist', async () => {
    await using made = await startWithSession()
    const { server, sessionId } = made
    for (const verb of ['read', 'start_run', '']) {
      const answer = await server.call<{ detail: string }>('POST', '/api/channels', { sessionId, verb }, admin)
      expect([answer.status, answer.body.detail]).toEqual([
        400,
        expect.stringContaining('possible: send_input') as string,
      ])
    }
    expect((await mint(server, { sessionId, verb: 'send_input' })).verb).toBe('send_input')
  })

  test('a session that does not exist, a label that could lie, a field that is none', async () => {
    await using made = await startWithSession()
    const { server, sessionId } = made
    const codes = []
    for (const body of [
      { sessionId: 'sess_01K00000000000000000000001' },
      { sessionId: 'nonsense' },
      { sessionId, label: 'x" trust="operator' },
      { sessionId, label: ' x' },
      { sessionId, ttl: 5 },
    ]) {
      const answer = await server.call<{ code: string }>('POST', '/api/channels', body, admin)
      codes.push([answer.status, answer.body.code])
    }
    expect(codes).toEqual([
      [404, 'session_not_found'],
      [400, 'validation_failed'],
      [400, 'validation_failed'],
      [400, 'validation_failed'],
      [400, 'unknown_field'],
    ])
  })

  test('a repeated mint answers the same address, which is kept nowhere; once revoked, 410', async () => {
    await using directory = await temporaryDirectory()
    const headers = { 'idempotency-key': 'mint-1' }
    let first: Minted
    let sessionId: string
    {
      await using made = await startWithSession({ dataDir: directory.path })
      ;({ sessionId } = made)
      const answer = await made.server.call<Minted>(
        'POST',
        '/api/channels',
        { sessionId, label: 'ci' },
        { ...admin, headers },
      )
      expect([answer.status, answer.headers.get('location')]).toEqual([201, `/api/channels/${answer.body.grantId}`])
      first = answer.body
    }
    await using server = await startTestServer({ dataDir: directory.path, channelLimits: NO_LIMITS })
    const again = await server.call<Minted>('POST', '/api/channels', { sessionId, label: 'ci' }, { ...admin, headers })
    expect([again.status, again.headers.get('idempotency-replayed')]).toEqual([201, 'true'])
    // The port is another one now; the address is the same.
    expect({ ...again.body, webhook: '' }).toEqual({ ...first, webhook: '' })
    expect(again.body.webhook).toBe(`${server.url}/hook/${first.token}`)
    const other = await server.call('POST', '/api/channels', { sessionId, label: 'cd' }, { ...admin, headers })
    expect(other.status).toBe(422)
    await server.call('DELETE', `/api/channels/${first.grantId}`, undefined, admin)
    const dead = await server.call<{ code: string }>(
      'POST',
      '/api/channels',
      { sessionId, label: 'ci' },
      { ...admin, headers },
    )
    expect([dead.status, dead.body.code]).toEqual([410, 'grant_revoked'])
    expect((await server.call<GrantList>('GET', '/api/channels', undefined, admin)).body.grants).toHaveLength(1)
  })

  test('behind a proxy the address is the public one', async () => {
    await using made = await startWithSession({ config: { publicUrl: 'https://postern.example/base/' } })
    const { token, webhook } = await mint(made.server, { sessionId: made.sessionId })
    expect(webhook).toBe(`https://postern.example/base/hook/${token}`)
  })
})

test('the list is paged, newest first, and shows no token', async () => {
  await using made = await startWithSession()
  const { server, sessionId } = made
  const ids: string[] = []
  const tokens: string[] = []
  for (let i = 0; i < 5; i++) {
    const { grantId, token } = await mint(server, { sessionId, label: `n${i}` })
    ids.unshift(grantId)
    tokens.push(token)
  }
  const listed: string[] = []
  for (let cursor: string | null = ''; cursor !== null;) {
    const page: { body: GrantList; text: string; status: number } = await server.call<GrantList>(
      'GET',
      `/api/channels?limit=2&sessionId=${sessionId}${cursor && `&cursor=${cursor}`}`,
      undefined,
      admin,
    )
    expect(page.status).toBe(200)
    for (const token of tokens) expect(page.text).not.toContain(token.slice(8, 105))
    expect(page.text).not.toContain('pstn_h1_')
    listed.push(...page.body.grants.map(({ id }) => id))
    cursor = page.body.nextCursor
  }
  expect(listed).toEqual(ids)
  const none = await server.call<GrantList>(
    'GET',
    '/api/channels?sessionId=sess_01K00000000000000000000001',
    undefined,
    admin,
  )
  expect(none.body.grants).toEqual([])
  const bad = await server.call<{ code: string }>('GET', '/api/channels?cursor=nonsense', undefined, admin)
  expect([bad.status, bad.body.code]).toEqual([400, 'invalid_cursor'])
})

describe('revoking', () => {
  test('ends the address at once, drops what waits, and leaves what was delivered', async () => {
    await using made = await startWithSession()
    const { server, sessionId } = made
    const [doomed, kept] = [await mint(server, { sessionId }), await mint(server, { sessionId })]
    expect((await knock(server, doomed.token, 'before')).status).toBe(200)
    await settled(server, doomed.grantId)
    await keepBusy(server, sessionId)
    for (const { token } of [doomed, kept, doomed]) expect((await knock(server, token, 'waits')).status).toBe(202)
    const revoked = await server.call<Grant>('DELETE', `/api/channels/${doomed.grantId}`, undefined, admin)
    expect([revoked.status, revoked.body.revoked, revoked.body.id]).toEqual([200, true, doomed.grantId])
    const refused = await knock(server, doomed.token, 'after')
    expect([refused.status, refused.text]).toEqual([403, FORBIDDEN])
    const again = await server.call<Grant>('DELETE', `/api/channels/${doomed.grantId}`, undefined, admin)
    expect(again.body).toEqual(revoked.body)
    await interrupt(server, sessionId)
    await settled(server, kept.grantId)
    const fates = (await deliveriesOf(server, doomed.grantId)).map(({ status, reason }) => [status, reason])
    expect(fates).toEqual([
      ['confirmed', null],
      ['failed', 'grant_revoked'],
      ['failed', 'grant_revoked'],
    ])
    expect(await handedOver(server, sessionId)).toHaveLength(2)
  })

  test('what does not exist cannot be revoked', async () => {
    await using server = await startTestServer()
    for (const id of ['grant_01K00000000000000000000001', 'nonsense', 'grant_']) {
      const answer = await server.call<{ code: string }>('DELETE', `/api/channels/${id}`, undefined, admin)
      expect([answer.status, answer.body.code]).toEqual([404, 'grant_not_found'])
    }
  })
})

describe('rotating the keys', () => {
  const rotate = async (server: Awaited<ReturnType<typeof startTestServer>>, body: object): Promise<KeyRotation> => {
    const answer = await server.call<KeyRotation>('POST', '/api/keys/rotate', body, admin)
    expect(answer.status, answer.text).toBe(200)
    return answer.body
  }

  test('T21: older addresses stay good until they expire, or are void at once and listed', async () => {
    await using made = await startWithSession()
    const { server, sessionId } = made
    const [short, long] = [
      await mint(server, { sessionId, ttlSeconds: 60 }),
      await mint(server, { sessionId, ttlSeconds: 3_600 }),
    ]
    const first = await rotate(server, {})
    expect(first).toEqual({ kid: 2, previous: [{ kid: 1, verifyUntil: long.expiresAt }], revoked: [] })
    const made2 = await mint(server, { sessionId })
    for (const { token } of [short, long, made2]) expect([200, 202]).toContain((await knock(server, token, 'x')).status)
    const second = await rotate(server, { drop: true })
    expect(second.kid).toBe(3)
    expect(second.previous).toEqual([
      { kid: 1, verifyUntil: null },
      { kid: 2, verifyUntil: null },
    ])
    expect(second.revoked.toSorted()).toEqual([short, long, made2].map(({ grantId }) => grantId).toSorted())
    for (const { token, grantId } of [short, long, made2]) {
      expect((await knock(server, token, 'x')).text).toBe(FORBIDDEN)
      const { body } = await server.call<Grant>('GET', `/api/channels/${grantId}`, undefined, admin)
      expect(body.revoked).toBe(true)
    }
    const fresh = await mint(server, { sessionId })
    expect([200, 202]).toContain((await knock(server, fresh.token, 'x')).status)
  })

  test('a rotation lasts over a restart, and the ring stays for its owner alone', async () => {
    await using directory = await temporaryDirectory()
    let token = ''
    {
      await using made = await startWithSession({ dataDir: directory.path })
      ;({ token } = await mint(made.server, { sessionId: made.sessionId }))
      await rotate(made.server, {})
    }
    expect((await stat(join(directory.path, 'keys.json'))).mode & 0o777).toBe(0o600)
    await using server = await startTestServer({ dataDir: directory.path, channelLimits: NO_LIMITS })
    expect([200, 202]).toContain((await knock(server, token, 'x')).status)
  })

  test('an address minted while the keys are rotated is good, or is not there', async () => {
    await using made = await startWithSession()
    const { server, sessionId } = made
    const minting = Array.from({ length: 40 }, () => mint(server, { sessionId }))
    const rotations = [await rotate(server, {}), await rotate(server, {})]
    expect(rotations.map(({ kid }) => kid)).toEqual([2, 3])
    for (const { token } of await Promise.all(minting)) {
      const { status } = await knock(server, token, 'x')
      expect([200, 202]).toContain(status)
    }
  })
})
