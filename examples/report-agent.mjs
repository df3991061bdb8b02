// An agent that leaves a report: it writes a file and pushes it to the Inbox, as the run it works for.
// config.json: { "agents": { "reporter": { "command": ["node", "/home/ada/postern/examples/report-agent.mjs"] } } }
import { execFileSync } from 'node:child_process'
import { mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import { text } from 'node:stream/consumers'

const question = (await text(process.stdin)).trim()
const files = readdirSync('.', { recursive: true, encoding: 'utf8' }).filter((name) => !name.startsWith('.git'))
mkdirSync('reports', { recursive: true })
writeFileSync('reports/files.md', `# ${question}\n\n${files.map((name) => `- ${name}`).join('\n')}\n`)

// `postern` is on the PATH, and its key in POSTERN_TOKEN: nothing is configured.
const push = ['inbox', 'push', '--title', `${files.length} files: ${question}`, '--file', 'reports/files.md']
const id = execFileSync('postern', push, { encoding: 'utf8' }).trim()
console.log(`I reported ${id}.`)
