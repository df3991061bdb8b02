import { ulid } from 'ulid'
import { systemClock } from '../src/clock.ts'
import type { RunRow } from '../src/model.ts'
import type { DeliveryRow } from '../src/model/sessions.ts'
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

/**
 * Puts suspended sessions like `like`, and messages that were delivered long ago, into a data directory. Resolves with
 * the ids of the sessions.
 */
export async function seedSessions(
  dataDir: string,
  like: string,
  counts: { sessions: number; deliveries: number },
): Promise<string[]> {
  const store = await openStore({
    disk: systemDisk,
    dataDir,
    clock: systemClock,
    maxIdempotencyKeys: 100_000,
    onTrouble: (message, error) => {
      throw new Error(message, { cause: error })
    },
  })
  const model = await store.sessions.get(like)
  if (!model) throw new Error(`no session ${like}`)
  const from = Date.now() - 6 * 86_400_000
  const ids: string[] = []
  for (let i = 0; i < counts.sessions; i++) {
    const id = `sess_${ulid(from + i)}`
    await store.sessions.insert({ ...model, id, conversationId: null })
    ids.push(id)
  }
  for (let i = 0; i < counts.deliveries;) {
    const batch = Array.from({ length: Math.min(1_000, counts.deliveries - i) }, (_, j) => {
      const at = from + (i + j) * 5
      return sampleDelivery(`dlv_${ulid(at)}`, ids[(i + j) % ids.length] ?? like, new Date(at).toISOString(), i + j)
    })
    await Promise.all(batch.map((row) => store.deliveries.insert(row)))
    i += batch.length
  }
  await store.close()
  return ids
}

function sampleDelivery(id: string, sessionId: string, at: string, order: number): DeliveryRow {
  return {
    id,
    sessionId,
    grantId: 'grant_01K00000000000000000000001',
    label: 'ci',
    taskId: null,
    mode: 'queue',
    message: 'deploy finished, look at the logs of the last hour and say what changed',
    from: 'ci',
    status: 'confirmed',
    reason: null,
    possibleDuplicate: false,
    createdAt: at,
    deliveredAt: at,
    confirmedAt: at,
    endedAt: at,
    order,
    answeredAs: 'delivered',
    attempts: 1,
  }
}
