import { text as readAll } from 'node:stream/consumers'
import type { CreateRun, Postern, Run, TaskId } from '@postern/sdk'
import { parseSpan, type Context } from './context.ts'
import { CliExit, EXIT, exitOf } from './exit.ts'
import { follow } from './follow.ts'
import { resolveRun, resolveWorkspace } from './ids.ts'
import { runLookedAt, untilLeft } from './leaving.ts'
import { nextAfter } from './next.ts'
import { showProgress } from './progress.ts'
import { inert, span, status } from './text.ts'

export interface RunFlags {
  workspace: string
  agent?: string
  timeout?: string
  idleTimeout?: string
  model?: string
  wait?: boolean
  follow?: boolean
  deadline?: string
  queue?: boolean
  resume?: string
  worktree?: boolean
  meta?: string[]
  key?: string
}

/** `postern run`: prints the task id; with --wait the reply, with --follow what happens. */
export async function startRun(context: Context, given: string, flags: RunFlags): Promise<number> {
  const { screen, options } = context
  if (flags.deadline !== undefined && !flags.wait && !flags.follow)
    throw new CliExit(EXIT.usage, '--deadline needs --wait or --follow', 'the limit of the run itself is --timeout')
  const prompt = given === '-' ? await readAll(process.stdin) : given
  const settings = {
    ...(flags.agent !== undefined && { agent: flags.agent }),
    ...(flags.timeout !== undefined && { timeoutMs: parseSpan(flags.timeout, '--timeout') }),
    ...(flags.idleTimeout !== undefined && { idleTimeoutMs: parseSpan(flags.idleTimeout, '--idle-timeout') }),
    ...(flags.model !== undefined && { model: flags.model }),
    ...(flags.queue && { whenBusy: 'queue' as const }),
    ...(flags.worktree && { isolation: 'worktree' as const }),
    ...(flags.meta && { metadata: parsePairs(flags.meta) }),
  }
  const postern = await context.connect()
  const body: CreateRun = {
    wsId: await resolveWorkspace(postern, flags.workspace),
    prompt,
    ...settings,
    ...(flags.resume !== undefined && { resume: await resolveRun(postern, flags.resume) }),
  }
  const run = await postern.runs.create(body, flags.key === undefined ? {} : { idempotencyKey: flags.key })
  const accepted = [run.taskId, run.wsId, run.agent, ...(run.status === 'queued' ? ['queued'] : [])]
  screen.note(`${screen.style('green', '✓')} accepted ${accepted.join(' · ')}`)
  if (flags.follow) return await followRun(context, postern, run.taskId, flags.deadline)
  if (flags.wait) return await waitForRun(context, postern, run.taskId, flags.deadline)
  if (options.json) screen.printJson(run)
  else screen.print(run.taskId)
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

/** Waits for the end of a run and prints its reply; Ctrl-C leaves and the run goes on. */
export async function waitForRun(
  context: Context,
  postern: Postern,
  taskId: TaskId,
  deadline?: string,
): Promise<number> {
  const { screen, options } = context
  return await untilLeft(context, runLookedAt(context, taskId), deadline, async (signal) => {
    const progress = screen.showsProgress ? showProgress(postern, taskId, signal) : undefined
    const done = await postern.runs.waitFor(taskId, { signal }).finally(() => progress?.stop())
    if (options.json) screen.printJson(done)
    else if (done.result.text !== null) screen.print(inert(done.result.text.replace(/\n$/, '')))
    screen.note(summary(context, done))
    return exitOf(done.status)
  })
}

/** Prints what happens until the run ends; Ctrl-C leaves and the run goes on. */
export async function followRun(
  context: Context,
  postern: Postern,
  taskId: TaskId,
  deadline?: string,
): Promise<number> {
  return await untilLeft(context, runLookedAt(context, taskId), deadline, async (signal) => {
    await follow(context, postern.runs.events(taskId, { signal }))
    const done = await postern.runs.get(taskId, { signal })
    context.screen.note(summary(context, done))
    return exitOf(done.status)
  })
}

/** The last line of a run: how it ended, why, what it changed; then what to do next. */
export function summary(context: Context, run: Run): string {
  const { screen, me } = context
  const { reason, detail, outcome, inboxIds, git, survivors } = run
  const parts = [
    `${status(screen, run.status)} in ${span(run.durationMs ?? 0)}`,
    ...(reason === null ? [] : [detail === null ? reason : `${reason}: ${inert(detail, true)}`]),
    ...(outcome === null ? [] : [[outcome, ...inboxIds].join(' ')]),
    ...(git.filesChanged > 0 ? [`${git.filesChanged} ${git.filesChanged === 1 ? 'file' : 'files'} changed`] : []),
    ...(survivors > 0 ? [`${survivors} processes could not be ended`] : []),
  ]
  const next = nextAfter(run)
  return [parts.join(' · '), ...(next === undefined ? [] : [`next: ${me} ${next}`])].join('\n')
}
