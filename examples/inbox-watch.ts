// Prints what comes into the Inbox, from now on: node inbox-watch.ts [workspace] [stop after so many]
import { Postern, type InboxId } from '@postern/sdk'

const [workspace, count = 'Infinity'] = process.argv.slice(2)
const postern = await Postern.connect()

const { lastSeq } = await postern.inbox.eventsPage({ limit: 1 })
console.error('watching the Inbox')
let seen = 0
for await (const event of postern.inbox.events({ after: lastSeq })) {
  if (event.type !== 'inbox.pushed' || (workspace && event['wsId'] !== workspace)) continue
  const entry = await postern.inbox.get(event['id'] as InboxId)
  console.log(`${entry.id} ${entry.from} ${entry.taskId ?? '-'}: ${entry.title}`)
  for (const { name, sizeBytes } of entry.documents) console.log(`  ${name}, ${sizeBytes} bytes`)
  if (++seen >= Number(count)) break
}
