// Follows a run while it works, then takes its result: node wait-and-stream.ts [workspace] [prompt]
import { Postern, type WorkspaceId } from '@postern/sdk'

const [workspace = 'ws-demo', prompt = 'Look around and report'] = process.argv.slice(2)

const postern = await Postern.connect()
const run = await postern.runs.create({ wsId: workspace as WorkspaceId, prompt })

// Every event once and in order: the reader remembers the last number and resumes when the connection breaks.
for await (const event of postern.runs.events(run.taskId)) {
  if (event.type === 'agent.message') console.error(event.text ?? '')
  else console.error(`${event.seq} ${event.type}`)
}

// Returns any run that has ended, also a failed one; it asks again by itself until then.
const done = await postern.runs.waitFor(run.taskId, { timeoutMs: 300_000 })
if (done.status === 'succeeded') console.log(done.result.text)
else console.error(`${done.status}: ${done.reason}`)
process.exitCode = done.status === 'succeeded' ? 0 : 1
