import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Run, RunRow } from '../model.ts'
import { replaceFile, type Disk } from '../store/disk.ts'

/** Characters of a prompt or reply kept in the row itself; a longer one lies in a file, so that rows stay small. */
export const INLINE_CHARACTERS = 512
export const PROMPT_FILE = 'prompt.txt'
export const REPLY_FILE = 'reply.txt'

/** What only the running server knows of a run. */
export interface LiveState {
  lastActivityAt: string | null
  lastSeq: number
  inboxIds: string[]
}

/** The run as callers see it. A long prompt or reply that was retired with its files reads as empty. */
export async function toRun(
  row: RunRow,
  directory: string,
  options: { live: LiveState | undefined; canResume: boolean },
): Promise<Run> {
  const { acceptedAs: _, conversationId: _id, totals: _totals, untold: _untold, ...known } = row
  const { worktreeOf: _worktree, diffTrouble: _trouble, id, prompt, result, ...shared } = known
  const text = result.inFile ? await readText(join(directory, REPLY_FILE)) : result.text
  return {
    taskId: id,
    ...shared,
    prompt: prompt ?? (await readText(join(directory, PROMPT_FILE))) ?? '',
    result: { text, truncated: result.truncated },
    ...options.live,
    resumable: options.canResume,
  }
}

/** The row as it was first answered: what a replay says again, byte for byte. */
export function asAccepted(row: RunRow): RunRow {
  return { ...row, ...initialState(row.acceptedAs, row.createdAt) }
}

/** The fields of a run that change after it was accepted, as they are then. */
export function initialState(acceptedAs: 'queued' | 'running', createdAt: string) {
  return {
    status: acceptedAs,
    reason: null,
    detail: null,
    startedAt: acceptedAs === 'running' ? createdAt : null,
    finishedAt: null,
    durationMs: null,
    lastActivityAt: null,
    lastSeq: 0,
    result: { text: null, truncated: false, inFile: false },
    exitCode: null,
    signal: null,
    usage: { inputTokens: 0, outputTokens: 0, costUsd: null, source: 'none' as const },
    git: { baseSha: null, headSha: null, branch: null, filesChanged: 0, worktree: null },
    outcome: null,
    inboxIds: [],
    silentWhy: null,
    conversationId: null,
    survivors: 0,
  }
}

/** Keeps a text in the row, or in a file on disk when it is long; null: it is in the file. */
export async function keepText(disk: Disk, directory: string, file: string, text: string): Promise<string | null> {
  if (text.length <= INLINE_CHARACTERS) return text
  await disk.mkdir(directory, { recursive: true, mode: 0o700 })
  await replaceFile(disk, join(directory, file), Buffer.from(text))
  return null
}

async function readText(path: string): Promise<string | null> {
  try {
    return await readFile(path, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null
    throw error
  }
}
