import {
  AuthError,
  BadRequestError,
  ConflictError,
  ForbiddenError,
  IdempotencyError,
  NotFoundError,
  Postern,
  type WorkspaceId,
} from '@postern/sdk'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { startTestServer, type TestServer } from './harness.ts'
import { eventually } from './temporary.ts'

/** The Inbox through the client as its users have it, built, against a real server. */

async function open(server: TestServer): Promise<{ postern: Postern; wsId: WorkspaceId; path: string }> {
  const postern = await Postern.connect({ home: server.dataDir })
  const wsId = (await server.workspace()) as WorkspaceId
  return { postern, wsId, path: (await postern.workspaces.get(wsId)).path }
}

describe('inbox', () => {
  test('is pushed to, listed in pages, searched, marked, and emptied', async () => {
    await using server = await startTestServer()
    const { postern, wsId, path } = await open(server)
    await writeFile(join(path, 'a.md'), 'bytes \u0000 and all')
    const first = await postern.inbox.push({ title: 'First', wsId, documents: ['a.md'], key: 'k' })
    expect(await postern.inbox.push({ title: 'First', wsId, documents: ['a.md'], key: 'k' })).toEqual(first)
    for (let i = 0; i < 4; i++) await postern.inbox.push({ title: `Next ${i}`, body: i === 2 ? 'a needle' : '' })
    const all = await postern.inbox.list({ pageSize: 2 }).toArray()
    expect(all.map(({ title }) => title)).toEqual(['Next 3', 'Next 2', 'Next 1', 'Next 0', 'First'])
    expect(await postern.inbox.list({ q: 'NEEDLE' }).toArray()).toEqual([all[1]])
    expect(await postern.inbox.list({ wsId }).toArray()).toEqual([first])
    expect(Buffer.from(await postern.inbox.document(first.id, 0))).toEqual(await readFile(join(path, 'a.md')))
    expect((await postern.inbox.read(first.id)).readAt).not.toBeNull()
    expect((await postern.inbox.unread(first.id)).readAt).toBeNull()
    expect(await postern.inbox.mark({ ids: [first.id] })).toEqual({ marked: 1 })
    expect((await postern.inbox.list({ unread: true }).page()).unread).toBe(4)
    expect(await postern.inbox.mark({ all: true })).toEqual({ marked: 4 })
    await postern.inbox.remove(first.id)
    await expect(postern.inbox.get(first.id)).rejects.toBeInstanceOf(NotFoundError)
  })

  test('is followed without an end, and a reader who leaves closes its connection', async () => {
    await using server = await startTestServer()
    const { postern } = await open(server)
    await postern.inbox.push({ title: 'before' })
    const { lastSeq } = await postern.inbox.eventsPage({ limit: 1 })
    const seen: string[] = []
    const reading = (async () => {
      for await (const event of postern.inbox.events({ after: lastSeq })) {
        seen.push(`${event.type} ${String(event['title'])}`)
        if (seen.length === 2) return
      }
    })()
    await postern.inbox.push({ title: 'one' })
    await postern.inbox.push({ title: 'two' })
    await reading
    expect(seen).toEqual(['inbox.pushed one', 'inbox.pushed two'])
    await eventually(async () =>
      (await (await postern.raw('/metrics')).text()).includes('\npostern_http_open_requests 1\n'),
    )
  })

  test('answers with the class of error that says what to do', async () => {
    await using server = await startTestServer()
    const { postern, wsId } = await open(server)
    const local = new Postern({ url: postern.url })
    await expect(local.inbox.push({ title: 'x' })).rejects.toBeInstanceOf(AuthError)
    await expect(postern.inbox.push({ title: 'x', wsId, documents: ['../x'] })).rejects.toBeInstanceOf(BadRequestError)
    const { id } = await postern.inbox.push({ title: 'x', key: 'k' })
    await expect(postern.inbox.push({ title: 'y', key: 'k' })).rejects.toBeInstanceOf(IdempotencyError)
    await expect(postern.inbox.reply(id, { message: 'x' })).rejects.toBeInstanceOf(ConflictError)
  })

  test('shows whether a run reported, and a reply continues it', async () => {
    await using server = await startTestServer()
    const { postern, wsId } = await open(server)
    const done = await postern.runs.createAndWait({ wsId, agent: 'demo', prompt: 'look' })
    expect(done.outcome).toBe('reported')
    const [id] = done.inboxIds
    if (!id) throw new Error('no entry')
    expect((await postern.inbox.get(id)).title).toBe('First look: 0 files, 0 TODOs')
    const reply = await postern.runs.waitFor((await postern.inbox.reply(id, { message: 'and now?' })).taskId)
    expect(reply).toMatchObject({ status: 'succeeded', resume: done.taskId })
  })
})

test('inside a run the client is that run: it pushes, starts children, reports, and may do no more', async () => {
  const script = `
    import { Postern } from '@postern/sdk'
    const postern = await Postern.connect()
    const { POSTERN_RUN_ID: own, POSTERN_WORKSPACE_ID: wsId } = process.env
    await postern.inbox.push({ title: 'from ' + own })
    const child = await postern.runs.createAndWait({ wsId, agent: 'demo', prompt: '/report half way' })
    const seen = (await postern.runs.children(own).toArray()).map(({ taskId }) => taskId)
    const refused = await postern.workspaces.list().toArray().catch((error) => error.name)
    console.log(JSON.stringify({ child: child.taskId, seen, refused }))
  `
  const agents = { node: { command: [process.execPath, '--input-type=module', '-'] } }
  await using server = await startTestServer({ config: { agents } })
  const postern = await Postern.connect({ home: server.dataDir })
  // Where the SDK can be found: a script from stdin looks from its directory on.
  const wsId = (await server.workspace({ path: import.meta.dirname })) as WorkspaceId
  const done = await postern.runs.createAndWait({ wsId, agent: 'node', prompt: script })
  expect(done.reason, done.detail ?? '').toBeNull()
  const said = JSON.parse(done.result.text ?? '') as { child: string; seen: string[]; refused: string }
  expect(said).toEqual({ child: said.child, seen: [said.child], refused: ForbiddenError.name })
  expect(done.inboxIds).toHaveLength(1)
  const reports = await eventually(async () => {
    const { events } = await postern.runs.eventsPage(done.taskId)
    const found = events.filter(({ type }) => type === 'run.reported')
    return found.length > 0 && found
  })
  expect(reports).toMatchObject([{ taskId: said.child, message: 'half way' }])
})
