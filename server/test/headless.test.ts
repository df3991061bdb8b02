import { execFileSync } from 'node:child_process'
import { mkdir, readFile, rename, rm, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { census } from '../src/process/census.ts'
import type { Event, Run } from '../src/model.ts'
import { diskError, faultyDisk } from './faulty-disk.ts'
import { startTestServer, type TestServer } from './harness.ts'
import { eventually, temporaryDirectory } from './temporary.ts'

/** `sh` runs its prompt as a script; `words` prints its prompt; `lines` prints what it is given as JSON Lines. */
const agents = {
  sh: { command: ['bash', '--norc', '-s'] },
  words: { command: ['echo'], prompt: 'argument' },
  lines: { command: ['bash', '--norc', '-s'], output: 'jsonl' },
  absent: { command: ['no-such-program-anywhere'] },
}
const server = (config: Record<string, unknown> = {}): Promise<TestServer> =>
  startTestServer({ config: { agents, ...config } })
const run = (on: TestServer, wsId: string, body: Record<string, unknown>, headers: Record<string, string> = {}) =>
  on.call<Run>('POST', `/api/workspaces/${wsId}/headless`, { agent: 'sh', ...body }, { headers })
const ended = (on: TestServer, id: string): Promise<Run> =>
  eventually(async () => {
    const { body } = await on.call<Run>('GET', `/api/headless/${id}`, undefined, { headers: { prefer: 'wait=20' } })
    return body.finishedAt !== null && body
  })

describe('a run', () => {
  test('is accepted, works and ends with the reply, exit code and events', async () => {
    await using on = await server()
    const wsId = await on.workspace()
    const accepted = await run(on, wsId, { prompt: 'echo hello; echo oops >&2', metadata: { build: '7' } })
    expect(accepted.status).toBe(202)
    expect(accepted.headers.get('location')).toBe(`/api/headless/${accepted.body.taskId}`)
    expect(accepted.body).toMatchObject({
      status: 'running',
      reason: null,
      wsId,
      agent: 'sh',
      timeoutMs: 300_000,
      outcome: null,
      inboxIds: [],
      metadata: { build: '7' },
      result: { text: null, truncated: false },
    })
    const done = await ended(on, accepted.body.taskId)
    expect(done).toMatchObject({
      status: 'succeeded',
      reason: null,
      exitCode: 0,
      signal: null,
      survivors: 0,
      outcome: 'no_report',
    })
    expect(done.result).toEqual({ text: 'hello\n', truncated: false })
    const { body } = await on.call<{ events: Event[]; lastSeq: number }>('GET', `/api/headless/${done.taskId}/events`)
    expect(body.events.map((event) => event.type)).toEqual(['run.started', 'output.text', 'run.ended'])
    expect(body.events.map((event) => event.seq)).toEqual([1, 2, 3])
    expect([body.lastSeq, done.lastSeq]).toEqual([3, 3])
    expect((await on.call('GET', `/api/headless/${done.taskId}/output?stream=stderr`)).text).toBe('oops\n')
  })

  test('that fails says so, with its exit code', async () => {
    await using on = await server()
    const { body } = await run(on, await on.workspace(), {
      prompt: 'echo "fatal error: no luck" >&2; exit 7',
      wait: true,
    })
    expect(body).toMatchObject({ status: 'failed', reason: 'exit_nonzero', exitCode: 7 })
  })

  test('with `wait` answers 200 when it has ended; `Prefer: wait` does so only in time', async () => {
    await using on = await server()
    const wsId = await on.workspace()
    const waited = await run(on, wsId, { prompt: 'sleep 0.3; echo done', wait: true })
    expect([waited.status, waited.body.status]).toEqual([200, 'succeeded'])
    const inTime = await run(on, wsId, { prompt: 'echo quick' }, { prefer: 'wait=20' })
    expect([inTime.status, inTime.body.status]).toEqual([200, 'succeeded'])
    const late = await run(on, wsId, { prompt: 'sleep 30' }, { prefer: 'wait=1' })
    expect([late.status, late.body.status]).toEqual([202, 'running'])
    await on.call('POST', `/api/headless/${late.body.taskId}/cancel`)
  })

  test('goes on when the caller who waits for it hangs up', async () => {
    await using on = await server()
    const wsId = await on.workspace()
    const abort = new AbortController()
    const hanging = fetch(`${on.url}/api/workspaces/${wsId}/headless`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ agent: 'sh', prompt: 'sleep 1; echo survived', wait: true }),
      signal: abort.signal,
    })
    const { taskId } = await eventually(
      async () => (await on.call<{ tasks: Run[] }>('GET', '/api/headless')).body.tasks[0],
    )
    abort.abort()
    await expect(hanging).rejects.toThrow()
    expect(await ended(on, taskId)).toMatchObject({ status: 'succeeded', result: { text: 'survived\n' } })
  })

  test('whose program is missing is a run that failed, not an error', async () => {
    await using on = await server()
    const { status, body } = await run(on, await on.workspace(), { agent: 'absent', prompt: 'x', wait: true })
    expect([status, body.status, body.reason]).toEqual([200, 'failed', 'agent_not_found'])
  })

  test('is ended at its limit, and a longer one is capped and shown', async () => {
    await using on = await server()
    const wsId = await on.workspace()
    const { body } = await run(on, wsId, { prompt: 'sleep 60', timeoutMs: 300, wait: true })
    expect(body).toMatchObject({ status: 'timed_out', reason: 'timeout', timeoutMs: 300 })
    const idle = await run(on, wsId, { prompt: 'echo a; sleep 60', idleTimeoutMs: 400, wait: true })
    expect(idle.body).toMatchObject({ status: 'timed_out', reason: 'idle' })
    const capped = await run(on, wsId, { prompt: 'true', timeoutMs: 99_000_000, wait: true })
    expect(capped.body.timeoutMs).toBe(1_800_000)
  })

  test('S12, S13: a timed-out grandchild that ignores TERM and holds stdout leaves no process', async () => {
    await using on = await server()
    const prompt =
      'setsid bash --norc -c \'trap "" TERM; while :; do sleep 0.1; done\' & trap "" TERM; while :; do sleep 0.1; done'
    const { body } = await run(on, await on.workspace(), { prompt, timeoutMs: 300 })
    await eventually(() => (census().get(body.taskId)?.length ?? 0) >= 2)
    expect(await ended(on, body.taskId)).toMatchObject({ status: 'timed_out', reason: 'timeout', survivors: 0 })
    expect(census().get(body.taskId)).toBeUndefined()
  })

  test('S1, S4: a prompt that looks like an option is text, and is in no argument list when it goes by stdin', async () => {
    await using on = await server()
    const wsId = await on.workspace()
    for (const prompt of ['--version', '-p', '@file', '--help\nme']) {
      const { body } = await run(on, wsId, { agent: 'words', prompt, wait: true })
      expect([body.status, body.result.text]).toEqual(['succeeded', `-- ${prompt}\n`]) // echo prints the separator too
    }
    const secret = `canary${Date.now()}`
    const { body } = await run(on, wsId, { prompt: `sleep 5 # ${secret}` })
    await eventually(() => census().has(body.taskId))
    expect(execFileSync('ps', ['-eo', 'args'], { encoding: 'utf8' })).not.toContain(secret)
    await on.call('POST', `/api/headless/${body.taskId}/cancel`)
  })

  test('S3: 16 000 three-byte characters arrive whole', async () => {
    await using on = await server()
    const prompt = `cat <<'X' | wc -m\n${'€'.repeat(15_900)}\nX`
    const { body } = await run(on, await on.workspace(), { prompt, wait: true })
    expect(body).toMatchObject({ status: 'succeeded', prompt, result: { text: '15901\n' } })
  })

  test("S7, S8: gets the contract's variables, no secret of the server, and no .env", async () => {
    await using on = await startTestServer({
      config: { agents },
      environment: { AWS_SECRET_ACCESS_KEY: 'canary', NODE_OPTIONS: '--no-warnings' },
    })
    const wsId = await on.workspace()
    const { path } = (await on.call<{ path: string }>('GET', `/api/workspaces/${wsId}`)).body
    await writeFile(join(path, '.env'), 'FROM_DOTENV=canary\n')
    const { body } = await run(on, wsId, { prompt: 'env', wait: true })
    const text = body.result.text ?? ''
    expect(text).toContain(`POSTERN_RUN_ID=${body.taskId}\n`)
    expect(text).toContain(`POSTERN_WORKSPACE_ID=${wsId}\n`)
    expect(text).toContain(`POSTERN_URL=${on.url}\n`)
    expect(text).toContain('POSTERN_TOKEN=pstn_run1_[redacted]\n')
    expect(text).not.toMatch(/canary|NODE_OPTIONS|npm_|pstn_adm1_/)
    const names = text.split('\n').flatMap((line) => /^(\w+)=/.exec(line)?.[1] ?? [])
    const passed =
      /^(PATH|HOME|USER|LOGNAME|SHELL|LANG|LC_\w+|TZ|TERM|TMPDIR|XDG_\w+_HOME|SSL_CERT_FILE|(?:https?|no)_proxy|POSTERN_\w+)$/i
    const ofTheShell = ['PWD', 'OLDPWD', 'SHLVL', '_']
    expect(names.filter((name) => !passed.test(name) && !ofTheShell.includes(name))).toEqual([])
    const own = names.filter((name) => name.startsWith('POSTERN_'))
    expect(own.toSorted()).toEqual(['POSTERN_RUN_ID', 'POSTERN_TOKEN', 'POSTERN_URL', 'POSTERN_WORKSPACE_ID'])
  })

  test('S10: works in the directory that was registered, not in one put in its place', async () => {
    await using on = await server()
    await using directory = await temporaryDirectory()
    const path = join(directory.path, 'work')
    await mkdir(path)
    const wsId = await on.workspace({ path })
    await rename(path, `${path}-moved`)
    await symlink('/etc', path)
    const { body } = await run(on, wsId, { prompt: 'ls', wait: true })
    expect(body).toMatchObject({ status: 'failed', reason: 'workspace_moved', result: { text: null } })
  })

  test('S14: ends with its program, not with a child that holds its output', async () => {
    await using on = await server()
    const { body } = await run(on, await on.workspace(), { prompt: '(sleep 1000 &); echo done', wait: true })
    expect(body).toMatchObject({ status: 'succeeded', result: { text: 'done\n' } })
    expect(census().get(body.taskId)).toBeUndefined()
  })

  test('keeps the end of a long reply, whole characters only, and says so', async () => {
    await using on = await server()
    const { body } = await run(on, await on.workspace(), {
      prompt: 'for i in $(seq 30000); do echo "ä$i"; done',
      wait: true,
    })
    expect(body.result.truncated).toBe(true)
    expect(body.result.text).toMatch(/ä29999\nä30000\n$/)
    expect(body.result.text).not.toContain('\uFFFD')
    expect(Buffer.byteLength(body.result.text ?? '')).toBeLessThanOrEqual(65_536)
  })

  test('keeps the beginning of an endless output, and its end', async () => {
    await using on = await server()
    const prompt = 'echo first; yes filling | head -c 40000000; echo; echo last'
    const { body } = await run(on, await on.workspace(), { prompt, wait: true })
    const output = await fetch(`${on.url}/api/headless/${body.taskId}/output`, { headers: { range: 'bytes=0-5' } })
    expect([output.status, await output.text(), output.headers.get('x-postern-truncated')]).toEqual([
      206,
      'first\n',
      'true',
    ])
    expect((await on.call('GET', `/api/headless/${body.taskId}/output?tailBytes=5`)).text).toBe('last\n')
  })

  test('that prints JSON Lines has its words as events, its usage and its last message', async () => {
    await using on = await server()
    const prompt = [
      '{"type":"agent.session","conversationId":"c-1"}',
      '{"type":"agent.thought","text":"hm"}',
      '{"type":"tool.started","toolCallId":"1","name":"grep"}',
      '{"type":"tool.ended","toolCallId":"1","isError":false}',
      'not json',
      '{"type":"usage","inputTokens":10,"outputTokens":5,"costUsd":0.25}',
      '{"type":"agent.message","text":"the answer"}',
    ]
      .map((line) => `echo '${line}'`)
      .join('\n')
    const { body } = await run(on, await on.workspace(), { agent: 'lines', prompt, wait: true })
    expect(body).toMatchObject({ status: 'succeeded', result: { text: 'the answer' } })
    expect(body.usage).toEqual({ inputTokens: 10, outputTokens: 5, costUsd: 0.25, source: 'agent_reported' })
    const types = (await on.call<{ events: Event[] }>('GET', `/api/headless/${body.taskId}/events`)).body.events.map(
      (e) => e.type,
    )
    expect(types).toEqual([
      'run.started',
      'agent.thought',
      'tool.started',
      'tool.ended',
      'log',
      'usage',
      'agent.message',
      'run.ended',
    ])
  })

  test('that has said how it ended and stays is ended, whatever it logs; one that works on is not', async () => {
    await using on = await server()
    const wsId = await on.workspace()
    const say = (event: object): string => `echo '${JSON.stringify(event)}'`
    const end = say({ type: 'agent.end', ok: true, text: 'done' })
    const [logs, works] = await Promise.all(
      [
        [end, 'echo bye', say({ type: 'usage', inputTokens: 1, outputTokens: 1, costUsd: null }), 'sleep 60'],
        [end, say({ type: 'tool.started', toolCallId: '1', name: 'sh' }), 'sleep 60'],
      ].map((lines) => run(on, wsId, { agent: 'lines', prompt: lines.join('\n'), timeoutMs: 8_000, wait: true })),
    )
    expect(logs?.body).toMatchObject({ status: 'succeeded', result: { text: 'done' } })
    expect(works?.body).toMatchObject({ status: 'timed_out', reason: 'timeout' })
  })
})

describe('capacity', () => {
  test('S19: forty at once never start more than the limit; each end frees a place', async () => {
    await using on = await server({ maxRuns: 8 })
    const wsId = await on.workspace()
    const answers = await Promise.all(Array.from({ length: 40 }, () => run(on, wsId, { prompt: 'sleep 30' })))
    expect(answers.filter((answer) => answer.status === 202)).toHaveLength(8)
    const refused = answers.filter((answer) => answer.status === 429)
    expect(refused).toHaveLength(32)
    for (const { headers, body } of refused) {
      expect(Number(headers.get('retry-after'))).toBeGreaterThanOrEqual(1)
      expect(body).toMatchObject({
        code: 'capacity_reached',
        retryable: true,
        detail: expect.stringContaining('8 of 8') as string,
      })
    }
    const { tasks, capacity } = (await on.call<{ tasks: Run[]; capacity: unknown }>('GET', '/api/headless')).body
    expect(capacity).toEqual({ running: 8, queued: 0, limit: 8 })
    for (const { taskId } of tasks) {
      await on.call('POST', `/api/headless/${taskId}/cancel`)
      expect((await run(on, wsId, { prompt: 'true', wait: true })).body.status).toBe('succeeded')
    }
    expect((await on.call<{ capacity: unknown }>('GET', '/api/headless')).body.capacity).toEqual({
      running: 0,
      queued: 0,
      limit: 8,
    })
  })

  test('S19: a hundred starts that fail give every place back', async () => {
    await using on = await server({ maxRuns: 3 })
    const wsId = await on.workspace()
    for (let i = 0; i < 100; i++) {
      const { body } = await run(on, wsId, { agent: 'absent', prompt: 'x', wait: true })
      expect(body.reason).toBe('agent_not_found')
    }
    expect((await on.call<{ capacity: unknown }>('GET', '/api/headless')).body.capacity).toEqual({
      running: 0,
      queued: 0,
      limit: 3,
    })
  })

  test('a run may wait in the queue, in order, up to its limit, and can be canceled there', async () => {
    await using on = await server({ maxRuns: 1, maxQueued: 2 })
    const wsId = await on.workspace()
    const first = await run(on, wsId, { prompt: 'sleep 30' })
    const second = await run(on, wsId, { prompt: 'echo second', whenBusy: 'queue' })
    const third = await run(on, wsId, { prompt: 'echo third', whenBusy: 'queue' })
    const fourth = await run(on, wsId, { prompt: 'echo fourth', whenBusy: 'queue' })
    expect([second, third, fourth].map((answer) => [answer.status, answer.body.status])).toEqual([
      [202, 'queued'],
      [202, 'queued'],
      [429, 429],
    ])
    const canceled = await on.call<Run>('POST', `/api/headless/${second.body.taskId}/cancel`)
    expect(canceled.body).toMatchObject({ status: 'canceled', reason: 'canceled_by_caller', startedAt: null })
    await on.call('POST', `/api/headless/${first.body.taskId}/cancel`)
    const done = await ended(on, third.body.taskId)
    expect(done).toMatchObject({ status: 'succeeded', result: { text: 'third\n' } })
    const { events } = (await on.call<{ events: Event[] }>('GET', `/api/headless/${done.taskId}/events`)).body
    expect(events.map((event) => event.type)).toEqual(['run.queued', 'run.started', 'output.text', 'run.ended'])
  })

  test('a run in the queue whose log is damaged ends all the same, and gives its place back', async () => {
    await using directory = await temporaryDirectory()
    const at = { dataDir: directory.path }
    const first = await startTestServer({ ...at, config: { maxRuns: 1, agents: { quick: { command: ['true'] } } } })
    const wsId = await first.workspace({ agents: ['quick', 'demo'] })
    await first.call('POST', `/api/workspaces/${wsId}/headless`, { agent: 'demo', prompt: '/sleep 60' })
    const body = { agent: 'quick', prompt: 'x', whenBusy: 'queue' }
    const { taskId } = (await first.call<Run>('POST', `/api/workspaces/${wsId}/headless`, body)).body
    await first.stop()
    await writeFile(join(directory.path, 'runs', taskId, 'events.ndjson'), 'no event\n')
    await using second = await startTestServer({ ...at, config: { maxRuns: 1, agents: {} } })
    expect(await ended(second, taskId)).toMatchObject({ status: 'failed', reason: 'agent_not_found' })
    const { capacity } = (await second.call<{ capacity: object }>('GET', '/api/headless')).body
    expect(capacity).toMatchObject({ running: 0, queued: 0 })
  })

  test('a run canceled as soon as it was queued has the seq of its last event', async () => {
    await using on = await server({ maxRuns: 1 })
    const wsId = await on.workspace()
    await run(on, wsId, { prompt: 'sleep 30' })
    const { taskId } = (await run(on, wsId, { prompt: 'true', whenBusy: 'queue' })).body
    const { lastSeq } = (await on.call<Run>('POST', `/api/headless/${taskId}/cancel`)).body
    const { events } = (await on.call<{ events: Event[] }>('GET', `/api/headless/${taskId}/events`)).body
    expect(events.map(({ seq, type }) => [seq, type])).toEqual([
      [1, 'run.queued'],
      [2, 'run.ended'],
    ])
    expect(lastSeq).toBe(2)
    const accept = { headers: { accept: 'text/event-stream' } }
    expect((await on.call('GET', `/api/headless/${taskId}/events?after=1`, undefined, accept)).text).toContain('id: 2')
  })

  test('a workspace with a limit of its own does not hold up the others', async () => {
    await using on = await server({ maxRuns: 4 })
    const narrow = await on.workspace({ maxRuns: 1 })
    const wide = await on.workspace()
    const first = await run(on, narrow, { prompt: 'sleep 30' })
    expect((await run(on, narrow, { prompt: 'true' })).status).toBe(429)
    const queued = await run(on, narrow, { prompt: 'echo later', whenBusy: 'queue' })
    expect(queued.body.status).toBe('queued')
    expect((await run(on, wide, { prompt: 'true', wait: true })).body.status).toBe('succeeded')
    await on.call('POST', `/api/headless/${first.body.taskId}/cancel`)
    expect((await ended(on, queued.body.taskId)).result.text).toBe('later\n')
  })
})

describe('cancel and retry', () => {
  test('cancel answers when no process is left, is safe to repeat, and leaves an ended run as it is', async () => {
    await using on = await server()
    const wsId = await on.workspace()
    const { body } = await run(on, wsId, { prompt: 'setsid sleep 1000 & sleep 1000' })
    await eventually(() => (census().get(body.taskId)?.length ?? 0) >= 2)
    const answers = await Promise.all([1, 2, 3].map(() => on.call<Run>('POST', `/api/headless/${body.taskId}/cancel`)))
    expect(census().get(body.taskId)).toBeUndefined()
    for (const answer of answers) {
      expect([answer.status, answer.body.status, answer.body.reason]).toEqual([200, 'canceled', 'canceled_by_caller'])
    }
    const done = await run(on, wsId, { prompt: 'true', wait: true })
    expect((await on.call<Run>('POST', `/api/headless/${done.body.taskId}/cancel`)).body.status).toBe('succeeded')
  })

  test('retry starts the same request again; a run at work cannot be retried', async () => {
    await using on = await server()
    const wsId = await on.workspace()
    const prompt = `echo again # ${'long '.repeat(300)}`
    const first = await run(on, wsId, { prompt, timeoutMs: 12_345, metadata: { a: 'b' }, wait: true })
    const retried = await on.call<Run>('POST', `/api/headless/${first.body.taskId}/retry`)
    expect(retried.status).toBe(202)
    expect(retried.body).toMatchObject({ retryOf: first.body.taskId, prompt, timeoutMs: 12_345, metadata: { a: 'b' } })
    expect(await ended(on, retried.body.taskId)).toMatchObject({ status: 'succeeded', result: { text: 'again\n' } })
    const long = await run(on, wsId, { prompt: 'sleep 30' })
    expect(await on.call('POST', `/api/headless/${long.body.taskId}/retry`)).toMatchObject({
      status: 409,
      body: { code: 'not_retryable' },
    })
  })

  test('a run whose long prompt was removed after its time is not retried without it', async () => {
    await using on = await server()
    const wsId = await on.workspace()
    const { taskId } = (await run(on, wsId, { prompt: `true # ${'long '.repeat(300)}`, wait: true })).body
    await rm(join(on.dataDir, 'runs', taskId), { recursive: true })
    const refused = await on.call<{ code: string }>('POST', `/api/headless/${taskId}/retry`)
    expect([refused.status, refused.body.code]).toEqual([410, 'log_retired'])
    expect((await on.call<{ tasks: Run[] }>('GET', '/api/headless')).body.tasks).toHaveLength(1)
  })
})

describe('idempotency', () => {
  test('I1, I2: the same key and body answer the same, start once, also at capacity; another body is refused', async () => {
    await using on = await server({ maxRuns: 1 })
    const wsId = await on.workspace()
    const key = { 'idempotency-key': 'build-812' }
    const first = await run(on, wsId, { prompt: 'sleep 1; echo one' }, key)
    const again = await run(on, wsId, { prompt: 'sleep 1; echo one' }, key)
    expect([again.status, again.text, again.headers.get('idempotency-replayed')]).toEqual([202, first.text, 'true'])
    expect(await run(on, wsId, { prompt: 'other' }, key)).toMatchObject({
      status: 422,
      body: { code: 'idempotency_mismatch' },
    })
    await ended(on, first.body.taskId)
    expect((await run(on, wsId, { prompt: 'sleep 1; echo one' }, key)).text).toBe(first.text)
    expect((await on.call<{ tasks: Run[] }>('GET', '/api/headless')).body.tasks).toHaveLength(1)
  })

  test('I3: of fifty at once with one key, one starts', async () => {
    await using on = await server()
    const wsId = await on.workspace()
    const answers = await Promise.all(
      Array.from({ length: 50 }, () => run(on, wsId, { prompt: 'echo once' }, { 'idempotency-key': 'k' })),
    )
    for (const { status } of answers) expect([202, 409]).toContain(status)
    const ids = new Set(answers.filter((answer) => answer.status === 202).map((answer) => answer.body.taskId))
    expect(ids.size).toBe(1)
    expect((await on.call<{ tasks: Run[] }>('GET', '/api/headless')).body.tasks).toHaveLength(1)
  })

  test('with `wait` the key is in flight until the run ends, and then answers with it', async () => {
    await using on = await server()
    const wsId = await on.workspace()
    const body = { prompt: 'sleep 1; echo waited', wait: true }
    const waiting = run(on, wsId, body, { 'idempotency-key': 'w' })
    await eventually(async () => (await on.call<{ tasks: Run[] }>('GET', '/api/headless')).body.tasks.length === 1)
    const early = await run(on, wsId, body, { 'idempotency-key': 'w' })
    expect([early.status, early.headers.get('retry-after')]).toEqual([409, '1'])
    const first = await waiting
    const replay = await run(on, wsId, body, { 'idempotency-key': 'w' })
    expect([replay.status, replay.text]).toEqual([200, first.text])
  })

  test('I13: a request refused at capacity leaves its key free', async () => {
    await using on = await server({ maxRuns: 1 })
    const wsId = await on.workspace()
    const busy = await run(on, wsId, { prompt: 'sleep 30' })
    expect((await run(on, wsId, { prompt: 'true' }, { 'idempotency-key': 'k' })).status).toBe(429)
    await on.call('POST', `/api/headless/${busy.body.taskId}/cancel`)
    expect((await run(on, wsId, { prompt: 'true' }, { 'idempotency-key': 'k' })).status).toBe(202)
  })

  test('a key survives a restart, with the same bytes', async () => {
    await using directory = await temporaryDirectory()
    const options = { config: { agents }, dataDir: directory.path }
    const before = await startTestServer(options)
    const wsId = await before.workspace()
    const first = await run(
      before,
      wsId,
      { prompt: 'echo one', metadata: { z: '1', a: '2' } },
      { 'idempotency-key': 'k' },
    )
    await ended(before, first.body.taskId)
    await before.stop()
    await using after = await startTestServer(options)
    const again = await run(
      after,
      wsId,
      { prompt: 'echo one', metadata: { z: '1', a: '2' } },
      { 'idempotency-key': 'k' },
    )
    expect([again.status, again.text, again.headers.get('idempotency-replayed')]).toEqual([202, first.text, 'true'])
  })
})

describe('git', () => {
  async function repository(path: string): Promise<void> {
    const git = (...args: string[]): void =>
      void execFileSync('git', ['-C', path, '-c', 'user.name=t', '-c', 'user.email=t@example.org', ...args])
    await mkdir(path, { recursive: true })
    git('init', '-q', '-b', 'main')
    await writeFile(join(path, 'kept.txt'), 'one\n')
    git('add', '.')
    git('commit', '-qm', 'first')
    await writeFile(join(path, 'dirty.txt'), 'was there before\n')
  }

  test('the diff is what the run changed, committed or not, and nothing that was there before', async () => {
    await using on = await server()
    await using directory = await temporaryDirectory()
    await repository(directory.path)
    const wsId = await on.workspace({ path: directory.path })
    const prompt =
      'echo two >> kept.txt; echo new > new.txt; git add new.txt; git -c user.name=t -c user.email=t@e commit -qm second'
    const { body } = await run(on, wsId, { prompt, wait: true })
    expect(body.git).toMatchObject({ branch: 'main', filesChanged: 2, worktree: null })
    expect(body.git.baseSha).toMatch(/^[0-9a-f]{40}$/)
    expect(body.git.headSha).not.toBe(body.git.baseSha)
    const patch = await on.call('GET', `/api/headless/${body.taskId}/diff`)
    expect(patch.headers.get('content-type')).toMatch(/^text\/x-diff/)
    expect(patch.text).toContain('+two')
    expect(patch.text).toContain('new.txt')
    expect(patch.text).not.toContain('dirty.txt')
  })

  test('a worktree keeps the workspace untouched, and stays while there is work in it', async () => {
    await using on = await server()
    await using directory = await temporaryDirectory()
    await repository(directory.path)
    const wsId = await on.workspace({ path: directory.path })
    const { body } = await run(on, wsId, { prompt: 'echo changed > kept.txt; pwd', isolation: 'worktree', wait: true })
    expect(body).toMatchObject({ status: 'succeeded', git: { branch: `postern/${body.taskId}`, filesChanged: 1 } })
    expect(await readFile(join(directory.path, 'kept.txt'), 'utf8')).toBe('one\n')
    expect(await readFile(join(body.git.worktree ?? '', 'kept.txt'), 'utf8')).toBe('changed\n')
    const clean = await run(on, wsId, { prompt: 'true', isolation: 'worktree', wait: true })
    expect(clean.body.git).toMatchObject({ filesChanged: 0, worktree: null })
    expect(execFileSync('git', ['-C', directory.path, 'branch'], { encoding: 'utf8' })).not.toContain(clean.body.taskId)
  })

  test('a conversation that its agent keeps by directory goes on in its worktree, or not at all', async () => {
    await using directory = await temporaryDirectory()
    const [programs, repo] = [join(directory.path, 'programs'), join(directory.path, 'repository')]
    await repository(repo)
    await mkdir(programs)
    const script = `#!/bin/bash
      prompt=$(cat)
      if [[ "$*" != *--session* ]]; then pwd > "$HOME/where"
      elif [ "$(cat "$HOME/where")" != "$PWD" ]; then echo 'no session found' >&2; exit 1; fi
      [[ "$prompt" != *work* ]] || echo "$prompt" >> work.txt
      echo '{"type":"session","id":"c-1"}'
      printf '{"type":"message_end","message":{"role":"assistant","content":[{"type":"text","text":"%s"}]}}\\n' "$PWD"
      echo '{"type":"agent_end","messages":[{"role":"assistant","stopReason":"stop"}]}'\n`
    await writeFile(join(programs, 'pi'), script, { mode: 0o755 })
    const path = `${programs}:${process.env['PATH']}`
    await using on = await startTestServer({ environment: { HOME: directory.path, PATH: path } })
    const wsId = await on.workspace({ path: repo })
    const pi = (prompt: string, more: Record<string, unknown> = {}) =>
      run(on, wsId, { agent: 'pi', prompt, wait: true, ...more })
    const isolation = 'worktree'

    const { body: first } = await pi('work', { isolation })
    expect(first).toMatchObject({ status: 'succeeded', resumable: true, git: { filesChanged: 1 } })
    const there = {
      isolation,
      resumable: true,
      git: { worktree: first.git.worktree },
      result: { text: first.git.worktree },
    }
    const { body: second } = await pi('more work', { resume: first.taskId })
    expect(second, second.detail ?? '').toMatchObject({ status: 'succeeded', ...there })
    const { body: third } = await pi('look', { resume: second.taskId, isolation })
    expect(third, third.detail ?? '').toMatchObject({ status: 'succeeded', ...there })
    expect(await readFile(join(first.git.worktree ?? '', 'work.txt'), 'utf8')).toBe('work\nmore work\n')
    await rename(first.git.worktree ?? '', join(directory.path, 'elsewhere'))
    const lost = await pi('look', { resume: third.taskId })
    expect(lost.body).toMatchObject({ status: 'failed', reason: 'worktree_failed' })
    expect(lost.body.detail).toBe(`the worktree of ${first.taskId} could not be entered: it is not there any more`)

    const { body: clean } = await pi('look', { isolation })
    expect(clean).toMatchObject({ status: 'succeeded', resumable: false, git: { worktree: null } })
    const refused = await pi('look', { resume: clean.taskId })
    expect(refused).toMatchObject({ status: 409, body: { code: 'not_resumable' } })
    expect(refused.text).toContain('only in its worktree, which was removed')
    const { body: plain } = await pi('look')
    expect((await pi('look', { resume: plain.taskId, isolation })).text).toContain('only in the workspace itself')
    expect((await pi('look', { resume: plain.taskId })).body).toMatchObject({ status: 'succeeded', isolation: 'none' })
  })

  test('a diff that could not be made says why, in its answer and in the log', async () => {
    const faulty = faultyDisk()
    await using on = await startTestServer({ config: { agents }, disk: faulty.disk })
    const wsId = await on.workspace()
    const many = 'mkdir many; cd many; for i in $(seq 20001); do : > $i; done'
    const { body } = await run(on, wsId, { prompt: many, wait: true })
    expect(body).toMatchObject({ status: 'succeeded', git: { filesChanged: 0 } })
    const diff = async ({ taskId }: Run) =>
      (await on.call<{ code: string; detail: string }>('GET', `/api/headless/${taskId}/diff`)).body
    const tooMany = '20001 files that git does not have; the limit is 20000'
    expect(await diff(body)).toMatchObject({
      code: 'diff_not_available',
      detail: `there is no diff of ${body.taskId}: ${tooMany}`,
    })
    const { events } = (await on.call<{ events: Event[] }>('GET', `/api/headless/${body.taskId}/events`)).body
    expect(events).toContainEqual(expect.objectContaining({ type: 'log', message: `there is no diff: ${tooMany}` }))
    const next = await run(on, wsId, { prompt: 'true', wait: true })
    expect((await diff(next.body)).detail).toContain(tooMany)

    const other = await on.workspace()
    faulty.onCall = (name) => {
      if (name === 'rename') throw diskError('ENOSPC')
      return undefined
    }
    const full = await run(on, other, { prompt: 'touch new', wait: true })
    faulty.onCall = undefined
    expect((await diff(full.body)).detail).toBe(`there is no diff of ${full.body.taskId}: the disk says ENOSPC`)
  })

  test('outside git there is no diff, and no worktree', async () => {
    await using on = await server()
    await using directory = await temporaryDirectory()
    const wsId = await on.workspace({ path: directory.path })
    const { body } = await run(on, wsId, { prompt: 'touch x', wait: true })
    expect(body.git).toEqual({ baseSha: null, headSha: null, branch: null, filesChanged: 0, worktree: null })
    expect(await on.call('GET', `/api/headless/${body.taskId}/diff`)).toMatchObject({
      status: 404,
      body: { code: 'diff_not_available' },
    })
    const isolated = await run(on, wsId, { prompt: 'true', isolation: 'worktree', wait: true })
    expect(isolated.body).toMatchObject({ status: 'failed', reason: 'worktree_failed' })
  })
})

describe('lists', () => {
  test('are newest first, filtered, and continued with a cursor', async () => {
    await using on = await server()
    const [a, b] = [await on.workspace(), await on.workspace()]
    for (let i = 0; i < 5; i++) await run(on, i % 2 ? b : a, { prompt: i === 2 ? 'exit 1' : 'true', wait: true })
    const all = (await on.call<{ tasks: Run[]; nextCursor: null }>('GET', '/api/headless')).body
    expect(all.tasks.map((task) => task.taskId)).toEqual(
      all.tasks
        .map((task) => task.taskId)
        .toSorted()
        .reverse(),
    )
    expect([all.tasks.length, all.nextCursor]).toEqual([5, null])
    const list = async (query: string) =>
      (await on.call<{ tasks: Run[]; nextCursor: string | null }>('GET', `/api/headless?${query}`)).body
    expect((await list(`wsId=${b}`)).tasks).toHaveLength(2)
    expect((await list('status=failed')).tasks.map((task) => task.exitCode)).toEqual([1])
    const page = await list('limit=2')
    const next = await list(`limit=2&cursor=${page.nextCursor}`)
    const last = await list(`limit=2&cursor=${next.nextCursor}`)
    expect([...page.tasks, ...next.tasks, ...last.tasks].map((task) => task.taskId)).toEqual(
      all.tasks.map((task) => task.taskId),
    )
    expect(last.nextCursor).toBeNull()
    expect(await on.call('GET', '/api/headless?cursor=nonsense')).toMatchObject({
      status: 400,
      body: { code: 'invalid_cursor' },
    })
  })
})
