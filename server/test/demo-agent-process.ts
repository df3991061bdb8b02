import { spawn, type ChildProcessWithoutNullStreams } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, realpath } from 'node:fs/promises'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import type { AgentEvent } from '../src/agents/agent.ts'
import { decodeEvents } from '../src/agents/events-format.ts'
import { temporaryDirectory } from './temporary.ts'

const PROGRAM = join(import.meta.dirname, '..', 'src', 'demo-agent', 'main.ts')

/** A workspace and a home of its own for one test. */
export interface Place extends AsyncDisposable {
  workspace: string
  home: string
}
export async function place(): Promise<Place> {
  const root = await temporaryDirectory()
  const workspace = join(await realpath(root.path), 'workspace')
  await mkdir(workspace)
  const dispose = async (): Promise<void> => await root[Symbol.asyncDispose]()
  return { workspace, home: join(root.path, 'home'), [Symbol.asyncDispose]: dispose }
}

/** The demo agent as a real process; `mark` finds what it leaves behind. */
export function start({ workspace, home }: Place, args: string[], mark = ''): ChildProcessWithoutNullStreams {
  const env = { PATH: process.env['PATH'], HOME: home, DEMO_AGENT_HOME: home, POSTERN_RUN_ID: mark }
  return spawn(process.execPath, [PROGRAM, ...args], { cwd: workspace, env, detached: true })
}

/** How it ended. */
export interface Ended {
  exitCode: number | null
  signal: string | null
  lines: string[]
  events: AgentEvent[]
  /** The reply, as the end of the turn gives it. */
  text: string
  stderr: string
}
/** Waits for its end and reads what it printed. */
export async function finish(child: ChildProcessWithoutNullStreams): Promise<Ended> {
  const lines: string[] = []
  let stderr = ''
  child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()))
  createInterface(child.stdout).on('line', (line) => lines.push(line))
  const [exitCode, signal] = (await once(child, 'close')) as [number | null, string | null]
  const events = lines.flatMap(decodeEvents)
  const end = events.find((event) => event.type === 'agent.end')
  return { exitCode, signal, lines, events, text: end?.text ?? '', stderr }
}
/** One headless turn. */
export async function turn(where: Place, prompt: string, ...args: string[]): Promise<Ended> {
  const child = start(where, args)
  child.stdin.end(prompt)
  return await finish(child)
}
