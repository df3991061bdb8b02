import { existsSync } from 'node:fs'
import { chmod, readFile, readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import type { Event, Run } from '../src/model.ts'
import type { InboxEntry } from '../src/model/inbox.ts'
import type { Session } from '../src/model/sessions.ts'
import { startTestServer, type TestServer } from './harness.ts'
import { serve } from './server-process.ts'
import { open } from './session-client.ts'
import { eventually, temporaryDirectory } from './temporary.ts'

/** Credentials through the API: sealed, write-only, given to the workspaces and agents that are to have them. */

const VALUE = 'sk-canary-0123456789abcdef'

/** Every file below a directory in which the text stands. */
async function filesWith(directory: string, text: string): Promise<string[]> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true })
  const paths = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name))
  const found = await Promise.all(paths.map(async (path) => ((await readFile(path)).includes(text) ? [path] : [])))
  return found.flat()
}

test('A8: no route answers with a value, and none without the admin token', async () => {
  await using server = await startTestServer()
  const body = { name: 'model', variables: { EXAMPLE_API_KEY: VALUE }, agents: ['demo'] }
  const admin = { token: true }
  expect((await server.call('POST', '/api/credentials', body)).status).toBe(401)
  expect((await server.call('GET', '/api/credentials')).status).toBe(401)
  expect((await server.call('DELETE', '/api/credentials/model')).status).toBe(401)

  const made = await server.call('POST', '/api/credentials', body, admin)
  expect([made.status, made.body]).toMatchObject([201, { name: 'model', variables: ['EXAMPLE_API_KEY'], usable: true }])
  const again = await server.call('POST', '/api/credentials', body, admin)
  expect(again.status).toBe(200)
  const listed = await server.call('GET', '/api/credentials', undefined, admin)
  expect(listed.body).toEqual({ credentials: [again.body] })
  const wsId = await server.workspace({ credentials: ['model'] })
  const shown = await server.call('GET', `/api/workspaces/${wsId}`)
  const refusals = await Promise.all(
    [
      { ...body, nope: 1 },
      { ...body, agents: ['nope'] },
      { ...body, variables: { [VALUE]: 'x', LD_PRELOAD: VALUE } },
      { ...body, variables: { LD_PRELOAD: VALUE } },
    ].map((bad) => server.call('POST', '/api/credentials', bad, admin)),
  )
  expect(refusals.map(({ status }) => status)).toEqual([400, 400, 400, 400])
  const removed = await server.call('DELETE', '/api/credentials/model', undefined, admin)
  expect([removed.status, removed.body]).toEqual([200, again.body])
  for (const answer of [made, again, listed, shown, ...refusals, removed]) expect(answer.text).not.toContain(VALUE)
  expect(server.logged.join('')).not.toContain(VALUE)
  expect(await filesWith(server.dataDir, VALUE)).toEqual([])
})

test('a workspace names only credentials that are set, and keeps the name of one that is removed', async () => {
  await using server = await startTestServer()
  const admin = { token: true }
  const refused = await server.call('POST', '/api/workspaces', { tag: 'x', credentials: ['typo'] }, admin)
  expect([refused.status, refused.body['code']]).toEqual([400, 'unknown_credential'])
  await server.call('POST', '/api/credentials', { name: 'a', variables: { KEY: VALUE } }, admin)
  const wsId = await server.workspace({ credentials: ['a'] })
  const path = `/api/workspaces/${wsId}`
  expect((await server.call('PATCH', path, { credentials: ['a', 'b'] }, admin)).status).toBe(400)
  await server.call('DELETE', '/api/credentials/a', undefined, admin)
  const changed = await server.call('PATCH', path, { tag: 'renamed' }, admin)
  expect([changed.status, changed.body]).toMatchObject([200, { tag: 'renamed', credentials: ['a'] }])
})

test('T18: a key file that others may have read is refused at the start', async () => {
  await using directory = await temporaryDirectory()
  {
    await using server = await startTestServer({ dataDir: directory.path })
    await server.call('POST', '/api/credentials', { name: 'a', variables: { KEY: VALUE } }, { token: true })
  }
  await chmod(join(directory.path, 'keys.json'), 0o644)
  await expect(startTestServer({ dataDir: directory.path })).rejects.toMatchObject({ name: 'ConfigError' })
  await chmod(join(directory.path, 'keys.json'), 0o600)
  await using server = await startTestServer({ dataDir: directory.path })
  const { body } = await server.call('GET', '/api/credentials', undefined, { token: true })
  expect(body).toMatchObject({ credentials: [{ name: 'a', usable: true }] })
})

/** Says its variable in every way: whole, cut in pieces, as JSON, on stderr, in a file, to the Inbox. */
const LEAKY = `
const value = process.env.EXAMPLE_API_KEY ?? 'none'
const say = (event) => process.stdout.write(JSON.stringify(event) + '\\n')
if (process.argv[2] === 'text') {
  for (const piece of ['key ', value.slice(0, 9), value.slice(9), '!']) {
    process.stdout.write(piece)
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
} else {
  say({ type: 'tool.started', toolCallId: '1', name: 'env', input: { [value]: [value] } })
  say({ type: 'tool.ended', toolCallId: '1', output: JSON.stringify({ value }) })
  for (const text of ['the key is ', ...value.match(/.{1,10}/gs), '.']) say({ type: 'agent.message', text, delta: true })
}
process.stderr.write('error: bad key ' + value + '\\n')
const { POSTERN_URL: url, POSTERN_TOKEN: token } = process.env
const headers = { authorization: 'Bearer ' + token, 'content-type': 'application/json' }
const body = JSON.stringify({ title: 'found ' + JSON.stringify(value).slice(1, -1), body: 'it is ' + value + '. '.repeat(400) })
await fetch(url + '/api/inbox', { method: 'POST', headers, body })
const silent = url + '/api/headless/' + process.env.POSTERN_RUN_ID + '/silent'
await fetch(silent, { method: 'POST', headers, body: JSON.stringify({ why: 'I know ' + value }) })
if (process.argv[2] === 'text') process.exitCode = 3
`

/** Holds sessions: says its variable in pieces, as ACP. */
const LIVE = `
import { createInterface } from 'node:readline'
const value = process.env.EXAMPLE_API_KEY ?? 'none'
const send = (message) => process.stdout.write(JSON.stringify({ jsonrpc: '2.0', ...message }) + '\\n')
process.stderr.write('started with ' + value + '\\n')
for await (const line of createInterface({ input: process.stdin })) {
  const { id, method } = JSON.parse(line)
  if (method === 'initialize') send({ id, result: { protocolVersion: 1, agentCapabilities: { loadSession: true } } })
  else if (method === 'session/new') send({ id, result: { sessionId: 'c1' } })
  else if (method === 'session/load') send({ id, result: {} })
  else if (method === 'session/prompt') {
    for (const text of ['key ', value.slice(0, 12), value.slice(12), '.', value.slice(0, 4)]) {
      const update = { sessionUpdate: 'agent_message_chunk', content: { type: 'text', text } }
      send({ method: 'session/update', params: { sessionId: 'c1', update } })
    }
    send({ id, result: { stopReason: 'end_turn' } })
  }
}
`

/** A server whose agents tell what they were given, and a workspace with a credential. */
async function leaking(given: { agents?: string[]; environment?: Record<string, string>; value?: string } = {}) {
  const programs = await temporaryDirectory()
  const [headless, live] = ['leaky.mjs', 'live.mjs'].map((name) => join(programs.path, name)) as [string, string]
  await writeFile(headless, LEAKY)
  await writeFile(live, LIVE)
  const agents = {
    text: { command: [process.execPath, headless, 'text'] },
    events: { command: [process.execPath, headless, 'events'], output: 'jsonl' },
    live: { command: [process.execPath, live], acp: 'only' },
    sh: { command: ['bash', '--norc', '-s'] },
  }
  const server = await startTestServer({
    config: { agents },
    ...(given.environment && { environment: given.environment }),
  })
  const { value = VALUE, agents: limit = [] } = given
  const body = { name: 'model', variables: { EXAMPLE_API_KEY: value }, agents: limit }
  await server.call('POST', '/api/credentials', body, { token: true })
  const wsId = await server.workspace({ credentials: ['model'] })
  return {
    server,
    wsId,
    async [Symbol.asyncDispose]() {
      await server[Symbol.asyncDispose]()
      await programs[Symbol.asyncDispose]()
    },
  }
}
const run = async (on: TestServer, wsId: string, agent: string): Promise<Run> =>
  (await on.call<Run>('POST', `/api/workspaces/${wsId}/headless`, { prompt: 'x', agent, wait: true })).body
const eventsOf = async (on: TestServer, of: string): Promise<Event[]> =>
  (await on.call<{ events: Event[] }>('GET', `/api/${of}/events`)).body.events

test('A8: a credential that was acknowledged outlives kill -9, one that was forgotten stays so, and no value is on disk', async () => {
  await using directory = await temporaryDirectory()
  for (let cycle = 0; cycle < 5; cycle++) {
    const running = await serve({ dataDir: directory.path })
    const token = (await readFile(join(directory.path, 'admin-token'), 'utf8')).trim()
    const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json' }
    const call = async (method: string, path: string, body?: unknown): Promise<Response> =>
      await fetch(`${running.url}${path}`, {
        method,
        headers,
        ...(body !== undefined && { body: JSON.stringify(body) }),
      })
    const listed = (await (await call('GET', '/api/credentials')).json()) as {
      credentials: { name: string; usable: boolean }[]
    }
    expect(listed.credentials.map(({ name, usable }) => [name, usable])).toEqual(
      cycle === 0 ? [] : [[`c${cycle - 1}`, true]],
    )
    const set = await call('POST', '/api/credentials', { name: `c${cycle}`, variables: { KEY: VALUE } })
    expect(set.status).toBe(201)
    if (cycle > 0) expect((await call('DELETE', `/api/credentials/c${cycle - 1}`)).status).toBe(200)
    const rotated =
      cycle % 2 === 0 ? call('POST', '/api/keys/rotate', { drop: true }).catch(() => undefined) : undefined
    await running.end('SIGKILL') // in the middle of the rotation
    await rotated
    expect(await filesWith(directory.path, VALUE)).toEqual([])
  }
})

describe('what a run is given', () => {
  test('C5: reaches it, and is taken out of its output, events, reply, reason and Inbox entry', async () => {
    for (const value of [VALUE, 'with "quotes" and\na line\\']) {
      await using made = await leaking({ value })
      const { server, wsId } = made
      const text = await run(server, wsId, 'text')
      expect(text).toMatchObject({
        reason: 'exit_nonzero',
        detail: 'exited with 3: error: bad key [redacted]',
        result: { text: 'key [redacted]!' },
      })
      const events = await run(server, wsId, 'events')
      expect(events).toMatchObject({ status: 'succeeded', result: { text: 'the key is [redacted].' } })
      const shown = await eventsOf(server, `headless/${events.taskId}`)
      expect(shown).toContainEqual(
        expect.objectContaining({ type: 'tool.started', input: { '[redacted]': ['[redacted]'] } }),
      )
      expect(shown).toContainEqual(expect.objectContaining({ type: 'tool.ended', output: '{"value":"[redacted]"}' }))
      const stderr = await server.call('GET', `/api/headless/${events.taskId}/output?stream=stderr`)
      expect(stderr.text).toBe('error: bad key [redacted]\n')
      expect(shown).toContainEqual(expect.objectContaining({ type: 'run.silent', why: 'I know [redacted]' }))
      const inbox = await server.call('GET', '/api/inbox')
      expect(inbox.body).toMatchObject({ entries: [{ title: 'found [redacted]' }, { title: 'found [redacted]' }] })
      for (const spelling of [value, JSON.stringify(value).slice(1, -1)]) {
        expect(await filesWith(server.dataDir, spelling)).toEqual([])
        expect(server.logged.join('')).not.toContain(spelling)
      }
    }
  })

  test('is nothing where the workspace does not name it, or it is for another agent', async () => {
    await using made = await leaking({ agents: ['events'] })
    const { server, wsId } = made
    const other = await server.workspace()
    expect((await run(server, other, 'events')).result.text).toBe('the key is none.')
    expect((await run(server, wsId, 'text')).result.text).toBe('key none!')
    expect((await run(server, wsId, 'events')).result.text).toBe('the key is [redacted].')
  })

  test('S7: is never what the server itself has under that name', async () => {
    await using made = await leaking({ environment: { EXAMPLE_API_KEY: 'canary-of-the-server' } })
    const { server, wsId } = made
    const other = await server.workspace()
    expect((await run(server, other, 'text')).result.text).toBe('key none!')
    expect((await run(server, wsId, 'text')).result.text).toBe('key [redacted]!')
  })

  test('is the value of the moment it starts; without one it was to have it does not start', async () => {
    await using made = await leaking()
    const { server, wsId } = made
    await server.call(
      'POST',
      '/api/credentials',
      { name: 'model', variables: { OTHER: 'another-value' } },
      { token: true },
    )
    expect((await run(server, wsId, 'text')).result.text).toBe('key none!')
    await server.call('DELETE', '/api/credentials/model', undefined, { token: true })
    expect(await run(server, wsId, 'text')).toMatchObject({ status: 'failed', reason: 'credential_not_found' })
    const changed = await server.call('PATCH', `/api/workspaces/${wsId}`, { credentials: [] }, { token: true })
    expect(changed.status).toBe(200)
    expect((await run(server, wsId, 'text')).reason).toBe('exit_nonzero')
  })

  test('C5: is taken out of what it pushes and declares also when the credential holds another value by then', async () => {
    await using made = await leaking()
    const { server, wsId } = made
    const { path } = (await server.call<{ path: string }>('GET', `/api/workspaces/${wsId}`)).body
    const script = `
      post() { curl -s -H "Authorization: Bearer $POSTERN_TOKEN" -H 'Content-Type: application/json' -d "$2" "$POSTERN_URL$1"; }
      echo "$EXAMPLE_API_KEY" > secret.md; touch ready; until [ -e go ]; do sleep 0.05; done
      post /api/inbox "{\\"title\\":\\"t $EXAMPLE_API_KEY\\",\\"body\\":\\"$EXAMPLE_API_KEY\\",\\"documents\\":[\\"secret.md\\"]}"
      post /api/headless/$POSTERN_RUN_ID/silent "{\\"why\\":\\"$EXAMPLE_API_KEY\\"}"`
    const started = await server.call<Run>('POST', `/api/workspaces/${wsId}/headless`, { prompt: script, agent: 'sh' })
    await eventually(() => existsSync(join(path, 'ready')))
    const rotated = { name: 'model', variables: { EXAMPLE_API_KEY: 'quite-another-value' } }
    await server.call('POST', '/api/credentials', rotated, { token: true })
    await server.call('PATCH', `/api/workspaces/${wsId}`, { credentials: [] }, { token: true })
    await writeFile(join(path, 'go'), '')
    const headers = { prefer: 'wait=30' }
    const ended = await server.call<Run>('GET', `/api/headless/${started.body.taskId}`, undefined, { headers })
    expect(ended.body).toMatchObject({ status: 'succeeded', silentWhy: '[redacted]' })
    const inbox = await server.call<{ entries: InboxEntry[] }>('GET', '/api/inbox')
    const [entry] = inbox.body.entries
    expect(entry).toMatchObject({ title: 't [redacted]', body: '[redacted]', documents: [{ sizeBytes: 11 }] })
    const document = await server.call('GET', `/api/inbox/${entry?.id}/documents/0`)
    expect(document.text).toBe('[redacted]\n')
    expect(await filesWith(join(server.dataDir, 'inbox'), VALUE)).toEqual([])
  })

  test('C5: is taken out of what it asks of a run that it starts', async () => {
    await using made = await leaking()
    const { server, wsId } = made
    const child = `{\\"agent\\":\\"sh\\",\\"wait\\":true,\\"prompt\\":\\"echo $EXAMPLE_API_KEY\\",\\"metadata\\":{\\"key\\":\\"$EXAMPLE_API_KEY\\"}}`
    const script = `curl -s -H "Authorization: Bearer $POSTERN_TOKEN" -H 'Content-Type: application/json' -d "${child}" "$POSTERN_URL/api/workspaces/$POSTERN_WORKSPACE_ID/headless"`
    const { body } = await server.call<Run>('POST', `/api/workspaces/${wsId}/headless`, {
      prompt: script,
      agent: 'sh',
      wait: true,
    })
    const children = await server.call<{ tasks: Run[] }>('GET', `/api/headless/${body.taskId}/children`)
    expect(children.body.tasks).toMatchObject([
      { status: 'succeeded', prompt: 'echo [redacted]', metadata: { key: '[redacted]' } },
    ])
    expect(await filesWith(server.dataDir, VALUE)).toEqual([])
  })

  test('is sealed again and still given after the keys were rotated, and the old key dropped', async () => {
    await using made = await leaking()
    const { server, wsId } = made
    const rotated = await server.call('POST', '/api/keys/rotate', { drop: true }, { token: true })
    expect([rotated.status, rotated.body]).toMatchObject([200, { kid: 2, previous: [{ kid: 1, verifyUntil: null }] }])
    expect((await run(server, wsId, 'events')).result.text).toBe('the key is [redacted].')
  })
})

test('what a session is given reaches it, and is taken out of what it says, also in pieces', async () => {
  await using made = await leaking()
  const { server, wsId } = made
  const session = await open(server, { wsId, agent: 'live', prompt: 'x' })
  const turn = await eventually(async () =>
    (await eventsOf(server, `sessions/${session.id}`)).find(({ type }) => type === 'turn.ended'),
  )
  expect(turn.text).toBe('key [redacted].sk-c')
  const said = (await eventsOf(server, `sessions/${session.id}`)).filter(({ type }) => type === 'agent.message')
  expect(said.map(({ text }) => text).join('')).toBe('key [redacted].sk-c')
  expect(said.every(({ seq }) => seq < turn.seq)).toBe(true)
  await server.call('POST', `/api/sessions/${session.id}/end`, undefined, { token: true })
  const files = await filesWith(join(server.dataDir, 'sessions', session.id), 'started with')
  expect(files).toHaveLength(1)
  expect(await readFile(files[0] ?? '', 'utf8')).toBe('started with [redacted]\n')
  const ofRaw = await filesWith(server.dataDir, VALUE)
  expect(ofRaw).toEqual([])

  await server.call('DELETE', '/api/credentials/model', undefined, { token: true })
  const without = await open(server, { wsId, agent: 'live' })
  const suspended = await eventually(async () => {
    const { body } = await server.call<Session>('GET', `/api/sessions/${without.id}`)
    return body.state === 'suspended' && body.reason !== null && body
  })
  expect(suspended.reason).toBe('credential_not_found')
})
