import { randomUUID } from 'node:crypto'
import { mkdir, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { Postern, NotFoundError, type Run } from '@postern/sdk'
import type { Context } from './context.ts'
import { EXIT } from './exit.ts'
import { describe } from './follow.ts'
import type { Serving } from './serve.ts'
import { inert, span, status } from './text.ts'

const WORKSPACE = 'ws-demo'

/**
 * Shows what exists, as an ordinary client: a workspace, a run with its events and diff, a key that is replayed, a run
 * that is canceled. Uses the server of the data directory, or starts one and keeps serving. Repeatable.
 */
export async function tour(context: Context, flags: { exit: boolean }): Promise<number> {
  const { screen } = context
  const { postern, serving } = await open(context)
  const startedAt = performance.now()
  let step = 'workspace'
  const line = (number: number, name: string, text: string): void =>
    screen.print(`${number} ${name.padEnd(10)} ${text}`)
  const more = (text: string): void => screen.print(`${' '.repeat(13)}${text}`)
  let code: number = EXIT.ok
  try {
    const workspace = await demoWorkspace(postern)
    line(1, 'workspace', `${workspace.id}  ${workspace.path}, agents ${workspace.agents.join(', ')}`)

    step = 'run'
    const run = await postern.runs.create({ wsId: WORKSPACE, agent: 'demo', prompt: 'Look around and report' })
    line(2, 'run', `${run.taskId} "Look around and report", agent demo (no model)`)
    for await (const event of postern.runs.events(run.taskId)) {
      if (event.type === 'tool.ended') more(describe(event) ?? '')
      if (event.type === 'agent.message') more(screen.style('gray', inert(event.text ?? '', true)))
    }
    const done = await postern.runs.waitFor(run.taskId, { timeoutMs: 60_000 })
    expectStatus(done, 'succeeded')
    more(
      `${status(screen, done.status)} in ${span(done.durationMs ?? 0)} · exit ${done.exitCode} · ${done.git.filesChanged} file changed · ${done.lastSeq} events`,
    )

    step = 'diff'
    const patch = await postern.runs.diff(run.taskId)
    const added = patch.split('\n').filter((text) => /^\+[^+]/.test(text))
    line(3, 'diff', `${context.me} runs diff ${run.taskId}: ${added.length} lines added`)
    for (const text of added.slice(0, 3)) more(screen.style('green', inert(text, true)))

    step = 'key'
    const key = `tour-${randomUUID()}`
    const request = { wsId: WORKSPACE, agent: 'demo', prompt: '/files' } as const
    const first = await postern.runs.create(request, { idempotencyKey: key })
    const again = await postern.runs.create(request, { idempotencyKey: key })
    if (first.taskId !== again.taskId) throw new Error(`one key started ${first.taskId} and ${again.taskId}`)
    line(4, 'key', `sent twice with one Idempotency-Key: one run, ${first.taskId}`)

    step = 'cancel'
    const long = await postern.runs.create({ wsId: WORKSPACE, agent: 'demo', prompt: '/sleep 60' })
    for await (const event of postern.runs.events(long.taskId)) if (event.type === 'tool.started') break
    const since = performance.now()
    const canceled = await postern.runs.cancel(long.taskId)
    expectStatus(canceled, 'canceled')
    if (canceled.survivors > 0) throw new Error(`${canceled.survivors} processes were left`)
    line(
      5,
      'cancel',
      `${long.taskId} /sleep 60 → ${status(screen, 'canceled')} in ${span(performance.now() - since)}, no process left`,
    )

    step = 'capacity'
    await postern.runs.waitFor(first.taskId, { timeoutMs: 60_000 })
    const { capacity } = await postern.runs.list({ pageSize: 1 }).page()
    line(6, 'capacity', `${capacity.running} of ${capacity.limit} runs active, ${capacity.queued} queued`)
    screen.print(
      `${screen.style('green', '✓')} tour passed in ${span(performance.now() - startedAt)}.${serving && !flags.exit ? ' Still serving; Ctrl-C stops.' : ''} Your turn:`,
    )
    screen.print(
      `  curl -X POST ${postern.url}/api/workspaces/${WORKSPACE}/headless -H 'Content-Type: application/json' -d '{"prompt":"Look around"}'`,
    )
    screen.print(`  ${context.me} run "Look around" -w ${WORKSPACE} --wait`)
    screen.print(`  documents: ${postern.url}/docs`)
  } catch (error) {
    screen.complain(`${screen.style('red', '✗')} tour failed at "${step}": ${(error as Error).message}`)
    code = EXIT.unexpected
  }
  if (!serving) return code
  if (flags.exit || code !== EXIT.ok) return Math.max(await serving.stop(), code)
  return await serving.ended
}

async function open(context: Context): Promise<{ postern: Postern; serving: Serving | undefined }> {
  try {
    const postern = await context.connect()
    context.screen.print(`using the server at ${postern.url}`)
    return { postern, serving: undefined }
  } catch (error) {
    if (context.options.server !== undefined) throw error // somebody named a server: another one is no answer
  }
  const { startServing } = await import('./serve.ts')
  const serving = await startServing(context.dataFlag)
  return { postern: await Postern.connect({ url: serving.server.url, home: serving.dataDir }), serving }
}

async function demoWorkspace(postern: Postern) {
  try {
    return await postern.workspaces.get(WORKSPACE)
  } catch (error) {
    if (!(error instanceof NotFoundError)) throw error
    const workspace = await postern.workspaces.create({ id: WORKSPACE, tag: 'demo' })
    await writeSample(workspace.path)
    return workspace
  }
}

/** Something to look at in the new directory, which is on this machine: a tiny program with two things left to do. */
async function writeSample(directory: string): Promise<void> {
  const files: Record<string, string> = {
    'README.md': '# Demo\n\nA small directory for the demo agent to look at.\n',
    'package.json': `${JSON.stringify({ name: 'demo', private: true, type: 'module', scripts: { test: 'node --test' } }, null, 2)}\n`,
    'src/greet.js': '// TODO: greet in other languages\nexport const greet = (name) => `Hello, ${name}!`\n',
    'src/main.js': "import { greet } from './greet.js'\n\nconsole.log(greet(process.argv[2] ?? 'you'))\n",
    'test/greet.test.js':
      "import assert from 'node:assert'\nimport test from 'node:test'\nimport { greet } from '../src/greet.js'\n\ntest('greets', () => assert.equal(greet('you'), 'Hello, you!'))\n",
    'notes/ideas.md': '- TODO: decide what this is for\n',
  }
  for (const [name, text] of Object.entries(files)) {
    await mkdir(dirname(join(directory, name)), { recursive: true })
    await writeFile(join(directory, name), text)
  }
}

function expectStatus(run: Run, wanted: string): void {
  if (run.status !== wanted)
    throw new Error(`${run.taskId} is ${run.status} (${run.reason}: ${run.detail}), not ${wanted}`)
}
