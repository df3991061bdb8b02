// Installs real coding agents at exact versions, for tests only: npm run agents:install -- codex pi
// They go below server/test/agents, are no dependency of anything, and are found there by server/test/real-agents.test.ts.
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

const directory = fileURLToPath(new URL('../test/agents', import.meta.url))
const { agents } = JSON.parse(readFileSync(`${directory}/package.json`, 'utf8'))
const wanted = process.argv.slice(2)
const unknown = wanted.filter((name) => !(name in agents))
if (wanted.length === 0 || unknown.length > 0) {
  const known = Object.keys(agents).join(' ')
  console.error(`${unknown.length > 0 ? `unknown: ${unknown.join(' ')}; ` : ''}name one or more of: ${known}`)
  process.exit(2)
}
if (wanted.includes('claude')) console.error('claude is proprietary software: its own terms apply.')
// Install scripts stay off: the programs that have one also ship what it would fetch.
const flags = ['--no-save', '--no-package-lock', '--no-audit', '--no-fund', '--ignore-scripts']
execFileSync('npm', ['install', ...flags, ...wanted.map((name) => agents[name])], { cwd: directory, stdio: 'inherit' })
