import { createHash } from 'node:crypto'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { census } from '../src/process/census.ts'
import type { Run } from '../src/model.ts'
import type { InboxEntry } from '../src/model/inbox.ts'
import { adminToken, call, serve } from './server-process.ts'
import { eventually, temporaryDirectory } from './temporary.ts'

/** A server in a process of its own, killed as no server expects it, and the next one on what it left. */
const agents = { sh: { command: ['bash', '--norc', '-s'] } }

async function place(config: Record<string, unknown> = {}) {
  const directory = await temporaryDirectory()
  const dataDir = join(directory.path, 'data')
  const work = join(directory.path, 'work')
  for (const path of [dataDir, work]) await mkdir(path, { mode: 0o700 })
  await writeFile(join(dataDir, 'config.json'), JSON.stringify({ agents, ...config }))
  return { dataDir, work, [Symbol.asyncDispose]: () => directory[Symbol.asyncDispose]() }
}
async function begin({ dataDir, work }: { dataDir: string; work: string }) {
  const server = await serve({ dataDir })
  const authorization = `Bearer ${await adminToken(dataDir)}`
  const as = <T>(method: string, path: string, body?: unknown, headers: Record<string, string> = {}) =>
    call<T>(server.url, method, path, body, { authorization, ...headers })
  await as('POST', '/api/workspaces', { id: 'ws-a', tag: 'a', path: work })
  return { ...server, as }
}

test('an entry that was acknowledged is there after kill -9, with its documents, and once for its key', async () => {
  await using where = await place()
  const first = await begin(where)
  const text = 'x'.repeat(100_000)
  await writeFile(join(where.work, 'a.md'), text)
  const push = (i: number) =>
    first.as<InboxEntry>('POST', '/api/inbox', {
      title: `entry ${i}`,
      body: 'y'.repeat(i * 100),
      documents: ['a.md'],
      wsId: 'ws-a',
      key: `k${i}`,
    })
  const acknowledged = new Map<number, string>()
  const all = Promise.all(
    Array.from({ length: 40 }, async (_, i) => {
      const answer = await push(i).catch(() => undefined)
      if (answer?.status === 201) acknowledged.set(i, answer.body.id)
    }),
  )
  await eventually(() => acknowledged.size >= 10)
  await first.end('SIGKILL')
  await all
  expect(acknowledged.size).toBeGreaterThanOrEqual(10)

  const second = await begin(where)
  const sha256 = createHash('sha256').update(text).digest('hex')
  for (const [i, id] of acknowledged) {
    const { body } = await second.as<InboxEntry>('GET', `/api/inbox/${id}`)
    expect(body).toMatchObject({ id, title: `entry ${i}`, damage: null, documents: [{ sha256 }] })
    expect(body.body).toHaveLength(i * 100)
    const document = await fetch(`${second.url}/api/inbox/${id}/documents/0`)
    expect(await document.text()).toBe(text)
  }
  for (let i = 0; i < 40; i++) {
    const body = { title: `entry ${i}`, body: 'y'.repeat(i * 100), documents: ['a.md'], wsId: 'ws-a', key: `k${i}` }
    const again = await second.as<InboxEntry>('POST', '/api/inbox', body)
    expect(again.status).toBe(201)
    if (acknowledged.has(i)) expect(again.body.id).toBe(acknowledged.get(i))
  }
  const { body } = await second.as<{ entries: InboxEntry[] }>('GET', '/api/inbox?limit=200')
  expect(body.entries).toHaveLength(40)
  const events = await second.as<{ events: { type: string; id: string }[] }>('GET', '/api/inbox/events')
  const pushed = events.body.events.filter(({ type }) => type === 'inbox.pushed').map(({ id }) => id)
  expect(new Set(pushed)).toEqual(new Set(body.entries.map(({ id }) => id)))
  expect(pushed).toHaveLength(40)
  await second.end('SIGTERM')
})

test('a run whose server died keeps what it reported, its key is dead, and its queued child does not start', async () => {
  await using where = await place({ maxRuns: 1 })
  const first = await begin(where)
  const child = JSON.stringify({ agent: 'sh', prompt: 'touch started', whenBusy: 'queue' })
  const parent = await first.as<Run>('POST', '/api/workspaces/ws-a/headless', {
    agent: 'sh',
    prompt: `postern inbox push --title "half way" && printf %s "$POSTERN_TOKEN" > token.tmp && mv token.tmp token
      curl -s -H "Authorization: Bearer $POSTERN_TOKEN" -H 'Content-Type: application/json' -d '${child}' "$POSTERN_URL/api/workspaces/ws-a/headless" > /dev/null
      touch asked; sleep 60`,
  })
  await eventually(() => readFile(join(where.work, 'asked')).catch(() => false as const))
  const token = await readFile(join(where.work, 'token'), 'utf8')
  // Removed by people, and reported all the same.
  const [entry] = (await first.as<{ entries: InboxEntry[] }>('GET', '/api/inbox')).body.entries
  await first.as('DELETE', `/api/inbox/${entry?.id}`)
  await first.end('SIGKILL')

  const second = await begin(where)
  const { body: run } = await second.as<Run>('GET', `/api/headless/${parent.body.taskId}`)
  expect(run).toMatchObject({ status: 'interrupted', reason: 'server_died', outcome: 'reported' })
  expect(run.inboxIds).toHaveLength(1)
  expect(census().get(run.taskId)).toBeUndefined()
  const dead = await call(second.url, 'GET', `/api/headless/${run.taskId}`, undefined, {
    authorization: `Bearer ${token}`,
  })
  expect(dead.status).toBe(401)
  const { body } = await second.as<{ tasks: Run[] }>('GET', `/api/headless/${run.taskId}/children`)
  expect(body.tasks).toHaveLength(1)
  const ended = await second.as<Run>('GET', `/api/headless/${body.tasks[0]?.taskId}`, undefined, { prefer: 'wait=30' })
  expect(ended.body).toMatchObject({ status: 'canceled', startedAt: null, outcome: 'no_report' })
  expect(await readFile(join(where.work, 'started')).catch(() => undefined)).toBeUndefined()
  await second.end('SIGTERM')
})
