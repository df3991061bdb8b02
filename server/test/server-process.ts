import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const PROGRAM = fileURLToPath(new URL('../bin/postern.mjs', import.meta.url))

const alive = new Set<ChildProcess>()
process.once('exit', () => {
  for (const { pid } of alive) if (pid !== undefined) process.kill(-pid, 'SIGKILL')
})

export interface ServerProcess {
  child: ChildProcess
  url: string
  /** Milliseconds from the start of the process to its ready line. */
  startMs: number
  stderr(): string
  /** Signals it and waits for its end. */
  end(signal: NodeJS.Signals): Promise<{ code: number | null; signal: NodeJS.Signals | null; ms: number }>
}

export interface ServerProcessOptions {
  dataDir: string
  args?: string[]
  env?: Record<string, string>
  /** The command, when it is not the one of these sources. */
  postern?: string[]
  /** A program to run it under, such as strace, with its arguments. */
  under?: string[]
}

/** `postern serve` as an operator starts it, in a process of its own. Rejects when it ends without being ready. */
export async function serve(options: ServerProcessOptions): Promise<ServerProcess> {
  const started = await tryServe(options)
  if ('url' in started) return started
  throw new Error(`postern serve ended with ${started.code} before it was ready:\n${started.stderr}`)
}

/** The same, for servers that are expected to refuse. */
export async function tryServe(
  options: ServerProcessOptions,
): Promise<ServerProcess | { code: number | null; stderr: string }> {
  const { dataDir, args = [], env = {}, under = [], postern = [process.execPath, PROGRAM] } = options
  const from = performance.now()
  const command = [...under, ...postern, 'serve', '--port', '0', '--data', dataDir, ...args]
  const [program = '', ...rest] = command
  // A group of its own, so that a test that fails leaves nothing behind, not even under strace.
  const child = spawn(program, rest, {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, ...env },
    detached: true,
  })
  alive.add(child)
  child.once('exit', () => alive.delete(child))
  let stdout = ''
  let stderr = ''
  child.stderr.on('data', (chunk) => (stderr = (stderr + String(chunk)).slice(-100_000)))
  const exited = once(child, 'exit') as Promise<[number | null, NodeJS.Signals | null]>
  const ready = new Promise<string>((resolve) => {
    child.stdout.on('data', (chunk) => {
      stdout += String(chunk)
      const found = /^postern listening on (http:\S+)$/m.exec(stdout)
      if (found) resolve(found[1] ?? '')
    })
  })
  const url = await Promise.race([ready, exited.then(() => undefined)])
  if (url === undefined) return { code: (await exited)[0], stderr }
  return {
    child,
    url,
    startMs: performance.now() - from,
    stderr: () => stderr,
    async end(signal) {
      const since = performance.now()
      child.kill(signal)
      const [code, by] = await exited
      return { code, signal: by, ms: performance.now() - since }
    },
  }
}

export async function adminToken(dataDir: string): Promise<string> {
  return (await readFile(join(dataDir, 'admin-token'), 'utf8')).trim()
}

/** A request with JSON; network failures are `status: 0`, as a caller sees a server that dies. */
export async function call<T>(
  url: string,
  method: string,
  path: string,
  body?: unknown,
  headers: Record<string, string> = {},
): Promise<{ status: number; text: string; body: T; headers: Headers }> {
  try {
    const response = await fetch(url + path, {
      method,
      headers: { ...(body !== undefined && { 'content-type': 'application/json' }), ...headers },
      ...(body !== undefined && { body: JSON.stringify(body) }),
    })
    const text = await response.text()
    return {
      status: response.status,
      text,
      body: (text.startsWith('{') ? JSON.parse(text) : undefined) as T,
      headers: response.headers,
    }
  } catch {
    return { status: 0, text: '', body: undefined as T, headers: new Headers() }
  }
}
