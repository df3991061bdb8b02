import { setTimeout as delay } from 'node:timers/promises'
import type { Run, RunQuery } from '@postern/sdk'
import { parseCount, type Context } from './context.ts'
import { explain } from './explain.ts'
import { EXIT, exitOf } from './exit.ts'
import { resolveRun, resolveWorkspace } from './ids.ts'
import { nextAfter } from './next.ts'
import { followRun } from './run.ts'
import { age, inert, shortIds, span, statusWord, table, type Screen } from './text.ts'

const WATCH_MS = 2_000
/** Most runs a page of the API holds. */
const PAGE = 200

export interface ListFlags {
  workspace?: string
  status?: string
  agent?: string
  limit: string
  watch?: boolean
}

export async function listRuns(context: Context, flags: ListFlags): Promise<number> {
  const { screen, options } = context
  const limit = parseCount(flags.limit, '--limit')
  const postern = await context.connect()
  const query: RunQuery = {
    pageSize: Math.min(limit, PAGE),
    ...(flags.workspace !== undefined && { wsId: await resolveWorkspace(postern, flags.workspace) }),
    ...(flags.status !== undefined && { status: flags.status }),
    ...(flags.agent !== undefined && { agent: flags.agent }),
  }
  const left = new AbortController()
  if (flags.watch) process.once('SIGINT', () => left.abort())
  for (;;) {
    const page = await postern.runs.list(query).page()
    if (options.json) {
      screen.printJson(page)
    } else {
      const tasks =
        page.tasks.length < limit && page.nextCursor !== null
          ? await postern.runs.list(query).toArray({ limit })
          : page.tasks
      if (flags.watch && screen.isTerminal) screen.write('\u001b[H\u001b[2J')
      screen.print(runTable(context, tasks))
      const { running, queued, limit: places } = page.capacity
      const failed = tasks.find((run) => run.status !== 'succeeded' && run.finishedAt !== null)
      const next = (failed && nextAfter(failed)) ?? 'run "…" -w <workspace>'
      screen.note(`capacity ${running} of ${places}, ${queued} queued · next: ${context.me} ${next}`)
    }
    if (!flags.watch) return EXIT.ok
    await delay(WATCH_MS, undefined, { signal: left.signal }).catch(() => undefined)
    if (left.signal.aborted) return EXIT.interruptedByUser
  }
}

function runTable(context: Context, runs: Run[]): string {
  const { screen } = context
  const short = shortIds(runs.map((run) => run.taskId))
  const rows = runs.map((run) => [
    screen.isTerminal ? (short.get(run.taskId) ?? run.taskId) : run.taskId,
    statusWord(screen, run.status),
    outcome(screen, run),
    run.wsId,
    run.agent,
    age(run.createdAt),
    run.durationMs === null ? (run.startedAt === null ? '-' : age(run.startedAt)) : span(run.durationMs),
    cost(run),
    inert(run.prompt, true).slice(0, screen.isTerminal ? 200 : 80),
  ])
  return table(screen, ['ID', 'STATUS', 'OUTCOME', 'WS', 'AGENT', 'AGE', 'TOOK', 'COST', 'PROMPT'], rows)
}

/** What it left for people; a run that said nothing stands out. */
function outcome(screen: Screen, run: Run): string {
  if (run.outcome === null) return '-'
  const style = { reported: 'green', silent: 'gray', no_report: 'yellow' } as const
  return screen.style(style[run.outcome as keyof typeof style] ?? 'gray', run.outcome)
}

function cost(run: Run): string {
  if (run.agent === 'demo') return 'no model'
  return run.usage.costUsd === null ? '-' : `$${run.usage.costUsd.toFixed(2)}`
}

export async function showRun(context: Context, given: string, flags: { exitStatus?: boolean }): Promise<number> {
  const { screen, options } = context
  const postern = await context.connect()
  const run = await postern.runs.get(await resolveRun(postern, given))
  if (options.json) screen.printJson(run)
  else {
    const { usage, git } = run
    const fields: [string, string | null][] = [
      ['run', run.taskId],
      ['status', `${statusWord(screen, run.status)}${run.reason === null ? '' : ` (${run.reason})`}`],
      ['detail', run.detail === null ? null : inert(run.detail)],
      ['workspace', run.wsId],
      ['agent', run.agent + (run.model === null ? '' : ` · ${inert(run.model, true)}`)],
      ['created', `${run.createdAt} (${age(run.createdAt)} ago)`],
      ['took', run.durationMs === null ? null : `${span(run.durationMs)} of ${span(run.timeoutMs)}`],
      ['outcome', run.outcome === null ? null : [run.outcome, ...run.inboxIds, ...whyOf(run)].join(' ')],
      ['started by', run.trigger.parentTaskId],
      ['exit', run.exitCode === null ? run.signal : String(run.exitCode)],
      ['usage', usage.source === 'none' ? null : `${usage.inputTokens} in, ${usage.outputTokens} out, ${cost(run)}`],
      [
        'git',
        git.baseSha === null && git.branch === null
          ? null
          : `${git.branch ?? 'detached'} at ${git.baseSha?.slice(0, 10) ?? 'no commit'}, ${git.filesChanged} changed`,
      ],
      ['worktree', git.worktree],
      ['retry of', run.retryOf],
      ['prompt', inert(run.prompt)],
      [
        'reply',
        run.result.text === null ? null : inert(run.result.text) + (run.result.truncated ? '\n(truncated)' : ''),
      ],
    ]
    for (const [name, value] of fields) {
      if (value !== null)
        screen.print(`${screen.style('gray', name.padEnd(10))} ${value.replaceAll('\n', `\n${' '.repeat(11)}`)}`)
    }
  }
  return flags.exitStatus ? exitOf(run.status) : EXIT.ok
}

const whyOf = ({ silentWhy }: Run): string[] => (silentWhy === null ? [] : [`(${inert(silentWhy, true)})`])

/** Levels of a tree that are shown. */
const MAX_LEVELS = 8

/** `postern runs tree`: a run with the runs it started, and those with theirs. */
export async function showTree(context: Context, given: string): Promise<number> {
  const { screen, options } = context
  const postern = await context.connect()
  const lines: string[] = []
  const visit = async (run: Run, before: string, mark: string, level: number): Promise<unknown> => {
    const took = run.durationMs === null ? '' : ` ${span(run.durationMs)}`
    const facts = [statusWord(screen, run.status) + took, outcome(screen, run), run.wsId, run.agent]
    lines.push(`${before}${mark}${run.taskId}  ${facts.join(' · ')}  ${inert(run.prompt, true).slice(0, 60)}`)
    const children = level < MAX_LEVELS ? await postern.runs.children(run.taskId).toArray() : []
    const below = before + (mark === '' ? '' : mark === '└─ ' ? '   ' : '│  ')
    const visited = []
    for (const [i, child] of children.entries())
      visited.push(await visit(child, below, i === children.length - 1 ? '└─ ' : '├─ ', level + 1))
    return { ...run, children: visited }
  }
  const tree = await visit(await postern.runs.get(await resolveRun(postern, given)), '', '', 0)
  if (options.json) screen.printJson(tree)
  else screen.print(lines.join('\n'))
  return EXIT.ok
}

export async function watchRun(
  context: Context,
  given: string,
  flags: { exitStatus?: boolean; deadline?: string },
): Promise<number> {
  const postern = await context.connect()
  const code = await followRun(context, postern, await resolveRun(postern, given), flags.deadline)
  return flags.exitStatus || code === EXIT.interruptedByUser ? code : EXIT.ok
}

export async function cancelRuns(context: Context, given: string[]): Promise<number> {
  const { screen, options } = context
  const postern = await context.connect()
  let code: number = EXIT.ok
  for (const each of given) {
    try {
      const run = await postern.runs.cancel(await resolveRun(postern, each))
      if (options.json) screen.printJson(run)
      else screen.print(`${run.taskId}\t${run.status}`)
      if (run.finishedAt === null) {
        screen.complain(`${run.taskId} is still ending: ${context.me} runs show ${run.taskId}`)
        code = EXIT.wrongState
      }
    } catch (error) {
      code = explain(context, error)
    }
  }
  return code
}

export async function retryRun(context: Context, given: string): Promise<number> {
  const { screen, options } = context
  const postern = await context.connect()
  const run = await postern.runs.retry(await resolveRun(postern, given))
  if (options.json) screen.printJson(run)
  else screen.print(run.taskId)
  screen.note(`next: ${context.me} runs watch ${run.taskId}`)
  return EXIT.ok
}
