import { mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { get, type IncomingMessage } from 'node:http'
import { once } from 'node:events'
import { join } from 'node:path'
import { percentiles } from './load.ts'
import { seedSessions } from './seed.ts'
import { api, here, measured, number, report, rssMb, start, type Child } from './tools.ts'

/** Sessions that messages are spread over: each buffers 100. */
const SESSIONS = 1_000
const ROUND_TRIPS = 200
const BODY = JSON.stringify({ message: 'deploy finished, look at the logs', from: 'ci' })

type Server = Child & { token: string }

/**
 * The second door: what a durable answer costs (the agent is busy elsewhere, so every message waits), and the way to the
 * demo agent and back; with nothing in the past, and with sessions and deliveries.
 */
export async function hookBench(options: {
  root: string
  seconds: number
  deliveries: number
  syncMs: { p50: number; p99: number }
}): Promise<void> {
  const { root, seconds, syncMs } = options
  let atNone = NaN
  for (const deliveries of [0, options.deliveries]) {
    const dataDir = join(root, `hook-${deliveries}`)
    const label = `${SESSIONS} sessions, ${deliveries} deliveries: `
    const ids = await prepare(dataDir, deliveries)
    const server = await serve(dataDir)
    report(
      `${label}start, memory`,
      `${number(server.startMs, 0)} ms, ${number(await rssMb(server.process.pid), 0)} MB`,
      '',
      '',
    )

    // It holds the only place: the others stay suspended, and what is sent to them waits.
    const { id } = await api<{ id: string }>(server, 'POST', '/api/sessions', { wsId: 'ws-bench', agent: 'demo' })
    await roundTrips(server, id, label)

    const hooks: string[] = []
    for (const sessionId of ids)
      hooks.push((await api<{ webhook: string }>(server, 'POST', '/api/channels', { sessionId })).webhook)
    let next = 0
    const target = { url: () => hooks[next++ % hooks.length] ?? '', method: 'POST', body: () => BODY, expect: 202 }
    const one = await measured(server, { ...target, connections: 1, seconds })
    if (deliveries === 0) atNone = one.p50
    report(
      `${label}hook to 202, one client, p50 / p99`,
      `${number(one.p50, 2)} / ${number(one.p99, 2)} ms`,
      `fdatasync ${number(syncMs.p50, 2)} / ${number(syncMs.p99, 2)} ms`,
      number(one.p50 / syncMs.p50, 2),
      deliveries === 0 ? 'p50 < 3 ms, p99 < 15 ms' : `x ${number(one.p50 / atNone, 2)} of none`,
    )
    const many = await measured(server, { ...target, connections: 32, seconds })
    report(
      `${label}hook to 202, 32 clients`,
      `${number(many.perSecond, 0)}/s p99 ${number(many.p99)} ms`,
      '',
      '',
      '>= 2500/s',
    )
    server.process.kill('SIGKILL') // what waits is not to be worked off
    await once(server.process, 'exit')
    await rm(dataDir, { recursive: true, force: true })
  }
}

async function prepare(dataDir: string, deliveries: number): Promise<string[]> {
  await mkdir(dataDir, { recursive: true, mode: 0o700 })
  await writeFile(join(dataDir, 'config.json'), JSON.stringify({ maxSessions: 1 }))
  const server = await serve(dataDir)
  await api(server, 'POST', '/api/workspaces', { id: 'ws-bench', tag: 'bench' })
  const { id } = await api<{ id: string }>(server, 'POST', '/api/sessions', { wsId: 'ws-bench', agent: 'demo' })
  await server.stop()
  return await seedSessions(dataDir, id, { sessions: SESSIONS, deliveries })
}

async function serve(dataDir: string): Promise<Server> {
  const child = await start([here('hook-server.ts'), dataDir], /postern listening on (\S+)/, (url) => url)
  const token = (await readFile(join(dataDir, 'admin-token'), 'utf8')).trim()
  return { ...child, token }
}

/** One message after another to an idle agent: until it is acknowledged, and until the agent's answer is an event. */
async function roundTrips(server: Server, sessionId: string, label: string): Promise<void> {
  const { webhook } = await api<{ webhook: string }>(server, 'POST', '/api/channels', { sessionId })
  const stream = get(`${server.url}/api/sessions/${sessionId}/events`, { headers: { accept: 'text/event-stream' } })
  const [response] = (await once(stream, 'response')) as IncomingMessage[]
  let text = ''
  let idle: (() => void) | undefined
  let isBack = false // the first idle event is the one before any message
  response?.on('data', (chunk) => {
    text += String(chunk)
    for (let end = text.indexOf('\n\n'); end !== -1; end = text.indexOf('\n\n')) {
      if (text.startsWith('event: turn.ended', text.indexOf('\n') + 1)) isBack = true
      else if (isBack && /"type":"session.state","state":"idle"/.test(text.slice(0, end))) {
        isBack = false
        idle?.()
      }
      text = text.slice(end + 2)
    }
  })
  const nextIdle = (): Promise<void> => new Promise((resolve) => (idle = resolve))
  await eventuallyIdle(server, sessionId)
  const answered: number[] = []
  const back: number[] = []
  for (let i = 0; i < ROUND_TRIPS; i++) {
    const again = nextIdle()
    const from = performance.now()
    const sent = await fetch(webhook, { method: 'POST', headers: { 'content-type': 'application/json' }, body: BODY })
    if (sent.status !== 200) throw new Error(`the hook answered ${sent.status}: ${await sent.text()}`)
    await sent.arrayBuffer()
    answered.push(performance.now() - from)
    await again
    back.push(performance.now() - from)
  }
  stream.destroy()
  const [ack, turn] = [percentiles(answered), percentiles(back)]
  report(`${label}hook to 200 (delivered), p50 / p99`, `${number(ack.p50, 2)} / ${number(ack.p99, 2)} ms`, '', '')
  report(`${label}to the demo agent and back, p50 / p99`, `${number(turn.p50, 2)} / ${number(turn.p99, 2)} ms`, '', '')
}

async function eventuallyIdle(server: Server, id: string): Promise<void> {
  for (;;) {
    const { state } = await api<{ state: string }>(server, 'GET', `/api/sessions/${id}`)
    if (state === 'idle') return
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}
