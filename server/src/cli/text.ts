import { stripVTControlCharacters, styleText } from 'node:util'

/** Where and how a command writes: stdout is data, stderr progress and hints. */
export interface Screen {
  /** Data for the caller; a line end is added. */
  print(text: string): void
  /** One line of JSON. */
  printJson(value: unknown): void
  /** Progress and hints, for people; nothing with --quiet. */
  note(text: string): void
  /** Errors: also with --quiet. */
  complain(text: string): void
  /** Data without a line end, as streams bring it. */
  write(text: string): void
  /** stdout is a terminal: tables, colour, short ids. */
  readonly isTerminal: boolean
  /** stderr is a terminal: progress may be redrawn. */
  readonly showsProgress: boolean
  /** Columns of the terminal; unlimited elsewhere. */
  readonly width: number
  /** Colours on a terminal, unless NO_COLOR or --no-color says otherwise. */
  style(format: Style, text: string): string
}
export type Style = 'red' | 'green' | 'yellow' | 'cyan' | 'gray' | 'bold' | 'italic'

export function createScreen(options: { quiet?: boolean; color: boolean }): Screen {
  const { quiet = false } = options
  const isTerminal = process.stdout.isTTY
  const color = options.color && !process.env['NO_COLOR'] && (isTerminal || process.stderr.isTTY)
  return {
    print: (text) => void process.stdout.write(`${text}\n`),
    printJson: (value) => void process.stdout.write(`${inertJson(value)}\n`),
    write: (text) => void process.stdout.write(text),
    note: (text) => void (quiet || process.stderr.write(`${text}\n`)),
    complain: (text) => void process.stderr.write(`${text}\n`),
    isTerminal,
    showsProgress: process.stderr.isTTY && !quiet,
    width: isTerminal ? (process.stdout.columns ?? 80) : Infinity,
    style: (format, text) => (color ? styleText(format, text, { validateStream: false }) : text),
  }
}

/** What agents wrote, made harmless: no escape sequence, no control character but line end and tab (in one line, none). */
export function inert(text: string, oneLine = false): string {
  const plain = stripVTControlCharacters(text)
  return oneLine ? plain.replace(/[\p{Cc}\u2028\u2029]+/gu, ' ') : plain.replace(/(?![\n\t])\p{Cc}/gu, '')
}

/** As one line of JSON that no terminal obeys. JSON escapes the control characters of ASCII; these are the others that a terminal may obey. */
export function inertJson(value: unknown): string {
  return JSON.stringify(value).replace(/[\u007f-\u009f]/g, (unit) => `\\u00${unit.charCodeAt(0).toString(16)}`)
}

const SIGNS: Record<string, [string, Style]> = {
  queued: ['○', 'gray'],
  running: ['●', 'cyan'],
  succeeded: ['✓', 'green'],
  failed: ['✗', 'red'],
  timed_out: ['✗', 'red'],
  canceled: ['✗', 'yellow'],
  interrupted: ['✗', 'yellow'],
  todo: ['○', 'gray'],
  in_progress: ['●', 'cyan'],
  done: ['✓', 'green'],
}

/** A status in data: in a pipe the word alone, for programs. */
export const statusWord = (screen: Screen, name: string): string => (screen.isTerminal ? status(screen, name) : name)

/** A status for people, as a sign and its word, never colour alone. */
export function status(screen: Screen, name: string): string {
  const [sign, style] = SIGNS[name] ?? ['·', 'gray']
  return screen.style(style, `${sign} ${name}`)
}

const STATES: Record<string, [string, Style]> = {
  starting: ['○', 'gray'],
  idle: ['●', 'green'],
  busy: ['●', 'cyan'],
  waiting: ['?', 'yellow'],
  suspended: ['○', 'yellow'],
  ended: ['✗', 'gray'],
}

/** The state of a session as a sign and its word; in a pipe the word alone. */
export function sessionState(screen: Screen, name: string): string {
  if (!screen.isTerminal) return name
  const [sign, style] = STATES[name] ?? ['·', 'gray']
  return screen.style(style, `${sign} ${name}`)
}

/** A span of time: `0.9s`, `1m04s`, `2h05m`, `3d`. */
export function span(ms: number): string {
  if (ms < 9_950) return `${(Math.max(0, ms) / 1000).toFixed(1)}s`
  const seconds = Math.round(ms / 1000)
  if (seconds < 60) return `${seconds}s`
  const two = (n: number): string => String(n).padStart(2, '0')
  if (seconds < 3_600) return `${Math.floor(seconds / 60)}m${two(seconds % 60)}s`
  if (seconds < 172_800) return `${Math.floor(seconds / 3_600)}h${two(Math.floor((seconds % 3_600) / 60))}m`
  return `${Math.floor(seconds / 86_400)}d`
}

/** The age of a moment, without tenths. */
export const age = (iso: string, now = Date.now()): string =>
  span(Math.max(0, now - Date.parse(iso))).replace(/\.\ds$/, 's')

/** Rows under headings; on a terminal aligned and cut to its width, elsewhere separated by tabs. */
export function table(screen: Screen, headings: string[], rows: string[][]): string {
  if (!screen.isTerminal)
    return [headings, ...rows].map((row) => row.map((cell) => stripVTControlCharacters(cell)).join('\t')).join('\n')
  const all = [headings.map((text) => screen.style('gray', text)), ...rows]
  const visible = (text: string): number => Array.from(stripVTControlCharacters(text)).length
  const widths = headings.map((_, column) => Math.max(...all.map((row) => visible(row[column] ?? ''))))
  return all
    .map((row) => {
      const line = row
        .map((cell, i) => (i === row.length - 1 ? cell : cell + ' '.repeat((widths[i] ?? 0) - visible(cell))))
        .join('  ')
      return visible(line) > screen.width ? cut(line, screen.width) : line
    })
    .join('\n')
}

/** Cuts a line to so many columns; escape sequences take none, and colour ends with it. */
function cut(line: string, width: number): string {
  let columns = 0
  let kept = ''
  // oxlint-disable-next-line no-control-regex
  for (const part of line.match(/\u001b\[[0-9;]*m|[\s\S]/gu) ?? []) {
    if (part.length > 1 && part.startsWith('\u001b')) kept += part
    else if (++columns < width) kept += part
  }
  return `${kept}…`
}

/** Ids cut to the shortest length at which each is the only one; at least 19 characters of `headless_01…`. */
export function shortIds(ids: string[], least = 19): Map<string, string> {
  const sorted = [...new Set(ids)].toSorted()
  return new Map(
    sorted.map((id, i) => {
      const need = Math.max(shared(id, sorted[i - 1] ?? ''), shared(id, sorted[i + 1] ?? '')) + 1
      return [id, id.slice(0, Math.max(least, need))]
    }),
  )
}

function shared(a: string, b: string): number {
  let length = 0
  while (length < a.length && a[length] === b[length]) length++
  return length
}
