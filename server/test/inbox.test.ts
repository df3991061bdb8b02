import { createHash } from 'node:crypto'
import { mkdir, readFile, readdir, rename, rm, symlink, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import type { Event, Run } from '../src/model.ts'
import type { InboxEntry } from '../src/model/inbox.ts'
import { diskError, faultyDisk } from './faulty-disk.ts'
import { createJumpingClock } from './jumping-clock.ts'
import { startTestServer, type Answer, type TestServer } from './harness.ts'
import { temporaryDirectory } from './temporary.ts'

interface Listed {
  entries: InboxEntry[]
  nextCursor: string | null
  unread: number
  damaged: { id: string; detail: string }[]
}
const push = (on: TestServer, body: Record<string, unknown>, headers: Record<string, string> = {}) =>
  on.call<InboxEntry>('POST', '/api/inbox', { title: 'A result', ...body }, { token: true, headers })
const list = (on: TestServer, query = ''): Promise<Answer<Listed>> => on.call<Listed>('GET', `/api/inbox${query}`)
const change = (on: TestServer, path: string, body?: unknown) =>
  on.call<InboxEntry & { marked: number; code: string }>('POST', `/api/inbox/${path}`, body, { token: true })
const codeOf = (answer: Answer<unknown>): unknown => [answer.status, (answer.body as { code?: string }).code]

/** A workspace with files, and its directory. */
async function withFiles(on: TestServer, files: Record<string, string>): Promise<{ wsId: string; path: string }> {
  const wsId = await on.workspace()
  const { body } = await on.call<{ path: string }>('GET', `/api/workspaces/${wsId}`)
  for (const [name, text] of Object.entries(files)) {
    await mkdir(join(body.path, name, '..'), { recursive: true })
    await writeFile(join(body.path, name), text)
  }
  return { wsId, path: body.path }
}

describe('an entry', () => {
  test('is kept as it was pushed, stamped by the server, and read by a local caller without a token', async () => {
    await using on = await startTestServer()
    const wsId = await on.workspace()
    const body = 'All **well**.\n\n- one\n- two\n'
    const pushed = await push(on, { title: 'Limits: all inside', body, wsId })
    expect(pushed.status).toBe(201)
    expect(pushed.headers.get('location')).toBe(`/api/inbox/${pushed.body.id}`)
    expect(pushed.body).toMatchObject({
      from: 'operator',
      wsId,
      taskId: null,
      title: 'Limits: all inside',
      body,
      documents: [],
      damage: null,
      readAt: null,
    })
    expect((await on.call('GET', `/api/inbox/${pushed.body.id}`)).body).toEqual(pushed.body)
    expect((await list(on)).body).toEqual({ entries: [pushed.body], nextCursor: null, unread: 1, damaged: [] })
  })

  test('is not pushed, marked or removed without a token, also by a local caller', async () => {
    await using on = await startTestServer()
    const { body } = await push(on, {})
    const refused = await Promise.all([
      on.call('POST', '/api/inbox', { title: 'x' }),
      on.call('POST', `/api/inbox/${body.id}/read`),
      on.call('POST', '/api/inbox/read', { all: true }),
      on.call('POST', `/api/inbox/${body.id}/reply`, { message: 'x' }),
      on.call('DELETE', `/api/inbox/${body.id}`),
    ])
    expect(refused.map(codeOf)).toEqual(refused.map(() => [401, 'token_required']))
    expect((await list(on)).body.entries).toEqual([body])
  })

  test('says whom it is from only in the words of the server', async () => {
    await using on = await startTestServer()
    for (const field of ['from', 'taskId', 'sessionId', 'issueId', 'id', 'createdAt']) {
      expect(codeOf(await push(on, { [field]: 'run' }))).toEqual([400, 'unknown_field'])
    }
  })

  test('keeps a long body, and the title and body at their limits, and refuses one character more', async () => {
    await using on = await startTestServer()
    const [title, body] = ['t'.repeat(200), 'é'.repeat(65_536)]
    const { body: entry } = await push(on, { title, body })
    expect((await on.call<InboxEntry>('GET', `/api/inbox/${entry.id}`)).body).toMatchObject({ title, body })
    const longTitle = await push(on, { title: `${title}t` })
    expect([longTitle.status, longTitle.text]).toEqual([
      400,
      expect.stringContaining('201 characters; the limit is 200'),
    ])
    const longBody = await push(on, { body: `${body}é` })
    expect([longBody.status, longBody.text]).toEqual([
      400,
      expect.stringContaining('65537 characters; the limit is 65536'),
    ])
    for (const title of ['', '  ', 'two\nlines', 'bell \u0007', '\u009b31m']) {
      expect((await push(on, { title })).status).toBe(400)
    }
    expect((await list(on)).body.entries).toHaveLength(1)
  })

  test('is marked as read and unread, alone, by id or all at once, and safe to repeat', async () => {
    await using on = await startTestServer()
    const wsId = await on.workspace()
    const ids = []
    for (const each of [{}, {}, { wsId }, { wsId }]) ids.push((await push(on, each)).body.id)
    const read = await change(on, `${ids[0]}/read`)
    expect(read.body.readAt).not.toBeNull()
    expect((await change(on, `${ids[0]}/read`)).body).toEqual(read.body)
    expect((await list(on, '?unread=true')).body).toMatchObject({ unread: 3, entries: { length: 3 } })
    expect((await list(on, '?unread=false')).body.entries.map(({ id }) => id)).toEqual([ids[0]])
    expect((await change(on, `${ids[0]}/unread`)).body.readAt).toBeNull()
    expect((await change(on, 'read', { all: true, wsId })).body).toEqual({ marked: 2 })
    expect((await change(on, 'read', { ids: [ids[0], ids[3], 'inb_01K00000000000000000000001'] })).body).toEqual({
      marked: 1,
    })
    expect((await change(on, 'read', { all: true })).body).toEqual({ marked: 1 })
    expect((await list(on)).body.unread).toBe(0)
    expect(codeOf(await change(on, 'read', {}))).toEqual([400, 'validation_failed'])
    expect(codeOf(await change(on, 'inb_01K00000000000000000000001/read'))).toEqual([404, 'inbox_entry_not_found'])
  })

  test('is found by text in title, body, long body and document names, page by page', async () => {
    await using on = await startTestServer()
    const { wsId } = await withFiles(on, { 'reports/Needle.md': 'x' })
    const wanted = [
      await push(on, { title: 'the NEEDLE in the title' }),
      await push(on, { body: 'a needle' }),
      await push(on, { body: `${'x'.repeat(5_000)} nEEdle` }),
      await push(on, { wsId, documents: ['reports/Needle.md'] }),
    ].map(({ body }) => body.id)
    for (let i = 0; i < 5; i++) await push(on, { body: 'hay' })
    const found = (await list(on, '?q=needle')).body.entries.map(({ id }) => id)
    expect(found).toEqual(wanted.toReversed())
    const first = (await list(on, '?q=needle&limit=3')).body
    const second = (await list(on, `?q=needle&limit=3&cursor=${first.nextCursor}`)).body
    expect([...first.entries, ...second.entries].map(({ id }) => id)).toEqual(found)
    expect(second.nextCursor).toBeNull()
    expect((await list(on, '?q=nothing')).body.entries).toEqual([])
    expect((await list(on, `?wsId=${wsId}`)).body.entries.map(({ id }) => id)).toEqual([wanted[3]])
    expect(codeOf(await list(on, '?cursor=nope'))).toEqual([400, 'invalid_cursor'])
  })

  test('is gone with its documents once it is removed', async () => {
    await using on = await startTestServer()
    const { wsId } = await withFiles(on, { 'a.md': 'x' })
    const { body } = await push(on, { wsId, documents: ['a.md'] })
    const removed = await on.call('DELETE', `/api/inbox/${body.id}`, undefined, { token: true })
    expect([removed.status, removed.body]).toEqual([200, { id: body.id }])
    expect(codeOf(await on.call('GET', `/api/inbox/${body.id}`))).toEqual([404, 'inbox_entry_not_found'])
    expect(codeOf(await on.call('GET', `/api/inbox/${body.id}/documents/0`))).toEqual([404, 'inbox_entry_not_found'])
    expect(await readdir(join(on.dataDir, 'inbox'))).toEqual(['events.ndjson'])
  })
})

describe('documents', () => {
  test('are snapshots: what happens to the file afterwards does not reach them', async () => {
    await using on = await startTestServer()
    const { wsId, path } = await withFiles(on, { 'reports/a.md': '# First\n' })
    const { body } = await push(on, { wsId, documents: ['reports/a.md', join(path, 'reports/a.md')] })
    const sha256 = createHash('sha256').update('# First\n').digest('hex')
    expect(body.documents).toEqual([
      { name: 'reports/a.md', sizeBytes: 8, sha256 },
      { name: 'reports/a.md', sizeBytes: 8, sha256 },
    ])
    await writeFile(join(path, 'reports/a.md'), '# Second\n')
    const read = await on.call('GET', `/api/inbox/${body.id}/documents/1`)
    expect([read.status, read.text]).toEqual([200, '# First\n'])
    expect(read.headers.get('content-disposition')).toBe("attachment; filename*=UTF-8''a.md")
    expect(read.headers.get('content-type')).toBe('application/octet-stream')
    expect(codeOf(await on.call('GET', `/api/inbox/${body.id}/documents/2`))).toEqual([404, 'document_not_found'])
  })

  test('S21: a path or a link that leads out of the workspace is refused, and nothing is kept', async () => {
    await using on = await startTestServer()
    await using outside = await temporaryDirectory()
    await writeFile(join(outside.path, 'secret'), 'secret')
    const { wsId, path } = await withFiles(on, { 'a.md': 'x', 'folder/b.md': 'y' })
    await symlink(join(outside.path, 'secret'), join(path, 'link.md'))
    await symlink(outside.path, join(path, 'linked'))
    await symlink(join(path, 'a.md'), join(path, 'inside.md'))
    const refused = [
      'link.md',
      'linked/secret',
      '../../admin-token',
      join(outside.path, 'secret'),
      join(on.dataDir, 'admin-token'),
      `${path}/../../admin-token`,
      '/etc/passwd',
      '/proc/self/environ',
      'folder',
      '.',
      'missing.md',
      'a.md\0',
    ]
    for (const each of refused) {
      expect([each, codeOf(await push(on, { wsId, documents: ['a.md', each] }))]).toEqual([
        each,
        [400, 'document_not_usable'],
      ])
    }
    expect((await list(on)).body.entries).toEqual([])
    expect(
      (await readdir(join(on.dataDir, 'inbox')).catch(() => [])).filter((name) => name.startsWith('inb_')),
    ).toEqual([])
    const kept = await push(on, { wsId, documents: ['inside.md', 'folder/../a.md'] })
    expect(kept.body.documents.map(({ name }) => name)).toEqual(['a.md', 'a.md'])
    // Without a workspace there is nothing a path could lie in.
    expect(codeOf(await push(on, { documents: ['a.md'] }))).toEqual([400, 'document_not_usable'])
  })

  test('are at most 16 of at most 10 MiB', async () => {
    await using on = await startTestServer()
    const { wsId, path } = await withFiles(on, { 'a.md': 'x', 'big.bin': '' })
    await truncate(join(path, 'big.bin'), 10 * 1024 * 1024)
    expect((await push(on, { wsId, documents: ['big.bin'] })).status).toBe(201)
    await truncate(join(path, 'big.bin'), 10 * 1024 * 1024 + 1)
    const tooBig = await push(on, { wsId, documents: ['big.bin'] })
    expect(tooBig.text).toContain('10485761 bytes; the limit is 10485760')
    expect((await push(on, { wsId, documents: Array(16).fill('a.md') })).status).toBe(201)
    expect((await push(on, { wsId, documents: Array(17).fill('a.md') })).text).toContain('at most 16 documents')
  })
})

describe('a key', () => {
  test('gives the same entry again, whichever way it is sent, and another body is refused', async () => {
    await using on = await startTestServer()
    const first = await push(on, { body: 'x', key: 'brief-7' })
    const again = await push(on, { body: 'x', key: 'brief-7' }, { 'idempotency-key': 'something-else' })
    expect([again.status, again.headers.get('idempotency-replayed'), again.body]).toEqual([201, 'true', first.body])
    expect(codeOf(await push(on, { body: 'y', key: 'brief-7' }))).toEqual([422, 'idempotency_mismatch'])
    const byHeader = await push(on, { body: 'x' }, { 'idempotency-key': 'h' })
    expect((await push(on, { body: 'x' }, { 'idempotency-key': 'h' })).body.id).toBe(byHeader.body.id)
    expect((await list(on)).body.entries).toHaveLength(2)
  })

  test('makes no entry again that was removed, also after a restart', async () => {
    await using data = await temporaryDirectory()
    let on = await startTestServer({ dataDir: data.path })
    const { body } = await push(on, { body: 'x', key: 'k' })
    await on.call('DELETE', `/api/inbox/${body.id}`, undefined, { token: true })
    for (const restart of [false, true]) {
      if (restart) {
        await on.stop()
        on = await startTestServer({ dataDir: data.path })
      }
      expect(codeOf(await push(on, { body: 'x', key: 'k' }))).toEqual([410, 'inbox_entry_removed'])
      expect((await list(on)).body.entries).toEqual([])
    }
    expect((await push(on, { body: 'x', key: 'another' })).status).toBe(201)
    await on.stop()
  })

  test('of many at once keeps one entry, and 40 pushes without one keep 40', async () => {
    await using on = await startTestServer()
    const same = await Promise.all(Array.from({ length: 20 }, () => push(on, { body: 'x', key: 'k' })))
    const ids = new Set(same.filter(({ status }) => status === 201).map(({ body }) => body.id))
    expect(ids.size).toBe(1)
    expect(same.every((answer) => answer.status === 201 || answer.status === 409)).toBe(true)
    const many = await Promise.all(Array.from({ length: 40 }, (_, i) => push(on, { title: `entry ${i}` })))
    expect(many.map(({ status }) => status)).toEqual(Array(40).fill(201))
    const listed = (await list(on, '?limit=200')).body.entries.map(({ id }) => id)
    expect(new Set(listed)).toEqual(new Set([...ids, ...many.map(({ body }) => body.id)]))
  })
})

describe('what happens to the Inbox', () => {
  test('is followed as it happens, resumed without a gap, and let go when the server stops', async () => {
    await using on = await startTestServer()
    const first = (await push(on, { title: 'one' })).body
    const seen: Event[] = []
    const response = await fetch(`${on.url}/api/inbox/events`, { headers: { accept: 'text/event-stream' } })
    const reading = (async () => {
      let text = ''
      for await (const chunk of response.body?.pipeThrough(new TextDecoderStream()) ?? []) {
        text += chunk
        for (let end = text.indexOf('\n\n'); end !== -1; end = text.indexOf('\n\n')) {
          const data = /^data: (.*)$/m.exec(text.slice(0, end))?.[1]
          text = text.slice(end + 2)
          if (data !== undefined) seen.push(JSON.parse(data) as Event)
        }
      }
    })()
    const second = (await push(on, { title: 'two' })).body
    await change(on, `${first.id}/read`)
    await on.call('DELETE', `/api/inbox/${second.id}`, undefined, { token: true })
    const page = await on.call<{ events: Event[] }>('GET', '/api/inbox/events?after=1')
    expect(page.body.events.map(({ seq, type, id }) => [seq, type, id])).toEqual([
      [2, 'inbox.pushed', second.id],
      [3, 'inbox.read', first.id],
      [4, 'inbox.removed', second.id],
    ])
    await on.stop()
    await reading
    expect(seen.map(({ seq, type }) => [seq, type])).toEqual([
      [1, 'inbox.pushed'],
      [2, 'inbox.pushed'],
      [3, 'inbox.read'],
      [4, 'inbox.removed'],
    ])
    expect(seen[0]).toMatchObject({ id: first.id, title: 'one', from: 'operator' })
  })

  test('is told once of each entry, however much has happened since: a restart announces nothing that is old', async () => {
    await using data = await temporaryDirectory()
    const before = await startTestServer({ dataDir: data.path })
    const pushed = Array.from({ length: 260 }, (_, i) => push(before, { title: `entry ${i}` }))
    expect((await Promise.all(pushed)).every(({ status }) => status === 201)).toBe(true)
    expect((await change(before, 'read', { all: true })).body).toEqual({ marked: 260 })
    const [last] = (await list(before)).body.entries
    // The newest 500 events, which the next start looks at, tell of no push.
    for (let i = 0; i < 120; i++) for (const as of ['unread', 'read']) await change(before, `${last?.id}/${as}`)
    await before.stop()
    await using on = await startTestServer({ dataDir: data.path })
    const { body } = await on.call<{ lastSeq: number }>('GET', '/api/inbox/events')
    expect(body.lastSeq).toBe(260 + 260 + 240)
  })

  test('is completed at the next start when its log was lost', async () => {
    await using data = await temporaryDirectory()
    const before = await startTestServer({ dataDir: data.path })
    const { body } = await push(before, {})
    await before.stop()
    await rm(join(data.path, 'inbox', 'events.ndjson'))
    await using on = await startTestServer({ dataDir: data.path })
    const page = await on.call<{ events: Event[] }>('GET', '/api/inbox/events')
    expect(page.body.events.map(({ type, id }) => [type, id])).toEqual([['inbox.pushed', body.id]])
  })
})

test('damaged records hide nothing else, are named, and can be removed', async () => {
  await using data = await temporaryDirectory()
  const before = await startTestServer({ dataDir: data.path })
  const { wsId } = await withFiles(before, { 'a.md': 'x' })
  const ids = []
  for (const each of [
    { title: 'row' },
    { title: 'text', body: 'x'.repeat(2_000) },
    { title: 'document', wsId, documents: ['a.md'] },
    { title: 'whole' },
  ])
    ids.push((await push(before, each)).body.id)
  const [row = '', text = '', document = '', whole = ''] = ids
  await before.stop()
  const path = join(data.path, 'db.json')
  const state = JSON.parse(await readFile(path, 'utf8')) as { tables: { inbox: Record<string, { title: unknown }> } }
  Object.assign(state.tables.inbox[row] ?? {}, { title: 7 })
  await writeFile(path, JSON.stringify(state))
  await rename(join(data.path, 'inbox', text, 'body.md'), join(data.path, 'inbox', text, 'lost'))
  await writeFile(join(data.path, 'inbox', document, 'document-0'), 'y')

  const on = await startTestServer({ dataDir: data.path })
  const listed = (await list(on)).body
  expect(listed.entries.map(({ id }) => id)).toEqual([whole, document, text])
  expect(listed.entries.map(({ damage }) => damage)).toEqual([null, null, 'its text cannot be read any more'])
  expect(listed.damaged).toEqual([{ id: row, detail: expect.stringContaining('title') as string }])
  expect(codeOf(await on.call('GET', `/api/inbox/${document}/documents/0`))).toEqual([410, 'document_damaged'])
  const missing = await on.call<{ detail: string }>('GET', `/api/inbox/${row}`)
  expect([missing.status, missing.body.detail]).toEqual([404, expect.stringContaining('cannot be read')])
  await on.stop()
  // What was not understood is still there: a later version may understand it.
  expect(await readFile(path, 'utf8')).toContain(`"${row}":{"id":"${row}"`)
  await using again = await startTestServer({ dataDir: data.path })
  expect((await again.call('DELETE', `/api/inbox/${row}`, undefined, { token: true })).status).toBe(200)
  expect((await list(again)).body).toMatchObject({ damaged: [], entries: { length: 3 } })
})

test('a start removes the files that no entry has, and never those of one that is archived or cannot be read', async () => {
  await using data = await temporaryDirectory()
  const folder = (id: string): string => join(data.path, 'inbox', id)
  const isKept = async (id: string): Promise<boolean> => (await readdir(folder(id)).catch(() => [])).length > 0
  const start = (days: number) =>
    startTestServer({ dataDir: data.path, clock: createJumpingClock(Date.now() + days * 86_400_000) })
  const first = await start(0)
  const body = 'x'.repeat(2_000)
  const ids = []
  for (const title of ['hot', 'archived', 'damaged']) ids.push((await push(first, { title, body })).body.id)
  const [hot = '', archived = '', damaged = ''] = ids
  await change(first, `${archived}/read`)
  await first.stop()
  // A crash between the files and the row of a push.
  const leftOf = (id: string): string => id.slice(0, -4) + '0000'
  const left = leftOf(hot)
  await mkdir(folder(left))
  await writeFile(join(folder(left), 'document-0'), 'x')
  const state = join(data.path, 'db.json')
  await writeFile(state, (await readFile(state, 'utf8')).replace('"title":"damaged"', '"title":7'))

  await (await start(8)).stop() // which moves what was read to the archive
  expect(await Promise.all([hot, archived, damaged, left].map(isKept))).toEqual([true, true, true, false])
  const archive = join(data.path, 'archive', 'inbox')
  const [month = ''] = await readdir(archive)
  expect(await readFile(join(archive, month), 'utf8')).toContain(archived)
  await (await start(8)).stop()
  expect(await Promise.all([hot, archived, damaged].map(isKept))).toEqual([true, true, true])
  // Of a line that says nothing any more nobody knows whose it was.
  await writeFile(join(archive, month), 'garbage\n')
  const again = await start(8)
  expect(await Promise.all([hot, archived, damaged].map(isKept))).toEqual([true, true, true])
  await again.stop()
})

test('a damaged log of what happened hides no entry, and keeps no server from its start', async () => {
  await using data = await temporaryDirectory()
  const before = await startTestServer({ dataDir: data.path })
  const ids = []
  for (const title of ['one', 'two', 'three']) ids.push((await push(before, { title })).body.id)
  await before.stop()
  const log = join(data.path, 'inbox', 'events.ndjson')
  const lines = (await readFile(log, 'utf8')).split('\n')
  await writeFile(log, [lines[0], '{"seq":2,"at":garbage', ...lines.slice(2)].join('\n'))
  await using on = await startTestServer({ dataDir: data.path })
  expect((await list(on)).body.entries.map(({ id }) => id)).toEqual(ids.toReversed())
  const more = await push(on, { title: 'four' })
  expect(more.status).toBe(201)
  expect((await list(on)).body.entries).toHaveLength(4)
  expect(on.logged.join()).toContain('the log of the Inbox cannot be read')
})

test('D3: a full disk keeps nothing of an entry, says so, and takes it once there is room', async () => {
  const faulty = faultyDisk()
  await using on = await startTestServer({ disk: faulty.disk })
  const { wsId } = await withFiles(on, { 'a.md': 'x' })
  const entry = { wsId, documents: ['a.md'], body: 'y'.repeat(2_000), key: 'k' }
  const { id } = (await push(on, { title: 'before' })).body
  for (const full of ['write', 'sync', 'datasync', 'mkdir']) {
    faulty.onCall = (name) => {
      if (name === full) throw diskError('ENOSPC')
      return undefined
    }
    const refused = await push(on, entry)
    faulty.onCall = undefined
    expect([full, refused.status, refused.headers.get('retry-after')]).toEqual([full, 503, '1'])
    expect(codeOf(refused)).toEqual([503, 'storage_unavailable'])
    expect((await list(on)).body.entries.map((each) => each.id)).toEqual([id])
    expect((await readdir(join(on.dataDir, 'inbox'))).filter((name) => name !== 'events.ndjson')).toEqual([])
  }
  const kept = await push(on, entry)
  expect(kept.status).toBe(201)
  expect((await on.call('GET', `/api/inbox/${kept.body.id}/documents/0`)).text).toBe('x')
})

test('a reply to what no run pushed says that there is no conversation', async () => {
  await using on = await startTestServer()
  const { body } = await push(on, {})
  const answer = await change(on, `${body.id}/reply`, { message: 'and now?' })
  expect(codeOf(answer)).toEqual([409, 'not_resumable'])
  expect((await on.call<{ tasks: Run[] }>('GET', '/api/headless')).body.tasks).toEqual([])
})
