import { ulid } from 'ulid'
import { systemClock } from '../src/clock.ts'
import type { RunRow } from '../src/model.ts'
import { initialState } from '../src/runs/view.ts'
import { systemDisk } from '../src/store/disk.ts'
import { openStore } from '../src/store/store.ts'

/** A row of an ended run, of ordinary size. */
export function sampleRow(i: number, at: number): RunRow {
  const createdAt = new Date(at).toISOString()
  return {
    id: `headless_${ulid(at)}`,
    wsId: 'ws-bench',
    agent: 'none',
    prompt: `Read the latest notes, compare them with the thesis and report what changed. Round ${i}.`,
    model: null,
    isolation: 'none',
    resume: null,
    timeoutMs: 300_000,
    idleTimeoutMs: null,
    createdAt,
    trigger: { kind: 'api', grantId: null, issueId: null, parentTaskId: null },
    retryOf: null,
    metadata: { build: String(i) },
    acceptedAs: 'running',
    ...initialState('running', createdAt),
    status: i % 10 === 0 ? 'failed' : 'succeeded',
    reason: i % 10 === 0 ? 'exit_nonzero' : null,
    finishedAt: createdAt,
    durationMs: 1_234,
    lastActivityAt: createdAt,
    lastSeq: 12,
    result: { text: 'Nothing changed that matters. '.repeat(8), truncated: false, inFile: false },
    exitCode: 0,
  }
}

/** Puts `count` ended runs into a data directory, through the store itself. */
export async function seed(dataDir: string, count: number): Promise<void> {
  if (count === 0) return
  const store = await openStore({
    disk: systemDisk,
    dataDir,
    clock: systemClock,
    maxIdempotencyKeys: 100_000,
    onTrouble: (message, error) => {
      throw new Error(message, { cause: error })
    },
  })
  const from = Date.now() - 6 * 86_400_000
  for (let i = 0; i < count;) {
    const batch = Array.from({ length: Math.min(1_000, count - i) }, (_, j) => sampleRow(i + j, from + (i + j) * 5))
    await Promise.all(batch.map((row) => store.runs.insert(row)))
    i += batch.length
  }
  await store.close()
}
