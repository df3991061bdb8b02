// A monitor: reports when a rule is broken, and else says that there is nothing to report. Made for an issue with `when`.
// config.json: { "agents": { "monitor": { "command": ["node", "/home/ada/postern/examples/monitor-agent.mjs"] } } }
// The rule here: no line of positions.txt, such as "ACME 120", is above the limit in the prompt, such as "limit 100".
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { text } from 'node:stream/consumers'

const postern = (...args) => execFileSync('postern', args, { encoding: 'utf8' }).trim()

const limit = Number(/limit (\d+)/.exec(await text(process.stdin))?.[1] ?? 100)
const lines = readFileSync('positions.txt', 'utf8').split('\n').filter(Boolean)
const broken = lines.filter((line) => Number(line.split(' ')[1]) > limit)

if (broken.length === 0) {
  postern('inbox', 'none', `${lines.length} positions, none above ${limit}`)
  console.log('Nothing to report.')
} else {
  const body = broken.map((line) => `- **${line}**, above ${limit}`).join('\n')
  // The same positions are reported once for a run, however often it gets here.
  console.log(postern('inbox', 'push', '--title', `${broken.length} above ${limit}`, '--body', body, '--key', 'alert'))
}
