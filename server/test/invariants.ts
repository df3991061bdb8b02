import { readdir, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { expect } from 'vitest'
import { isTerminal, type Capacity, type Run } from '../src/model.ts'
import { census } from '../src/process/census.ts'
import { call } from './server-process.ts'

/** How often places and runs may differ before it is no coincidence. */
const MAX_LOOKS = 100

/** What a scenario did, for the checker and for the figures it prints. */
export interface Ledger {
  /** Run id by idempotency key (or a number of its own), for each 2xx. */
  acknowledged: Map<string, string>
  /** Keys of requests that were refused (4xx, 5xx) and never accepted later. */
  refused: Set<string>
  /** Keys of requests whose answer never came: they may have been accepted or not. */
  unknown: Set<string>
}

export const newLedger = (): Ledger => ({ acknowledged: new Map(), refused: new Set(), unknown: new Set() })

/** Every run of a server, all pages. Each run of a scenario carries its key as `metadata.key`. */
export async function allRuns(url: string): Promise<Run[]> {
  const runs: Run[] = []
  for (let cursor = ''; ;) {
    const page = await call<{ tasks: Run[]; nextCursor: string | null }>(
      url,
      'GET',
      `/api/headless?limit=200${cursor && `&cursor=${cursor}`}`,
    )
    expect(page.status, page.text).toBe(200)
    runs.push(...page.body.tasks)
    if (page.body.nextCursor === null) return runs
    cursor = page.body.nextCursor
  }
}

/** The promises of the server, looked at after a scenario (docs/security.md 8). Returns the figures. */
export async function checkInvariants(
  url: string,
  dataDir: string,
  ledger: Ledger,
  secrets: string[] = [],
): Promise<{ runs: number; acknowledged: number; losses: number; survivors: number }> {
  const runs = await allRuns(url)
  const byId = new Map(runs.map((run) => [run.taskId, run]))
  const lost = [...ledger.acknowledged.values()].filter((id) => !byId.has(id))
  expect(lost, 'I-1: acknowledged runs that are gone').toEqual([])
  for (const run of runs) {
    if (isTerminal(run.status) && run.status !== 'succeeded')
      expect(run.reason, `I-1: reason of ${run.taskId}`).not.toBeNull()
  }
  const perKey = Map.groupBy(runs, (run) => run.metadata['key'] ?? run.taskId)
  for (const [key, group] of perKey) expect(group.length, `I-3: runs with key ${key}`).toBe(1)
  for (const run of runs) {
    const key = run.metadata['key']
    if (key === undefined) continue
    const asked = ledger.acknowledged.has(key) || ledger.unknown.has(key)
    expect(asked, `I-2, I-4: ${run.taskId} of key ${key} was not accepted`).toBe(true)
    expect(ledger.refused.has(key) && !ledger.unknown.has(key), `I-4: ${key} was refused and ran`).toBe(false)
  }
  await checkState(dataDir)
  const marks = census()
  const survivors = runs.filter((run) => isTerminal(run.status) && marks.has(run.taskId))
  expect(
    survivors.map((run) => run.taskId),
    'I-8: processes of ended runs',
  ).toEqual([])
  await checkPlaces(url)
  for (const secret of secrets) expect(JSON.stringify(runs), 'I-10').not.toContain(secret)
  return { runs: runs.length, acknowledged: ledger.acknowledged.size, losses: lost.length, survivors: survivors.length }
}

/** I-9: as many places in use as runs at work. They are read one after the other, so runs that end in between are waited for. */
async function checkPlaces(url: string): Promise<void> {
  for (let looks = 1; ; looks++) {
    const page = await call<{ tasks: Run[]; capacity: Capacity }>(url, 'GET', '/api/headless?status=running&limit=200')
    const { tasks, capacity } = page.body
    if (tasks.length === capacity.running) return
    if (looks === MAX_LOOKS) expect(capacity.running, 'I-9: places in use').toBe(tasks.length)
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
}

/** I-7: files for their owner only, none left half written, the state file whole. */
export async function checkState(dataDir: string): Promise<void> {
  for (const entry of await readdir(dataDir, { withFileTypes: true })) {
    const path = join(dataDir, entry.name)
    if (entry.isDirectory()) expect([path, (await stat(path)).mode & 0o077], 'I-7').toEqual([path, 0])
    if (!entry.isFile() || entry.name === 'config.json') continue
    expect(entry.name, 'I-7: temp file').not.toMatch(/\.tmp$/)
    expect([path, (await stat(path)).mode & 0o777], 'I-7').toEqual([path, 0o600])
  }
  const state = await readFile(join(dataDir, 'db.json'), 'utf8').catch(() => undefined)
  if (state !== undefined) expect(() => JSON.parse(state) as unknown, 'I-7').not.toThrow()
}

/** Figures of a scenario, for the reader of the log. */
export function figures(id: string, values: Record<string, number | string>): void {
  console.log(
    `${id}: ${Object.entries(values)
      .map(([name, value]) => `${name} ${typeof value === 'number' ? Math.round(value * 10) / 10 : value}`)
      .join(', ')}`,
  )
}
