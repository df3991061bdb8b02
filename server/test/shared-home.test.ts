import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import type { Run } from '../src/model.ts'
import { startTestServer } from './harness.ts'
import { temporaryDirectory } from './temporary.ts'

const DEMO = fileURLToPath(new URL('../src/demo-agent/main.ts', import.meta.url))
const RUNS = 20

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
