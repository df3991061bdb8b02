// Writes an issue that runs by itself, watches it fire, and stops it: node scheduled-issue.ts [workspace] [span]
import { Postern, type WorkspaceId } from '@postern/sdk'

const [workspace = 'ws-demo', every = '10s'] = process.argv.slice(2)
const wsId = workspace as WorkspaceId

const postern = await Postern.connect()
const issue = await postern.issues.create(wsId, {
  title: 'Keep an eye on the TODOs',
  when: { kind: 'every', every },
  overlap: 'skip', // while one run is at work, a due time is let go
  body: 'Look around and report the TODOs', // the prompt
})
console.error(`wrote ${issue.file}, next fire ${issue.nextFire}`)

// The file is the issue: edit it with any editor and the schedule follows. Here, until it has fired once:
let { lastFire } = await postern.issues.schedule(wsId, issue.issueId)
while (lastFire?.status == null) {
  await new Promise((resolve) => setTimeout(resolve, 250))
  lastFire = (await postern.issues.schedule(wsId, issue.issueId)).lastFire
}
console.error(`due ${lastFire.dueAt}, ${lastFire.taskId} ${lastFire.status}`)

await postern.issues.comment(wsId, issue.issueId, { text: `Seen: ${lastFire.taskId}`, author: 'example' })
const done = await postern.issues.update(wsId, issue.issueId, { status: 'done' }) // stops the schedule
console.error(`${done.issueId} is ${done.status}, next fire ${done.nextFire}`)
console.log((await postern.runs.get(lastFire.taskId)).result.text)
