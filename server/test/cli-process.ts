import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { dirname, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'

export const PROGRAM = fileURLToPath(new URL('../bin/postern.mjs', import.meta.url))
/** Columns of the terminal that `terminal` gives the program. */
const COLUMNS = 100

export interface Ran {
  code: number | null
  signal: NodeJS.Signals | null
  stdout: string
  stderr: string
}

export interface CliProcess {
  child: ChildProcess
  stdout(): string
  stderr(): string
  ended: Promise<Ran>
}

interface CliOptions {
  /** The data directory, as POSTERN_HOME. */
  home: string
  env?: Record<string, string>
  stdin?: string
}

/** The environment of a person at a shell, without what the tests themselves run under. */
function environment({ home, env = {} }: CliOptions): Record<string, string> {
  const { PATH = '', HOME = '', USER = '', LANG = 'C.UTF-8' } = process.env
  return { PATH: `${dirname(process.execPath)}:${PATH}`, HOME, USER, LANG, TERM: 'xterm', POSTERN_HOME: home, ...env }
}

/** Starts the command line as a person would, its output going to pipes. */
export function startCli(args: string[], options: CliOptions): CliProcess {
  return start([process.execPath, PROGRAM, ...args], options)
}

/** Runs the command line to its end, its output going to pipes. */
export async function cli(args: string[], options: CliOptions): Promise<Ran> {
  return await startCli(args, options).ended
}

/** Gives the program a terminal of its own; its exit code becomes that of python. */
const PTY = `
import fcntl, os, pty, struct, sys, termios
pid, fd = pty.fork()
if pid == 0:
    fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack('HHHH', 24, ${COLUMNS}, 0, 0))
    os.execv(sys.argv[1], sys.argv[1:])
while True:
    try:
        data = os.read(fd, 65536)
    except OSError:
        break
    if not data:
        break
    os.write(1, data)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) % 256)
`

/** As `PTY`, and types each text once the one it waits for was shown since the last. */
const TYPING_PTY = `
import fcntl, json, os, pty, struct, sys, termios
steps = json.loads(sys.argv[1])
pid, fd = pty.fork()
if pid == 0:
    fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack('HHHH', 24, ${COLUMNS}, 0, 0))
    os.execv(sys.argv[2], sys.argv[2:])
seen = b''
while True:
    while steps and steps[0][0].encode() in seen:
        wanted, text = steps.pop(0)
        seen = seen.split(wanted.encode(), 1)[1]
        os.write(fd, text.encode())
    try:
        data = os.read(fd, 65536)
    except OSError:
        break
    if not data:
        break
    seen += data
    os.write(1, data)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) % 256)
`

/**
 * Runs the command line on a terminal of 100 columns with somebody at its keys; both its outputs are in `stdout`, as the
 * terminal got them. Needs python3.
 *
 * @param steps what to wait for, and what to type then
 */
export async function typed(args: string[], options: CliOptions, steps: [string, string][]): Promise<Ran> {
  const command = [process.execPath, PROGRAM, ...args]
  const ran = await start(['python3', '-c', TYPING_PTY, JSON.stringify(steps), ...command], options).ended
  return { ...ran, stdout: ran.stdout.replaceAll('\r\n', '\n') }
}

/** Runs the command line on a terminal of 100 columns; both its outputs are in `stdout`. Needs python3. */
export async function terminal(args: string[], options: CliOptions): Promise<Ran> {
  const ran = await start(['python3', '-c', PTY, process.execPath, PROGRAM, ...args], options).ended
  return { ...ran, stdout: ran.stdout.replaceAll('\r\n', '\n') }
}

function start([program = '', ...args]: string[], options: CliOptions): CliProcess {
  const child = spawn(program, args, { env: environment(options), cwd: resolve('/'), stdio: ['pipe', 'pipe', 'pipe'] })
  let stdout = ''
  let stderr = ''
  child.stdout.on('data', (chunk) => (stdout += String(chunk)))
  child.stderr.on('data', (chunk) => (stderr += String(chunk)))
  child.stdin.on('error', () => undefined)
  child.stdin.end(options.stdin ?? '')
  const ended = once(child, 'close').then(([code, signal]) => {
    // Nothing that any test sees names a command that cannot be typed.
    if ((stdout + stderr).includes('npx npx')) throw new Error(`a hint says npx twice:\n${stdout}${stderr}`)
    return { code: code as number | null, signal: signal as NodeJS.Signals | null, stdout, stderr }
  })
  return { child, stdout: () => stdout, stderr: () => stderr, ended }
}

/** The output with what differs from run to run named instead: ids, times, addresses, directories. */
export function stable(text: string, places: { url?: string; dataDir?: string } = {}): string {
  const known = { headless: 'run', sess: 'session', grant: 'grant', dlv: 'delivery', perm: 'request' }
  const ids = new Map<string, Map<string, string>>()
  const nameOf = (id: string, kind: keyof typeof known): string => {
    const named = ids.get(kind) ?? new Map<string, string>()
    ids.set(kind, named)
    return named.get(id) ?? (named.set(id, `<${known[kind]} ${named.size + 1}>`), `<${known[kind]} ${named.size}>`)
  }
  const { url, dataDir } = places
  return [
    [/\bpstn_h1_[\w-]+/g, '<token>'],
    [/\b(headless|sess|grant|dlv|perm)_[0-9A-Z]{10,26}/g, nameOf],
    [/inb_[0-9A-Z]{10,26}/g, '<entry>'],
    [/\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z/g, '<time>'],
    [/\b[0-9a-f]{40}\b/g, '<sha>'],
    [/at [0-9a-f]{10}\b/g, 'at <sha>'],
    [/\breq_\w+/g, '<request>'],
    [/"(durationMs|lastSeq)":\d+/g, '"$1":<number>'],
    [/\b\d+(\.\d+)?s\b|\b\d+m\d\ds\b/g, '<span>'],
    [/delivered, \d+ ms/g, 'delivered, <ms>'],
    [/v\d+\.\d+\.\d+/g, '<version>'],
  ].reduce<string>(
    (all, [pattern, name]) => all.replace(pattern as RegExp, name as string),
    [
      [url, '<server>'],
      [dataDir, '<data>'],
    ].reduce<string>((all, [place, name]) => (place ? all.replaceAll(place, name ?? '') : all), text),
  )
}
