import { once } from 'node:events'
import type { Readable } from 'node:stream'
import { execa } from 'execa'
import { signal as send } from './census.ts'

/** Milliseconds that pipes may stay open once the program has exited: what it left behind may hold them for ever. */
const DRAIN_MS = 200

export interface QuickResult {
  /** null: it did not start, or was ended by a signal or a limit. */
  exitCode: number | null
  stdout: Buffer
  stderr: string
  timedOut: boolean
  /** True when it wrote more than `maxBytes` and was ended. */
  truncated: boolean
}

export interface QuickRequest {
  /** Absolute path. */
  program: string
  args: string[]
  cwd: string
  /** All of its environment. */
  env: Record<string, string>
  /** Written to its stdin, which is then closed. */
  stdin?: string | Buffer
  timeoutMs: number
  /** Most bytes of stdout, and of stderr; beyond them the program is ended. */
  maxBytes: number
}

/**
 * Runs a small helper program (git, `agent --version`) to its end, in a group of its own that is killed when it exits or
 * meets a limit. No shell. Never rejects: a program that cannot be started has `exitCode` null and says why in `stderr`.
 */
export async function runQuick(request: QuickRequest): Promise<QuickResult> {
  const { program, args, cwd, env, stdin = '', timeoutMs, maxBytes } = request
  const child = execa(program, args, {
    cwd,
    env,
    extendEnv: false,
    stdin: 'pipe',
    stdout: 'pipe',
    stderr: 'pipe',
    buffer: false,
    encoding: 'buffer',
    reject: false,
    killDescendants: true, // a group of its own, which also ends when this process exits
    forceKillAfterDelay: false,
  })
  const { nodeChildProcess: node } = child
  const { pid } = node
  if (pid === undefined) {
    const { shortMessage, code } = await child
    return {
      exitCode: null,
      stdout: Buffer.alloc(0),
      stderr: code ?? shortMessage ?? '',
      timedOut: false,
      truncated: false,
    }
  }

  let truncated = false
  let timedOut = false
  const kill = (): void => void send(-pid, 'SIGKILL')
  const overflow = (): void => {
    truncated = true
    kill()
  }
  const stdout = collect(node.stdout, maxBytes, overflow)
  const stderr = collect(node.stderr, maxBytes, overflow)
  const timer = setTimeout(() => {
    timedOut = true
    kill()
  }, timeoutMs)
  node.stdin?.on('error', () => undefined) // it may not want to read all of it
  node.stdin?.end(stdin)

  const [exitCode] = (await once(node, 'exit')) as [number | null]
  clearTimeout(timer)
  let drain: NodeJS.Timeout | undefined
  await Promise.race([
    Promise.all([stdout.ended, stderr.ended]),
    new Promise((resolve) => (drain = setTimeout(resolve, DRAIN_MS))),
  ])
  clearTimeout(drain)
  node.stdout?.destroy()
  node.stderr?.destroy()
  kill()
  return {
    exitCode: timedOut || truncated ? null : exitCode,
    stdout: stdout.bytes(),
    stderr: stderr.bytes().toString('utf8'),
    timedOut,
    truncated,
  }
}

function collect(stream: Readable | null, maxBytes: number, onOverflow: () => void) {
  const chunks: Buffer[] = []
  let sizeBytes = 0
  stream?.on('data', (chunk: Buffer) => {
    sizeBytes += chunk.length
    if (sizeBytes > maxBytes) onOverflow()
    else chunks.push(chunk)
  })
  const ended = stream ? new Promise((resolve) => stream.once('close', resolve)) : Promise.resolve()
  return { ended, bytes: () => (chunks.length === 1 && chunks[0] ? chunks[0] : Buffer.concat(chunks)) }
}
