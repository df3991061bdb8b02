import { mkdir, readFile, readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { expect, test } from 'vitest'
import type { Run, Workspace } from '../src/model.ts'
import type { IssueSchedule } from '../src/model/issues.ts'
import { setBack } from './dead-state.ts'
import { adminToken, call, serve, type ServerProcess } from './server-process.ts'
import { eventually, temporaryDirectory } from './temporary.ts'

/** A server process killed with SIGKILL around due times: each due time has at most one run, and none that is owed is lost. */

async function workspace(server: ServerProcess, dataDir: string): Promise<{ wsId: string; file: string }> {
  const headers = { authorization: `Bearer ${await adminToken(dataDir)}` }
  const { body } = await call<Workspace>(server.url, 'POST', '/api/workspaces', { tag: 'a' }, headers)
  await mkdir(join(body.path, '.postern/issues'), { recursive: true })
  return { wsId: body.id, file: join(body.path, '.postern/issues/tick.md') }
}
const issue = (keys: string, body = '/files'): string => `---\ntitle: Tick\n${keys}\n---\n${body}\n`

async function scheduleOf(server: ServerProcess, wsId: string): Promise<IssueSchedule> {
  return (await call<IssueSchedule>(server.url, 'GET', `/api/workspaces/${wsId}/issues/tick/schedule`)).body
}
async function runsOf(server: ServerProcess, wsId: string): Promise<Run[]> {
  return (await call<{ tasks: Run[] }>(server.url, 'GET', `/api/headless?wsId=${wsId}&limit=200`)).body.tasks
}

test('a due time that passes while the server is dead has exactly one run', async () => {
  await using directory = await temporaryDirectory()
  const dataDir = directory.path
  let server = await serve({ dataDir })
  const { wsId, file } = await workspace(server, dataDir)
  const due = new Date(Date.now() + 2_000).toISOString()
  await writeFile(file, issue(`when: { kind: at, at: ${due} }`))
  await eventually(async () => (await scheduleOf(server, wsId)).nextFires?.[0] === due)
  await server.end('SIGKILL')
  await eventually(() => Date.now() > Date.parse(due))

  server = await serve({ dataDir })
  await eventually(async () => (await scheduleOf(server, wsId)).health === 'stopped')
  expect((await runsOf(server, wsId)).map(({ status, trigger }) => [status, trigger.dueAt])).toEqual([
    ['succeeded', due],
  ])
  expect(await readFile(file, 'utf8')).toContain('status: done')

  // And not again after the next one.
  await server.end('SIGKILL')
  server = await serve({ dataDir })
  await call(server.url, 'GET', '/api/issues')
  expect(await runsOf(server, wsId)).toHaveLength(1)
  await server.end('SIGTERM')
})

test('killed after the run was accepted and before the row said so, it fires that due time no second time', async () => {
  await using directory = await temporaryDirectory()
  const dataDir = directory.path
  let server = await serve({ dataDir })
  const { wsId, file } = await workspace(server, dataDir)
  const due = new Date(Date.now() + 2_000).toISOString()
  await writeFile(file, issue(`when: { kind: at, at: ${due} }`, '/sleep 60'))
  const fired = await eventually(async () => (await scheduleOf(server, wsId)).lastFire ?? false)
  await server.end('SIGKILL')
  const before = { settledUntil: new Date(Date.parse(due) - 1_000).toISOString(), lastFire: null }
  setBack(dataDir, 'fires', `${wsId}/tick`, before)

  server = await serve({ dataDir })
  const again = await eventually(async () => (await scheduleOf(server, wsId)).lastFire ?? false)
  expect(again).toMatchObject({ dueAt: due, taskId: fired.taskId })
  const runs = await runsOf(server, wsId)
  expect(runs.map(({ taskId, trigger }) => [taskId, trigger.dueAt])).toEqual([[fired.taskId, due]])
  await server.end('SIGTERM')
})

test(
  'killed in the moment in which it fires, time after time, it starts at most one run for each due time',
  { timeout: 180_000 },
  async () => {
    await using directory = await temporaryDirectory()
    const dataDir = directory.path
    let server = await serve({ dataDir })
    const { wsId, file } = await workspace(server, dataDir)
    await writeFile(file, issue('when: { kind: every, every: 1s }\noverlap: queue'))
    const directories = async (): Promise<number> => (await readdir(join(dataDir, 'runs')).catch(() => [])).length
    for (let round = 0; round < 8; round++) {
      // The first thing that can be seen of a run, then some milliseconds more each time.
      const before = await directories()
      await eventually(async () => (await directories()) > before)
      await delay(round)
      await server.end('SIGKILL')
      server = await serve({ dataDir })
    }
    await writeFile(file, issue('when: { kind: every, every: 1s }\nstatus: done'))
    await eventually(async () => (await scheduleOf(server, wsId)).health === 'stopped')
    const runs = await eventually(async () => {
      const found = await runsOf(server, wsId)
      return found.every(({ finishedAt }) => finishedAt !== null) && found
    })
    expect(runs.length).toBeGreaterThanOrEqual(8)
    const dues = runs.map(({ trigger }) => trigger.dueAt)
    expect(dues).not.toContain(undefined)
    expect(new Set(dues).size).toBe(runs.length)
    await server.end('SIGTERM')
  },
)
