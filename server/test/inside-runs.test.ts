import { createHash } from 'node:crypto'
import { readFile, readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { census } from '../src/process/census.ts'
import type { Event, Run } from '../src/model.ts'
import type { InboxEntry } from '../src/model/inbox.ts'
import { startTestServer, type Answer, type TestServer } from './harness.ts'
import { eventually } from './temporary.ts'

/** `sh` runs its prompt as a script; `talk` does the same, in conversations that can be continued. */
const agents = {
  sh: { command: ['bash', '--norc', '-s'] },
  talk: {
    command: ['bash', '--norc', '-c', 'echo \'{"type":"agent.session","conversationId":"c1"}\'; bash --norc -s'],
    output: 'jsonl',
    resume: ['--', '{conversationId}'],
  },
}
const server = (config: Record<string, unknown> = {}): Promise<TestServer> =>
  startTestServer({ config: { agents, ...config } })
const start = (on: TestServer, wsId: string, prompt: string, more: Record<string, unknown> = {}) =>
  on.call<Run>('POST', `/api/workspaces/${wsId}/headless`, { agent: 'sh', prompt, ...more })
const done = async (on: TestServer, wsId: string, prompt: string, more: Record<string, unknown> = {}): Promise<Run> =>
  (await start(on, wsId, prompt, { ...more, wait: true })).body
const show = async (on: TestServer, taskId: string): Promise<Run> =>
  (await on.call<Run>('GET', `/api/headless/${taskId}`)).body
const entriesOf = async (on: TestServer): Promise<InboxEntry[]> =>
  (await on.call<{ entries: InboxEntry[] }>('GET', '/api/inbox')).body.entries
const eventsOf = async (on: TestServer, taskId: string): Promise<Event[]> =>
  (await on.call<{ events: Event[] }>('GET', `/api/headless/${taskId}/events`)).body.events
const codeOf = (answer: Answer<unknown>): unknown => [answer.status, (answer.body as { code?: string }).code]

/** A run that stays at work, and calls with its token; `end` lets it end. */
async function working(on: TestServer, wsId: string, more: Record<string, unknown> = {}) {
  const { path } = (await on.call<{ path: string }>('GET', `/api/workspaces/${wsId}`)).body
  const name = `token-${Math.random().toString(36).slice(2)}`
  const script = `printf %s "$POSTERN_TOKEN" > ${name}.tmp; mv ${name}.tmp ${name}; until [ -e ${name}.end ]; do sleep 0.05; done`
  const { body } = await start(on, wsId, script, more)
  const token = await eventually(() => readFile(join(path, name), 'utf8').catch(() => false as const))
  return {
    taskId: body.taskId,
    path,
    token,
    call: <T = Record<string, unknown>>(method: string, to: string, content?: unknown, headers = {}) =>
      on.call<T>(method, to, content, { headers: { authorization: `Bearer ${token}`, ...headers } }),
    async end(): Promise<Run> {
      await writeFile(join(path, `${name}.end`), '')
      const ended = await on.call<Run>('GET', `/api/headless/${body.taskId}`, undefined, {
        headers: { prefer: 'wait=30' },
      })
      return ended.body
    },
  }
}

/** In a shell: calls the server with the run's own token and prints the status. */
const CURL = `call() { curl -s -o answer.json -w '%{http_code}\\n' -X "$1" -H "Authorization: Bearer $POSTERN_TOKEN" -H 'Content-Type: application/json' \${3:+-d "$3"} "$POSTERN_URL$2"; }\n`

describe('the token of a run', () => {
  test('pushes to the Inbox as that run, whatever it says of itself', async () => {
    await using on = await server()
    const wsId = await on.workspace()
    const run = await done(
      on,
      wsId,
      `${CURL} mkdir reports; echo '# All well' > reports/a.md
      call POST /api/inbox '{"title":"Limits","body":"all **inside**","documents":["reports/a.md"]}'
      call POST /api/inbox '{"title":"x","wsId":"ws-other"}'
      call POST /api/inbox '{"title":"x","from":"operator"}'`,
    )
    expect(run.result.text).toBe('201\n403\n400\n')
    const [entry, ...others] = await entriesOf(on)
    expect(others).toEqual([])
    expect(entry).toMatchObject({
      from: 'run',
      wsId,
      taskId: run.taskId,
      sessionId: null,
      title: 'Limits',
      body: 'all **inside**',
      documents: [{ name: 'reports/a.md', sizeBytes: 11 }],
    })
    expect(run).toMatchObject({ status: 'succeeded', outcome: 'reported', inboxIds: [entry?.id] })
  })

  test('L4: covers its own run and nothing of another, and no more than contract.md 8 lists', async () => {
    await using on = await server()
    const [wsId, otherWs] = [await on.workspace(), await on.workspace()]
    const told = await done(on, wsId, 'echo the launch code', { agent: 'talk' })
    expect(told.resumable).toBe(true)
    const other = await working(on, wsId)
    const own = await working(on, wsId)
    const { body: entry } = await on.call<InboxEntry>('POST', '/api/inbox', { title: 'x' }, { token: true })
    for (const path of ['', '/events', '/output', '/children']) {
      expect((await own.call('GET', `/api/headless/${own.taskId}${path}`)).status).toBe(200)
    }
    expect((await own.call('GET', '/healthz')).status).toBe(200)
    const inOwn = `/api/workspaces/${wsId}/headless`
    const child = await own.call<Run>('POST', inOwn, { agent: 'talk', prompt: 'true', wait: true })
    const further = await own.call<Run>('POST', inOwn, { agent: 'talk', prompt: 'true', resume: child.body.taskId })
    expect([child.status, further.status]).toEqual([200, 202])
    const refused: [string, string, unknown?][] = [
      ['GET', `/api/headless/${other.taskId}`],
      ['GET', `/api/headless/${other.taskId}/events`],
      ['GET', `/api/headless/${other.taskId}/output`],
      ['GET', `/api/headless/${other.taskId}/diff`],
      ['GET', `/api/headless/${other.taskId}/children`],
      ['POST', `/api/headless/${other.taskId}/cancel`],
      ['POST', `/api/headless/${other.taskId}/silent`, { why: 'x' }],
      ['POST', `/api/headless/${other.taskId}/report`, { message: 'x' }],
      ['POST', `/api/headless/${own.taskId}/cancel`],
      ['POST', `/api/headless/${own.taskId}/retry`],
      ['GET', '/api/headless/headless_01K00000000000000000000001'],
      ['POST', `/api/workspaces/${otherWs}/headless`, { prompt: 'true' }],
      ['POST', '/api/workspaces/ws-nowhere/headless', { prompt: 'true' }],
      ['POST', `/api/workspaces/${wsId}/headless`, { agent: 'talk', prompt: 'true', resume: told.taskId }],
      ['GET', '/api/headless'],
      ['GET', '/api/workspaces'],
      ['POST', '/api/workspaces', { tag: 'x' }],
      ['PATCH', `/api/workspaces/${wsId}`, { permissions: 'full' }],
      ['DELETE', `/api/workspaces/${wsId}`],
      ['GET', '/api/agents'],
      ['POST', '/api/agents/demo/probe'],
      ['GET', '/api/inbox'],
      ['GET', '/api/inbox/events'],
      ['GET', `/api/inbox/${entry.id}`],
      ['POST', `/api/inbox/${entry.id}/read`],
      ['POST', `/api/inbox/${entry.id}/reply`, { message: 'x' }],
      ['POST', '/api/inbox/read', { all: true }],
      ['DELETE', `/api/inbox/${entry.id}`],
      ['GET', '/metrics'],
    ]
    for (const [method, path, body] of refused) {
      expect([path, codeOf(await own.call(method, path, body))]).toEqual([path, [403, 'insufficient_scope']])
    }
    const before = await show(on, other.taskId)
    expect([before.status, before.silentWhy]).toEqual(['running', null])
    expect((await entriesOf(on)).map(({ id, readAt }) => [id, readAt])).toEqual([[entry.id, null]])
    for (const path of [`/api/workspaces/${otherWs}/issues`, '/api/issues', '/api/sessions', '/api/channels']) {
      expect([path, codeOf(await own.call('GET', path))]).toEqual([path, [403, 'insufficient_scope']])
    }
    await own.end()
    await other.end()
  })

  test('reads and uses the issues of its own workspace', async () => {
    await using on = await server()
    const wsId = await on.workspace()
    const run = await working(on, wsId)
    const made = await run.call<{ id: string }>('POST', `/api/workspaces/${wsId}/issues`, { title: 'Look again' })
    expect(made.status).toBe(201)
    const listed = await run.call<{ issues: { title: string }[] }>('GET', `/api/workspaces/${wsId}/issues`)
    expect(listed.body.issues.map(({ title }) => title)).toEqual(['Look again'])
    await run.end()
  })

  test('of a session pushes as that session', async () => {
    await using on = await startTestServer()
    const body = { wsId: await on.workspace(), agent: 'demo', prompt: '/push Half way' }
    const opened = await on.call<{ id: string }>('POST', '/api/sessions', body, { token: true })
    const [entry] = await eventually(async () => {
      const entries = await entriesOf(on)
      return entries.length > 0 && entries
    })
    expect(entry).toMatchObject({
      from: 'session',
      wsId: body.wsId,
      taskId: null,
      sessionId: opened.body.id,
      title: 'Half way',
    })
  })

  test('of a session reads that session, no other, and dies with its process', async () => {
    await using on = await startTestServer()
    const wsId = await on.workspace({ permissions: 'full' })
    const { path } = (await on.call<{ path: string }>('GET', `/api/workspaces/${wsId}`)).body
    const manifest = { scripts: { test: 'printf %s "$POSTERN_TOKEN" > token.tmp && mv token.tmp token' } }
    await writeFile(join(path, 'package.json'), JSON.stringify(manifest))
    const open = async (prompt: string): Promise<string> =>
      (await on.call<{ id: string }>('POST', '/api/sessions', { wsId, agent: 'demo', prompt }, { token: true })).body.id
    const [id, other] = [await open('/check'), await open('hello')]
    const token = await eventually(() => readFile(join(path, 'token'), 'utf8').catch(() => false as const))
    const call = (method: string, to: string, body?: unknown) =>
      on.call(method, to, body, { headers: { authorization: `Bearer ${token}` } })
    expect((await call('GET', `/api/sessions/${id}`)).status).toBe(200)
    expect((await call('GET', `/api/sessions/${id}/events`)).status).toBe(200)
    for (const [method, to, body] of [
      ['GET', `/api/sessions/${other}`],
      ['GET', `/api/sessions/${other}/events`],
      ['POST', `/api/sessions/${other}/input`, { message: 'x' }],
      ['POST', `/api/sessions/${id}/input`, { message: 'x' }],
      ['POST', `/api/sessions/${id}/end`],
      ['POST', '/api/sessions', { wsId }],
      ['POST', '/api/channels', { sessionId: id }],
      ['GET', '/api/channels'],
      ['GET', '/api/requests'],
      ['GET', '/api/credentials'],
      ['POST', '/api/keys/rotate', {}],
    ] as const) {
      expect([to, codeOf(await call(method, to, body))]).toEqual([to, [403, 'insufficient_scope']])
    }
    const ended = await on.call('POST', `/api/sessions/${id}/end`, undefined, { token: true })
    expect(ended.status).toBe(200)
    await eventually(async () => (await call('GET', `/api/sessions/${id}`)).status === 401)
  })

  test('is dead once its process has ended, and its idempotency keys are its own', async () => {
    await using on = await server()
    const wsId = await on.workspace()
    const [a, b] = [await working(on, wsId), await working(on, wsId)]
    const push = (by: typeof a) =>
      by.call<InboxEntry>('POST', '/api/inbox', { title: 'x', key: 'same' }, { 'idempotency-key': 'same' })
    const [first, again, other] = [await push(a), await push(a), await push(b)]
    expect([first.status, again.status, other.status]).toEqual([201, 201, 201])
    expect(again.body.id).toBe(first.body.id)
    expect(other.body.id).not.toBe(first.body.id)
    await a.end()
    expect(codeOf(await push(a))).toEqual([401, 'invalid_token'])
    expect(codeOf(await a.call('GET', `/api/headless/${a.taskId}`))).toEqual([401, 'invalid_token'])
    expect((await push(b)).status).toBe(201)
    await b.end()
  })

  test('C5: is kept nowhere: not in output, events, reply, log or on disk', async () => {
    await using on = await server()
    const wsId = await on.workspace()
    const printing = await done(
      on,
      wsId,
      'env; echo "$POSTERN_TOKEN" >&2; echo "$POSTERN_TOKEN"; printf %s "$POSTERN_TOKEN"',
    )
    expect(printing.result.text).toContain('pstn_run1_[redacted]')
    const wanted = /pstn_run1_[A-Za-z0-9_-]{20}/
    const output = await on.call('GET', `/api/headless/${printing.taskId}/output?stream=stderr`)
    expect(output.text).toBe('pstn_run1_[redacted]\n')
    expect(JSON.stringify([printing, await eventsOf(on, printing.taskId), on.logged])).not.toMatch(wanted)
    const names = await readdir(on.dataDir, { recursive: true, withFileTypes: true })
    for (const entry of names.filter((each) => each.isFile())) {
      expect(await readFile(join(entry.parentPath, entry.name), 'latin1'), entry.name).not.toMatch(wanted)
    }
  })

  test('works where nobody is local', async () => {
    await using on = await server({ requireToken: true })
    const wsId = await on.workspace()
    const { body } = await on.call<Run>(
      'POST',
      `/api/workspaces/${wsId}/headless`,
      { agent: 'sh', prompt: `${CURL} call POST /api/inbox '{"title":"x"}'`, wait: true },
      { token: true },
    )
    expect(body).toMatchObject({ outcome: 'reported', result: { text: '201\n' } })
  })

  test('S21: takes no document from outside the workspace, by a link or by name', async () => {
    await using on = await server()
    const wsId = await on.workspace()
    const run = await done(
      on,
      wsId,
      `${CURL} ln -s ${on.dataDir}/admin-token link.md; ln -s / root
      for path in link.md root/etc/passwd ../../admin-token ${on.dataDir}/admin-token; do call POST /api/inbox "{\\"title\\":\\"x\\",\\"documents\\":[\\"$path\\"]}"; done`,
    )
    expect(run.result.text).toBe('400\n400\n400\n400\n')
    expect(await entriesOf(on)).toEqual([])
    expect(run.outcome).toBe('no_report')
  })

  test('takes documents of the worktree that the run works in', async () => {
    await using on = await server()
    const wsId = await on.workspace()
    const { path } = (await on.call<{ path: string }>('GET', `/api/workspaces/${wsId}`)).body
    await done(on, wsId, 'git -c user.name=a -c user.email=a@b commit -q --allow-empty -m first')
    const run = await done(
      on,
      wsId,
      `${CURL} echo mine > own.md; call POST /api/inbox "{\\"title\\":\\"x\\",\\"documents\\":[\\"$PWD/own.md\\", \\"own.md\\"]}"`,
      { isolation: 'worktree' },
    )
    expect(run.result.text).toBe('201\n')
    expect((await entriesOf(on))[0]?.documents.map(({ name }) => name)).toEqual(['own.md', 'own.md'])
    expect(await readdir(path)).not.toContain('own.md')
  })
})

describe('the outcome', () => {
  test('is reported, silent or no_report, apart from how the program ended', async () => {
    await using on = await server()
    const wsId = await on.workspace()
    const push = `call POST /api/inbox '{"title":"x"}'`
    const silent = `call POST /api/headless/$POSTERN_RUN_ID/silent '{"why":"nothing new"}'`
    const outcomes: [string, string, string | null][] = [
      [push, 'reported', null],
      [`${push}; exit 3`, 'reported', null],
      [silent, 'silent', 'nothing new'],
      [`${silent}; exit 3`, 'silent', 'nothing new'],
      [`${silent}; ${push}`, 'reported', 'nothing new'],
      ['true', 'no_report', null],
      ['exit 3', 'no_report', null],
    ]
    for (const [script, outcome, silentWhy] of outcomes) {
      const run = await done(on, wsId, CURL + script)
      expect([script, run.outcome, run.silentWhy]).toEqual([script, outcome, silentWhy])
      expect((await eventsOf(on, run.taskId)).at(-1)).toMatchObject({ type: 'run.ended', outcome })
    }
  })

  test('is no_report of a run that was canceled, in the queue or at work, or timed out', async () => {
    await using on = await server({ maxRuns: 1 })
    const wsId = await on.workspace()
    const { body: first } = await start(on, wsId, 'sleep 60')
    const { body: second } = await start(on, wsId, 'true', { whenBusy: 'queue' })
    for (const { taskId } of [second, first]) {
      const canceled = await on.call<Run>('POST', `/api/headless/${taskId}/cancel`)
      expect(canceled.body).toMatchObject({ status: 'canceled', outcome: 'no_report' })
    }
    expect(await done(on, wsId, 'sleep 60', { timeoutMs: 300 })).toMatchObject({
      status: 'timed_out',
      outcome: 'no_report',
    })
  })

  test('lists the entries of a run that is still at work, and cannot be declared afterwards', async () => {
    await using on = await server()
    const run = await working(on, await on.workspace())
    const { body } = await run.call<InboxEntry>('POST', '/api/inbox', { title: 'first' })
    expect(await show(on, run.taskId)).toMatchObject({ status: 'running', outcome: null, inboxIds: [body.id] })
    await run.end()
    const late = await on.call('POST', `/api/headless/${run.taskId}/silent`, { why: 'x' }, { token: true })
    expect(codeOf(late)).toEqual([409, 'run_ended'])
  })

  test('is reported also when people removed the entry before the run ended', async () => {
    await using on = await server()
    const wsId = await on.workspace()
    const run = await working(on, wsId)
    const ids = []
    for (const title of ['one', 'two', 'three'])
      ids.push((await run.call<InboxEntry>('POST', '/api/inbox', { title })).body.id)
    await Promise.all(ids.slice(0, 2).map((id) => on.call('DELETE', `/api/inbox/${id}`, undefined, { token: true })))
    expect((await entriesOf(on)).map(({ id }) => id)).toEqual(ids.slice(2))
    expect((await show(on, run.taskId)).inboxIds).toEqual(ids)
    await on.call('DELETE', `/api/inbox/${ids[2]}`, undefined, { token: true })
    expect(await run.end()).toMatchObject({ outcome: 'reported', inboxIds: ids })
  })

  test('forty pushes at once are forty entries of one run', async () => {
    await using on = await server()
    const run = await working(on, await on.workspace())
    const pushed = await Promise.all(
      Array.from({ length: 40 }, (_, i) => run.call<InboxEntry>('POST', '/api/inbox', { title: `entry ${i}` })),
    )
    expect(pushed.map(({ status }) => status)).toEqual(Array(40).fill(201))
    const ended = await run.end()
    expect(ended.inboxIds).toHaveLength(40)
    expect(new Set(ended.inboxIds)).toEqual(new Set(pushed.map(({ body }) => body.id)))
  })
})

describe('a reply', () => {
  test('continues the conversation of the run that pushed, and marks the entry as read', async () => {
    await using on = await startTestServer()
    const wsId = await on.workspace()
    const { body: run } = await on.call<Run>('POST', `/api/workspaces/${wsId}/headless`, {
      agent: 'demo',
      prompt: 'look around',
      wait: true,
    })
    expect(run).toMatchObject({ status: 'succeeded', outcome: 'reported' })
    const [id = ''] = run.inboxIds
    const reply = (key: string, message = 'and then?') =>
      on.call<Run>(
        'POST',
        `/api/inbox/${id}/reply`,
        { message },
        { token: true, headers: { 'idempotency-key': key, prefer: 'wait=30' } },
      )
    const answered = await reply('k')
    expect(answered.status).toBe(200)
    expect(answered.body).toMatchObject({
      wsId,
      agent: 'demo',
      resume: run.taskId,
      status: 'succeeded',
      trigger: { kind: 'inbox' },
    })
    expect(answered.body.result.text).toContain('This is message 2 of our conversation; the first was "look around".')
    expect((await reply('k')).body.taskId).toBe(answered.body.taskId)
    expect((await on.call<InboxEntry>('GET', `/api/inbox/${id}`)).body.readAt).not.toBeNull()
    await on.call('DELETE', `/api/inbox/${id}`, undefined, { token: true })
    const repeated = await reply('k')
    expect(repeated).toMatchObject({ status: 200, body: { taskId: answered.body.taskId } })
    expect(repeated.headers.get('idempotency-replayed')).toBe('true')
    expect(await reply('k', 'and now?')).toMatchObject({ status: 422, body: { code: 'idempotency_mismatch' } })
    expect((await reply('new')).status).toBe(404)
  })
})

describe('the demo agent', () => {
  const demo = (on: TestServer, wsId: string, prompt: string) => done(on, wsId, prompt, { agent: 'demo' })

  test('pushes what it saw, with its report, and honours /silent, /push and /no-report', async () => {
    await using on = await startTestServer()
    const wsId = await on.workspace()
    const run = await demo(on, wsId, 'Look around and report')
    expect(run).toMatchObject({ status: 'succeeded', outcome: 'reported' })
    const [entry] = await entriesOf(on)
    expect(entry).toMatchObject({
      id: run.inboxIds[0],
      from: 'run',
      taskId: run.taskId,
      title: 'First look: 0 files, 0 TODOs',
      documents: [{ name: 'reports/first-look.md' }],
    })
    expect(await demo(on, wsId, '/silent no rule was broken')).toMatchObject({
      outcome: 'silent',
      silentWhy: 'no rule was broken',
    })
    expect(await demo(on, wsId, '/no-report')).toMatchObject({ status: 'succeeded', outcome: 'no_report' })
    expect(await demo(on, wsId, '/push Three of three\n/fail 3')).toMatchObject({
      status: 'failed',
      outcome: 'reported',
    })
    expect((await entriesOf(on)).map(({ title }) => title)).toEqual(['Three of three', 'First look: 0 files, 0 TODOs'])
  })

  test('reports from a worktree, too', async () => {
    await using on = await server()
    const wsId = await on.workspace()
    await done(on, wsId, 'git -c user.name=a -c user.email=a@b commit -q --allow-empty -m first')
    const run = await done(on, wsId, 'look', { agent: 'demo', isolation: 'worktree' })
    expect(run.outcome).toBe('reported')
    expect((await entriesOf(on))[0]?.documents.map(({ name }) => name)).toEqual(['reports/first-look.md'])
  })
})

describe('a workspace that nudges', () => {
  test('asks once more in the same conversation, and keeps reply and verdict of the work itself', async () => {
    await using on = await startTestServer()
    const wsId = await on.workspace({ nudge: true })
    const run = await done(on, wsId, '/no-report', { agent: 'demo' })
    expect(run).toMatchObject({ status: 'succeeded', outcome: 'reported' })
    expect(run.result.text).toContain('I report nothing')
    const types = (await eventsOf(on, run.taskId)).map(({ type }) => type)
    expect(types.filter((type) => type === 'run.nudged')).toHaveLength(1)
    expect(types.filter((type) => type === 'run.ended')).toHaveLength(1)
    const output = await on.call('GET', `/api/headless/${run.taskId}/output`)
    const ids = [...output.text.matchAll(/"conversationId":"([^"]+)"/g)].map((match) => match[1])
    expect(ids).toHaveLength(2)
    expect(new Set(ids).size).toBe(1)
  })

  test('does not ask who reported, was silent or failed, nor an agent that cannot go on', async () => {
    await using on = await server()
    const wsId = await on.workspace({ nudge: true })
    const runs = [
      await done(on, wsId, 'look', { agent: 'demo' }),
      await done(on, wsId, '/silent nothing', { agent: 'demo' }),
      await done(on, wsId, '/fail 3', { agent: 'demo' }),
      await done(on, wsId, 'true'),
    ]
    expect(runs.map(({ outcome }) => outcome)).toEqual(['reported', 'silent', 'no_report', 'no_report'])
    for (const { taskId } of runs) {
      expect((await eventsOf(on, taskId)).map(({ type }) => type)).not.toContain('run.nudged')
    }
  })

  test('asks within the limit of the run, and a cancel meanwhile ends it as canceled', async () => {
    // The first turn is quick; the second sleeps on.
    const script = 'if [ -e asked ]; then sleep 60; fi; touch asked'
    const nudging = {
      talk: {
        ...agents.talk,
        command: [
          'bash',
          '--norc',
          '-c',
          `cat >/dev/null; echo '{"type":"agent.session","conversationId":"c1"}'; ${script}`,
        ],
      },
    }
    await using other = await startTestServer({ config: { agents: nudging } })
    const wsOther = await other.workspace({ nudge: true })
    const limited = await done(other, wsOther, 'x', { agent: 'talk', timeoutMs: 2_500 })
    expect(limited).toMatchObject({ status: 'succeeded', outcome: 'no_report' })
    const { body } = await start(other, await other.workspace({ nudge: true }), 'x', { agent: 'talk' })
    await eventually(async () => (await eventsOf(other, body.taskId)).some(({ type }) => type === 'run.nudged'))
    const canceled = await other.call<Run>('POST', `/api/headless/${body.taskId}/cancel`)
    expect(canceled.body).toMatchObject({ status: 'canceled', outcome: 'no_report' })
    expect(census().get(body.taskId)).toBeUndefined()
  })
})

describe('runs that start runs', () => {
  /** A script that starts a run with this prompt and prints the status. */
  const starting = (wsId: string, prompt: string, more: Record<string, unknown> = {}): string => {
    const name = `body-${createHash('sha256').update(prompt).digest('hex')}`
    const body = JSON.stringify({ agent: 'sh', prompt, ...more })
    return `${CURL}cat > ${name} <<'${name}'\n${body}\n${name}\ncall POST /api/workspaces/${wsId}/headless @${name}\n`
  }
  const childrenOf = async (on: TestServer, taskId: string): Promise<Run[]> =>
    (await on.call<{ tasks: Run[] }>('GET', `/api/headless/${taskId}/children`)).body.tasks

  test('start them in their own workspace and those it names, see and cancel them, and no others', async () => {
    await using on = await server()
    const [named, other] = [await on.workspace(), await on.workspace()]
    const wsId = await on.workspace({ childWorkspaces: [named] })
    const run = await working(on, wsId)
    const started = await Promise.all(
      [wsId, named].map((each) =>
        run.call<Run>('POST', `/api/workspaces/${each}/headless`, { agent: 'sh', prompt: 'sleep 60' }),
      ),
    )
    expect(started.map(({ status }) => status)).toEqual([202, 202])
    expect(codeOf(await run.call('POST', `/api/workspaces/${other}/headless`, { prompt: 'x' }))).toEqual([
      403,
      'insufficient_scope',
    ])
    const trigger = { kind: 'run', grantId: null, issueId: null, parentTaskId: run.taskId }
    const ids = started.map(({ body }) => body.taskId)
    for (const { body } of started) expect(body.trigger).toEqual(trigger)
    expect((await childrenOf(on, run.taskId)).map(({ taskId }) => taskId)).toEqual(ids.toSorted())
    const [first = '', second = ''] = ids
    expect((await run.call('GET', `/api/headless/${first}`)).status).toBe(200)
    expect((await run.call<Run>('POST', `/api/headless/${first}/cancel`)).body.status).toBe('canceled')
    // The parent's end leaves the other at work: nobody canceled it.
    await run.end()
    expect((await show(on, second)).status).toBe('running')
    await on.call('POST', `/api/headless/${second}/cancel`)
    expect(census().get(second)).toBeUndefined()
  })

  test('a cancel reaches every generation, and leaves no process', async () => {
    await using on = await server()
    const wsId = await on.workspace()
    const child = `${starting(wsId, 'sleep 60')} sleep 60`
    const { body: parent } = await start(on, wsId, `${starting(wsId, child)} ${starting(wsId, child)} sleep 60`)
    const family = await eventually(async () => {
      const children = await childrenOf(on, parent.taskId)
      const below = (await Promise.all(children.map(({ taskId }) => childrenOf(on, taskId)))).flat()
      return children.length === 2 && below.length === 2 && [...children, ...below]
    })
    expect((await on.call<Run>('POST', `/api/headless/${parent.taskId}/cancel`)).body.status).toBe('canceled')
    for (const { taskId } of [parent, ...family]) {
      expect((await show(on, taskId)).status).toBe('canceled')
      expect(census().get(taskId)).toBeUndefined()
    }
    const { body } = await on.call<{ capacity: unknown }>('GET', '/api/headless')
    expect(body.capacity).toMatchObject({ running: 0, queued: 0 })
  })

  test('a cancel reaches what a run started that has ended since', async () => {
    await using on = await server()
    const wsId = await on.workspace()
    const { body: parent } = await start(on, wsId, `${starting(wsId, starting(wsId, 'sleep 60'))} sleep 60`)
    const grandchild = await eventually(async () => {
      const [child] = await childrenOf(on, parent.taskId)
      return child?.status === 'succeeded' && (await childrenOf(on, child.taskId))[0]
    })
    expect(grandchild.status).toBe('running')
    await on.call('POST', `/api/headless/${parent.taskId}/cancel`)
    expect((await show(on, grandchild.taskId)).status).toBe('canceled')
    expect(census().get(grandchild.taskId)).toBeUndefined()
  })

  test('stand at most four levels below the first', async () => {
    await using on = await server()
    const wsId = await on.workspace()
    const level = (left: number): string =>
      left === 0 ? `${starting(wsId, 'true')} cat answer.json` : starting(wsId, level(left - 1), { wait: true })
    const top = await done(on, wsId, level(4))
    let [deepest] = await childrenOf(on, top.taskId)
    for (let i = 0; i < 3 && deepest; i++) [deepest] = await childrenOf(on, deepest.taskId)
    expect(deepest?.result.text).toContain('409\n')
    expect(deepest?.result.text).toContain('5 levels below the first; the limit is 4')
    expect(await childrenOf(on, deepest?.taskId ?? '')).toEqual([])
  })

  test('are started by sessions, too, and report to them as input', async () => {
    await using on = await startTestServer()
    const wsId = await on.workspace({ permissions: 'full' })
    const { path } = (await on.call<{ path: string }>('GET', `/api/workspaces/${wsId}`)).body
    const manifest = { scripts: { test: `postern run '/report half way' -a demo --wait` } }
    await writeFile(join(path, 'package.json'), JSON.stringify(manifest))
    const body = { wsId, agent: 'demo', prompt: '/check' }
    const { id } = (await on.call<{ id: string }>('POST', '/api/sessions', body, { token: true })).body
    const child = await eventually(async () => {
      const { tasks } = (await on.call<{ tasks: Run[] }>('GET', '/api/headless')).body
      return tasks.find(({ finishedAt }) => finishedAt !== null)
    })
    expect(child.trigger).toEqual({
      kind: 'run',
      grantId: null,
      issueId: null,
      parentTaskId: null,
      parentSessionId: id,
    })
    await eventually(async () => {
      const { events } = (await on.call<{ events: Event[] }>('GET', `/api/sessions/${id}/events`)).body
      const said = events.filter(({ type }) => type === 'agent.message').map(({ text }) => text)
      return said.join('').includes('half way') && said.join('').includes(child.taskId)
    })
  })

  test('hear their reports as events of their own, until they have ended', async () => {
    await using on = await server()
    const wsId = await on.workspace()
    const parent = await working(on, wsId)
    const prompt = `${CURL} call POST /api/headless/$POSTERN_RUN_ID/report '{"message":"half way"}'; until [ -e over ]; do sleep 0.05; done; call POST /api/headless/$POSTERN_RUN_ID/report '{"message":"too late"}'`
    const { body: child } = await parent.call<Run>('POST', `/api/workspaces/${wsId}/headless`, { agent: 'sh', prompt })
    const report = await eventually(async () =>
      (await eventsOf(on, parent.taskId)).find(({ type }) => type === 'run.reported'),
    )
    expect(report).toMatchObject({ taskId: child.taskId, message: 'half way' })
    const ended = await parent.end()
    await writeFile(join(parent.path, 'over'), '')
    const over = await on.call<Run>('GET', `/api/headless/${child.taskId}`, undefined, {
      headers: { prefer: 'wait=30' },
    })
    expect(over.body.result.text).toBe('200\n409\n')
    const events = await eventsOf(on, parent.taskId)
    expect(events.map(({ type }) => type)).toEqual(['run.started', 'run.reported', 'run.ended'])
    expect(ended.lastSeq).toBe(3)
    const alone = await working(on, wsId)
    expect(codeOf(await alone.call('POST', `/api/headless/${alone.taskId}/report`, { message: 'x' }))).toEqual([
      409,
      'no_parent',
    ])
    await alone.end()
  })
})
