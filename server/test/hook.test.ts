import { readFile, readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { channelHash, signToken } from '../src/channels/token.ts'
import { newId, systemClock } from '../src/clock.ts'
import { FORBIDDEN } from '../src/http/hook.ts'
import { checksum } from '../src/keys/checksum.ts'
import { channelOf } from '../src/model/sessions.ts'
import { deliveriesOf, handedOver, knock, mint, NO_LIMITS, settled, signingKey, startWithSession } from './channels.ts'
import { startTestServer } from './harness.ts'
import { GOOD_TOKEN, memoryChannels, startHttp } from './http-harness.ts'
import { rawJson, rawRequest, type RawAnswer } from './raw-http.ts'
import { adminToken, call, serve } from './server-process.ts'
import { temporaryDirectory } from './temporary.ts'

/** Who may knock: rows T of docs/security.md 7, and the order of checks of its section 2.3. */

const BODY = '{"message":"x"}'
const expect403 = (answer: RawAnswer): void => {
  expect([answer.status, answer.body]).toEqual([403, FORBIDDEN])
  const { date, 'x-request-id': requestId, ...headers } = answer.headers
  expect([date, requestId].every(Boolean)).toBe(true)
  expect(headers).toEqual({
    'content-type': 'application/problem+json',
    'cache-control': 'no-store',
    'referrer-policy': 'no-referrer',
    'x-content-type-options': 'nosniff',
    'content-length': '139',
    connection: 'close',
  })
}

test('the address that was minted reaches the agent, by path and by header', async () => {
  await using made = await startWithSession()
  const { server, sessionId } = made
  const { token, grantId, webhook, channel } = await mint(server, { sessionId, label: 'ci' })
  expect(webhook).toBe(`${server.url}/hook/${token}`)
  const byPath = await knock(server, token, { message: 'deploy finished', from: 'github' })
  expect(byPath.status).toBe(200)
  expect(byPath.body).toEqual({
    status: 'delivered',
    deliveryId: expect.stringMatching(/^dlv_/) as string,
    channel,
    sessionId,
  })
  expect(byPath.headers.get('ratelimit')).toMatch(/^"grant";r=\d+;t=\d+$/)
  const byHeader = await server.call(
    'POST',
    '/hook',
    { message: 'again' },
    { headers: { authorization: `Bearer ${token}` } },
  )
  expect([200, 202]).toContain(byHeader.status)
  const all = await settled(server, grantId)
  expect(all.map(({ from, label, status }) => [from, label, status])).toEqual([
    ['github', 'ci', 'confirmed'],
    [null, 'ci', 'confirmed'],
  ])
  expect(await handedOver(server, sessionId)).toEqual(all.map(({ id }) => id))
  const grant = await server.call('GET', `/api/channels/${grantId}`, undefined, { token: true })
  expect(grant.body).toMatchObject({ deliveries: 2, lastUsedAt: expect.any(String) as string, revoked: false })
})

describe('a bad token', () => {
  test('T4: a token of the operator or of a run opens no hook, and one of a hook nothing else', async () => {
    await using made = await startWithSession()
    const { server, sessionId } = made
    const { token } = await mint(server, { sessionId })
    expect403(await rawJson(server.port, `POST /hook/${server.token}`, BODY))
    expect403(await rawJson(server.port, 'POST /hook', BODY, [`Authorization: Bearer ${server.token}`]))
    const runToken = `pstn_run1_${'A'.repeat(43)}`
    expect403(await rawJson(server.port, `POST /hook/${runToken}${checksum(runToken)}`, BODY))
    for (const path of ['GET /api/channels', 'GET /api/workspaces', `DELETE /api/channels/${sessionId}`]) {
      const answer = await rawRequest(server.port, { line: path, headers: [`Authorization: Bearer ${token}`] })
      expect([answer.status, answer.json?.['code']]).toEqual([401, 'invalid_token'])
    }
  })

  test('T1, T5, T6, T7, T8, T9, T15: a sample of what the token itself refuses is refused over HTTP', async () => {
    await using made = await startWithSession()
    const { server, sessionId } = made
    const { token } = await mint(server, { sessionId })
    const changed = (at: number): string => token.slice(0, at) + (token[at] === 'A' ? 'B' : 'A') + token.slice(at + 1)
    const forms = [
      ...[8, 40, 70, 104, 110].map(changed),
      token.slice(0, -1),
      `${token}A`,
      `${token}/`,
      `${token}=`,
      token.toUpperCase(),
      token.toLowerCase(),
      `%70${token.slice(1)}`,
      `${token}%00`,
      '%00',
      '%2e%2e%2f',
      encodeURIComponent(token.replace('p', '\u0440')),
      encodeURIComponent(`${token}\u200b`),
      '',
      'x'.repeat(8_000),
    ]
    for (const form of forms) expect403(await rawJson(server.port, `POST /hook/${form}`, BODY))
    for (const bearer of [`${token} `.repeat(2), `${token},`, `"${token}"`, '', 'a b', `\u00ff${token}`]) {
      expect403(await rawJson(server.port, 'POST /hook', BODY, [`Authorization: Bearer ${bearer}`]))
    }
    expect((await knock(server, token, 'still good')).status).toBe(200)
  })

  test('T8: a target with characters that are no part of a URL is refused before it is read as a token', async () => {
    await using server = await startTestServer()
    const line = Buffer.from('POST /hook/\u0440stn_h1_x', 'utf8').toString('latin1')
    expect((await rawJson(server.port, line, BODY)).status).toBe(400)
  })

  test('T10: a path that climbs out of the hook shows nothing of what is there', async () => {
    await using server = await startTestServer()
    for (const path of [
      '/hook/..%2f..%2fapi%2fchannels',
      '/hook/../api/channels',
      '/hook/%2e%2e/api/channels',
      '/hook/a/b',
    ]) {
      const answer = await rawJson(server.port, `POST ${path}`, BODY)
      expect([403, 404]).toContain(answer.status)
      expect(answer.body).not.toContain('grants')
    }
  })

  test('T11: a token in the query is none', async () => {
    await using made = await startWithSession()
    const { server, sessionId } = made
    const { token, grantId } = await mint(server, { sessionId })
    for (const path of [
      `/hook?token=${token}`,
      `/hook?token=${token}&token=${token}`,
      `/hook/${token}?`,
      `/hook/${token}?a=1`,
    ]) {
      expect403(await rawJson(server.port, `POST ${path}`, BODY))
    }
    expect403(await rawJson(server.port, 'POST /hook?x=1', BODY, [`Authorization: Bearer ${token}`]))
    for (const header of [[], ['Authorization: Basic eDp5'], [`Authorization: ${token}`], [`X-Token: ${token}`]]) {
      expect403(await rawJson(server.port, 'POST /hook', BODY, header))
    }
    expect(await deliveriesOf(server, grantId)).toEqual([])
  })

  test('T12: two credentials are refused, equal or not', async () => {
    await using made = await startWithSession()
    const { server, sessionId } = made
    const { token, grantId } = await mint(server, { sessionId })
    const bearer = `Authorization: Bearer ${token}`
    for (const [path, headers] of [
      [`/hook/${token}`, [bearer]],
      [`/hook/${token}`, ['Authorization: Bearer x']],
      [`/hook/${token}`, ['Authorization: Basic eDp5']],
      ['/hook', [bearer, bearer]],
      ['/hook/', [bearer]],
    ] as const) {
      const answer = await rawJson(server.port, `POST ${path}`, BODY, [...headers])
      expect([answer.status, answer.json?.['code']], path).toEqual([400, 'bad_request'])
    }
    expect(await deliveriesOf(server, grantId)).toEqual([])
  })

  test('T14, T22: forged, unknown, expired, revoked, of another verb or channel: the same bytes and headers', async () => {
    let ahead = 0
    const clock = { ...systemClock, now: () => Date.now() + ahead }
    await using made = await startWithSession({ clock })
    const { server, sessionId } = made
    const revoked = await mint(server, { sessionId })
    await server.call('DELETE', `/api/channels/${revoked.grantId}`, undefined, { token: true })
    const good = await mint(server, { sessionId, ttlSeconds: 3_600 })
    const key = await signingKey(server.dataDir)
    const claims = {
      kid: 1,
      verb: 1,
      expiresAt: Math.floor(Date.parse(good.expiresAt) / 1_000),
      grantId: good.grantId,
      channelHash: channelHash(channelOf(sessionId)),
    }
    expect(signToken(claims, key)).toBe(good.token)
    const bad: Record<string, string> = {
      forged: signToken(claims, Buffer.alloc(32, 5)),
      unknown: signToken({ ...claims, grantId: newId('grant') }, key),
      revoked: revoked.token,
      verb: signToken({ ...claims, verb: 2 }, key),
      channel: signToken({ ...claims, channelHash: channelHash('postern:/sessions/other') }, key),
      later: signToken({ ...claims, expiresAt: claims.expiresAt + 1 }, key),
      kid: signToken({ ...claims, kid: 2 }, key),
      malformed: 'x',
    }
    for (const token of Object.values(bad)) expect403(await rawJson(server.port, `POST /hook/${token}`, BODY))
    expect((await knock(server, good.token, 'x')).status).toBe(200)
    ahead = 3_600_001
    expect403(await rawJson(server.port, `POST /hook/${good.token}`, BODY))
    // The reason is for the operator alone.
    expect(await deliveriesOf(server, revoked.grantId)).toEqual([])
  })

  test('T17: a record that was edited on disk makes its token void', async () => {
    await using directory = await temporaryDirectory()
    const path = join(directory.path, 'db.json')
    const grants: { token: string; grantId: string }[] = []
    {
      await using made = await startWithSession({ dataDir: directory.path })
      for (let i = 0; i < 3; i++) grants.push(await mint(made.server, { sessionId: made.sessionId }))
    }
    interface Row {
      exp: number
      sessionId: string
      channel: string
    }
    const state = JSON.parse(await readFile(path, 'utf8')) as { tables: { grants: Record<string, Row> } }
    const other = newId('sess')
    const [later, elsewhere, untouched] = grants
    const rowOf = (grant: { grantId: string } | undefined): Row | undefined => state.tables.grants[grant?.grantId ?? '']
    Object.assign(rowOf(later) ?? {}, { exp: (rowOf(later)?.exp ?? 0) + 1_000_000 })
    Object.assign(rowOf(elsewhere) ?? {}, { sessionId: other, channel: channelOf(other) })
    await writeFile(path, JSON.stringify(state), { mode: 0o600 })
    await using server = await startTestServer({ dataDir: directory.path })
    for (const grant of [later, elsewhere])
      expect403(await rawJson(server.port, `POST /hook/${grant?.token ?? ''}`, BODY))
    expect([200, 202]).toContain((await knock(server, untouched?.token ?? '', 'x')).status)
  })

  test('T19: revoked, and the server killed right after it said so: the address is dead', async () => {
    await using directory = await temporaryDirectory()
    const dataDir = directory.path
    const first = await serve({ dataDir })
    const authorization = `Bearer ${await adminToken(dataDir)}`
    const post = <T>(url: string, path: string, body: unknown) => call<T>(url, 'POST', path, body, { authorization })
    const ws = await post<{ id: string }>(first.url, '/api/workspaces', { tag: 'a' })
    const session = await post<{ id: string }>(first.url, '/api/sessions', { wsId: ws.body.id, agent: 'demo' })
    const minted = await post<{ token: string; grantId: string }>(first.url, '/api/channels', {
      sessionId: session.body.id,
    })
    const { token, grantId } = minted.body
    const revoked = await call(first.url, 'DELETE', `/api/channels/${grantId}`, undefined, { authorization })
    await first.end('SIGKILL')
    expect(revoked.status).toBe(200)
    const second = await serve({ dataDir })
    const answer = await call(second.url, 'POST', `/hook/${token}`, { message: 'x' })
    expect([answer.status, answer.text]).toEqual([403, FORBIDDEN])
    await second.end('SIGTERM')
  })

  test('I11, A2: a flood of bad tokens is cut short, and a good one passes through it', async () => {
    await using made = await startWithSession({
      channelLimits: { ...NO_LIMITS, failuresPerSource: 5, failuresInAll: 20 },
    })
    const { server, sessionId } = made
    const { token } = await mint(server, { sessionId })
    const answers = await Promise.all(Array.from({ length: 60 }, (_, i) => knock(server, `junk${i}`, 'x')))
    const statuses = Map.groupBy(answers, ({ status }) => status)
    expect(new Set(statuses.keys())).toEqual(new Set([403, 429]))
    const [limited] = statuses.get(429) ?? []
    expect(limited?.body.code).toBe('too_many_failures')
    expect(Number(limited?.headers.get('retry-after'))).toBeGreaterThan(0)
    expect([200, 202]).toContain((await knock(server, token, 'through')).status)
  })
})

test('I11: behind a proxy each source is counted by itself, and all of them together', async () => {
  await using http = await startHttp({
    channels: memoryChannels(),
    channelLimits: { failuresPerSource: 3, failuresInAll: 10 },
    config: { trustedProxies: ['127.0.0.1'] },
    clock: { ...systemClock, monotonic: () => 1_000 }, // nothing comes back
  })
  const from = async (source: string, path = '/hook/junk'): Promise<number> =>
    (await rawJson(http.port, `POST ${path}`, BODY, [`X-Forwarded-For: 203.0.113.${source}`])).status
  const statuses: Record<string, number[]> = {}
  for (const source of ['1', '1', '1', '1', '2', '2', '2', '2', '3', '3', '3', '4', '4']) {
    ;(statuses[source] ??= []).push(await from(source))
  }
  expect(statuses).toEqual({ 1: [403, 403, 403, 429], 2: [403, 403, 403, 429], 3: [403, 403, 403], 4: [403, 429] })
  for (const source of ['1', '4', '5']) expect(await from(source, `/hook/${GOOD_TOKEN}`)).toBe(200)
})

test('a server that stops refuses good tokens with 503, and bad ones as ever', async () => {
  await using http = await startHttp({ channels: memoryChannels(), isDraining: () => true })
  const answer = await rawJson(http.port, `POST /hook/${GOOD_TOKEN}`, BODY)
  expect([answer.status, answer.json?.['code'], answer.headers['retry-after']]).toEqual([503, 'draining', '5'])
  expect403(await rawJson(http.port, 'POST /hook/junk', BODY))
})

describe('the order of checks', () => {
  test('T23: every other method is refused before the token is looked at', async () => {
    await using made = await startWithSession()
    const { server, sessionId } = made
    const { token } = await mint(server, { sessionId })
    for (const path of [`/hook/${token}`, '/hook/junk', '/hook', '/hook?token=x']) {
      for (const method of ['GET', 'HEAD', 'PUT', 'PATCH', 'DELETE', 'OPTIONS', 'TRACE']) {
        const answer = await rawRequest(server.port, {
          line: `${method} ${path}`,
          headers: [`Authorization: Bearer ${token}`],
        })
        expect([answer.status, answer.headers['allow']], `${method} ${path}`).toEqual([405, 'POST'])
        expect(answer.headers['referrer-policy']).toBe('no-referrer')
        expect(answer.body).not.toContain(token)
      }
    }
  })

  test('the gate comes first, then the token, then rate and body', async () => {
    await using made = await startWithSession({ channelLimits: { ...NO_LIMITS, burst: 3 } })
    const { server, sessionId } = made
    const { token } = await mint(server, { sessionId })
    const post = (path: string, headers: string[], body = BODY): Promise<RawAnswer> =>
      rawJson(server.port, `POST ${path}`, body, headers)
    const hostless = await rawRequest(server.port, { line: 'POST /hook/junk', host: 'evil.example' })
    expect(hostless.json?.['code']).toBe('host_not_allowed')
    expect((await post('/hook/junk', ['Origin: https://evil.example'])).json?.['code']).toBe('origin_not_allowed')
    expect((await post(`/hook/${token}`, ['Sec-Fetch-Site: cross-site'])).json?.['code']).toBe('origin_not_allowed')
    const junk = Array.from({ length: 100 }, (_, i) => `A${i}: 1`)
    expect((await post('/hook/junk', junk)).status).toBe(431)
    // A bad token hides what is wrong with the body; a good one does not.
    for (const body of ['{', '[]', '{"nope":1}']) expect403(await post('/hook/junk', [], body))
    const huge = { line: 'POST /hook/junk', headers: ['Content-Length: 10000000000', 'Content-Type: text/plain'] }
    expect403(await rawRequest(server.port, huge))
    expect(
      (
        await rawRequest(server.port, {
          line: `POST /hook/${token}`,
          headers: ['Content-Length: 10000000000', 'Content-Type: text/plain'],
        })
      ).status,
    ).toBe(415)
    // Through a proxy, too: the token is the authority, not the place.
    expect([200, 202]).toContain(
      (await post(`/hook/${token}`, ['X-Forwarded-For: 203.0.113.9', 'Via: 1.1 proxy'])).status,
    )
  })

  test('I10: the eleventh message in a second is refused with when to come back, and what was sent stays', async () => {
    await using made = await startWithSession({ channelLimits: {} })
    const { server, sessionId } = made
    const { token, grantId } = await mint(server, { sessionId })
    const answers = []
    for (let i = 0; i < 11; i++)
      answers.push(await knock(server, token, { message: `m${i}`, idempotency_key: `k${i}` }))
    // On a slow machine one may have come back while they were sent.
    const over = answers.find(({ status }) => status === 429) ?? (await until429(() => knock(server, token, 'more')))
    expect(over.body.code).toBe('too_many_messages')
    expect(Number(over.headers.get('retry-after'))).toBeGreaterThanOrEqual(1)
    expect(over.headers.get('ratelimit')).toMatch(/^"grant";r=0;t=\d+$/)
    expect(over.headers.get('ratelimit-policy')).toBe('"grant";q=10;w=20')
    // Another address of the same session has its own.
    const other = await mint(server, { sessionId })
    expect([200, 202]).toContain((await knock(server, other.token, 'x')).status)
    const accepted = answers.filter(({ status }) => status === 200 || status === 202)
    const kept = (await settled(server, grantId)).map(({ id }) => id)
    expect(kept.slice(0, accepted.length)).toEqual(accepted.map(({ body }) => body.deliveryId))
  })
})

describe('what is written down', () => {
  test('T16, T24: no file and no line of the log holds a token, whatever is done with it', async () => {
    await using made = await startWithSession({ level: 'debug' })
    const { server, sessionId } = made
    const { token, grantId } = await mint(server, { sessionId, label: 'ci' })
    await server.call('POST', '/api/channels', { sessionId }, { token: true, headers: { 'idempotency-key': 'mint-1' } })
    await knock(server, token, { message: 'x', idempotency_key: 'k' })
    const bad = `${token.slice(0, -8)}AAAAAAAA`
    for (const path of [`/hook/${bad}`, `/hook/${token}?x`, `/hook/${token}/more`, `/hook/%70${token.slice(1)}`]) {
      await rawJson(server.port, `POST ${path}`, BODY)
    }
    await rawRequest(server.port, { line: `GET /hook/${token}` })
    await rawJson(server.port, `POST /hook/${token}`, '{', [])
    await rawRequest(server.port, {
      line: `GET /api/channels?cursor=${token}`,
      headers: [`Authorization: Bearer ${server.token}`],
    })
    await settled(server, grantId)
    await server.stop()
    // The part that only whoever has the address can know; also of the damaged form.
    const secrets = [token.slice(62, 105), token.slice(8, 62)]
    const lines = server.logged.join('\n')
    expect(lines).toContain('/hook/…')
    for (const secret of secrets) expect(lines).not.toContain(secret)
    for (const entry of await readdir(server.dataDir, { recursive: true, withFileTypes: true })) {
      if (!entry.isFile()) continue
      const text = await readFile(join(entry.parentPath, entry.name), 'latin1')
      for (const secret of secrets) expect(text.includes(secret), entry.name).toBe(false)
      expect(text.includes('pstn_h1_'), entry.name).toBe(false)
    }
  })
})

async function until429<T extends { status: number }>(send: () => Promise<T>): Promise<T> {
  for (;;) {
    const answer = await send()
    if (answer.status === 429) return answer
  }
}
