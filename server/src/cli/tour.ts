import { randomUUID } from 'node:crypto'
import { join } from 'node:path'
import {
  ConflictError,
  ConnectionError,
  NotFoundError,
  Postern,
  PosternError,
  type Run,
  type Workspace,
} from '@postern/sdk'
import { dataDirectory } from '../config.ts'
import type { Context } from './context.ts'
import { EXIT } from './exit.ts'
import { runnable } from './explain.ts'
import { textOf } from './follow.ts'
import { writeSample } from './sample.ts'
import type { Serving } from './serve.ts'
import { inert, span, status } from './text.ts'
import { endTourSessions, hookToTry, showHook, showSession } from './tour-session.ts'
import { STEP_LIMIT_MS, WORKSPACE, type Stage } from './tour-stage.ts'

const PROMPT = 'Look around and report'

/** In order; each is a promise of the product, shown. */
const STEPS: { name: string; play(stage: Stage): Promise<void> }[] = [
  { name: 'workspace', play: showWorkspace },
  { name: 'run', play: showRun },
  { name: 'inbox', play: showInbox },
  { name: 'session', play: showSession },
  { name: 'hook', play: showHook },
  { name: 'key', play: showReplay },
  { name: 'cancel', play: showCancel },
  { name: 'capacity', play: showCapacity },
]

/**
 * Shows what exists, as an ordinary client: a workspace, a run with its events and diff, what it reported, a live session
 * and an address that leads to it, a key that is replayed, a run that is canceled. Uses the server of the data
 * directory, or starts one and keeps serving, also when a step failed. Repeatable.
 *
 * @returns with `exit`, or another's server: 0 when every step passed; else 1, and the failed step was named. Else the
 * exit code of the server, once it was told to stop
 */
export async function tour(context: Context, flags: { exit: boolean }): Promise<number> {
  const { screen } = context
  const { postern, serving } = await open(context)
  const keeps = serving !== undefined && !flags.exit
  const startedAt = performance.now()
  let number = 0
  const stopped = new AbortController()
  void serving?.ended.then(() => stopped.abort())
  const stage: Stage = {
    postern,
    context,
    signal: stopped.signal,
    line: (name, text) => screen.print(`${++number} ${name.padEnd(10)} ${text}`),
    more: (text) => screen.print(`${' '.repeat(13)}${text}`),
    left: {},
  }
  for (const step of STEPS) {
    try {
      await step.play(stage)
    } catch (error) {
      if (serving?.isStopping()) return await serving.ended
      screen.complain(
        `${screen.style('red', '✗')} tour failed at "${step.name}": ${inert((error as Error).message, true)}`,
      )
      if (error instanceof PosternError && error.hint !== undefined)
        screen.complain(`  ${runnable(context, inert(error.hint, true))}`)
      if (keeps) {
        screen.print(`Still serving; Ctrl-C stops. Documents: ${postern.url}/docs`)
        return await serving.ended
      }
      await serving?.stop()
      return EXIT.unexpected
    }
  }
  const passed = `${screen.style('green', '✓')} tour passed in ${span(performance.now() - startedAt)}.`
  screen.print(`${passed}${keeps ? ' Still serving; Ctrl-C stops.' : ''}${flags.exit ? '' : ' Your turn:'}`)
  if (flags.exit) await endTourSessions(postern)
  else await showNext(stage)
  if (serving === undefined) return EXIT.ok
  return flags.exit ? await serving.stop() : await serving.ended
}

async function open(context: Context): Promise<{ postern: Postern; serving: Serving | undefined }> {
  try {
    const postern = await context.connect()
    context.screen.print(`using the server at ${postern.url}`)
    return { postern, serving: undefined }
  } catch (error) {
    // Somebody named a server, or it answers and refuses: another one is no answer to that.
    if ((context.options.server ?? process.env['POSTERN_URL']) || !(error instanceof ConnectionError)) throw error
  }
  const { startServing } = await import('./serve.ts')
  const serving = await startServing(context.dataFlag)
  return { postern: await Postern.connect({ url: serving.server.url, home: serving.dataDir }), serving }
}

async function showWorkspace({ postern, context, line }: Stage): Promise<void> {
  const { workspace, files } = await demoWorkspace(postern, context)
  const origin = files === undefined ? 'as it was left' : `new git repository, ${files} files`
  line('workspace', `${workspace.id}  ${inert(workspace.path, true)}, ${origin}`)
}

async function demoWorkspace(postern: Postern, context: Context): Promise<{ workspace: Workspace; files?: number }> {
  const wanted = { id: WORKSPACE, tag: 'demo' } as const
  try {
    return { workspace: await postern.workspaces.get(WORKSPACE) }
  } catch (error) {
    if (!(error instanceof NotFoundError)) throw error
  }
  try {
    const workspace = await postern.workspaces.create(wanted)
    return { workspace, files: await writeSample(workspace.path) }
  } catch (error) {
    if (!(error instanceof ConflictError)) throw error
  }
  // It was removed, and its directory was kept.
  const home = dataDirectory({ flags: context.dataFlag, env: process.env })
  return { workspace: await postern.workspaces.create({ ...wanted, path: join(home, 'workspaces', WORKSPACE) }) }
}

async function showRun({ postern, context, signal, line, more }: Stage): Promise<void> {
  const { screen } = context
  const { taskId } = await postern.runs.create({ wsId: WORKSPACE, agent: 'demo', prompt: PROMPT })
  line('run', `${taskId} "${PROMPT}", agent demo (no model)`)
  const tools = new Map<unknown, string>()
  let seen = 0
  for await (const event of postern.runs.events(taskId, { signal })) {
    seen += 1
    if (event.type === 'tool.started') tools.set(event['toolCallId'], textOf(event['name']))
    if (event.type === 'tool.ended') {
      more(`${inert(tools.get(event['toolCallId']) ?? 'tool', true)}: ${inert(textOf(event['output']), true)}`)
    }
    if (event.type === 'agent.message') more(screen.style('gray', inert(event.text ?? '', true)))
  }
  const done = await postern.runs.waitFor(taskId, { timeoutMs: STEP_LIMIT_MS, signal })
  expectStatus(done, 'succeeded')
  if (seen !== done.lastSeq) throw new Error(`${seen} events were streamed of ${done.lastSeq}`)
  const { filesChanged } = done.git
  const changed = `${filesChanged} ${filesChanged === 1 ? 'file' : 'files'} changed`
  if (done.outcome !== 'reported') throw new Error(`${taskId} ended ${done.outcome}; it should have reported`)
  const facts = [`${status(screen, done.status)} in ${span(done.durationMs ?? 0)}`, `outcome ${done.outcome}`]
  more([...facts, changed, `${seen} events`].join(' · '))
  if (filesChanged === 0) return
  const patch = await postern.runs.diff(taskId)
  const added = patch.split('\n').filter((text) => /^\+(?!\+\+)/.test(text))
  more(`${context.me} runs diff ${taskId}: ${added.length} lines added`)
}

async function showInbox({ postern, context, line, more }: Stage): Promise<void> {
  const [entry] = (await postern.inbox.list({ wsId: WORKSPACE, pageSize: 1 }).page()).entries
  if (!entry) throw new Error('the run says that it reported, and the Inbox is empty')
  line('inbox', `${entry.id} "${inert(entry.title, true)}", stamped ${entry.from} ${entry.taskId}`)
  for (const { name, sizeBytes, sha256 } of entry.documents)
    more(`${inert(name, true)}: ${sizeBytes} bytes, sha256 ${sha256.slice(0, 12)}…`)
  more(`${context.me} inbox read ${entry.id}`)
}

async function showReplay({ postern, signal, line }: Stage): Promise<void> {
  const idempotencyKey = `tour-${randomUUID()}`
  const request = { wsId: WORKSPACE, agent: 'demo', prompt: '/files' } as const
  const first = await postern.runs.create(request, { idempotencyKey })
  const again = await postern.runs.create(request, { idempotencyKey }).withResponse()
  if (first.taskId !== again.data.taskId) throw new Error(`one key started ${first.taskId} and ${again.data.taskId}`)
  if (again.headers.get('Idempotency-Replayed') !== 'true') throw new Error('the second answer is no replay')
  line('key', `the same Idempotency-Key twice → ${again.status} replayed, one run: ${first.taskId}`)
  expectStatus(await postern.runs.waitFor(first.taskId, { timeoutMs: STEP_LIMIT_MS, signal }), 'succeeded')
}

async function showCancel({ postern, context, signal, line }: Stage): Promise<void> {
  const { taskId } = await postern.runs.create({ wsId: WORKSPACE, agent: 'demo', prompt: '/sleep 60' })
  for await (const event of postern.runs.events(taskId, { signal })) if (event.type === 'tool.started') break
  const since = performance.now()
  const canceled = await postern.runs.cancel(taskId)
  expectStatus(canceled, 'canceled')
  if (canceled.survivors > 0) throw new Error(`${canceled.survivors} processes were left`)
  const took = span(performance.now() - since)
  line('cancel', `${taskId} /sleep 60 → ${status(context.screen, 'canceled')} in ${took}, no process left`)
}

async function showCapacity({ postern, line }: Stage): Promise<void> {
  const { running, limit, queued } = (await postern.runs.list({ pageSize: 1 }).page()).capacity
  line('capacity', `${running} of ${limit} runs active, ${queued} queued`)
}

/** What to type next: a call, a command, and the agent that was found, or how to add one. */
async function showNext(stage: Stage): Promise<void> {
  const { postern, context } = stage
  const { screen, me } = context
  for (const command of hookToTry(stage)) screen.print(`  ${command}`)
  const body = `-H 'Content-Type: application/json' -d '{"prompt": "Look around"}'`
  screen.print(`  curl -X POST ${postern.url}/api/workspaces/${WORKSPACE}/headless ${body}`)
  const { agents: enabled } = await postern.workspaces.get(WORKSPACE)
  const agents = await postern.agents.list().toArray()
  const found = agents.find(
    (agent) =>
      enabled.includes(agent.id) && agent.hasModel && agent.installed && agent.headless && agent.login !== 'no',
  )
  screen.print(
    found
      ? `  ${me} run "Explain this repository" -w ${WORKSPACE} -a ${found.id} --wait   (${found.id} found)`
      : `  ${me} run "Look around" -w ${WORKSPACE} --wait   (agents with a model: ${me} agents)`,
  )
  screen.print(`  documents: ${postern.url}/docs`)
}

function expectStatus(run: Run, wanted: string): void {
  if (run.status !== wanted)
    throw new Error(`${run.taskId} is ${run.status} (${run.reason}: ${run.detail}), not ${wanted}`)
}
