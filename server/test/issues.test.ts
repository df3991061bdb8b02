import { mkdir, mkdtemp, readFile, readdir, rm, symlink, utimes, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import type { Run, Workspace } from '../src/model.ts'
import type { Issue, IssueBoard, IssueComment, IssueSchedule, SchedulePreview } from '../src/model/issues.ts'
import { startTestServer, type Answer, type TestServer } from './harness.ts'

/** The board: files of workspaces, read, made, changed, commented on and removed over the API. */

let server: TestServer
let wsId: string
let folder: string
const FILE = `---
# Written by hand.
title: Brief
owner: ada     # unknown to the server
status: todo   # for now
---
/files
`

beforeAll(async () => {
  server = await startTestServer()
})
afterAll(() => server[Symbol.asyncDispose]())
beforeEach(async () => {
  wsId = await server.workspace()
  const { body } = await server.call<Workspace>('GET', `/api/workspaces/${wsId}`)
  folder = join(body.path, '.postern/issues')
})

const write = async (issueId: string, text: string): Promise<void> => {
  await mkdir(folder, { recursive: true })
  await writeFile(join(folder, `${issueId}.md`), text)
}
const read = (issueId: string): Promise<string> => readFile(join(folder, `${issueId}.md`), 'utf8')
const path = (rest = ''): string => `/api/workspaces/${wsId}/issues${rest}`
const call = <T = Record<string, unknown>>(
  method: string,
  rest: string,
  body?: unknown,
  headers = {},
): Promise<Answer<T>> => server.call<T>(method, path(rest), body, { token: true, headers })
const board = async (): Promise<IssueBoard> => (await call<IssueBoard>('GET', '')).body

describe('the board', () => {
  test('lists the files of every workspace, read by local callers without a token', async () => {
    await write('brief', FILE)
    const { status, body } = await server.call<IssueBoard>('GET', '/api/issues')
    expect(status).toBe(200)
    expect(body.issues.find((issue) => issue.wsId === wsId)).toMatchObject({
      issueId: 'brief',
      title: 'Brief',
      status: 'todo',
      priority: 'none',
      when: null,
      file: '.postern/issues/brief.md',
      health: 'none',
      nextFire: null,
      comments: 0,
    })
    expect((await server.call<IssueBoard>('GET', `/api/issues?wsId=${wsId}&status=done`)).body.issues).toEqual([])
    expect((await server.call('GET', '/api/issues?wsId=ws-nobody')).body).toMatchObject({ code: 'workspace_not_found' })
  })

  test('names each broken file and its line, and lists the others', async () => {
    await write('good', FILE)
    await write('cron', '---\ntitle: x\nwhen:\n  kind: cron\n  cron: 61 9 * * *\n---\nx\n')
    await write('open', '---\ntitle: x\n')
    await write('Bad Name', FILE)
    await write('latin', '')
    await writeFile(join(folder, 'latin.md'), Buffer.from([0x2d, 0xff]))
    await writeFile(join(folder, 'notes.txt'), 'not an issue')
    await mkdir(join(folder, 'folder.md'))
    const { issues, problems } = await board()
    expect(issues.map(({ issueId }) => issueId)).toEqual(['good'])
    expect(problems.map(({ file, line, message }) => [file.slice('.postern/issues/'.length), line, message])).toEqual([
      ['Bad Name.md', null, 'the name before `.md` must be 1 to 64 of a-z 0-9 - _, beginning with a letter or digit'],
      ['cron.md', 5, 'when.cron: "61 9 * * *": minute 61 is outside 0-59'],
      ['folder.md', null, 'is not a file'],
      ['latin.md', null, 'is not UTF-8'],
      ['open.md', 1, 'the frontmatter is not closed: a line `---` is missing after the keys'],
    ])
    expect((await call('GET', '/cron')).body).toMatchObject({
      code: 'issue_invalid',
      detail: '.postern/issues/cron.md, line 5: when.cron: "61 9 * * *": minute 61 is outside 0-59',
    })
  })

  test('names 20 errors of a file, and how many more there are', async () => {
    const wrong = (errors: number): string => `---\n${'title: x\n'.repeat(errors + 1)}---\nx\n`
    await write('good', FILE)
    await write('most', wrong(20))
    await write('more', wrong(800))
    const { issues, problems } = await board()
    expect(issues.map(({ issueId }) => issueId)).toEqual(['good'])
    const of = (name: string) => problems.filter(({ file }) => file.endsWith(`/${name}.md`))
    expect(of('most').map(({ line }) => line)).toEqual(Array.from({ length: 20 }, (_, i) => i + 3))
    expect(of('more')).toHaveLength(21)
    expect(of('more').at(-1)).toMatchObject({ line: 23, message: 'and 780 more' })
    expect((await call('GET', '/more')).body['detail']).toMatch(/more\.md, line 3: .* \(and 799 more\)$/)
  })

  test('reads files of 256 KiB and no larger ones, and at most 1,000 of them', async () => {
    const head = '---\ntitle: x\n---\n'
    const comment = '<!-- comment 2026-11-20T09:00:00.000Z ada -->\n'
    const fill = (bytes: number): string => head + comment + 'x'.repeat(bytes - head.length - comment.length)
    await write('most', fill(262_144))
    await write('more', fill(262_145))
    expect(await board()).toMatchObject({
      issues: [{ issueId: 'most' }],
      problems: [{ file: '.postern/issues/more.md', message: 'has 262145 bytes; the limit is 262144' }],
    })
    await rm(folder, { recursive: true })
    await mkdir(folder, { recursive: true })
    await Promise.all(Array.from({ length: 1_000 }, (_, i) => write(`i${String(i).padStart(4, '0')}`, FILE)))
    expect(await board()).toMatchObject({ problems: [] })
    await write('z-last', FILE)
    const { issues, problems } = await board()
    expect(issues).toHaveLength(1_000)
    expect(problems.map(({ message }) => message)).toEqual([
      'has 1001 issue files; the limit is 1000, the others are not read',
    ])
  })

  test('a workspace whose directory was taken away is a problem, and hides no other', async () => {
    await write('brief', FILE)
    const other = await server.workspace()
    const { body } = await server.call<Workspace>('GET', `/api/workspaces/${other}`)
    await rm(body.path, { recursive: true })
    const { body: all } = await server.call<IssueBoard>('GET', '/api/issues')
    expect(all.issues.map((issue) => issue.wsId)).toContain(wsId)
    expect(all.problems.find((problem) => problem.wsId === other)?.message).toMatch(/not the one that was registered/)
  })
})

describe('S21: what leads out of the workspace is refused', () => {
  let outside: string
  beforeEach(async () => {
    outside = await mkdtemp(join(tmpdir(), 'postern-outside-'))
    await writeFile(join(outside, 'secret.md'), FILE)
    return () => rm(outside, { recursive: true, force: true })
  })

  test('S21: a file that is a link out is named, not read, not changed, not removed', async () => {
    await mkdir(folder, { recursive: true })
    await symlink(join(outside, 'secret.md'), join(folder, 'secret.md'))
    expect((await board()).problems).toMatchObject([
      { file: '.postern/issues/secret.md', message: 'leads out of the workspace' },
    ])
    for (const [method, rest, body] of [
      ['GET', '/secret', undefined],
      ['PATCH', '/secret', { status: 'done' }],
      ['DELETE', '/secret', undefined],
      ['POST', '/secret/comments', { text: 'x' }],
      ['POST', '/secret/run', undefined],
      ['GET', '/secret/schedule', undefined],
    ] as const) {
      const answer = await call(method, rest, body)
      expect([answer.status, answer.body['code']], `${method} ${rest}`).toEqual([422, 'issue_invalid'])
      expect(answer.text).not.toContain('Written by hand')
    }
    expect(await readFile(join(outside, 'secret.md'), 'utf8')).toBe(FILE)
  })

  test.each(['.postern', '.postern/issues'])(
    'S21: a folder %s that is a link out is refused, and nothing is made behind it',
    async (name) => {
      const root = join(folder, '../..')
      if (name.includes('/')) await mkdir(join(root, '.postern'))
      await symlink(outside, join(root, name))
      const made = await call('POST', '', { title: 'Mine' })
      expect([made.status, made.body['code']]).toEqual([422, 'issue_invalid'])
      expect(await readdir(outside)).toEqual(['secret.md'])
      const { issues, problems } = await board()
      expect(issues).toEqual([])
      if (name.includes('/')) expect(problems).toMatchObject([{ message: 'leads out of the workspace' }])
    },
  )

  test('S21: an id is a file name and cannot be a path', async () => {
    for (const id of ['..%2Fsecret', '..', '.hidden', 'A', 'x.md', 'x'.repeat(65), 'a%00']) {
      expect((await call('GET', `/${id}`)).status, id).toBe(404)
    }
    for (const issueId of ['../x', 'a/b', '.x', 'X', 'x'.repeat(65), '']) {
      expect((await call('POST', '', { title: 'x', issueId })).body, issueId).toMatchObject({
        code: 'validation_failed',
      })
    }
    expect((await call('POST', '', { title: 'x', issueId: 'x'.repeat(64) })).status).toBe(201)
  })

  test('a link that stays inside the workspace is followed, and kept', async () => {
    await mkdir(folder, { recursive: true })
    await writeFile(join(folder, '../../real.md'), FILE)
    await symlink('../../real.md', join(folder, 'linked.md'))
    expect((await call('PATCH', '/linked', { status: 'done' })).status).toBe(200)
    expect(await readFile(join(folder, '../../real.md'), 'utf8')).toContain('status: done   # for now')
    expect(await read('linked')).toContain('status: done')
  })
})

describe('an issue', () => {
  test('is written as a file that reads back, with a name from its title', async () => {
    const made = await call<Issue>('POST', '', {
      title: 'Pre-market Übersicht: brief',
      body: '/files',
      when: { kind: 'cron', cron: '30 8 * * 1-5', timezone: 'America/New_York' },
      priority: 'high',
    })
    expect(made.status).toBe(201)
    expect(made.headers.get('location')).toBe(path('/pre-market-ubersicht-brief'))
    expect(made.body).toMatchObject({ issueId: 'pre-market-ubersicht-brief', health: 'ok', body: '/files' })
    expect(await read('pre-market-ubersicht-brief')).toBe(
      '---\ntitle: "Pre-market Übersicht: brief"\nstatus: todo\npriority: high\nwhen: { kind: cron, cron: 30 8 * * 1-5, timezone: America/New_York }\n---\n/files\n',
    )
    expect((await call<Issue>('POST', '', { title: 'Pre-market Übersicht: brief' })).body.issueId).toBe(
      'pre-market-ubersicht-brief-2',
    )
    expect((await call<Issue>('GET', '/pre-market-ubersicht-brief')).body).toEqual(made.body)
    expect((await readdir(folder)).toSorted()).toEqual([
      'pre-market-ubersicht-brief-2.md',
      'pre-market-ubersicht-brief.md',
    ])
  })

  test('of a name that is taken is refused, and the file stays', async () => {
    await write('brief', FILE)
    const answer = await call('POST', '', { title: 'Other', issueId: 'brief' })
    expect([answer.status, answer.body['code']]).toEqual([409, 'issue_exists'])
    expect(await read('brief')).toBe(FILE)
  })

  test('of twenty made at once under one title each has a name of its own', async () => {
    const answers = await Promise.all(Array.from({ length: 20 }, () => call<Issue>('POST', '', { title: 'Same' })))
    expect(new Set(answers.map(({ body }) => body.issueId)).size).toBe(20)
  })

  test('is made once for one key, also when asked twice at once', async () => {
    const key = { 'Idempotency-Key': 'k' }
    const first = await call<Issue>('POST', '', { title: 'Once' }, key)
    const second = await call<Issue>('POST', '', { title: 'Once' }, key)
    expect([second.status, second.body.issueId, second.headers.get('idempotency-replayed')]).toEqual([
      201,
      'once',
      'true',
    ])
    expect(first.headers.get('idempotency-replayed')).toBeNull()
    expect((await call('POST', '', { title: 'Twice' }, key)).body).toMatchObject({ code: 'idempotency_mismatch' })
    expect(await readdir(folder)).toEqual(['once.md'])
  })

  test('is changed in its own words only; what a person wrote stays', async () => {
    await write('brief', FILE)
    const { body } = await call<Issue>('GET', '/brief')
    const changed = await call<Issue>('PATCH', '/brief', {
      revision: body.revision,
      status: 'in_progress',
      when: { kind: 'every', every: '1h' },
      agent: 'demo',
    })
    expect(changed.body).toMatchObject({ status: 'in_progress', when: { kind: 'every', every: '1h' }, agent: 'demo' })
    expect(await read('brief')).toBe(
      FILE.replace('status: todo', 'status: in_progress').replace(
        '---\n/files',
        'when: { kind: every, every: 1h }\nagent: demo\n---\n/files',
      ),
    )
    await call('PATCH', '/brief', { when: null, agent: null, status: 'todo' })
    expect(await read('brief')).toBe(FILE)
    await call('PATCH', '/brief', { title: 'New: title', body: 'Other words.' })
    expect(await read('brief')).toBe(
      FILE.replace('title: Brief', 'title: "New: title"').replace('/files', 'Other words.'),
    )
  })

  test('that was changed meanwhile is not written over: 409, and the file stays', async () => {
    await write('brief', FILE)
    const { body } = await call<Issue>('GET', '/brief')
    const edited = FILE.replace('for now', 'edited by hand')
    await write('brief', edited)
    for (const [method, rest, patch] of [
      ['PATCH', '/brief', { revision: body.revision, status: 'done' }],
      ['DELETE', `/brief?revision=${body.revision}`, undefined],
    ] as const) {
      const answer = await call(method, rest, patch)
      expect([answer.status, answer.body['code']]).toEqual([409, 'issue_changed'])
      expect(await read('brief')).toBe(edited)
    }
  })

  test('of ten who change one revision at once, one wins and nine are told', async () => {
    await write('brief', FILE)
    const { revision } = (await call<Issue>('GET', '/brief')).body
    const answers = await Promise.all(
      Array.from({ length: 10 }, (_, i) => call<Issue>('PATCH', '/brief', { revision, title: `Title ${i}` })),
    )
    expect(answers.map(({ status }) => status).toSorted((a, b) => a - b)).toEqual([200, ...Array<number>(9).fill(409)])
    const winner = answers.find(({ status }) => status === 200)
    expect(await read('brief')).toContain(`title: ${winner?.body.title}`)
  })

  test('that would not read back is not written', async () => {
    await write('brief', FILE)
    for (const [patch, code] of [
      [{ when: { kind: 'cron', cron: '61 9 * * *' } }, 'cron_invalid'],
      [{ when: { kind: 'cron', cron: '0 9 * * *', timezone: 'Mars/Olympus' } }, 'validation_failed'],
      [{ when: { kind: 'every', every: '999ms' } }, 'validation_failed'],
      [{ when: { kind: 'every', every: '367d' } }, 'validation_failed'],
      [{ when: { kind: 'every', every: '1h' }, body: ' ' }, 'validation_failed'],
      [{ body: 'x'.repeat(16_001) }, 'prompt_too_long'],
      [{ body: 'x\n<!-- comment 2026-11-20T09:00:00.000Z eve -->\nnot said by eve' }, 'validation_failed'],
      [{ body: 'x\n<!-- comment 2026-11-20T09:00:00.000Z eve -->\r' }, 'validation_failed'],
      [{ title: 'two\nlines' }, 'validation_failed'],
      [{ title: 'x'.repeat(201) }, 'validation_failed'],
      [{ owner: 'bob' }, 'unknown_field'],
    ] as const) {
      const answer = await call('PATCH', '/brief', patch)
      expect([answer.status, answer.body['code']], answer.text).toEqual([400, code])
    }
    expect(await read('brief')).toBe(FILE)
    expect((await call('PATCH', '/brief', { title: 'x'.repeat(200), body: 'x'.repeat(16_000) })).status).toBe(200)
  })

  test('whose keys an alias ties together is left to its author: 400, and the file stays', async () => {
    const tied = FILE.replace('title: Brief', 'title: &t Brief\nagent: &a demo\nboth: [*t, *a]')
    await write('tied', tied)
    for (const [key, value] of [
      ['title', 'Other'],
      ['agent', null],
    ] as const) {
      expect((await call('PATCH', '/tied', { [key]: value })).body).toMatchObject({
        status: 400,
        code: 'validation_failed',
        detail: expect.stringContaining('edit the file by hand') as string,
        errors: [{ pointer: `/${key}` }],
      })
      expect(await read('tied')).toBe(tied)
    }
    expect((await call('PATCH', '/tied', { status: 'done' })).status).toBe(200)
    expect(await read('tied')).toBe(tied.replace('status: todo', 'status: done'))
  })

  test('is removed with its file, and is then not found', async () => {
    await write('brief', FILE)
    expect((await call<Issue>('DELETE', '/brief')).body).toMatchObject({ title: 'Brief' })
    expect(await readdir(folder)).toEqual([])
    for (const [method, body] of [['GET'], ['DELETE'], ['PATCH', { status: 'done' }]] as const) {
      expect((await call(method, '/brief', body)).body).toMatchObject({ code: 'issue_not_found' })
    }
    await write('briefs', FILE)
    expect((await call('GET', '/brief')).body['detail']).toBe(`there is no issue "brief" in ${wsId}; nearest: "briefs"`)
  })

  test('whose file is broken can be removed all the same; only a revision that was named has to fit', async () => {
    await write('yaml', '---\ntitle: [\n---\n')
    await write('large', FILE + 'x'.repeat(262_144))
    await write('nul', `${FILE}\0`)
    await write('latin', '')
    await writeFile(join(folder, 'latin.md'), Buffer.from([0x2d, 0xff]))
    await write('brief', FILE)
    const { revision } = (await call<Issue>('GET', '/brief')).body
    await write('brief', 'broken since')
    const stale = await call('DELETE', `/brief?revision=${revision}`)
    expect([stale.status, stale.body['code']]).toEqual([409, 'issue_changed'])
    expect(await read('brief')).toBe('broken since')
    for (const issueId of ['yaml', 'large', 'nul', 'latin', 'brief']) {
      const { status, body } = await call<Issue | null>('DELETE', `/${issueId}`)
      expect([status, body], issueId).toEqual([200, null])
    }
    await mkdir(join(folder, 'folder.md'))
    expect((await call('DELETE', '/folder')).body).toMatchObject({ status: 422, code: 'issue_invalid' })
    expect(await readdir(folder)).toEqual(['folder.md'])
  })

  test('is written, changed and removed with the admin token alone', async () => {
    await write('brief', FILE)
    for (const [method, rest, body] of [
      ['POST', '', { title: 'x' }],
      ['PATCH', '/brief', { status: 'done' }],
      ['DELETE', '/brief', undefined],
      ['POST', '/brief/comments', { text: 'x' }],
    ] as const) {
      expect((await server.call(method, path(rest), body)).status).toBe(401)
    }
    expect(await read('brief')).toBe(FILE)
    expect((await server.call('GET', path('/brief'))).status).toBe(200)
  })
})

describe('comments', () => {
  test('are appended to the file in their form and are no part of the prompt', async () => {
    await write('brief', FILE)
    const made = await call<IssueComment>('POST', '/brief/comments', {
      text: 'Skip holidays.\n\nAnd Fridays.\n',
      author: 'ada',
    })
    expect([made.status, made.body.text, made.body.author]).toEqual([201, 'Skip holidays.\n\nAnd Fridays.', 'ada'])
    expect(await read('brief')).toBe(`${FILE}\n<!-- comment ${made.body.at} ada -->\nSkip holidays.\n\nAnd Fridays.\n`)
    await call('POST', '/brief/comments', { text: 'Second' })
    const { body } = await call<Issue>('GET', '/brief')
    expect(body.body).toBe('/files')
    expect(body.comments.map(({ author, text }) => [author, text])).toEqual([
      ['ada', 'Skip holidays.\n\nAnd Fridays.'],
      ['operator', 'Second'],
    ])
    expect((await board()).issues[0]?.comments).toBe(2)
  })

  test('of ten at once all are there, each once, and one key makes one', async () => {
    await write('brief', FILE)
    await Promise.all(Array.from({ length: 10 }, (_, i) => call('POST', '/brief/comments', { text: `c${i}` })))
    const key = { 'Idempotency-Key': 'c' }
    const [one, other] = [
      await call('POST', '/brief/comments', { text: 'once' }, key),
      await call('POST', '/brief/comments', { text: 'once' }, key),
    ]
    expect([other.text, other.headers.get('idempotency-replayed')]).toEqual([one.text, 'true'])
    const { comments } = (await call<Issue>('GET', '/brief')).body
    expect(comments.map(({ text }) => text).toSorted()).toEqual(
      ['once', ...Array.from({ length: 10 }, (_, i) => `c${i}`)].toSorted(),
    )
    expect(new Set(comments.map(({ at }) => at)).size).toBe(11)
  })

  test('begin with a date that there is; a line with another one is text', async () => {
    const never = '<!-- comment 2026-11-31T10:00:00.000Z claude -->\n<!-- comment 2026-02-30T25:61:00.000Z claude -->'
    await write('brief', `${FILE}${never}\nmore\n`)
    const { status, body } = await call<Issue>('GET', '/brief')
    expect([status, body.body, body.comments]).toEqual([200, `/files\n${never}\nmore`, []])
    expect((await call('POST', '/brief/comments', { text: `Why\n${never}` })).status).toBe(201)
    const patched = await call<Issue>('PATCH', '/brief', { body: `New\n${never}` })
    expect([patched.status, patched.body.body, patched.body.comments]).toMatchObject([
      200,
      `New\n${never}`,
      [{ author: 'operator', text: `Why\n${never}` }],
    ])
    expect((await call('DELETE', '/brief')).status).toBe(200)
  })

  test('that would begin another comment, are empty or too long are refused', async () => {
    await write('brief', FILE)
    for (const text of [' ', 'x'.repeat(16_001), 'a\n<!-- comment 2026-11-20T09:00:00.000Z eve -->\nb', 'a\0']) {
      expect((await call('POST', '/brief/comments', { text })).status).toBe(400)
    }
    expect((await call('POST', '/brief/comments', { text: 'x', author: 'a b' })).status).toBe(400)
    expect(await read('brief')).toBe(FILE)
    expect((await call('POST', '/brief/comments', { text: 'x'.repeat(16_000) })).status).toBe(201)
  })
})

describe('run now', () => {
  test('runs the body as it stands, stamped with the issue, also by a local caller without a token', async () => {
    await write(
      'brief',
      `${FILE.replace('title', 'timeoutMs: 60000\ntitle')}\n<!-- comment 2026-11-20T09:00:00.000Z ada -->\nnot this\n`,
    )
    const { status, body } = await server.call<Run>('POST', path('/brief/run'), undefined, {
      headers: { Prefer: 'wait=60' },
    })
    expect(status).toBe(200)
    expect(body).toMatchObject({ status: 'succeeded', prompt: '/files', timeoutMs: 60_000 })
    expect(body.trigger).toEqual({ kind: 'issue', grantId: null, issueId: 'brief', parentTaskId: null })
    const { body: schedule } = await call<IssueSchedule>('GET', '/brief/schedule')
    expect(schedule).toMatchObject({ health: 'none', lastFire: null, nextFires: [] })
  })

  test('of an issue without a body, or with an agent that is not there, says so', async () => {
    await write('empty', '---\ntitle: x\n---\n')
    expect((await call('POST', '/empty/run')).body).toMatchObject({ code: 'issue_invalid' })
    await write('agent', '---\ntitle: x\nagent: nobody\n---\nx\n')
    expect((await call('POST', '/agent/run')).body).toMatchObject({ code: 'unknown_agent' })
  })

  test('happens once for one key', async () => {
    await write('brief', FILE)
    const key = { 'Idempotency-Key': 'run' }
    const [one, other] = [
      await call<Run>('POST', '/brief/run', undefined, key),
      await call<Run>('POST', '/brief/run', undefined, key),
    ]
    expect([other.body.taskId, other.headers.get('idempotency-replayed')]).toEqual([one.body.taskId, 'true'])
    await write('brief', FILE.replace('/files', '/grep x'))
    expect((await call<Run>('POST', '/brief/run', undefined, key)).text).toBe(one.text)
    await rm(join(folder, 'brief.md'))
    expect((await call<Run>('POST', '/brief/run', undefined, key)).text).toBe(one.text)
    expect((await call('POST', '/brief/run', undefined, { 'Idempotency-Key': 'new' })).status).toBe(404)
    await server.call('GET', `/api/headless/${one.body.taskId}`, undefined, { headers: { Prefer: 'wait=60' } })
  })
})

describe('the preview', () => {
  const preview = (query: string): Promise<Answer<SchedulePreview & { code: string }>> =>
    server.call('GET', `/api/issues/preview?${query}`)

  test('shows when a schedule would fire, and stores nothing', async () => {
    const { body } = await preview('cron=30+8+*+*+1-5&timezone=Asia/Kolkata&count=3')
    expect(body.fires).toHaveLength(3)
    for (const fire of body.fires) expect(fire).toMatch(/T03:00:00\.000Z$/)
    expect((await preview('every=1h')).body.fires).toHaveLength(5)
    expect((await preview('at=2000-01-01T00:00:00Z')).body.fires).toEqual([])
    expect((await preview('every=1h&count=100')).body.fires).toHaveLength(100)
  })

  test.each([
    ['cron=61+9+*+*+*', 'cron_invalid'],
    ['cron=0+9+*+*+*&timezone=Mars', 'validation_failed'],
    ['every=often', 'validation_failed'],
    ['at=tomorrow', 'validation_failed'],
    ['', 'validation_failed'],
    ['every=1h&cron=0+9+*+*+*', 'validation_failed'],
    ['every=1h&timezone=UTC', 'validation_failed'],
    ['every=1h&count=101', 'validation_failed'],
  ])('refuses %j with %s', async (query, code) => {
    const answer = await preview(query)
    expect([answer.status, answer.body.code]).toEqual([400, code])
  })
})

test('what a crash left behind while writing is taken away, and no issue', async () => {
  await write('brief', FILE)
  const left = join(folder, '.brief.md.0123456789ab.tmp')
  await writeFile(left, 'half')
  const long = new Date(Date.now() - 120_000)
  await utimes(left, long, long)
  expect((await board()).issues).toHaveLength(1)
  expect(await readdir(folder)).toEqual(['brief.md'])
})
