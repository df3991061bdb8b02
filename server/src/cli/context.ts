import { readFile } from 'node:fs/promises'
import { resolve } from 'node:path'
import type { Postern } from '@postern/sdk'
import { CliExit, EXIT } from './exit.ts'
import { createScreen, inert, type Screen } from './text.ts'

export interface GlobalOptions {
  json?: boolean
  quiet?: boolean
  color: boolean
  input: boolean
  server?: string
  tokenFile?: string
  data?: string
}

/** What every command gets. */
export interface Context {
  screen: Screen
  options: GlobalOptions
  /** `--data`, as `serve` takes it. */
  dataFlag: { data?: string }
  /** The client of the server that options, environment or the data directory name. @throws ConnectionError */
  connect(): Promise<Postern>
  /** The address of the server: the one that was named, and in any case once it is connected. */
  readonly url: string | undefined
  /** How a hint names this program: `npx postern` in a checkout. */
  me: string
}

export function createContext(options: GlobalOptions): Context {
  const screen = createScreen(options)
  let client: Promise<Postern> | undefined
  let url: string | undefined
  return {
    screen,
    options,
    dataFlag: options.data === undefined ? {} : { data: options.data },
    me: programName(),
    get url() {
      return url
    },
    async connect() {
      // Known before it answers, for one that answers and refuses.
      url ??= options.server ?? (process.env['POSTERN_URL'] || undefined)
      client ??= open(options, screen)
      const postern = await client
      url = postern.url
      return postern
    },
  }
}

async function open(options: GlobalOptions, screen: Screen): Promise<Postern> {
  const { Postern } = await import('@postern/sdk')
  const token = options.tokenFile === undefined ? undefined : await tokenFrom(options.tokenFile)
  return await Postern.connect({
    ...(options.server !== undefined && { url: options.server }),
    ...(token !== undefined && { token }),
    ...(options.data !== undefined && { home: resolve(options.data) }),
    // A request that is repeated takes its time: people are told why.
    logger: { debug: () => undefined, warn: (message) => screen.note(inert(message, true)) },
  })
}

async function tokenFrom(path: string): Promise<string> {
  try {
    return (await readFile(path, 'utf8')).trim()
  } catch (error) {
    throw new CliExit(EXIT.usage, `--token-file ${path}: ${(error as Error).message}`, 'name a file that holds a token')
  }
}

/** In a checkout the command is not on PATH: hints that can be typed begin with `npx`. */
export function programName(): string {
  return import.meta.url.endsWith('.ts') ? 'npx postern' : 'postern'
}

/** `10m`, `90s`, `1h`, `500ms` or a bare number of seconds, in milliseconds. @throws CliExit 2 */
export function parseSpan(text: string, flag: string): number {
  const found = /^(\d+(?:\.\d+)?)(ms|s|m|h)?$/.exec(text.trim())
  const unit = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000 }[found?.[2] ?? 's'] ?? 1_000
  const ms = Math.round(Number(found?.[1]) * unit)
  if (!found || ms < 1)
    throw new CliExit(EXIT.usage, `${flag} "${text}" is not a span of time`, 'such as 90s, 10m or 1h')
  return ms
}

/** A whole number from an option. @throws CliExit 2 */
export function parseCount(text: string, flag: string, least = 1): number {
  const count = Number(text)
  if (!/^\d+$/.test(text) || count < least)
    throw new CliExit(EXIT.usage, `${flag} "${text}" is not a number of at least ${least}`)
  return count
}
