import { setTimeout as delay } from 'node:timers/promises'
import type { Event, Postern, TaskId } from '@postern/sdk'
import { parseCount, type Context } from './context.ts'
import { EXIT } from './exit.ts'
import { resolveRun } from './ids.ts'
import { runLookedAt, untilLeft } from './leaving.ts'
import { inert } from './text.ts'

/** Milliseconds between two looks at output that grows. */
const POLL_MS = 500

/** `postern runs events`: JSON Lines, so far or until the run ends. */
export async function printEvents(
  context: Context,
  given: string,
  flags: { after: string; follow?: boolean },
): Promise<number> {
  const after = parseCount(flags.after, '--after', 0)
  const postern = await context.connect()
  const taskId = await resolveRun(postern, given)
  const print = (event: Event): void => context.screen.printJson(event)
  if (flags.follow) {
    return await untilLeft(context, runLookedAt(context, taskId), undefined, async (signal) => {
      for await (const event of postern.runs.events(taskId, { after, signal })) print(event)
      return EXIT.ok
    })
  }
  for (let seq = after; ;) {
    const page = await postern.runs.eventsPage(taskId, { after: seq })
    page.events.forEach(print)
    if (page.events.length === 0 || page.nextAfter >= page.lastSeq) return EXIT.ok
    seq = page.nextAfter
  }
}

/** `postern runs output`: what the program printed, raw for pipes; on a terminal it must not steer it. */
export async function printOutput(
  context: Context,
  given: string,
  flags: { stderr?: boolean; tail?: string; follow?: boolean },
): Promise<number> {
  const { screen } = context
  const stream = flags.stderr ? 'stderr' : 'stdout'
  const tailBytes = flags.tail === undefined ? undefined : parseCount(flags.tail, '--tail')
  const postern = await context.connect()
  const taskId = await resolveRun(postern, given)
  const write = (text: string): void => screen.write(screen.isTerminal ? inert(text) : text)
  if (!flags.follow) {
    write(await postern.runs.output(taskId, { stream, ...(tailBytes !== undefined && { tailBytes }) }))
    return EXIT.ok
  }
  return await untilLeft(context, runLookedAt(context, taskId), undefined, async (signal) => {
    const decoder = new TextDecoder()
    for await (const bytes of growing(postern, { taskId, stream, tailBytes, signal })) {
      write(decoder.decode(bytes, { stream: true }))
    }
    return EXIT.ok
  })
}

/** What is added to an output, from its beginning or its last `tailBytes` on, until nothing will be added any more. */
async function* growing(
  postern: Postern,
  what: { taskId: TaskId; stream: string; tailBytes: number | undefined; signal: AbortSignal },
): AsyncGenerator<Uint8Array> {
  const { taskId, stream, tailBytes, signal } = what
  let end: number | undefined
  for (;;) {
    // One byte more than is new: a range that holds nothing would be refused.
    const range = end !== undefined && end > 0 ? `bytes=${end - 1}-` : undefined
    const answer = await postern.raw(`/api/headless/${taskId}/output`, {
      query: { stream },
      ...(range !== undefined && { headers: { Range: range } }),
      signal,
    })
    const bytes = new Uint8Array(await answer.arrayBuffer())
    const known: number = range === undefined ? 0 : 1
    const skipped: number = end === undefined && tailBytes !== undefined ? Math.max(0, bytes.length - tailBytes) : known
    end = (range === undefined ? 0 : (end ?? 0)) + bytes.length - known
    if (bytes.length > skipped) yield bytes.subarray(skipped)
    if (answer.headers.get('X-Postern-Complete') === 'true') return
    await delay(POLL_MS, undefined, { signal })
  }
}

/** `postern runs diff`: the patch, for `git apply`. */
export async function printDiff(context: Context, given: string): Promise<number> {
  const { screen } = context
  const postern = await context.connect()
  const patch = await postern.runs.diff(await resolveRun(postern, given))
  screen.write(screen.isTerminal ? inert(patch) : patch)
  return EXIT.ok
}
