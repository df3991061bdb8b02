import { accessSync, constants, existsSync } from 'node:fs'
import { readFile, stat, statfs } from 'node:fs/promises'
import { connect, createServer } from 'node:net'
import { delimiter, join } from 'node:path'
import type { Agent } from '@postern/sdk'
import { DEFAULT_PORT, dataDirectory, loadConfig, whyNoDirectory } from '../config.ts'
import type { Context } from './context.ts'
import { CliExit, EXIT } from './exit.ts'
import { inert } from './text.ts'
import { nodeRange, satisfies } from './version.ts'

interface Finding {
  check: string
  ok: boolean
  detail: string
  /** What to do about it, when it is not well. */
  fix: string | null
}

/** Megabytes of free disk below which runs may not be recorded. */
const LEAST_FREE_MB = 200
/** Years between which a clock is believed. */
const CLOCK_YEARS = { from: 2025, to: 2100 }

/** Looks at what a server on this machine needs, each with its fix. Exit 1 when something is not well. */
export async function doctor(context: Context): Promise<number> {
  const { screen, options } = context
  const dataDir = dataDirectory({ flags: context.dataFlag, env: process.env })
  const findings: Finding[] = [
    node(),
    program('git', 'install git: without it runs have no diff and no worktrees'),
    await directory(dataDir),
    await configuration(context),
    await adminToken(dataDir),
    await disk(dataDir),
    clock(),
    ...(await server(context, dataDir)),
  ]
  if (options.json) screen.printJson({ ok: findings.every((each) => each.ok), findings })
  else {
    for (const { check, ok, detail, fix } of findings) {
      screen.print(`${ok ? screen.style('green', '✓') : screen.style('red', '✗')} ${check.padEnd(14)} ${detail}`)
      if (fix !== null) screen.print(`  ${' '.repeat(14)} → ${fix}`)
    }
  }
  return findings.every((each) => each.ok) ? EXIT.ok : EXIT.unexpected
}

const finding = (check: string, ok: boolean, detail: string, fix: string): Finding => ({
  check,
  ok,
  detail,
  fix: ok ? null : fix,
})

function node(): Finding {
  const ok = satisfies(process.versions.node)
  return finding('Node', ok, process.version, `use one of ${nodeRange}: others silently drop request headers`)
}

function program(name: string, fix: string): Finding {
  const found = (process.env['PATH'] ?? '')
    .split(delimiter)
    .map((entry) => join(entry, name))
    .find(isExecutable)
  return finding(name, found !== undefined, found ?? 'not on PATH', fix)
}
function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK)
    return true
  } catch {
    return false
  }
}

async function directory(dataDir: string): Promise<Finding> {
  const found = await stat(dataDir).catch(() => undefined)
  const why = await whyNoDirectory(dataDir)
  if (why !== undefined)
    return finding('data directory', false, `${dataDir}: ${why}`, 'name another with --data or POSTERN_HOME')
  if (!found) return finding('data directory', true, `${dataDir} (made at the first start)`, '')
  const ok = (found.mode & 0o077) === 0
  return finding('data directory', ok, `${dataDir}, mode ${(found.mode & 0o777).toString(8)}`, `chmod 700 ${dataDir}`)
}

async function configuration(context: Context): Promise<Finding> {
  try {
    const config = await loadConfig({ flags: context.dataFlag, env: process.env })
    const agents = Object.keys(config.agents)
    return finding('configuration', true, `${agents.length} configured agents, ${config.maxRuns} runs at once`, '')
  } catch (error) {
    return finding('configuration', false, (error as Error).message, 'mend config.json')
  }
}

async function adminToken(dataDir: string): Promise<Finding> {
  const path = join(dataDir, 'admin-token')
  const found = await stat(path).catch(() => undefined)
  if (!found) return finding('admin token', true, 'made at the first start', '')
  const ok = (found.mode & 0o777) === 0o600
  return finding('admin token', ok, `${path}, mode ${(found.mode & 0o777).toString(8)}`, `chmod 600 ${path}`)
}

async function disk(dataDir: string): Promise<Finding> {
  let path = dataDir
  while (!existsSync(path)) path = join(path, '..')
  const { bavail, bsize } = await statfs(path)
  const freeMb = Math.floor((bavail * bsize) / 1024 / 1024)
  return finding(
    'disk',
    freeMb >= LEAST_FREE_MB,
    `${freeMb} MB free`,
    `free some space: below ${LEAST_FREE_MB} MB runs may be refused`,
  )
}

function clock(): Finding {
  const now = new Date()
  const year = now.getUTCFullYear()
  const ok = year >= CLOCK_YEARS.from && year < CLOCK_YEARS.to
  return finding('clock', ok, now.toISOString(), 'set the clock: schedules and expiry follow it')
}

/** The server that answers, with its agents; or, when none does, whether something stands in the way of one. */
async function server(context: Context, dataDir: string): Promise<Finding[]> {
  const { ConnectionError, PosternError } = await import('@postern/sdk')
  try {
    const postern = await context.connect()
    const { agents } = await postern.agents.list().page()
    const missing = agents.filter((agent) => !agent.installed)
    const config = await loadConfig({ flags: context.dataFlag, env: process.env }).catch(() => undefined)
    const isConfigured = ({ id }: { id: string }): boolean => config?.agents[id] !== undefined
    return [
      finding('server', true, `${postern.url} answers`, ''),
      finding('agents', true, `${agents.length - missing.length} of ${agents.length} found`, ''),
      ...agents.filter((agent) => agent.installed && agent.hasModel).map(foundAgent),
      // Of the agents that Postern knows nobody needs all; one that somebody named is meant to be there.
      ...missing
        .filter(isConfigured)
        .map((agent) => finding(`agent ${agent.id}`, false, 'not found', inert(agent.hint ?? 'install it', true))),
    ]
  } catch (error) {
    if (!(error instanceof ConnectionError)) {
      const { message } = error as Error
      const fix = error instanceof PosternError || error instanceof CliExit ? error.hint : undefined
      const who = context.url === undefined ? '' : `${context.url} refuses: `
      return [finding('server', false, who + inert(message, true), fix ?? 'look at its log')]
    }
    const isHeld = await answers(join(dataDir, 'lock.sock'))
    const free = await isFree(DEFAULT_PORT)
    return [
      isHeld
        ? finding('server', false, `${await owner(dataDir)} holds the data directory and does not answer`, 'stop it')
        : finding('server', true, `none is running; start one with ${context.me} serve`, ''),
      finding('port', true, `${DEFAULT_PORT} is ${free ? 'free' : 'taken: serve will take the next free one'}`, ''),
    ]
  }
}

/** A program that is there is well; what its owner may want to do about it is said all the same. */
function foundAgent({ id, version, verified, login, hint }: Agent): Finding {
  const said = { yes: 'logged in', no: 'not logged in', unknown: 'login unknown' }[login]
  const parts = [inert(version ?? 'no version', true), ...(verified === null ? [] : [`tested with ${verified}`]), said]
  return { check: `agent ${id}`, ok: true, detail: parts.join(', '), fix: hint === null ? null : inert(hint, true) }
}

/** True when a live process listens there. */
function answers(socketPath: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(socketPath)
    const end = (isLive: boolean): void => {
      socket.destroy()
      resolve(isLive)
    }
    socket.once('connect', () => end(true)).once('error', () => end(false))
  })
}

async function owner(dataDir: string): Promise<string> {
  try {
    const { pid } = JSON.parse(await readFile(join(dataDir, 'owner.json'), 'utf8')) as { pid?: number }
    return `pid ${pid ?? 'unknown'}`
  } catch {
    return 'another process'
  }
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = createServer()
    probe.once('error', () => resolve(false))
    probe.listen(port, '127.0.0.1', () => probe.close(() => resolve(true)))
  })
}
