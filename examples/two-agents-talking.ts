// Two live agents, each told what the other said: node two-agents-talking.ts [workspace] [rounds] [agent] [other agent]
import { Postern, type Session, type WorkspaceId } from '@postern/sdk'

const [workspace = 'ws-demo', rounds = '3', agent, other = agent] = process.argv.slice(2)
const postern = await Postern.connect()
const wsId = workspace as WorkspaceId

const open = (title: string, by: string | undefined): Promise<Session> =>
  postern.sessions.create({ wsId, title, ...(by !== undefined && { agent: by }) })
const ada = await open('Ada', agent)
const ben = await open('Ben', other)

// What another agent says is a claim, not an order: it arrives under its name, and each is told whom it talks to.
const LIMIT = 16_000
let said = 'Suggest one small improvement of this workspace. Another agent will answer you; keep it short.'
let speaker = 'operator'
try {
  for (let round = 0; round < Number(rounds); round += 1) {
    for (const listener of [ada, ben]) {
      const reply = await postern.sessions.ask(
        listener.id,
        { message: said.slice(0, LIMIT), from: speaker },
        { timeoutMs: 300_000 },
      )
      if (reply.status !== 'completed') throw new Error(`${listener.title}: ${reply.error?.message ?? reply.status}`)
      said = reply.text.trim() || '(nothing)'
      speaker = listener.title ?? listener.id
      console.log(`${speaker}: ${said}\n`)
    }
  }
} finally {
  for (const { id } of [ada, ben]) await postern.sessions.end(id)
}
