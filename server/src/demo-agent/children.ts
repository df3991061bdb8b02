import { spawn } from 'node:child_process'

/** Bytes of a child's output that are kept. */
const KEPT_BYTES = 64 * 1024

const groups = new Set<number>()
process.on('exit', endChildren)

/** Ends every program this process started and still waits for, with all that it started. */
export function endChildren(): void {
  for (const pid of groups) {
    try {
      process.kill(-pid, 'SIGKILL')
    } catch {
      // gone by itself
    }
  }
}

/** Runs a program in a group of its own, which ends with the signal. Never rejects for what the program does. */
export async function runProgram(
  program: string,
  args: string[],
  options: { cwd: string; signal: AbortSignal },
): Promise<{ exitCode: number | null; output: string }> {
  const { cwd, signal } = options
  signal.throwIfAborted()
  const child = spawn(program, args, { cwd, detached: true, stdio: ['ignore', 'pipe', 'pipe'] })
  const { pid } = child
  if (pid !== undefined) groups.add(pid)
  signal.addEventListener('abort', endChildren, { once: true })
  const chunks: Buffer[] = []
  let sizeBytes = 0
  const keep = (chunk: Buffer): void => {
    if (sizeBytes < KEPT_BYTES) chunks.push(chunk)
    sizeBytes += chunk.length
  }
  child.stdout.on('data', keep)
  child.stderr.on('data', keep)
  try {
    const exitCode = await new Promise<number | null>((resolve) => {
      child.once('error', () => resolve(null))
      child.once('close', resolve)
    })
    signal.throwIfAborted()
    return { exitCode, output: Buffer.concat(chunks).subarray(0, KEPT_BYTES).toString('utf8') }
  } finally {
    signal.removeEventListener('abort', endChildren)
    if (pid !== undefined) groups.delete(pid)
  }
}
