import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { Command } from '../agents/agent.ts'
import { createFold } from '../agents/fold.ts'
import type { Agents } from '../agents/types.ts'
import { newId, type Clock } from '../clock.ts'
import type { Dispatch } from '../dispatch/dispatch.ts'
import { DomainError } from '../errors.ts'
import type { AgentProbe } from '../model/agents.ts'
import { createLineSplitter } from '../process/lines.ts'
import type { Processes } from '../process/supervise.ts'
import type { Temporaries, Temporary } from '../process/temporary.ts'
import type { Turns } from '../process/turns.ts'
import type { LiveFiles } from '../store/live-files.ts'
import { judge } from './outcome.ts'
import type { LiveRun } from './types.ts'

export const PROBE_PROMPT = 'Reply with the single word: ready'
const PROBE_TIMEOUT_MS = 60_000
/** Characters of output and of complaint that are looked at. */
const KEPT_CHARACTERS = 8_000

/**
 * Runs one fixed prompt with an agent, in an empty directory and read only: shows whether it starts, is logged in and
 * answers. Takes a place and its turn like any run; no record is kept.
 */
export function createProbe(deps: {
  agents: Agents
  processes: Processes
  dispatch: Dispatch
  clock: Clock
  /** Where its empty directories are made. */
  directory: string
  findProgram(name: string): Promise<string | undefined>
  temporaries: Temporaries
  turns: Turns
  liveFiles: LiveFiles<LiveRun>
  environment(task: { taskId: string; wsId: string; command: Command; temporary: string }): Record<string, string>
}): (agentId: string, signal: AbortSignal) => Promise<AgentProbe> {
  const { agents, processes, dispatch, clock } = deps

  return async (agentId, signal) => {
    const agent = agents.find(agentId)
    if (!agent) throw new DomainError('agent_not_found', `there is no agent "${agentId}"`, { hint: 'postern agents' })
    const { headless } = agent
    if (!headless) throw new DomainError('agent_not_headless', `"${agentId}" has no headless mode and cannot be probed`)
    const taskId = newId('headless', clock)
    const place = dispatch.take({ id: taskId, wsId: 'ws-probe', workspaceLimit: null })
    if (!place) {
      const { running, limit } = dispatch.counts()
      throw new DomainError('capacity_reached', `${running} of ${limit} runs are active`, { retryAfterSeconds: 5 })
    }
    let directory: string | undefined
    let temporary: Temporary | undefined
    let endTurn: (() => void) | undefined
    const startedAt = clock.monotonic()
    const answer = (ok: boolean, reason: string | null, detail: string | null, text: string | null): AgentProbe => {
      return { agent: agentId, ok, reason, detail, text, durationMs: Math.round(clock.monotonic() - startedAt) }
    }
    try {
      await mkdir(deps.directory, { recursive: true, mode: 0o700 })
      directory = await mkdtemp(join(deps.directory, 'probe-'))
      const task = {
        prompt: PROBE_PROMPT,
        cwd: directory,
        permissions: 'ask' as const,
        model: null,
        conversationId: null,
      }
      const command = headless.compose(task)
      const program = await deps.findProgram(command.program)
      if (program === undefined) {
        return answer(
          false,
          'agent_not_found',
          `"${command.program}" is not on the server's PATH; ${agent.installHint ?? ''}`,
          null,
        )
      }
      temporary = await deps.temporaries.open()
      const splitter = createLineSplitter()
      const fold = createFold(headless.usage)
      const abort = new AbortController()
      const onHangUp = (): void => abort.abort('canceled')
      signal.addEventListener('abort', onHangUp, { once: true })
      if (agent.sharedHome !== undefined) endTurn = await deps.turns.take(agent.sharedHome, abort.signal)
      let stdout = ''
      let stderr = ''
      const supervised = processes.supervise({
        mark: taskId,
        program,
        args: command.args,
        cwd: directory,
        env: deps.environment({ taskId, wsId: 'ws-probe', command, temporary: temporary.path }),
        stdin: command.stdin,
        timeoutMs: PROBE_TIMEOUT_MS,
        idleTimeoutMs: null,
        signal: abort.signal,
        onStarted: (identity) => deps.liveFiles.write(taskId, { identity }),
        onOutput(stream, chunk) {
          endTurn?.()
          if (stream === 'stderr') stderr = (stderr + chunk.toString('utf8')).slice(0, KEPT_CHARACTERS)
          else if (headless.output === 'text') stdout = (stdout + chunk.toString('utf8')).slice(-KEPT_CHARACTERS)
          else
            for (const line of splitter.push(chunk))
              if (!line.tooLong)
                for (const event of headless.decode(line.text)) {
                  fold.add(event)
                  if (event.type === 'log' && event.code === 'unknown_record') agents.noteUnknown(agentId)
                }
          if (fold.state.fatal) supervised.stop('fatal')
        },
      })
      const exit = await supervised.ended
      signal.removeEventListener('abort', onHangUp)
      const { endsWithRecord } = headless
      const limits = { timeoutMs: PROBE_TIMEOUT_MS, idleTimeoutMs: null }
      const { loginHint } = agent
      const verdict = judge({ exit, folded: fold.state, endsWithRecord, loginHint, stderr, ...limits })
      const text = headless.output === 'text' ? stdout : fold.state.text
      return answer(verdict.status === 'succeeded', verdict.reason, verdict.detail, text)
    } finally {
      endTurn?.()
      place.free()
      await deps.liveFiles.remove(taskId).catch(() => undefined)
      await temporary?.remove()
      if (directory !== undefined) await rm(directory, { recursive: true, force: true })
    }
  }
}
