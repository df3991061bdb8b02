import { searchPath } from '../process/environment.ts'
import { findProgram } from '../process/program.ts'
import { runQuick, type QuickResult } from '../process/quick.ts'

const TIMEOUT_MS = 60_000
const MAX_OUTPUT_BYTES = 1024 * 1024

/** Git could not do it; the message is its own last line, or says which limit was met. */
export class GitError extends Error {
  override readonly name = 'GitError'
}

export interface GitCommandOptions {
  /** Beside what every call gets. */
  env?: Record<string, string>
  stdin?: Buffer
  /** Most bytes of output; default 1 MiB. */
  maxBytes?: number
}
export type RunGitCommand = (directory: string, args: string[], options?: GitCommandOptions) => Promise<QuickResult>

/**
 * What every call of ours carries, so that nothing a repository configures is executed: no monitor, no hook, no pager, no
 * prompt, no editor, no transport, no helper. Source: git-config(1); docs/security.md 5.
 */
const SAFE = [
  'core.fsmonitor=false',
  'core.hooksPath=/dev/null',
  'core.untrackedCache=false',
  'core.sshCommand=false',
  'core.askPass=',
  'core.pager=cat',
  'core.editor=false',
  'core.alternateRefsCommand=',
  'credential.helper=',
  'protocol.allow=never',
  'submodule.recurse=false',
  'status.showUntrackedFiles=all',
  'diff.external=',
  'gc.auto=0',
  'maintenance.auto=false',
].flatMap((setting) => ['-c', setting])

/** How git is called: absolute program, an environment by allow-list, safe settings, limits of time and output. */
export function createGitCommand(deps: {
  environment: Record<string, string | undefined>
  binDirectory: string
}): RunGitCommand {
  const { environment, binDirectory } = deps
  const path = searchPath(environment, binDirectory)
  const passed = ['HOME', 'XDG_CONFIG_HOME', 'TMPDIR'].flatMap((name) => {
    const value = environment[name]
    return value === undefined ? [] : [[name, value] as const]
  })
  const base: Record<string, string> = {
    ...Object.fromEntries(passed),
    PATH: path,
    LC_ALL: 'C',
    GIT_TERMINAL_PROMPT: '0',
    GIT_OPTIONAL_LOCKS: '0',
    GIT_NO_LAZY_FETCH: '1',
    GIT_NO_REPLACE_OBJECTS: '1',
    GIT_ALLOW_PROTOCOL: 'none',
    GIT_LITERAL_PATHSPECS: '1',
    GIT_PAGER: 'cat',
    GIT_EDITOR: 'false',
    GIT_ASKPASS: '',
    SSH_ASKPASS: '',
  }
  let program: Promise<string | undefined> | undefined

  return async (directory, args, { env, stdin, maxBytes = MAX_OUTPUT_BYTES } = {}) => {
    const found = await (program ??= findProgram('git', path))
    if (found === undefined) {
      program = undefined // it may be installed yet
      throw new GitError("git is not on the server's PATH")
    }
    return await runQuick({
      program: found,
      args: [...SAFE, ...args],
      cwd: directory,
      env: { ...base, ...env },
      ...(stdin && { stdin }),
      timeoutMs: TIMEOUT_MS,
      maxBytes,
    })
  }
}

/** Runs git and insists on exit code 0. @throws GitError */
export async function mustGit(
  git: RunGitCommand,
  directory: string,
  args: string[],
  options?: GitCommandOptions,
): Promise<Buffer> {
  const result = await git(directory, args, options)
  if (result.exitCode !== 0) throw failure(args, result)
  return result.stdout
}

/** What a call that failed is told as. */
export function failure(args: string[], { exitCode, stderr, timedOut, truncated }: QuickResult): GitError {
  const last = stderr.trim().split('\n').at(-1)
  const why = timedOut ? `took longer than ${TIMEOUT_MS} ms` : truncated ? 'printed too much' : last
  return new GitError(`git ${args.find((arg) => /^[a-z][a-z-]+$/.test(arg))}: ${why || `exited with ${exitCode}`}`)
}
