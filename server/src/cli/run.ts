import { text as readAll } from 'node:stream/consumers'
import type { CreateRun, Postern, Run, TaskId } from '@postern/sdk'
import { parseSpan, type Context } from './context.ts'
import { CliExit, EXIT, exitOf } from './exit.ts'
import { follow, textOf } from './follow.ts'
import { resolveRun } from './ids.ts'
import { inert, span, status } from './text.ts'

export interface RunFlags {
  workspace: string
  agent?: string
  timeout?: string
  idleTimeout?: string
  model?: string
  wait: boolean
  follow: boolean
  queue: boolean
  resume?: string
  worktree: boolean
  meta?: string[]
  key?: string
}

/** `postern run`: prints the task id; with --wait the reply, with --follow what happens. */
export async function startRun(context: Context, given: string, flags: RunFlags): Promise<number> {
  const { screen, options } = context
  const prompt = given === '-' ? await readAll(process.stdin) : given
  const postern = await context.connect()
  const body: CreateRun = {
    wsId: flags.workspace as CreateRun['wsId'],
    prompt,
    ...(flags.agent !== undefined && { agent: flags.agent }),
    ...(flags.timeout !== undefined && { timeoutMs: parseSpan(flags.timeout, '--timeout') }),
    ...(flags.idleTimeout !== undefined && { idleTimeoutMs: parseSpan(flags.idleTimeout, '--idle-timeout') }),
    ...(flags.model !== undefined && { model: flags.model }),
    ...(flags.queue && { whenBusy: 'queue' as const }),
    ...(flags.resume !== undefined && { resume: await resolveRun(postern, flags.resume) }),
    ...(flags.worktree && { isolation: 'worktree' as const }),
    ...(flags.meta && { metadata: parsePairs(flags.meta) }),
  }
  const run = await postern.runs.create(body, flags.key === undefined ? {} : { idempotencyKey: flags.key })
  screen.note(
    `${screen.style('green', '✓')} accepted ${run.taskId} · ${run.wsId} · ${run.agent}${run.status === 'queued' ? ' · queued' : ''}`,
  )
  if (flags.follow) return await followRun(context, postern, run.taskId)
  if (flags.wait) return await waitForRun(context, postern, run)
  screen.print(options.json ? JSON.stringify(run) : run.taskId)
  screen.note(`next: ${context.me} runs watch ${run.taskId}`)
  return EXIT.ok
}

function parsePairs(pairs: string[]): Record<string, string> {
  return Object.fromEntries(
    pairs.map((pair) => {
      const at = pair.indexOf('=')
      if (at < 1) throw new CliExit(EXIT.usage, `--meta "${pair}" is not key=value`)
      return [pair.slice(0, at), pair.slice(at + 1)]
    }),
  )
}

async function waitForRun(context: Context, postern: Postern, run: Run): Promise<number> {
  const { screen, options } = context
  const leave = onInterrupt()
  const progress = screen.showsProgress ? showProgress(postern, run.taskId, leave.signal) : undefined
  try {
    const done = await postern.runs.waitFor(run.taskId, { signal: leave.signal })
    progress?.stop()
    if (options.json) screen.print(JSON.stringify(done))
    else if (done.result.text !== null) screen.print(inert(done.result.text.replace(/\n$/, '')))
    screen.note(summary(context, done))
    return exitOf(done.status)
  } catch (error) {
    progress?.stop()
    if (!leave.signal.aborted) throw error
    screen.note(`left; ${run.taskId} goes on: ${context.me} runs watch ${run.taskId}`)
    return EXIT.interruptedByUser
  } finally {
    leave.stop()
  }
}

/** Prints what happens until the run ends; Ctrl-C leaves and the run goes on. */
export async function followRun(context: Context, postern: Postern, taskId: TaskId): Promise<number> {
  const { screen } = context
  const leave = onInterrupt()
  try {
    await follow(context, postern, taskId, leave.signal)
    const done = await postern.runs.get(taskId)
    screen.note(summary(context, done))
    return exitOf(done.status)
  } catch (error) {
    if (!leave.signal.aborted) throw error
    screen.note(`left; ${taskId} goes on: ${context.me} runs watch ${taskId}`)
    return EXIT.interruptedByUser
  } finally {
    leave.stop()
  }
}

/** The last line of a run: how it ended, what it cost, what it changed, what to do next. */
export function summary(context: Context, run: Run): string {
  const { screen, me } = context
  const parts = [
    `${status(screen, run.status)} in ${span(run.durationMs ?? 0)}`,
    ...(run.reason === null ? [] : [`${run.reason}${run.detail === null ? '' : `: ${inert(run.detail, true)}`}`]),
    ...(run.outcome === null ? [] : [String(run.outcome)]),
    ...(run.git.filesChanged > 0
      ? [`${run.git.filesChanged} ${run.git.filesChanged === 1 ? 'file' : 'files'} changed`]
      : []),
    ...(run.survivors > 0 ? [`${run.survivors} processes could not be ended`] : []),
  ]
  const next =
    run.status === 'succeeded'
      ? run.git.filesChanged > 0
        ? `runs diff ${run.taskId}`
        : undefined
      : `runs retry ${run.taskId}`
  return [parts.join(' · '), ...(next === undefined ? [] : [`next: ${me} ${next}`])].join('\n')
}

interface Leaving {
  signal: AbortSignal
  stop(): void
}
/** Ctrl-C once leaves; twice, the shell's own way. */
function onInterrupt(): Leaving {
  const abort = new AbortController()
  const leave = (): void => abort.abort()
  process.once('SIGINT', leave)
  return { signal: abort.signal, stop: () => void process.off('SIGINT', leave) }
}

const FRAMES = ['⠋', '⠙', '⠹', '⠸', '⠼', '⠴', '⠦', '⠧', '⠇', '⠏']
/** Milliseconds before a spinner appears: what is quick needs none. */
const SPINNER_DELAY_MS = 400

function showProgress(postern: Postern, taskId: TaskId, signal: AbortSignal): { stop(): void } {
  const over = new AbortController()
  const startedAt = Date.now()
  let doing = ''
  let frame = 0
  void (async () => {
    for await (const event of postern.runs.events(taskId, { signal: AbortSignal.any([signal, over.signal]) })) {
      if (event.type === 'tool.started') doing = `tool: ${inert(textOf(event['name']), true)}`
      if (event.type === 'agent.message') doing = 'writing'
    }
  })().catch(() => undefined) // only the decoration is lost
  const timer = setInterval(() => {
    const elapsed = Math.floor((Date.now() - startedAt) / 1000)
    if (Date.now() - startedAt < SPINNER_DELAY_MS) return
    const clock = `${String(Math.floor(elapsed / 60)).padStart(2, '0')}:${String(elapsed % 60).padStart(2, '0')}`
    process.stderr.write(
      `\r\u001b[K${FRAMES[frame++ % FRAMES.length]} ${clock} ${doing.slice(0, 40)} · Ctrl-C leaves, the run goes on`,
    )
  }, 100)
  return {
    stop() {
      clearInterval(timer)
      over.abort()
      process.stderr.write('\r\u001b[K')
    },
  }
}
