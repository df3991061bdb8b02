import { isAbsolute, delimiter } from 'node:path'

/** Names that pass from the server's environment to an agent; everything else stays behind. Source: docs/security.md 5. */
const PASSED = new Set(
  (
    'HOME USER LOGNAME SHELL LANG TZ TMPDIR SSL_CERT_FILE ' +
    'HTTP_PROXY HTTPS_PROXY NO_PROXY http_proxy https_proxy no_proxy'
  ).split(' '),
)
const PASSED_PATTERN = /^(LC_[A-Z]+|XDG_[A-Z]+_HOME)$/

/**
 * Names that nobody may set for an agent, neither an adapter nor a credential: they change what program runs, what it
 * loads, or who it thinks it is.
 */
const NEVER =
  /^(POSTERN_.*|PATH|NODE_.*|npm_.*|LD_.*|DYLD_.*|BASH_ENV|ENV|PROMPT_COMMAND|PS4|SHELLOPTS|BASHOPTS|ZDOTDIR|PYTHON.*|PERL5.*|RUBYOPT|JAVA_TOOL_OPTIONS|GIT_.*|NOTIFY_SOCKET|LISTEN_.*|INVOCATION_ID|JOURNAL_STREAM)$/

/** True for a name that an adapter or credential may set, and an adapter may let through. */
export const maySet = (name: string): boolean => !NEVER.test(name)

/** True for a name that a credential may set: one that every agent gets from us would be lost without a word. */
export const mayGive = (name: string): boolean => maySet(name) && name !== 'TERM' && name !== 'TMPDIR'

/** What one agent process gets beside what passes from the server. */
export interface OwnVariables {
  /** The server's address, for the agent to call. */
  POSTERN_URL?: string
  /** The run (or session) it works for: also the mark by which its processes are found. */
  POSTERN_RUN_ID: string
  POSTERN_WORKSPACE_ID: string
  /** The key of this process: what `postern` and its children present to the server. */
  POSTERN_TOKEN?: string
  /** Where it may leave what it does not need afterwards; goes with it. */
  TMPDIR?: string
}

/**
 * The environment of an agent: an allow-list of the server's, the adapter's own variables, what this adapter asks for of
 * the server's, those of its credentials, ours; what is named later wins. `PATH` begins with `binDirectory` and keeps
 * absolute entries only. Adapter variables that nobody may set are dropped.
 */
export function agentEnvironment(options: {
  server: Record<string, string | undefined>
  adapter: Record<string, string>
  /** Names that pass as well where they are set, and win over `adapter`: the keys and switches of this agent. */
  pass?: string[]
  /** Variables that credentials give it; they win over `pass` and `adapter`. */
  credentials?: Record<string, string>
  own: OwnVariables
  binDirectory: string
}): Record<string, string> {
  const { server, adapter, pass = [], credentials = {}, own, binDirectory } = options
  const result: Record<string, string> = {}
  for (const [name, value] of Object.entries(server)) {
    if (value !== undefined && (PASSED.has(name) || PASSED_PATTERN.test(name))) result[name] = value
  }
  const passed = pass.flatMap((name): [string, string][] => (server[name] === undefined ? [] : [[name, server[name]]]))
  for (const [name, value] of [...Object.entries(adapter), ...passed, ...Object.entries(credentials)]) {
    if (maySet(name)) result[name] = value
  }
  return { ...result, ...own, TERM: 'dumb', PATH: searchPath(server, binDirectory) }
}

/** The `PATH` of agents, and where their programs are looked for: ours first, then the server's absolute entries. */
export function searchPath(server: Record<string, string | undefined>, binDirectory: string): string {
  return [binDirectory, ...absoluteEntries(server['PATH'])].join(delimiter)
}

/** The entries of a PATH that mean the same wherever a program stands. */
export function absoluteEntries(path: string | undefined): string[] {
  return (path ?? '')
    .split(delimiter)
    .filter((entry) => isAbsolute(entry) && !/(^|\/)node_modules\/\.bin\/?$/.test(entry))
}
