import { existsSync, readdirSync } from 'node:fs'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import type { Run } from '../src/model.ts'
import { startTestServer } from './harness.ts'
import { adminToken, call, serve } from './server-process.ts'
import { eventually, temporaryDirectory } from './temporary.ts'

/** Leaves files and a socket in its temporary directory, says where that is, and goes on as it is told. */
const LITTER = `
const { mkdirSync, writeFileSync } = require('node:fs')
const { createServer } = require('node:net')
const { join } = require('node:path')
const place = process.env.TMPDIR
mkdirSync(join(place, 'cache'))
writeFileSync(join(place, 'cache', 'file'), 'x')
createServer().listen(join(place, 'agent.sock'), () => {
  let prompt = ''
  process.stdin.on('data', (chunk) => (prompt += chunk)).on('end', () => {
    writeFileSync(prompt.trim().split(' ')[0], place)
    if (prompt.includes('stay')) return setInterval(() => undefined, 1000)
    process.exit(prompt.includes('fail') ? 3 : 0)
  })
})`
const agents = { litter: { command: [process.execPath, '-e', LITTER] } }

test('what an agent leaves in its TMPDIR is gone once the run has ended, whichever way', async () => {
  await using directory = await temporaryDirectory()
  await using server = await startTestServer({ config: { agents } })
  const wsId = await server.workspace()
  const start = async (how: string, more: object = {}): Promise<{ taskId: string; place: string }> => {
    const said = join(directory.path, how)
    const body = { agent: 'litter', prompt: `${said} ${how}`, ...more }
    const { taskId } = (await server.call<Run>('POST', `/api/workspaces/${wsId}/headless`, body)).body
    const place = await eventually(async () => existsSync(said) && (await readFile(said, 'utf8')))
    return { taskId, place }
  }
  const ended = (taskId: string): Promise<Run> =>
    eventually(async () => {
      const found = await server.call<Run>('GET', `/api/headless/${taskId}`)
      return found.body.finishedAt !== null && found.body
    })
  const endings = { exit: 'succeeded', fail: 'failed', 'stay-long': 'timed_out', stay: 'canceled' }
  for (const [how, status] of Object.entries(endings)) {
    const { taskId, place } = await start(how, how === 'stay-long' ? { timeoutMs: 2_000 } : {})
    if (how.startsWith('stay')) expect(readdirSync(place).toSorted()).toEqual(['agent.sock', 'cache'])
    if (how === 'stay') await server.call('POST', `/api/headless/${taskId}/cancel`)
    expect((await ended(taskId)).status).toBe(status)
    expect(existsSync(place), how).toBe(false)
  }
})

test('and the next server removes it where one was killed', async () => {
  await using directory = await temporaryDirectory()
  const dataDir = directory.path
  await writeFile(join(dataDir, 'config.json'), JSON.stringify({ agents }))
  const first = await serve({ dataDir })
  const authorization = `Bearer ${await adminToken(dataDir)}`
  await call(first.url, 'POST', '/api/workspaces', { id: 'ws-one', tag: 'one' }, { authorization })
  const said = join(dataDir, 'said')
  const body = { agent: 'litter', prompt: `${said} stay` }
  await call(first.url, 'POST', '/api/workspaces/ws-one/headless', body)
  const place = await eventually(async () => existsSync(said) && (await readFile(said, 'utf8')))
  await first.end('SIGKILL')
  expect(readdirSync(place).toSorted()).toEqual(['agent.sock', 'cache'])
  const second = await serve({ dataDir })
  expect(existsSync(join(place, '..'))).toBe(false)
  await second.end('SIGTERM')
})
