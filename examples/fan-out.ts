// Many prompts, more than there is capacity for: node fan-out.ts [workspace] [how many]
// The SDK retries a 429 by itself, twice; here the caller does it, for as long as it takes, as the server asks.
import { CapacityError, Postern, type Run, type WorkspaceId } from '@postern/sdk'

const [workspace = 'ws-demo', count = '12'] = process.argv.slice(2)
const postern = await Postern.connect()

async function startWhenThereIsRoom(prompt: string): Promise<Run> {
  for (;;) {
    try {
      return await postern.runs.create({ wsId: workspace as WorkspaceId, prompt })
    } catch (error) {
      if (!(error instanceof CapacityError)) throw error
      const waitMs = error.retryAfterMs ?? 1_000
      console.error(`full: ${error.message}; again in ${waitMs} ms`)
      await new Promise((resolve) => setTimeout(resolve, waitMs))
    }
  }
}

const prompts = Array.from({ length: Number(count) }, (_, index) => `Look around and report, part ${index + 1}`)
const runs = await Promise.all(
  prompts.map(async (prompt) => {
    const run = await startWhenThereIsRoom(prompt)
    return postern.runs.waitFor(run.taskId)
  }),
)

for (const run of runs) console.log(`${run.taskId} ${run.status} ${run.durationMs} ms`)
process.exitCode = runs.every((run) => run.status === 'succeeded') ? 0 : 1
