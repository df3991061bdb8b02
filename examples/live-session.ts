// A conversation with a live agent, in a program: node live-session.ts [workspace]
import { Postern, type Event, type RequestId, type WorkspaceId } from '@postern/sdk'

const [workspace = 'ws-demo'] = process.argv.slice(2)
const postern = await Postern.connect()
const session = await postern.sessions.create({ wsId: workspace as WorkspaceId, title: 'live-session' })

/** What the agent says as it says it; what it may do, we decide: files may be written, nothing else. */
function watch(event: Event): void {
  if (event.type === 'agent.message') process.stderr.write(event.text ?? '')
  if (event.type === 'tool.started') console.error(`→ ${String(event['name'])}`)
  if (event.type === 'permission.requested') {
    const answer = event['kind'] === 'edit' ? 'allow' : 'deny'
    console.error(`may it "${String(event['title'])}"? ${answer}`)
    // The first answer wins; somebody at a terminal may have been quicker.
    postern.requests
      .answer(event['requestId'] as RequestId, answer)
      .catch((error: Error) => console.error(error.message))
  }
}

try {
  for (const message of ['Hello. What do you see here?', '/write notes/hello.md written by an example', '/check']) {
    const reply = await postern.sessions.ask(session.id, message, { onEvent: watch, timeoutMs: 120_000 })
    console.log(`${message}\n  ${reply.status}: ${reply.text.replaceAll('\n', '\n  ')}`)
  }
} finally {
  const { turns, usage } = await postern.sessions.end(session.id)
  console.error(`ended after ${turns} turns, ${usage.outputTokens} tokens`)
}
