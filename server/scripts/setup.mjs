#!/usr/bin/env node
// Sets the repository up, once, and runs one of its tasks with the Node 24 it brings along:
//   node server/scripts/setup.mjs [task] [-- arguments of the task]
// Needs Node 20 and npm, nothing else: no dependencies, no build, nothing installed globally.
import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, readFileSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { constants } from 'node:os'
import { delimiter, dirname, join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'

const NEEDED_NODE = 20
/** A terminal's Ctrl-C reaches us twice when npm passes it on too: the same signal so soon after is the same wish. */
const SAME_SIGNAL_MS = 300
/** npm dies of a SIGTERM without passing it on through its shell: how often to look whether that happened. */
const ORPHAN_CHECK_MS = 500
/** The first retry of a failed download; the second waits ten times as long. */
const RETRY_MS = 2_000
/** Lines of a hidden output that are shown when its program failed. */
const SHOWN_LINES = 200

const script = fileURLToPath(import.meta.url)
const root = dirname(dirname(dirname(script)))
const at = (...parts) => join(root, ...parts)
const node = at('node_modules', '.bin', process.platform === 'win32' ? 'node.exe' : 'node')
const tsc = at('node_modules', 'typescript', 'bin', 'tsc')
const oxlint = at('node_modules', 'oxlint', 'bin', 'oxlint')
const oxfmt = at('node_modules', 'oxfmt', 'bin', 'oxfmt')
const vitest = at('node_modules', 'vitest', 'vitest.mjs')

const types = () => ['server', 'sdk', 'examples'].map((project) => [tsc, '-p', at(project)])
const lint = (...more) => [oxlint, '--type-aware', '--deny-warnings', ...more]
const tests = (config, ...more) => [vitest, 'run', '--root', at('server'), '--config', at('server', config), ...more]

/** Each task: its steps in order. A quiet step shows its output only when it fails. All run; one failure fails the task. */
const tasks = {
  setup: () => [],
  start: (args) => [{ run: [at('server', 'bin', 'postern.mjs'), 'tour', ...args] }],
  types: () => types().map((run) => ({ name: `types of ${relative(root, run[2])}`, run })),
  lint: (args) => [{ run: lint(...args) }],
  format: (args) => [{ run: [oxfmt, ...args] }],
  test: (args) => [...tasks.types(), { name: 'lint', run: lint() }, { run: tests('vitest.all.config.ts', ...args) }],
  check: (args) => [{ name: 'format', run: [oxfmt, '--check'] }, ...tasks.test(args)],
  faults: (args) => [{ run: tests('vitest.faults.config.ts', ...args) }],
  agents: (args) => [
    { run: tests('vitest.config.ts', 'test/real-agents.test.ts', 'test/real-sessions.test.ts', ...args) },
  ],
  packages: (args) => [{ run: tests('vitest.packages.config.ts', ...args) }],
  generate: () => [
    { name: 'openapi.json', run: [at('server', 'scripts', 'emit-openapi.ts')] },
    {
      name: 'sdk/src/generated',
      run: [at('sdk', 'node_modules', '@hey-api', 'openapi-ts', 'bin', 'run.js')],
      cwd: at('sdk'),
    },
    { name: 'sdk/dist', call: buildSdk },
  ],
  build: () => [{ name: 'server/dist', run: [tsc, '-p', at('server', 'tsconfig.build.json')] }],
  bench: (args) => [{ run: [at('server', 'bench', 'main.ts'), ...args] }],
}

/** Our environment without what npm adds: of its settings only those that say where packages come from. */
function environment() {
  const kept = /^(registry|@.+:registry|\/\/.+|https?_proxy|proxy|no_?proxy|ca|cafile|strict_ssl|userconfig)$/i
  const env = {}
  for (const [key, value] of Object.entries(process.env)) {
    const setting = /^p?npm_config_(.*)$/i.exec(key)
    if (!setting) {
      if (!/^(npm_.*|INIT_CWD|NODE)$/i.test(key)) env[key] = value
    } else if (value && kept.test(setting[1])) {
      // npm reads the one name, pnpm only the other.
      env[`npm_config_${setting[1].toLowerCase()}`] = value
      env[`pnpm_config_${setting[1].toLowerCase()}`] = value
    }
  }
  const added = /[\\/]node_modules[\\/]\.bin$|[\\/]node-gyp-bin$/
  const path = (process.env.PATH ?? '').split(delimiter).filter((entry) => entry !== '' && !added.test(entry))
  return { ...env, PATH: path.join(delimiter) }
}

/** Runs a program in its own process group, so that a signal reaches it once, through us. Resolves; never rejects. */
function run(program, args, { quiet = false, cwd = root, env = environment() } = {}) {
  return new Promise((resolve) => {
    const windows = process.platform === 'win32'
    const child = spawn(program, args, {
      cwd,
      env,
      detached: !windows,
      shell: windows && program === 'npx',
      stdio: quiet ? ['ignore', 'pipe', 'pipe'] : 'inherit',
    })
    let output = ''
    child.stdout?.on('data', (chunk) => (output += chunk))
    child.stderr?.on('data', (chunk) => (output += chunk))
    const last = { signal: '', at: 0 }
    const forward = (received) => {
      // A terminal that closes means the same as a polite end.
      const signal = received === 'SIGHUP' ? 'SIGTERM' : received
      if (signal === last.signal && Date.now() - last.at < SAME_SIGNAL_MS) return
      Object.assign(last, { signal, at: Date.now() })
      try {
        if (windows || child.pid === undefined) child.kill(signal)
        else process.kill(-child.pid, signal)
      } catch {
        // It has just ended: its exit is on the way.
      }
    }
    const signals = ['SIGINT', 'SIGTERM', 'SIGHUP']
    for (const signal of signals) process.on(signal, forward)
    const parent = process.ppid
    const orphanCheck = setInterval(() => {
      if (!process.env.npm_lifecycle_event || process.ppid === parent) return
      clearInterval(orphanCheck)
      forward('SIGTERM')
    }, ORPHAN_CHECK_MS)
    const end = (result) => {
      clearInterval(orphanCheck)
      for (const signal of signals) process.off(signal, forward)
      resolve({ output, interrupted: last.signal !== '', ...result })
    }
    child.on('error', (error) => end({ code: 1, output: `${program}: ${error.message}\n` }))
    child.on(quiet ? 'close' : 'exit', (code, signal) => end({ code: code ?? 128 + constants.signals[signal] }))
  })
}

function filesBelow(folder) {
  return readdirSync(folder, { withFileTypes: true })
    .flatMap((entry) => (entry.isDirectory() ? filesBelow(join(folder, entry.name)) : [join(folder, entry.name)]))
    .sort((a, b) => (a < b ? -1 : 1))
}

function fingerprint(files) {
  const hash = createHash('sha256').update(`${process.platform} ${process.arch}`)
  for (const file of files) hash.update(`\0${relative(root, file)}\0`).update(readFileSync(file))
  return hash.digest('hex')
}

const stampFile = (name) => at('node_modules', `.postern-${name}`)
const isFresh = (name, stamp) => existsSync(stampFile(name)) && readFileSync(stampFile(name), 'utf8') === stamp

const say = (text) => process.stderr.write(text)
const seconds = (since) => `${Math.max(1, Math.round((Date.now() - since) / 1_000))} s`

function showFailure(output) {
  say(`${output.trimEnd().split('\n').slice(-SHOWN_LINES).join('\n')}\n`)
}

/** What could not be fetched, and why, from the output of npm or pnpm; undefined when the network was not to blame. */
function fetchFailure(output) {
  const text = output.replace(/\n[\s│├─▶╰]+/g, ' ')
  const npm = /request to (\S+) failed, reason: (.+?)(?: npm error|$)/m.exec(text)
  const pnpm = /Failed to fetch (\S+?):? (.*?)(?: error sending request|$)/ms.exec(
    text.slice(text.lastIndexOf('Error: ERR_PNPM')),
  )
  const found = npm ?? pnpm
  return found ? { what: found[1], why: found[2].replace(/^error sending request: /, '').trim() } : undefined
}

/** Installs the pinned packages, Node 24 among them, unless that was done for these very files. */
async function install() {
  const manifest = JSON.parse(readFileSync(at('package.json'), 'utf8'))
  const files = ['pnpm-lock.yaml', 'pnpm-workspace.yaml', 'package.json', 'server/package.json', 'sdk/package.json']
  const stamp = fingerprint([...files, 'examples/package.json'].map((file) => at(file)).concat(script))
  if (existsSync(node) && isFresh('installed', stamp)) return 0

  const since = Date.now()
  say(existsSync(node) ? 'setting up: the packages changed ' : 'setting up: pnpm, Node 24 (first time only) ')
  const npx = ['--yes', `--fetch-retry-mintimeout=${RETRY_MS}`, manifest.packageManager, 'install', '--frozen-lockfile']
  const settings = { fetch_retry_mintimeout: String(RETRY_MS), confirm_modules_purge: 'false' }
  const env = environment()
  for (const [key, value] of Object.entries(settings)) env[`pnpm_config_${key}`] = value
  const { code, output, interrupted } = await run('npx', npx, { quiet: true, env })
  if (code === 0) {
    writeFileSync(stampFile('installed'), stamp)
    say(` done, ${seconds(since)}\n`)
    return 0
  }
  say(` ${interrupted ? 'stopped' : 'failed'}, ${seconds(since)}\n`)
  if (interrupted) return code
  const missing = fetchFailure(output)
  if (!missing) showFailure(output)
  else {
    say(`could not fetch ${missing.what}: ${missing.why}\n`)
    say("Check the network, and npm's registry and proxy settings. The same command goes on where this one stopped.\n")
  }
  return code
}

/** Builds the SDK, which command line and tests use as its callers do, when its sources changed. */
async function buildSdk() {
  const config = at('sdk', 'tsconfig.build.json')
  const stamp = fingerprint([...filesBelow(at('sdk', 'src')), at('sdk', 'package.json'), config])
  const dist = at('sdk', 'dist')
  if (existsSync(dist) && isFresh('sdk', stamp)) return 0
  // Built aside and moved into place: whoever is running keeps whole files.
  const fresh = at('sdk', `.dist-new-${process.pid}`)
  const old = at('sdk', `.dist-old-${process.pid}`)
  const { code, output } = await run(node, [tsc, '-p', config, '--outDir', fresh], { quiet: true })
  if (code !== 0) {
    rmSync(fresh, { recursive: true, force: true })
    showFailure(output)
    say('the SDK does not build\n')
    return code
  }
  if (existsSync(dist)) renameSync(dist, old)
  renameSync(fresh, dist)
  rmSync(old, { recursive: true, force: true })
  writeFileSync(stampFile('sdk'), stamp)
  return 0
}

async function runSteps(steps, env) {
  let worst = 0
  for (const step of steps) {
    const since = Date.now()
    const result = step.call
      ? { code: await step.call(), output: '' }
      : await run(node, step.run, { quiet: step.name !== undefined, cwd: step.cwd, env })
    if (step.name) {
      say(`${result.code === 0 ? '✓' : '✗'} ${step.name}, ${seconds(since)}\n`)
      if (result.code !== 0) showFailure(result.output)
    }
    worst = Math.max(worst, result.code)
    if (result.interrupted) break
  }
  return worst
}

async function main() {
  const major = Number(process.versions.node.split('.')[0])
  if (!(major >= NEEDED_NODE)) {
    say(`Postern needs Node ${NEEDED_NODE} or newer to set itself up; this is Node ${process.versions.node}.\n`)
    return 1
  }
  const [name = 'setup', ...rest] = process.argv.slice(2)
  if (!Object.hasOwn(tasks, name)) {
    say(`no task "${name}"; there are: ${Object.keys(tasks).join(', ')}\n`)
    return 2
  }
  const args = rest[0] === '--' ? rest.slice(1) : rest
  const code = (await install()) || (await buildSdk())
  if (code !== 0) return code
  const env = environment()
  // Whoever starts agents keeps the PATH of the person at the keyboard; tools and tests get Node 24 first.
  if (name !== 'start') env.PATH = at('node_modules', '.bin') + delimiter + env.PATH
  return runSteps(tasks[name](args), env)
}

process.exitCode = await main()
