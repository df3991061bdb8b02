// Installs real coding agents at exact versions, for tests only: npm run agents:install -- codex pi, or -- all (the free
// ones; --with-claude adds claude).
// They go below server/test/agents, are no dependency of anything, and are found there by server/test/real-agents.test.ts.
import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

const directory = fileURLToPath(new URL('../test/agents', import.meta.url))
const { agents, adapters } = JSON.parse(readFileSync(`${directory}/package.json`, 'utf8'))
const PROPRIETARY = ['claude']
const names = process.argv.slice(2)
const free = Object.keys(agents).filter((name) => !PROPRIETARY.includes(name))
// What is not free is installed by its name only.
const wanted = names.flatMap((name) => (name === 'all' ? free : name === '--with-claude' ? ['claude'] : [name]))
const unknown = wanted.filter((name) => !(name in agents))
if (wanted.length === 0 || unknown.length > 0) {
  const known = Object.keys(agents).join(' ')
  console.error(`${unknown.length > 0 ? `unknown: ${unknown.join(' ')}; ` : ''}name "all", or one or more of: ${known}`)
  process.exit(2)
}
if (wanted.includes('claude')) console.error('claude is proprietary software: its own terms apply.')
// What is there stays: npm would remove what this call does not name.
const present = Object.keys(agents).filter((name) => existsSync(`${directory}/node_modules/${packageOf(agents[name])}`))
const all = [...new Set([...wanted, ...present])]
// Install scripts stay off: the programs that have one also ship what it would fetch.
const flags = ['--no-save', '--no-package-lock', '--no-audit', '--no-fund', '--ignore-scripts']
execFileSync('npm', ['install', ...flags, ...all.map((name) => agents[name])], { cwd: directory, stdio: 'inherit' })

// What holds their sessions stands apart, without the agents it would bring along: it is told to use those above.
const holders = all.flatMap((name) => adapters[name] ?? [])
if (holders.length > 0) {
  const place = `${directory}/adapters`
  mkdirSync(place, { recursive: true })
  execFileSync('npm', ['install', '--prefix', '.', '--omit=optional', ...flags, ...holders], {
    cwd: place,
    stdio: 'inherit',
  })
}

/** The name of `@scope/name@1.2.3`. */
function packageOf(pin) {
  return pin.slice(0, pin.lastIndexOf('@'))
}
