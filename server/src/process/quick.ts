import { execa } from 'execa'

export interface QuickResult {
  /** null: it did not start, was killed or ran out of time. */
  exitCode: number | null
  stdout: Buffer
  stderr: string
  timedOut: boolean
  /** True when it wrote more than `maxBytes` and was ended. */
  truncated: boolean
}

/**
 * Runs a small helper program (git, `agent --version`) to its end, in a group of its own that is killed at the limits.
 * Never rejects. No shell; nothing of our environment but `env`.
 */
export async function runQuick(request: {
  program: string
  args: string[]
  cwd: string
  env: Record<string, string>
  stdin?: string
  timeoutMs: number
  /** Most bytes of stdout, and of stderr. */
  maxBytes: number
}): Promise<QuickResult> {
  const { program, args, cwd, env, stdin = '', timeoutMs, maxBytes } = request
  const result = await execa(program, args, {
    cwd,
    env,
    extendEnv: false,
    input: stdin,
    encoding: 'buffer',
    stripFinalNewline: false,
    reject: false,
    timeout: timeoutMs,
    maxBuffer: maxBytes,
    killSignal: 'SIGKILL',
    killDescendants: true,
  })
  return {
    exitCode: result.exitCode ?? null,
    stdout: Buffer.from(result.stdout ?? []),
    stderr: Buffer.from(result.stderr ?? []).toString('utf8'),
    timedOut: result.timedOut,
    truncated: result.isMaxBuffer,
  }
}
