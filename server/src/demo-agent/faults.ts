import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { closeSync, mkdirSync, openSync, readFileSync, rmSync, writeFileSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { setImmediate as nextTurn, setTimeout as delay } from 'node:timers/promises'
import { wholeNumber, type Command } from './stage.ts'

/** What is left behind on purpose goes by itself after so many seconds, should nobody end it. */
const LEFT_SECONDS = 600
const LEFT_BEHIND = `trap "" TERM HUP INT; sleep ${LEFT_SECONDS}`
const MAX_FORKS = 600
const FOREVER_MS = 2 ** 31 - 1

/** Starts a shell that nobody here waits for. */
function leave(
  script: string,
  options: { ownSession: boolean; holdsOutput: boolean; env?: Record<string, string> },
): void {
  const { ownSession, holdsOutput, env } = options
  const output = holdsOutput ? 'inherit' : 'ignore'
  const child = spawn('/bin/sh', ['-c', script], {
    detached: ownSession,
    stdio: ['ignore', output, output],
    ...(env && { env }),
  })
  child.unref()
}

/** Everything an agent can do wrong, on demand: `--faults` makes the demo agent the test agent. */
export const FAULTS: Record<string, Command> = {
  /** Never ends by itself. */
  async '/hang'(stage) {
    const work = async (): Promise<string> => await delay(FOREVER_MS, '', { signal: stage.signal })
    await stage.tool({ name: 'hang', input: {}, needs: 'ask', work })
  },
  /** Works for some seconds without printing anything. */
  async '/mute'(stage, argument) {
    await delay(wholeNumber(argument, 60, 86_400) * 1000, undefined, { signal: stage.signal })
  },
  /** Exits 0 without saying that it ended. */
  async '/no-result'(_stage, _argument, ending) {
    ending.record = false
  },
  /** Says that it ended, and stays. */
  async '/result-stay'(_stage, _argument, ending) {
    ending.stays = true
  },
  /** Does not listen to TERM. */
  async '/ignore-term'() {
    process.removeAllListeners('SIGTERM')
    process.on('SIGTERM', () => undefined)
  },
  /** Leaves a grandchild that ignores TERM and holds stdout. */
  async '/orphan'(stage) {
    leave(LEFT_BEHIND, { ownSession: false, holdsOutput: true })
    stage.say('I left a grandchild in my group.\n')
  },
  /** Leaves a grandchild in a session of its own, its parent gone. */
  async '/setsid'(stage) {
    leave(`(${LEFT_BEHIND}) & exit 0`, { ownSession: true, holdsOutput: true })
    stage.say('I left a grandchild in a session of its own.\n')
  },
  /** The same, with an empty environment. */
  async '/empty-env'(stage) {
    leave(`(${LEFT_BEHIND}) & exit 0`, { ownSession: true, holdsOutput: true, env: {} })
    stage.say('I left a grandchild with an empty environment.\n')
  },
  /** Starts many children at once. */
  async '/fork'(stage, argument) {
    const count = wholeNumber(argument, 50, MAX_FORKS)
    for (let n = 0; n < count; n++) {
      leave(`sleep ${LEFT_SECONDS}`, { ownSession: false, holdsOutput: false })
      if (n % 20 === 0) await nextTurn()
    }
    stage.say(`I started ${count} children.\n`)
  },
  /** Says many short things. */
  async '/spam'(stage, argument) {
    const count = wholeNumber(argument, 5_000, 1_000_000)
    for (let n = 1; n <= count && !stage.signal.aborted; n++) {
      stage.say(`spam ${n}\n`)
      if (n % 1_000 === 0) await nextTurn()
    }
  },
  /** Says one long thing, in one line. */
  async '/big'(stage, argument) {
    stage.say('x'.repeat(wholeNumber(argument, 300_000, 256 * 1024 * 1024)))
  },
  /** Prints so many MiB that are no events. */
  async '/flood'(stage, argument) {
    const chunk = Buffer.from(`${'y'.repeat(127)}\n`.repeat(8_192))
    for (let n = 0; n < wholeNumber(argument, 10, 4_096) && !stage.signal.aborted; n++) {
      stage.raw(chunk)
      await nextTurn()
    }
  },
  /** Prints what no decoder can read. */
  async '/garbage'(stage) {
    stage.raw('not JSON\n{"type":"agent.message","text":\n[1,2]\nnull\n{"type":"agent.unheard","text":"?"}\n')
    stage.raw('{"type":"usage","inputTokens":"many","outputTokens":-1}\n{"type":"tool.ended"}\n\n\r\n')
    stage.raw(Uint8Array.of(0xff, 0xfe, 0x00, 0x1b, 0x5b, 0x32, 0x4a, 0xc3, 0x0a))
    stage.say('That was garbage.\n')
  },
  /** Prints a call of a tool, in words of a run and of a session, whose input is nested beyond all reason. */
  async '/deep'(stage, argument) {
    const levels = wholeNumber(argument, 60_000, 1_000_000)
    const input = '['.repeat(levels) + ']'.repeat(levels)
    const update = `{"sessionUpdate":"tool_call","toolCallId":"t","title":"deep","status":"in_progress","rawInput":${input}}`
    const record = `"type":"tool.started","toolCallId":"t","name":"deep","input":${input}`
    stage.raw(`{${record},"jsonrpc":"2.0","method":"session/update","params":{"update":${update}}}\n`)
    stage.say('That was deep.\n')
  },
  /** Hears nothing any more, and stays. */
  async '/close-input'(stage) {
    closeSync(0)
    setInterval(() => undefined, FOREVER_MS)
    stage.say('I hear nothing.\n')
  },
  /** Closes its stdout and stays. */
  async '/close-output'() {
    closeSync(1)
    await delay(FOREVER_MS)
  },
  /** Dies on the spot. */
  async '/crash'() {
    process.kill(process.pid, 'SIGKILL')
    await delay(FOREVER_MS)
  },
  /** Meets a usage limit, which is over after some seconds: the first try fails, one after that succeeds. */
  async '/limit'(stage, argument, ending) {
    const seconds = wholeNumber(argument, 2, 86_400)
    const file = join(stage.home, `limit-${createHash('sha256').update(stage.root).digest('hex').slice(0, 16)}`)
    const until = Number(read(file) ?? Number.NaN)
    if (until <= Date.now()) {
      rmSync(file, { force: true })
      stage.say('The usage limit is over.\n')
      return
    }
    const resetAt = Number.isNaN(until) ? Date.now() + seconds * 1000 : until
    mkdirSync(stage.home, { recursive: true, mode: 0o700 })
    writeFileSync(file, String(resetAt), { mode: 0o600 })
    const resetsAt = new Date(resetAt).toISOString()
    const message = `usage limit reached, resets at ${resetsAt}`
    stage.retrying({ status: 429, delayMs: resetAt - Date.now(), message, resetsAt })
    ending.exitCode = 1
    ending.error = { kind: 'rate_limit', message }
  },
  /** Reports the use of so many tokens, in and out. */
  async '/usage'(_stage, argument, ending) {
    const [inputTokens = '', outputTokens = ''] = argument.split(/\s+/)
    ending.usage = {
      inputTokens: wholeNumber(inputTokens, 100, 1e9),
      outputTokens: wholeNumber(outputTokens, 20, 1e9),
    }
  },
  /** Goes on under another id; `headless.ts` looks for it before the conversation is named. */
  async '/forget'(stage) {
    if (stage.earlier.length === 0) stage.say('I have nothing to forget.\n')
  },
  /** Rewrites a file that all of its kind share when it starts, as careless programs do: two at once spoil it. */
  async '/shared'(stage) {
    const work = (): Promise<string> => stage.rewritten ?? rewriteCarelessly(stage.home)
    const done = await stage.tool({ name: 'shared_settings', input: {}, needs: 'ask', work })
    stage.say(done.ok ? `The shared file holds ${done.output}.\n` : `The shared file was spoiled: ${done.output}\n`)
  },
}

/**
 * Counts a start in the file that all share, in two writes: what another start reads in between is spoiled.
 *
 * @throws SyntaxError when it was
 */
export async function rewriteCarelessly(home: string): Promise<string> {
  const file = join(home, 'shared.json')
  mkdirSync(home, { recursive: true, mode: 0o700 })
  const before = JSON.parse(read(file) ?? '{"starts":0}') as { starts: number }
  const text = JSON.stringify({ starts: before.starts + 1 })
  const handle = openSync(file, 'w', 0o600)
  try {
    writeSync(handle, text.slice(0, 5))
    await delay(30)
    writeSync(handle, text.slice(5))
  } finally {
    closeSync(handle)
  }
  return text
}

function read(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8')
  } catch {
    return undefined
  }
}
