import {
  closeSync,
  constants,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { dirname, join } from 'node:path'
import { runProgram } from './children.ts'
import { inside } from './confine.ts'

/** Files that are looked at; more are not counted. */
const MAX_FILES = 20_000
/** Bytes of a file that is searched for words; a larger one is passed over. */
const MAX_SEARCHED_BYTES = 256 * 1024
/** Characters of a file that is read aloud. */
const READ_CHARACTERS = 4_000
const MAX_MATCHES = 50
const PASSED_OVER = new Set(['.git', 'node_modules', '.venv', 'target'])

export interface FoundFile {
  path: string
  sizeBytes: number
}
export interface Match {
  path: string
  line: number
  text: string
}

/** The ordinary files of a workspace, sorted by path; links are not followed. */
export function listFiles(root: string): FoundFile[] {
  const found: FoundFile[] = []
  const walk = (folder: string): void => {
    const entries = readdirSync(join(root, folder), { withFileTypes: true }).toSorted((a, b) =>
      a.name < b.name ? -1 : 1,
    )
    for (const entry of entries) {
      if (found.length >= MAX_FILES) return
      const path = folder === '' ? entry.name : `${folder}/${entry.name}`
      try {
        if (entry.isDirectory() && !PASSED_OVER.has(entry.name)) walk(path)
        else if (entry.isFile()) found.push({ path, sizeBytes: statSync(join(root, path)).size })
      } catch {
        // it may not be read, or is gone
      }
    }
  }
  walk('')
  return found
}

/** Lines that match, in files small enough to be text. */
export function search(root: string, files: FoundFile[], matches: (line: string) => boolean): Match[] {
  const found: Match[] = []
  for (const { path, sizeBytes } of files) {
    if (sizeBytes > MAX_SEARCHED_BYTES) continue
    let text: string
    try {
      text = readFileSync(join(root, path), 'utf8')
    } catch {
      continue // it may not be read
    }
    if (text.includes('\0')) continue
    for (const [index, line] of text.split('\n').entries()) {
      if (!matches(line)) continue
      found.push({ path, line: index + 1, text: line.trim().slice(0, 200) })
      if (found.length >= MAX_MATCHES) return found
    }
  }
  return found
}

/** Lines that somebody left to be done. */
export const findTodos = (root: string, files: FoundFile[]): Match[] =>
  search(root, files, (line) => /\b(TODO|FIXME)\b/.test(line))

/** The beginning of a file. @throws OutsideError, or what the file system says */
export function readText(root: string, path: string): string {
  // Not waiting for whoever would write into a named pipe.
  const handle = openSync(inside(root, path), constants.O_RDONLY | constants.O_NONBLOCK)
  try {
    const text = readFileSync(handle, 'utf8')
    return text.length > READ_CHARACTERS
      ? `${text.slice(0, READ_CHARACTERS)}\n… (${text.length} characters in all)`
      : text
  } finally {
    closeSync(handle)
  }
}

/** Writes a file and the folders above it. @throws OutsideError, or what the file system says */
export function writeText(root: string, path: string, text: string): void {
  const real = inside(root, path)
  mkdirSync(dirname(real), { recursive: true })
  const handle = openSync(
    real,
    constants.O_WRONLY | constants.O_CREAT | constants.O_TRUNC | constants.O_NOFOLLOW,
    0o666,
  )
  try {
    writeFileSync(handle, text)
  } finally {
    closeSync(handle)
  }
}

/** Reads the repository without running anything that it configures. */
async function git(root: string, args: string[], signal: AbortSignal): Promise<string[] | undefined> {
  const safe = ['-c', 'core.fsmonitor=false', '-c', 'core.hooksPath=/dev/null', '-c', 'core.pager=cat']
  const { exitCode, output } = await runProgram('git', [...safe, ...args], { cwd: root, signal })
  return exitCode === 0 ? output.split('\n').filter(Boolean) : undefined
}

/** The last commits, newest first; undefined outside git or before the first one. */
export const gitLog = (root: string, count: number, signal: AbortSignal): Promise<string[] | undefined> =>
  git(root, ['log', '--oneline', '--no-decorate', '--no-color', '--no-show-signature', '-n', String(count)], signal)

/** Files git does not know, ignored ones left out; undefined outside git. */
export const gitUntracked = (root: string, signal: AbortSignal): Promise<string[] | undefined> =>
  git(root, ['ls-files', '--others', '--exclude-standard'], signal)

/** The scripts of `package.json` and the targets of a `Makefile`, by the command that runs each. */
export function listScripts(root: string): string[] {
  const scripts: string[] = []
  try {
    const manifest = JSON.parse(readText(root, 'package.json')) as { scripts?: Record<string, string> }
    scripts.push(...Object.keys(manifest.scripts ?? {}).map((name) => `npm run ${name}`))
  } catch {
    // none, or not one that can be read
  }
  if (existsSync(join(root, 'Makefile'))) {
    const targets = readText(root, 'Makefile').matchAll(/^([A-Za-z][\w-]*):(?!=)/gm)
    scripts.push(...[...targets].map((match) => `make ${match[1]}`))
  }
  return scripts
}

/** Runs the workspace's own tests; undefined: it has none. */
export async function runTests(
  root: string,
  signal: AbortSignal,
): Promise<{ exitCode: number | null; output: string } | undefined> {
  const scripts = listScripts(root)
  const options = { cwd: root, signal }
  if (scripts.includes('npm run test')) return await runProgram('npm', ['run', '--silent', 'test'], options)
  if (scripts.includes('make test')) return await runProgram('make', ['test'], options)
  return undefined
}
