// What the step in github-action.yml runs; Node 20, no dependencies. Fails the step when the run does not succeed.
import { appendFileSync } from 'node:fs'

const { POSTERN_URL, POSTERN_TOKEN, POSTERN_WORKSPACE, POSTERN_PROMPT, GITHUB_RUN_ID, GITHUB_RUN_ATTEMPT } = process.env
const { GITHUB_REPOSITORY, GITHUB_SHA, GITHUB_STEP_SUMMARY } = process.env

async function call(path, init = {}) {
  for (;;) {
    const headers = { ...init.headers, ...(POSTERN_TOKEN && { Authorization: `Bearer ${POSTERN_TOKEN}` }) }
    const answer = await fetch(new URL(path, POSTERN_URL), { ...init, headers })
    const body = await answer.json()
    if (answer.ok) return body
    if (!body.retryable) throw new Error(`${answer.status} ${body.code}: ${body.detail}`)
    const waitSeconds = Number(answer.headers.get('retry-after') ?? 5)
    console.log(`${body.detail}; again in ${waitSeconds} s`)
    await new Promise((resolve) => setTimeout(resolve, waitSeconds * 1_000))
  }
}

let run = await call(`/api/workspaces/${POSTERN_WORKSPACE}/headless`, {
  method: 'POST',
  headers: {
    'Content-Type': 'application/json',
    // The same job of the workflow never starts a second run, however often the step is repeated.
    'Idempotency-Key': `github-${GITHUB_RUN_ID}-${GITHUB_RUN_ATTEMPT}`,
  },
  body: JSON.stringify({
    prompt: POSTERN_PROMPT,
    timeoutMs: 1_800_000,
    whenBusy: 'queue',
    metadata: { repository: GITHUB_REPOSITORY, commit: GITHUB_SHA },
  }),
})
console.log(`accepted ${run.taskId}`)
while (run.status === 'queued' || run.status === 'running') {
  run = await call(`/api/headless/${run.taskId}`, { headers: { Prefer: 'wait=60' } })
}

console.log(`${run.status}${run.reason ? `, ${run.reason}` : ''} after ${run.durationMs} ms`)
appendFileSync(GITHUB_STEP_SUMMARY, `### ${run.taskId}: ${run.status}\n\n${run.result.text ?? run.detail ?? ''}\n`)
process.exitCode = run.status === 'succeeded' ? 0 : 1
