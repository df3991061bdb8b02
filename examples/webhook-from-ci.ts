// An address for one CI job: expose, knock, revoke, knock again: node webhook-from-ci.ts [workspace]
// The first half is yours, with the admin token. The second half is the job's: it has the address and nothing else.
import { ForbiddenError, hooks, Postern, type WorkspaceId } from '@postern/sdk'

const [workspace = 'ws-demo'] = process.argv.slice(2)
const postern = await Postern.connect()

// Yours: a live agent, and an address that can do one thing to it for an hour: put a message into it.
const session = await postern.sessions.create({ wsId: workspace as WorkspaceId, title: 'waits for CI' })
const door = await postern.channels.create({ sessionId: session.id, label: 'ci', ttlSeconds: 3_600 })
console.error(`exposed ${door.channel} as ${door.grantId} until ${door.expiresAt}`)

// The job's. In a pipeline, POSTERN_WEBHOOK would be a secret, and the key the number of the build: the step may be
// repeated as often as it likes, and the agent hears it once.
const webhook = door.webhook
const knock = { message: 'deploy finished, look at the logs', from: 'ci', key: 'build-812' }
const first = await hooks.send(webhook, knock)
const again = await hooks.send(webhook, knock).withResponse()
console.error(
  `knocked: ${first.status}; again: ${again.headers.get('Idempotency-Replayed') === 'true' ? 'replayed' : '?'}`,
)

// Yours again: what the agent made of it.
for await (const event of postern.sessions.events(session.id)) {
  if (event.type !== 'turn.ended' || event['deliveryId'] !== first.deliveryId) continue
  console.log(event.text)
  break
}

await postern.channels.revoke(door.grantId)
try {
  await hooks.send(webhook, { message: 'anybody there?' })
  process.exitCode = 1
} catch (error) {
  if (!(error instanceof ForbiddenError)) throw error
  console.error(`knocked after the revocation: ${error.status}`)
}
await postern.sessions.end(session.id)
