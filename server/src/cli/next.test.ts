import type { Run } from '@postern/sdk'
import { expect, test } from 'vitest'
import { nextAfter } from './next.ts'

const TASK = 'headless_01M7W3M6R0B5D8F1H4K7N0Q3T6'
const ended = (reason: string | null, more: Partial<Run> = {}): string | undefined =>
  nextAfter({
    taskId: TASK,
    status: reason === null ? 'succeeded' : 'failed',
    reason,
    detail: null,
    wsId: 'ws-news',
    agent: 'claude',
    timeoutMs: 300_000,
    idleTimeoutMs: null,
    git: { filesChanged: 0 },
    ...more,
  } as unknown as Run)

test.each([
  ['timeout', {}, 'run "…" -w ws-news -a claude --timeout 10m'],
  ['timeout', { timeoutMs: 1_200_000 }, 'run "…" -w ws-news -a claude --timeout 30m'],
  ['timeout', { timeoutMs: 1_800_000 }, `runs output ${TASK}`],
  ['idle', { idleTimeoutMs: 60_000 }, 'run "…" -w ws-news -a claude --idle-timeout 2m'],
  ['credential_not_found', { detail: 'there is no credential "anthropic"' }, 'cred set anthropic'],
  ['credential_not_found', {}, 'cred set <name>'],
  ['agent_not_found', {}, 'agents'],
  ['agent_not_logged_in', {}, 'agents'],
  ['exit_nonzero', {}, `runs output ${TASK} --stderr`],
  ['server_died', {}, `runs diff ${TASK} (files may be half written), then runs retry ${TASK}`],
  ['worktree_failed', {}, 'run "…" -w ws-news -a claude (without --worktree)'],
  ['rate_limited', {}, `runs retry ${TASK}`],
  ['a_reason_of_tomorrow', {}, `runs retry ${TASK}`],
  [null, {}, undefined],
  [null, { git: { filesChanged: 1 } }, `runs diff ${TASK}`],
] as const)('after %s %j comes %s', (reason, more, next) => {
  expect(ended(reason, more as Partial<Run>)).toBe(next)
})
