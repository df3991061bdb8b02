import { mkdirSync, rmSync } from 'node:fs'
import { mkdir, readFile, rename, utimes, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { describe, expect, test } from 'vitest'
import type { Run, Workspace } from '../src/model.ts'
import type { InboxEntry } from '../src/model/inbox.ts'
import type { IssueBoard, IssueSchedule } from '../src/model/issues.ts'
import type { Disk } from '../src/store/disk.ts'
import { knock, mint, openSession } from './channels.ts'
import { setBack } from './dead-state.ts'
import { diskError, faultyDisk } from './faulty-disk.ts'
import { startTestServer, type TestServer } from './harness.ts'
import { createJumpingClock, type JumpingClock } from './jumping-clock.ts'
import { eventually, temporaryDirectory } from './temporary.ts'

/** Issues that run by themselves, on a real server with real files and runs. Only the clock is ours. */

const START = Date.parse('2026-11-20T09:00:00.250Z')
const START_AT = new Date(START).toISOString()
const SECOND = 1_000
const HOUR = 3_600 * SECOND
const DAY = 24 * HOUR
const QUICK = { quick: { command: ['echo', 'done'] } }

interface Stage extends AsyncDisposable {
  server: TestServer
  clock: JumpingClock
  wsId: string
  write(issueId: string, keys: string, body?: string): Promise<void>
  file(issueId: string): string
  schedule(issueId: string): Promise<IssueSchedule>
  /** Runs of the issue, oldest first. */
  runs(issueId: string): Promise<Run[]>
  /** The schedule, once the last fire with this due time has ended. */
  fired(issueId: string, dueAt: string): Promise<IssueSchedule>
  /** Reads every file again, so that what was written is known to the scheduler. */
  look(): Promise<IssueBoard>
  entries(): Promise<InboxEntry[]>
  restart(meanwhile?: () => void): Promise<void>
}

async function stage(
  config: Record<string, unknown> = {},
  startAt = START,
  more: { disk?: Disk } = {},
): Promise<Stage> {
  const directory = await temporaryDirectory()
  const clock = createJumpingClock(startAt)
  const options = { clock, dataDir: directory.path, config: { agents: QUICK, ...config }, ...more }
  let server = await startTestServer(options)
  const wsId = await server.workspace({ agents: ['quick', 'demo'], defaultAgent: 'quick' })
  const { body } = await server.call<Workspace>('GET', `/api/workspaces/${wsId}`)
  const file = (issueId: string): string => join(body.path, '.postern/issues', `${issueId}.md`)
  const schedule = async (issueId: string): Promise<IssueSchedule> =>
    (await server.call<IssueSchedule>('GET', `/api/workspaces/${wsId}/issues/${issueId}/schedule`)).body
  return {
    get server() {
      return server
    },
    clock,
    wsId,
    file,
    schedule,
    async write(issueId, keys, text = 'Do it.') {
      await mkdir(join(body.path, '.postern/issues'), { recursive: true })
      const whole = `${file(issueId)}.whole`
      await writeFile(whole, `---\ntitle: Issue ${issueId}\n${keys}\n---\n${text}\n`)
      // On our clock, as everything else, and before anybody looks.
      await utimes(whole, clock.now() / SECOND, clock.now() / SECOND)
      await rename(whole, file(issueId))
    },
    async runs(issueId) {
      const { body } = await server.call<{ tasks: Run[] }>('GET', `/api/headless?wsId=${wsId}&limit=200`)
      return body.tasks.filter((run) => run.trigger.issueId === issueId).toReversed()
    },
    fired: (issueId, dueAt) =>
      eventually(async () => {
        const found = await schedule(issueId)
        return found.lastFire?.dueAt === dueAt && found.lastFire.status !== null && found
      }),
    look: async () => (await server.call<IssueBoard>('GET', '/api/issues')).body,
    entries: async () => (await server.call<{ entries: InboxEntry[] }>('GET', '/api/inbox')).body.entries,
    async restart(meanwhile = () => undefined) {
      await server.stop()
      meanwhile()
      server = await startTestServer(options)
    },
    async [Symbol.asyncDispose]() {
      await server.stop()
      await directory[Symbol.asyncDispose]()
    },
  }
}

const dues = (runs: Run[]): (string | undefined)[] => runs.map(({ trigger }) => trigger.dueAt)

describe('an issue that schedules itself', () => {
  test('is noticed when its file is written, fires on time, and stops when its file says so', async () => {
    await using at = await stage()
    await at.write('tick', 'when: { kind: every, every: 10s }')
    // No look of ours: the watch has to see it.
    await eventually(async () => (await at.schedule('tick')).nextFires?.[0] === '2026-11-20T09:00:10.000Z')
    for (const second of ['10', '20', '30']) {
      at.clock.passTo(Date.parse(`2026-11-20T09:00:${second}.000Z`))
      const { lastFire } = await at.fired('tick', `2026-11-20T09:00:${second}.000Z`)
      expect(lastFire).toMatchObject({ status: 'succeeded' })
      // On time: the run was accepted in the second in which it was due.
      expect(lastFire?.at.slice(0, 19)).toBe(`2026-11-20T09:00:${second}`)
    }
    // Its word counts from the moment in which it is written, whether anybody has noticed or not.
    await at.write('tick', 'when: { kind: every, every: 10s }\nstatus: done')
    at.clock.pass(60 * SECOND)
    await at.look()
    expect(dues(await at.runs('tick'))).toEqual(['10', '20', '30'].map((second) => `2026-11-20T09:00:${second}.000Z`))
    expect((await at.runs('tick'))[0]).toMatchObject({ prompt: 'Do it.', agent: 'quick', trigger: { kind: 'issue' } })
  })

  test('is noticed also in a folder that was taken away and made again, however often', async () => {
    await using at = await stage()
    const folder = dirname(at.file('tick'))
    await at.write('tick', 'when: { kind: every, every: 10s }')
    for (const second of [10, 20, 30, 40, 50]) {
      // At once: nothing of the server runs in between, and many file systems give the new folder the old inode.
      rmSync(second % 20 === 0 ? dirname(folder) : folder, { recursive: true })
      mkdirSync(folder, { recursive: true })
      // Looked at before anything is in it: from here on only a watch that lives tells of the new file.
      await at.look()
      await at.look()
      const issueId = `tick-${second}`
      await at.write(issueId, 'when: { kind: every, every: 10s }')
      at.clock.passTo(Date.parse(`2026-11-20T09:00:${second}.000Z`))
      await at.fired(issueId, `2026-11-20T09:00:${second}.000Z`)
    }
  })

  test('is started again by its file, and does not make up for the time in which it was stopped', async () => {
    await using at = await stage()
    await at.write('tick', 'when: { kind: every, every: 1h }')
    await at.look()
    await at.write('tick', 'when: { kind: every, every: 1h }\nstatus: done')
    await at.look()
    at.clock.pass(5 * HOUR)
    await at.write('tick', 'when: { kind: every, every: 1h }\nstatus: todo')
    await at.look()
    expect(await at.schedule('tick')).toMatchObject({ health: 'ok', lastFire: null, lastMiss: null })
    at.clock.passTo(Date.parse('2026-11-20T15:00:00Z'))
    await at.fired('tick', '2026-11-20T15:00:00.000Z')
    expect(await at.runs('tick')).toHaveLength(1)
  })

  test.each(['while the server runs', 'while it is down'])(
    'that was taken away %s and comes back owes nothing for the time it was gone',
    async (when) => {
      await using at = await stage()
      await at.write('tick', 'when: { kind: every, every: 1h }')
      await at.look()
      const goes = (): void => rmSync(at.file('tick'))
      if (when === 'while it is down') await at.restart(goes)
      else goes()
      await at.look()
      at.clock.pass(5 * HOUR)
      await at.write('tick', 'when: { kind: every, every: 1h }')
      await at.look()
      expect(await at.schedule('tick')).toMatchObject({ health: 'ok', lastFire: null, lastMiss: null })
      at.clock.passTo(Date.parse('2026-11-20T15:00:00Z'))
      await at.fired('tick', '2026-11-20T15:00:00.000Z')
      expect(await at.runs('tick')).toHaveLength(1)
    },
  )

  test('that was broken for a while is still owed what fell due meanwhile', async () => {
    await using at = await stage()
    await at.write('tick', 'when: { kind: every, every: 1h }')
    await at.look()
    const good = await readFile(at.file('tick'), 'utf8')
    await at.write('tick', 'when: { kind: every, every: hourly }')
    expect((await at.look()).problems).toHaveLength(1)
    at.clock.passTo(Date.parse('2026-11-20T10:30:00Z'))
    await writeFile(at.file('tick'), good)
    await at.look()
    await at.fired('tick', '2026-11-20T10:00:00.000Z')
  })

  test('fires while another file is broken, which is named; put right, that one fires too', async () => {
    await using at = await stage()
    await at.write('good', 'when: { kind: every, every: 1h }')
    await at.write('bad', 'when: { kind: every, every: hourly }')
    const { issues, problems } = await at.look()
    expect(issues.map(({ issueId }) => issueId)).toEqual(['good'])
    expect(problems).toMatchObject([{ file: '.postern/issues/bad.md', line: 3 }])
    at.clock.passTo(Date.parse('2026-11-20T10:00:00Z'))
    await at.fired('good', '2026-11-20T10:00:00.000Z')
    await at.write('bad', 'when: { kind: every, every: 1h }')
    expect((await at.look()).problems).toEqual([])
    at.clock.passTo(Date.parse('2026-11-20T11:00:00Z'))
    await at.fired('bad', '2026-11-20T11:00:00.000Z')
    await at.fired('good', '2026-11-20T11:00:00.000Z')
  })

  test('runs once at a moment, and is done when that succeeded; everything else in its file stays', async () => {
    await using at = await stage()
    await at.write('once', 'owner: ada   # by hand\nwhen: { kind: at, at: 2026-11-20T11:00:00+01:00 }')
    const before = await readFile(at.file('once'), 'utf8')
    await at.look()
    at.clock.passTo(Date.parse('2026-11-20T10:00:00Z'))
    await at.fired('once', '2026-11-20T10:00:00.000Z')
    const after = await readFile(at.file('once'), 'utf8')
    expect(after).toBe(before.replace('---\nDo', 'status: done\n---\nDo'))
    expect(await at.schedule('once')).toMatchObject({ health: 'stopped', nextFires: [] })
    expect(await at.runs('once')).toHaveLength(1)
  })

  test('whose run failed is not done, and people are told once, also after a restart', async () => {
    await using at = await stage()
    await at.write('once', 'agent: demo\nwhen: { kind: at, at: 2026-11-20T10:00:00Z }', '/fail 3')
    await at.look()
    at.clock.passTo(Date.parse('2026-11-20T10:00:00Z'))
    expect(await at.fired('once', '2026-11-20T10:00:00.000Z')).toMatchObject({
      health: 'failing',
      lastFire: { status: 'failed', reason: 'exit_nonzero' },
    })
    expect(await readFile(at.file('once'), 'utf8')).not.toContain('done')
    await at.restart()
    await at.look()
    const entries = await at.entries()
    expect(entries.map(({ from, title, wsId, issueId }) => ({ from, title, wsId, issueId }))).toEqual([
      { from: 'server', title: 'once failed: exit_nonzero', wsId: at.wsId, issueId: 'once' },
    ])
    expect(entries[0]?.body).toMatch(/^"Issue once" was due at 2026-11-20T10:00:00\.000Z, run headless_/)
    expect(await at.runs('once')).toHaveLength(1)
  })

  test('that succeeds without a report leaves an entry, and one that says that it has none leaves nothing', async () => {
    await using at = await stage()
    await at.write('mute', 'agent: demo\nwhen: { kind: at, at: 2026-11-20T10:00:00Z }', '/no-report')
    await at.write('silent', 'agent: demo\nwhen: { kind: at, at: 2026-11-20T10:00:00Z }', '/silent')
    await at.look()
    at.clock.passTo(Date.parse('2026-11-20T10:00:00Z'))
    expect((await at.fired('mute', '2026-11-20T10:00:00.000Z')).lastFire).toMatchObject({ outcome: 'no_report' })
    expect((await at.fired('silent', '2026-11-20T10:00:00.000Z')).lastFire).toMatchObject({ outcome: 'silent' })
    expect((await at.entries()).map(({ title }) => title)).toEqual(['mute reported nothing: no_report'])
  })

  test('takes agent and time limit from its file', async () => {
    await using at = await stage()
    await at.write('slow', 'agent: demo\ntimeoutMs: 300\nwhen: { kind: every, every: 1h }', '/sleep 60')
    await at.look()
    at.clock.passTo(Date.parse('2026-11-20T10:00:00Z'))
    expect((await at.fired('slow', '2026-11-20T10:00:00.000Z')).lastFire).toMatchObject({ status: 'timed_out' })
    expect(await at.runs('slow')).toMatchObject([{ agent: 'demo', timeoutMs: 300 }])
  })
})

describe('a fire happens once', () => {
  const due = '2026-11-20T10:00:00.000Z'
  const old = new Date('2026-11-20T09:00:01Z')

  /** The marker is lost: the issue is forgotten, and its file comes back as old as it was. */
  async function forget(at: Stage): Promise<void> {
    const { status } = await at.server.call('DELETE', `/api/workspaces/${at.wsId}/issues/tick`, undefined, {
      token: true,
    })
    expect(status).toBe(200)
    await at.write('tick', 'when: { kind: every, every: 1h }')
    await utimes(at.file('tick'), old, old)
    await at.look()
  }

  test('when the marker was lost, the run names its due time', async () => {
    await using at = await stage()
    await at.write('tick', 'when: { kind: every, every: 1h }')
    await at.look()
    at.clock.passTo(Date.parse(due))
    const first = await at.fired('tick', due)
    await forget(at)
    const again = await at.fired('tick', due)
    expect(again.lastFire?.taskId).toBe(first.lastFire?.taskId)
    expect(await at.runs('tick')).toHaveLength(1)
  })

  test('also when the file has other words by then', async () => {
    await using at = await stage()
    await at.write('tick', 'when: { kind: every, every: 1h }', 'Other words.')
    await at.look()
    at.clock.passTo(Date.parse(due))
    const first = await at.fired('tick', due)
    await forget(at)
    expect((await at.fired('tick', due)).lastFire?.taskId).toBe(first.lastFire?.taskId)
    expect(await at.runs('tick')).toHaveLength(1)
  })

  test('also after days', async () => {
    await using at = await stage()
    const cron = 'when: { kind: cron, cron: "0 10 20 11 *" }'
    await at.write('tick', cron)
    await at.look()
    at.clock.passTo(Date.parse(due))
    const first = await at.fired('tick', due)
    at.clock.pass(3 * DAY)
    await at.server.call('DELETE', `/api/workspaces/${at.wsId}/issues/tick`, undefined, { token: true })
    await at.write('tick', cron)
    await utimes(at.file('tick'), old, old)
    await at.look()
    expect((await at.fired('tick', due)).lastFire?.taskId).toBe(first.lastFire?.taskId)
    expect(await at.runs('tick')).toHaveLength(1)
  })

  test('when the wall clock is set back, what has fired does not fire again', async () => {
    await using at = await stage()
    await at.write('tick', 'when: { kind: every, every: 1m }')
    await at.look()
    at.clock.passTo(Date.parse('2026-11-20T09:01:00Z'))
    await at.fired('tick', '2026-11-20T09:01:00.000Z')
    at.clock.suspend(-45 * SECOND)
    for (let i = 0; i < 3; i++) {
      at.clock.pass(16 * SECOND)
      await at.look()
    }
    expect(dues(await at.runs('tick'))).toEqual(['2026-11-20T09:01:00.000Z'])
    at.clock.passTo(Date.parse('2026-11-20T09:02:00Z'))
    await at.fired('tick', '2026-11-20T09:02:00.000Z')
  })

  test('also when it is set back by hours, and other runs have come since', async () => {
    await using at = await stage()
    await at.write('tick', 'when: { kind: every, every: 1h }')
    await at.look()
    const second = '2026-11-20T11:00:00.000Z'
    for (const each of [due, second]) {
      at.clock.passTo(Date.parse(each))
      await at.fired('tick', each)
    }
    at.clock.suspend(-90 * 60 * SECOND)
    at.clock.pass(30 * SECOND)
    await eventually(async () => (await at.schedule('tick')).nextFires[0] === due)
    for (const each of [due, second]) {
      await at.server.call('POST', `/api/workspaces/${at.wsId}/headless`, { prompt: 'x' })
      at.clock.passTo(Date.parse(each))
      await at.fired('tick', each)
    }
    expect(dues(await at.runs('tick'))).toEqual([due, second])
  })
})

describe('the idempotency keys of callers', () => {
  const hours = ['2026-11-20T10:00:00.000Z', '2026-11-20T11:00:00.000Z', '2026-11-20T12:00:00.000Z']
  const start = (at: Stage, key: string) =>
    at.server.call(
      'POST',
      `/api/workspaces/${at.wsId}/headless`,
      { prompt: 'x' },
      { headers: { 'idempotency-key': key } },
    )

  test('are not used up by fires and by what people are told of them', async () => {
    await using at = await stage({ maxIdempotencyKeys: 2 })
    await at.write('tick', 'when: { kind: every, every: 1h }')
    await at.look()
    for (const hour of hours) {
      at.clock.passTo(Date.parse(hour))
      await at.fired('tick', hour)
    }
    expect(await at.entries()).toHaveLength(3)
    await at.restart()
    expect((await start(at, 'mine')).status).toBe(202)
    const { token } = await mint(at.server, { sessionId: await openSession(at.server, at.wsId) })
    expect(await knock(at.server, token, { message: 'hi', idempotency_key: 'k' })).toMatchObject({ status: 200 })
    expect(await start(at, 'another')).toMatchObject({ status: 429, body: { code: 'too_many_keys' } })
  })

  test('used up, keep no fire from its run, and nobody from being told of it', async () => {
    await using at = await stage({ maxIdempotencyKeys: 1 })
    expect((await start(at, 'mine')).status).toBe(202)
    expect(await start(at, 'another')).toMatchObject({ status: 429, body: { code: 'too_many_keys' } })
    await at.write('tick', 'when: { kind: every, every: 1h }')
    await at.look()
    for (const hour of hours) {
      at.clock.passTo(Date.parse(hour))
      expect((await at.fired('tick', hour)).lastFire?.outcome).toBe('no_report')
    }
    expect((await at.entries()).map(({ title }) => title)).toEqual(Array(3).fill('tick reported nothing: no_report'))
  })
})

test('a clock that was years ahead does not silence a schedule once it is put right', async () => {
  await using at = await stage({}, Date.parse('2030-01-01T00:00:00Z'))
  await at.write('tick', 'when: { kind: every, every: 1h }')
  await at.look()
  at.clock.passTo(Date.parse('2030-01-01T01:00:00Z'))
  await at.fired('tick', '2030-01-01T01:00:00.000Z')
  at.clock.suspend(Date.parse('2026-11-20T09:30:00Z') - at.clock.now())
  at.clock.pass(30 * SECOND)
  await eventually(async () => (await at.schedule('tick')).nextFires[0] === '2026-11-20T10:00:00.000Z')
  at.clock.passTo(Date.parse('2026-11-20T10:00:00Z'))
  await at.fired('tick', '2026-11-20T10:00:00.000Z')
  expect(await at.runs('tick')).toHaveLength(2)
})

describe('after downtime', () => {
  test.each([
    ['once', ['2026-11-20T14:00:00.000Z']],
    ['skip', []],
  ])('catchUp %s runs %j of the five fires that were missed', async (catchUp, expected) => {
    await using at = await stage()
    await at.write('tick', `when: { kind: every, every: 1h }\ncatchUp: ${catchUp}`)
    await at.look()
    await at.restart(() => at.clock.passTo(Date.parse('2026-11-20T14:30:00Z')))
    const found = await eventually(async () => {
      const schedule = await at.schedule('tick')
      const isDecided = schedule.lastMiss !== null || (schedule.lastFire?.status ?? null) !== null
      return isDecided && schedule
    })
    if (catchUp === 'skip') expect(found.lastMiss).toMatchObject({ code: 'missed', dueAt: '2026-11-20T14:00:00.000Z' })
    expect(dues(await at.runs('tick'))).toEqual(expected)
    expect(found.nextFires[0]).toBe('2026-11-20T15:00:00.000Z')
    // It goes on as before.
    at.clock.passTo(Date.parse('2026-11-20T15:00:00Z'))
    await at.fired('tick', '2026-11-20T15:00:00.000Z')
  })

  test.each([
    ['skip', 2, ['2026-11-20T10:00:00.000Z']],
    ['once', 65, ['2026-11-20T10:00:00.000Z', '2026-11-20T11:00:00.000Z']],
  ])(
    'catchUp %s, %i minutes after a server died between run and row: that run is found and attended to',
    async (catchUp, minutes, expected) => {
      await using at = await stage()
      const keys = `agent: demo\ntimeoutMs: 1800000\nwhen: { kind: every, every: 1h }\ncatchUp: ${catchUp}`
      await at.write('tick', keys, '/sleep 600')
      await at.look()
      at.clock.passTo(Date.parse(expected[0] ?? ''))
      const { taskId } = await eventually(async () => (await at.schedule('tick')).lastFire ?? false)
      await at.restart(() => {
        setBack(at.server.dataDir, 'fires', `${at.wsId}/tick`, { settledUntil: START_AT, lastFire: null })
        at.clock.pass(minutes * 60 * SECOND)
      })
      const { lastFire, lastMiss } = await eventually(async () => {
        const found = await at.schedule('tick')
        return (found.lastFire ?? found.lastMiss)?.dueAt === expected.at(-1) && found
      })
      expect({ lastFire, lastMiss }).toMatchObject({ lastFire: { dueAt: expected.at(-1) }, lastMiss: null })
      const told = await eventually(async () => (await at.entries())[0])
      expect(told).toMatchObject({ title: 'tick failed: server_stopped', taskId })
      expect(dues(await at.runs('tick'))).toEqual(expected)
    },
  )

  test('a fire that is a minute late at most was not missed', async () => {
    await using at = await stage()
    await at.write('tick', 'when: { kind: every, every: 1h }\ncatchUp: skip')
    await at.look()
    await at.restart(() => at.clock.passTo(Date.parse('2026-11-20T10:00:50Z')))
    await at.fired('tick', '2026-11-20T10:00:00.000Z')
  })

  test('a laptop that slept through the night runs once, within half a minute of waking', async () => {
    await using at = await stage()
    await at.write('tick', 'when: { kind: every, every: 1h }')
    await at.look()
    at.clock.suspend(8 * HOUR)
    expect(await at.runs('tick')).toEqual([])
    at.clock.pass(30 * SECOND)
    await at.fired('tick', '2026-11-20T17:00:00.000Z')
    expect(await at.runs('tick')).toHaveLength(1)
  })

  test('a workspace that is registered later owes nothing for the years before', async () => {
    await using at = await stage()
    await using elsewhere = await temporaryDirectory()
    const folder = join(elsewhere.path, '.postern/issues')
    await mkdir(folder, { recursive: true })
    await writeFile(join(folder, 'old.md'), '---\ntitle: Old\nwhen: { kind: every, every: 1h }\n---\nx\n')
    const long = new Date('2024-01-01')
    await utimes(join(folder, 'old.md'), long, long)
    const wsId = await at.server.workspace({ path: elsewhere.path, agents: ['quick'] })
    // The registration itself makes it known, without anybody looking.
    const schedule = await eventually(async () => {
      const { body } = await at.server.call<IssueSchedule>('GET', `/api/workspaces/${wsId}/issues/old/schedule`)
      return body.nextFires && body
    })
    expect(schedule).toMatchObject({ health: 'ok', lastFire: null, lastMiss: null })
    for (let i = 0; i < 5; i++) {
      at.clock.pass(60 * SECOND)
      await at.look()
    }
    at.clock.passTo(Date.parse('2026-11-20T10:00:00Z'))
    await eventually(async () => {
      const { body } = await at.server.call<IssueSchedule>('GET', `/api/workspaces/${wsId}/issues/old/schedule`)
      return body.lastFire?.dueAt === '2026-11-20T10:00:00.000Z'
    })
    const { body } = await at.server.call<{ tasks: Run[] }>('GET', `/api/headless?wsId=${wsId}`)
    expect(dues(body.tasks)).toEqual(['2026-11-20T10:00:00.000Z'])
  })
})

describe('while a run of the issue is at work', () => {
  const first = '2026-11-20T10:00:00.000Z'
  const second = '2026-11-20T10:10:00.000Z'
  const third = '2026-11-20T10:20:00.000Z'

  async function busy(overlap: string): Promise<Stage & { taskId: string }> {
    const at = await stage()
    await at.write(
      'tick',
      `agent: demo\nwhen: { kind: cron, cron: "*/10 * * * *" }\noverlap: ${overlap}\ntimeoutMs: 1800000`,
      '/sleep 600',
    )
    await at.look()
    at.clock.passTo(Date.parse(first))
    const { lastFire } = await eventually(async () => {
      const found = await at.schedule('tick')
      return found.lastFire?.dueAt === first && found
    })
    return Object.assign(at, { taskId: lastFire?.taskId ?? '' })
  }
  const cancel = (at: Stage, taskId: string) => at.server.call<Run>('POST', `/api/headless/${taskId}/cancel`)

  test('overlap skip lets the due time go, and says why', async () => {
    await using at = await busy('skip')
    at.clock.passTo(Date.parse(second))
    const found = await eventually(async () => {
      const schedule = await at.schedule('tick')
      return schedule.lastMiss !== null && schedule
    })
    expect(found.lastMiss).toMatchObject({ dueAt: second, code: 'overlap', detail: `${at.taskId} is running` })
    expect(found.nextFires[0]).toBe(third)
    await cancel(at, at.taskId)
    await at.fired('tick', first)
    at.clock.passTo(Date.parse(third))
    const next = await eventually(async () => {
      const schedule = await at.schedule('tick')
      return schedule.lastFire?.dueAt === third && schedule.lastFire
    })
    expect(dues(await at.runs('tick'))).toEqual([first, third])
    await cancel(at, next.taskId)
  })

  test('overlap queue keeps one fire waiting, which what falls due meanwhile joins', async () => {
    await using at = await busy('queue')
    at.clock.passTo(Date.parse(second))
    const waiting = await eventually(async () => {
      const schedule = await at.schedule('tick')
      return schedule.waiting !== null && schedule
    })
    expect(waiting).toMatchObject({ health: 'waiting', waiting: { dueAt: second, code: 'overlap' } })
    at.clock.passTo(Date.parse(third) + SECOND)
    await at.look()
    await cancel(at, at.taskId)
    const next = await eventually(async () => {
      const schedule = await at.schedule('tick')
      return schedule.lastFire?.dueAt === second && schedule
    })
    expect(next).toMatchObject({ health: 'ok', waiting: null })
    expect(next.nextFires[0]).toBe('2026-11-20T10:30:00.000Z')
    expect(dues(await at.runs('tick'))).toEqual([first, second])
    await cancel(at, next.lastFire?.taskId ?? '')
  })
})

describe('a fire that cannot start yet', () => {
  const due = '2026-11-20T10:00:00.000Z'

  test('stays due while every place is taken, also over a restart, and runs when one is free', async () => {
    await using at = await stage({ maxRuns: 1 })
    await at.write('tick', 'when: { kind: at, at: 2026-11-20T10:00:00Z }\ncatchUp: skip')
    await at.look()
    at.clock.passTo(Date.parse(due) - 60 * SECOND)
    const blocker = { prompt: '/sleep 600', agent: 'demo', timeoutMs: 1_800_000 }
    await at.server.call('POST', `/api/workspaces/${at.wsId}/headless`, blocker)
    at.clock.passTo(Date.parse(due))
    const waiting = await eventually(async () => {
      const schedule = await at.schedule('tick')
      return schedule.waiting !== null && schedule
    })
    expect(waiting).toMatchObject({ health: 'waiting', waiting: { dueAt: due, code: 'capacity_reached' } })
    expect(waiting.waiting?.detail).toMatch(/1 of 1 runs are active/)
    expect(await at.runs('tick')).toEqual([])
    // Not missed: it was noticed on time, and catchUp has no say.
    await at.restart(() => at.clock.pass(10 * 60 * SECOND))
    await at.fired('tick', due)
    expect(dues(await at.runs('tick'))).toEqual([due])
  })

  test('runs as soon as the place is free', async () => {
    await using at = await stage({ maxRuns: 1 })
    await at.write('tick', 'when: { kind: at, at: 2026-11-20T09:00:05Z }')
    await at.look()
    const { body: blocker } = await at.server.call<Run>('POST', `/api/workspaces/${at.wsId}/headless`, {
      prompt: '/sleep 60',
      agent: 'demo',
    })
    at.clock.passTo(Date.parse('2026-11-20T09:00:05Z'))
    await eventually(async () => (await at.schedule('tick')).health === 'waiting')
    await at.server.call('POST', `/api/headless/${blocker.taskId}/cancel`)
    await at.fired('tick', '2026-11-20T09:00:05.000Z')
  })

  test('over the budget of the day stays due, tells people once, and runs after midnight', async () => {
    await using at = await stage()
    const budget = { runsPerDay: 1 }
    const patched = await at.server.call('PATCH', `/api/workspaces/${at.wsId}`, { budget }, { token: true })
    expect(patched.status).toBe(200)
    await at.write('tick', 'when: { kind: every, every: 1h }')
    await at.look()
    at.clock.passTo(Date.parse('2026-11-20T10:00:00.000Z'))
    await at.fired('tick', '2026-11-20T10:00:00.000Z')
    at.clock.passTo(Date.parse('2026-11-20T11:00:00.000Z'))
    const waiting = await eventually(async () => (await at.schedule('tick')).waiting)
    expect(waiting).toMatchObject({ dueAt: '2026-11-20T11:00:00.000Z', code: 'budget_reached' })
    const about = async (): Promise<string[]> =>
      (await at.entries()).map(({ title }) => title).filter((title) => title.includes('budget_reached'))
    await eventually(async () => (await about()).length === 1)
    at.clock.pass(2 * HOUR)
    await at.look()
    expect(await at.runs('tick')).toHaveLength(1)
    at.clock.passTo(Date.parse('2026-11-21T00:00:30.000Z'))
    await at.fired('tick', '2026-11-20T11:00:00.000Z')
    expect(await about()).toHaveLength(1)
  })

  test('because its agent is not enabled says so, tells people once, and runs when that is put right', async () => {
    await using at = await stage()
    await at.server.call('PATCH', `/api/workspaces/${at.wsId}`, { agents: ['quick'] }, { token: true })
    await at.write('tick', 'agent: demo\nwhen: { kind: at, at: 2026-11-20T10:00:00Z }', '/files')
    await at.look()
    at.clock.passTo(Date.parse(due))
    await eventually(async () => (await at.schedule('tick')).waiting?.code === 'agent_not_enabled')
    at.clock.pass(60 * SECOND)
    await at.look()
    expect((await at.entries()).map(({ title }) => title)).toEqual(['tick could not run: agent_not_enabled'])
    await at.server.call('PATCH', `/api/workspaces/${at.wsId}`, { agents: ['quick', 'demo'] }, { token: true })
    at.clock.pass(60 * SECOND)
    await at.fired('tick', due)
    expect(dues(await at.runs('tick'))).toEqual([due])
  })
})

test.each(['with another title', 'with what they were told removed'])(
  'people are told once of a fire that is refused, also after a restart and %s',
  async (how) => {
    await using at = await stage()
    await at.server.call('PATCH', `/api/workspaces/${at.wsId}`, { agents: ['quick'] }, { token: true })
    await at.write('tick', 'agent: demo\nwhen: { kind: at, at: 2026-11-20T10:00:00Z }', '/files')
    await at.look()
    at.clock.passTo(Date.parse('2026-11-20T10:00:00Z'))
    await eventually(async () => (await at.schedule('tick')).health === 'waiting')
    const told = await at.entries()
    expect(told).toHaveLength(1)
    if (how === 'with another title') {
      await writeFile(at.file('tick'), (await readFile(at.file('tick'), 'utf8')).replace('Issue tick', 'Another'))
    } else await at.server.call('DELETE', `/api/inbox/${told.pop()?.id}`, undefined, { token: true })
    await at.restart()
    await at.look()
    // Tried again, and refused again.
    await at.server.call('PATCH', `/api/workspaces/${at.wsId}`, { agents: ['quick', 'claude'] }, { token: true })
    at.clock.pass(60 * SECOND)
    await eventually(async () => (await at.schedule('tick')).waiting?.detail.includes('claude'))
    expect(await at.entries()).toEqual(told)
    expect(at.server.logged.filter((line) => line.includes('could not be fired'))).toEqual([])
  },
)

test('what people could not be told of a fire that was refused, they are told once the disk takes it', async () => {
  const faulty = faultyDisk()
  await using at = await stage({}, START, { disk: faulty.disk })
  await at.server.call('PATCH', `/api/workspaces/${at.wsId}`, { agents: ['quick'] }, { token: true })
  await at.write('tick', 'agent: demo\nwhen: { kind: at, at: 2026-11-20T10:00:00Z }', '/files')
  await at.look()
  let failed = 0
  faulty.onCall = (name) => {
    if (name !== 'datasync') return undefined
    failed++
    throw diskError('ENOSPC')
  }
  at.clock.passTo(Date.parse('2026-11-20T10:00:00Z'))
  await eventually(() => failed > 0 && at.server.logged.some((line) => line.includes('could not be fired')))
  faulty.onCall = undefined
  at.clock.pass(60 * SECOND)
  await eventually(async () => (await at.schedule('tick')).waiting?.code === 'agent_not_enabled')
  expect((await at.entries()).map(({ title }) => title)).toEqual(['tick could not run: agent_not_enabled'])
})

/** In each zone the months in which its clocks change, and in one where they do not, every month. */
const YEAR = {
  'new-york': { zone: 'America/New_York', cron: '30 2 * 3,11 0', at: 150, months: [3, 11] },
  berlin: { zone: 'Europe/Berlin', cron: '30 2 * 3,10 0', at: 150, months: [3, 10] },
  'lord-howe-skipped': { zone: 'Australia/Lord_Howe', cron: '15 2 * 4,10 0', at: 135, months: [4, 10] },
  'lord-howe-twice': { zone: 'Australia/Lord_Howe', cron: '45 1 * 4,10 0', at: 105, months: [4, 10] },
  kolkata: { zone: 'Asia/Kolkata', cron: '30 2 2,3 * *', at: 150, months: undefined },
}

test(
  'through a year in four zones each due time fires once, in the nights of the clock changes too',
  {
    timeout: 300_000,
  },
  async () => {
    await using at = await stage({}, Date.parse('2026-01-01T00:00:00Z'))
    for (const [name, { cron, zone }] of Object.entries(YEAR)) {
      await at.write(name, `when: { kind: cron, cron: "${cron}", timezone: ${zone} }`)
    }
    await at.look()
    const expected = Object.entries(YEAR).flatMap(([name, { zone, at: minutes, months }]) =>
      duesOf(zone, minutes, (day) =>
        months ? day.weekday === 'Sun' && months.includes(day.month) : day.day === 2 || day.day === 3,
      ).map((moment) => ({ name, moment })),
    )
    expect(expected).toHaveLength(10 + 9 + 8 + 8 + 24)
    for (const { name, moment } of expected.toSorted((a, b) => a.moment - b.moment)) {
      at.clock.passTo(moment)
      expect((await at.fired(name, new Date(moment).toISOString())).lastFire?.status).toBe('succeeded')
    }
    const ran = await Promise.all(Object.keys(YEAR).map((name) => at.runs(name)))
    expect(
      ran
        .flat()
        .map(({ trigger }) => `${trigger.issueId} ${trigger.dueAt}`)
        .toSorted(),
    ).toEqual(expected.map(({ name, moment }) => `${name} ${new Date(moment).toISOString()}`).toSorted())
  },
)

/** On each chosen day of 2026 the first quarter of an hour at which the clock shows so many minutes, or more. */
function duesOf(
  timeZone: string,
  minutes: number,
  isChosen: (day: { month: number; day: number; weekday: string }) => boolean,
): number[] {
  const format = new Intl.DateTimeFormat('en-GB', {
    timeZone,
    weekday: 'short',
    month: 'numeric',
    day: 'numeric',
    hour: '2-digit',
    minute: '2-digit',
    hourCycle: 'h23',
  })
  const found = new Map<string, number>()
  const end = Date.parse('2027-01-01T00:00:00Z')
  for (let at = Date.parse('2026-01-01T00:00:00Z'); at < end; at += 15 * 60 * SECOND) {
    const parts = Object.fromEntries(format.formatToParts(at).map(({ type, value }) => [type, value]))
    const day = { month: Number(parts['month']), day: Number(parts['day']), weekday: parts['weekday'] ?? '' }
    const key = `${day.month}-${day.day}`
    const shown = Number(parts['hour']) * 60 + Number(parts['minute'])
    if (shown >= minutes && !found.has(key) && isChosen(day)) found.set(key, at)
  }
  return [...found.values()]
}
