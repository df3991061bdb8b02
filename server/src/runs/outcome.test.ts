import { describe, expect, test } from 'vitest'
import type { AgentEvent } from '../agents/agent.ts'
import { createFold } from '../agents/fold.ts'
import type { Exit } from '../process/types.ts'
import { judge, type Verdict } from './outcome.ts'

const exited: Exit = { reason: 'exited', exitCode: 0, signal: null, durationMs: 1, survivors: 0, error: null }
const good: AgentEvent = { type: 'agent.end', ok: true }
const bad = (kind: 'auth' | 'rate_limit' | 'provider' | 'agent'): AgentEvent => ({
  type: 'agent.end',
  ok: false,
  error: { kind, message: `${kind} it was` },
})

function verdict(exit: Partial<Exit>, events: AgentEvent[] = [], endsWithRecord = true, stderr = ''): Verdict {
  const fold = createFold({ tokens: 'step', cost: 'step' })
  for (const event of events) fold.add(event)
  const times = { timeoutMs: 1_000, idleTimeoutMs: 500 }
  return judge({ exit: { ...exited, ...exit }, folded: fold.state, endsWithRecord, stderr, ...times })
}

describe('a run succeeded', () => {
  test('when it exited with 0 and its record carried no error', () => {
    expect(verdict({}, [good])).toEqual({ status: 'succeeded', reason: null, detail: null })
  })
  test('when it said so and only stayed', () => {
    expect(verdict({ reason: 'settled', exitCode: 143 }, [good]).status).toBe('succeeded')
  })
  test('by exit code 0 alone, when its agent has no record', () => {
    expect(verdict({}, [], false).status).toBe('succeeded')
  })
  test('also after an attempt that failed', () => {
    expect(verdict({}, [bad('provider'), good]).status).toBe('succeeded')
  })
})

test('an agent that is not logged in says what to do, however much it complains', () => {
  const fold = createFold({ tokens: 'step', cost: 'step' })
  fold.add({ type: 'agent.retry', status: 401, message: 'no '.repeat(300), fatal: true })
  const rest = { endsWithRecord: true, stderr: '', timeoutMs: 1, idleTimeoutMs: null, loginHint: 'run "x login"' }
  const found = judge({ exit: { ...exited, reason: 'fatal', exitCode: 143 }, folded: fold.state, ...rest })
  expect(found).toMatchObject({ status: 'failed', reason: 'agent_not_logged_in' })
  expect(found.detail).toMatch(/^no no .*; run "x login"$/)
  expect(found.detail).toHaveLength(500)
})

test('a run that failed says what to do about it, where that can be known', () => {
  const waiting: AgentEvent = { type: 'agent.waiting', kind: 'rate_limit', resetsAt: '2027-01-15T08:00:00.000Z' }
  expect(verdict({}, [bad('rate_limit')]).detail).toBe('rate_limit it was; retry the run once the limit is over')
  expect(verdict({}, [waiting, bad('rate_limit')]).detail).toBe(
    'rate_limit it was; the limit is over at 2027-01-15T08:00:00.000Z',
  )
  expect(verdict({ reason: 'timed_out' }, [waiting]).detail).toBe(
    "stopped after 1000 ms, while the agent waited for a limit of its model's service that is over at 2027-01-15T08:00:00.000Z",
  )
  const words: AgentEvent = { type: 'agent.message', text: 'on it' }
  expect(verdict({ reason: 'timed_out' }, [waiting, words]).detail).toBe('stopped after 1000 ms')
  expect(verdict({}, [bad('provider')]).detail).toContain('retry the run')
  const denied: AgentEvent = { type: 'permission.denied', name: 'bash' }
  expect(verdict({}, [denied]).detail).toMatch(/not allowed to use bash: the workspace's `permissions`/)
})

test('a complaint is told without its colours', () => {
  expect(verdict({ exitCode: 1 }, [], true, '\u001b[91m\u001b[1mError: \u001b[0mno such thing').detail).toBe(
    'exited with 1 without a result: Error: no such thing',
  )
})

describe('a run failed', () => {
  test('by the error of its record, whatever it exited with', () => {
    const reasons = (['auth', 'rate_limit', 'provider', 'agent'] as const).map(
      (kind) => verdict({}, [bad(kind)]).reason,
    )
    expect(reasons).toEqual(['agent_not_logged_in', 'rate_limited', 'provider_error', 'agent_error'])
    expect(verdict({ exitCode: 1 }, [bad('auth')]).detail).toBe('auth it was')
    expect(verdict({}, [{ type: 'agent.end', ok: false }]).reason).toBe('agent_error')
    expect(verdict({ reason: 'settled' }, [bad('agent')]).reason).toBe('agent_error')
  })

  test('when it exited otherwise, although its record was good', () => {
    expect(verdict({ exitCode: 3 }, [good])).toMatchObject({ status: 'failed', reason: 'exit_nonzero' })
    expect(verdict({ exitCode: null, signal: 'SIGSEGV' }, [good]).detail).toContain('ended by SIGSEGV')
  })

  test('without its record; then stderr tells why, by the first line that speaks of an error', () => {
    const stderr = 'starting\nError: 401 invalid API key\n    at backtrace\nError: later\n'
    expect(verdict({}, [], true, 'nothing special')).toMatchObject({ reason: 'no_result' })
    expect(verdict({ exitCode: 1 }, [], true, stderr)).toEqual({
      status: 'failed',
      reason: 'agent_not_logged_in',
      detail: 'exited with 1 without a result: Error: 401 invalid API key',
    })
    expect(verdict({ exitCode: 1 }, [], true, 'error: too many requests: 429')).toMatchObject({
      reason: 'rate_limited',
    })
    expect(verdict({ exitCode: 42 }, [], true, 'error: no such thing')).toMatchObject({ reason: 'exit_nonzero' })
    expect(verdict({ exitCode: 1 }, [], true, 'No API key found\n\nSee the manual\n')).toMatchObject({
      reason: 'agent_not_logged_in',
    })
    // Any program may speak of connections.
    expect(verdict({ exitCode: 1 }, [], false, 'error: connection lost')).toMatchObject({ reason: 'exit_nonzero' })
  })

  test('by what repeating cannot mend', () => {
    const retry: AgentEvent = { type: 'agent.retry', status: 401, message: 'bad key', fatal: true }
    expect(verdict({ reason: 'fatal', exitCode: 143 }, [retry])).toMatchObject({ reason: 'agent_not_logged_in' })
  })

  test('by a limit of the server', () => {
    expect(verdict({ reason: 'output_limit' }, [good]).reason).toBe('output_limit')
    expect(verdict({ reason: 'process_limit' }, [good]).reason).toBe('process_limit')
    expect(verdict({ reason: 'not_started', error: 'EACCES' }).reason).toBe('agent_not_startable')
  })
})

test('whoever ended it early decides, whatever it had said', () => {
  expect(verdict({ reason: 'canceled' }, [good])).toMatchObject({ status: 'canceled', reason: 'canceled_by_caller' })
  expect(verdict({ reason: 'server_stopped' }, [good])).toMatchObject({
    status: 'interrupted',
    reason: 'server_stopped',
  })
  expect(verdict({ reason: 'idle' }, [good])).toMatchObject({ status: 'timed_out', reason: 'idle' })
  const tool: AgentEvent = { type: 'tool.started', toolCallId: '1', name: 'npm test' }
  expect(verdict({ reason: 'timed_out' }, [tool])).toEqual({
    status: 'timed_out',
    reason: 'timeout',
    detail: 'stopped after 1000 ms, in tool npm test',
  })
})
