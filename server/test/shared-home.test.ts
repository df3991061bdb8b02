import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import type { Run } from '../src/model.ts'
import { census } from '../src/process/census.ts'
import { startTestServer } from './harness.ts'
import { startKillable } from './killable.ts'
import { eventually, temporaryDirectory } from './temporary.ts'

const DEMO = fileURLToPath(new URL('../src/demo-agent/main.ts', import.meta.url))
const RUNS = 20

test('a probe takes its turn, and its process does not outlive a server that was killed', async () => {
  await using directory = await temporaryDirectory()
  const log = join(directory.path, 'starts')
  const script =
    `echo "$POSTERN_RUN_ID begins" >> '${log}'; sleep 1; echo "$POSTERN_RUN_ID ends" >> '${log}'; ` +
    '[ "$POSTERN_WORKSPACE_ID" != ws-probe ] || exec sleep 600'
  const config = { agents: { careless: { command: ['bash', '-c', script], sharesHome: true } } }
  const server = await startKillable(directory.path, config)
  const wsId = await server.workspace()
  const body = { agent: 'careless', prompt: 'go', wait: true }
  const run = server.call<Run>('POST', `/api/workspaces/${wsId}/headless`, body)
  const probe = server.call('POST', '/api/agents/careless/probe', {}).catch(() => undefined) // cut off
  expect((await run).body.status).toBe('succeeded')
  const lines = await eventually(async () => {
    const found = (await readFile(log, 'utf8')).trimEnd().split('\n')
    return found.length === 4 && found
  })
  expect(lines.map((line) => line.split(' ')[1])).toEqual(['begins', 'ends', 'begins', 'ends'])
  const atWork = (): string[] =>
    lines.flatMap((line) => line.split(' ').slice(0, 1)).filter((mark) => census().has(mark))
  expect(new Set(atWork()).size).toBe(1)
  await server.process.end('SIGKILL')
  await probe
  const next = await startKillable(directory.path)
  expect(atWork()).toEqual([])
  await next.process.end('SIGTERM')
})

test('twenty runs at once of a program that is careless with its settings leave them whole', async () => {
  await using home = await temporaryDirectory()
  const careless = { command: [process.execPath, DEMO, '--faults'], output: 'jsonl', end: 'record', sharesHome: true }
  await using server = await startTestServer({
    config: { agents: { careless }, maxRuns: RUNS },
    environment: { HOME: home.path },
  })
  const wsId = await server.workspace()
  const body = { agent: 'careless', prompt: '/shared', wait: true }
  const runs = await Promise.all(
    Array.from({ length: RUNS }, () => server.call<Run>('POST', `/api/workspaces/${wsId}/headless`, body)),
  )
  expect(runs.map(({ body: run }) => run.status)).toEqual(Array.from({ length: RUNS }, () => 'succeeded'))
  const said = runs.map(({ body: run }) => /The shared file holds {"starts":(\d+)}/.exec(run.result.text ?? '')?.[1])
  expect(said.map(Number).toSorted((a, b) => a - b)).toEqual(Array.from({ length: RUNS }, (_, n) => n + 1))
  const file = await readFile(join(home.path, '.postern', 'demo-agent', 'shared.json'), 'utf8')
  expect(JSON.parse(file)).toEqual({ starts: RUNS })
})
