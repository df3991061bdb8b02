// Starts one run and asks for it until it has ended: node headless-run.ts [workspace] [prompt]
import { Postern, type WorkspaceId } from '@postern/sdk'

const [workspace = 'ws-demo', prompt = 'Look around and report'] = process.argv.slice(2)

const postern = await Postern.connect() // POSTERN_URL, or the server of this machine
let run = await postern.runs.create({ wsId: workspace as WorkspaceId, prompt, timeoutMs: 120_000 })
console.error(`accepted ${run.taskId}, agent ${run.agent}`)

while (run.status === 'queued' || run.status === 'running') {
  await new Promise((resolve) => setTimeout(resolve, 500))
  run = await postern.runs.get(run.taskId)
}

console.error(`${run.status} after ${run.durationMs} ms, ${run.git.filesChanged} files changed`)
console.log(run.result.text ?? run.detail ?? run.reason)
process.exitCode = run.status === 'succeeded' ? 0 : 1
