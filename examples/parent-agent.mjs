// An agent that shares its work out: three child runs in its own workspace, and one report about what they found.
// config.json: { "agents": { "parent": { "command": ["node", "/home/ada/postern/examples/parent-agent.mjs"] } } }
// It holds a place itself while it waits: with maxRuns 1 no child would ever start.
import { CapacityError, Postern } from '@postern/sdk'

const PARTS = ['/files', '/todo', '/log 5']
const wsId = process.env.POSTERN_WORKSPACE_ID
const postern = await Postern.connect() // by POSTERN_URL and POSTERN_TOKEN, as what this run may do

async function start(prompt) {
  for (;;) {
    try {
      return await postern.runs.create({ wsId, agent: 'demo', prompt })
    } catch (error) {
      if (!(error instanceof CapacityError)) throw error
      await new Promise((resolve) => setTimeout(resolve, error.retryAfterMs ?? 1_000)) // as the server asks
    }
  }
}

const children = await Promise.all(PARTS.map(async (prompt) => postern.runs.waitFor((await start(prompt)).taskId)))
const body = children
  .map(({ prompt, status, result }) => `## ${prompt}: ${status}\n\n${result.text?.replace(/^/gm, '    ')}`)
  .join('\n\n')
const entry = await postern.inbox.push({ title: `${children.length} parts done`, body })
console.log(`reported ${entry.id}`)
