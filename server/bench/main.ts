/**
 * What the server costs, beside the bare limit of the same machine in the same run: `pnpm bench`, or
 * `pnpm bench --quick` for shorter rounds and no 100 000. Figures are for reading, ratios for comparing; no test depends
 * on them.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, mkdtemp, open, readFile, rm, writeFile } from 'node:fs/promises'
import { get, type IncomingMessage } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { hookBench } from './hook.ts'
import { percentiles } from './load.ts'
import { seed } from './seed.ts'
import { api, baseline, cpuMs, here, measured, number, report, rssMb, start, type Child } from './tools.ts'

const quick = process.argv.includes('--quick')
const SECONDS = quick ? 1 : 3
const HISTORIES = quick ? [0, 1_000, 10_000] : [0, 1_000, 10_000, 100_000]
const root = await mkdtemp(join(tmpdir(), 'postern-bench-'))
const agents = {
  none: { command: ['true'] },
  sleep: { command: ['sleep', '600'] },
  ticks: { command: ['bash', '--norc', '-s'] },
}

async function postern(dataDir: string, config: object = {}): Promise<Child & { token: string }> {
  await mkdir(dataDir, { recursive: true, mode: 0o700 })
  await writeFile(join(dataDir, 'config.json'), JSON.stringify({ agents, maxQueued: 100_000, ...config }))
  const child = await start(
    [here('../bin/postern.mjs'), 'serve', '--port', '0', '--data', dataDir],
    /postern listening on (\S+)/,
    (url) => url,
  )
  const token = (await readFile(join(dataDir, 'admin-token'), 'utf8')).trim()
  return { ...child, token }
}
const post = (on: { url: string; token: string }, body: object) =>
  api<{ taskId: string; durationMs: number }>(on, 'POST', '/api/workspaces/ws-bench/headless', body)

console.log(`Node ${process.version}, ${process.platform}, rounds of ${SECONDS} s; ratio = ours / bare`)
report('what', 'ours', 'bare', 'ratio', 'aim')

// --- bare limits ------------------------------------------------------------------------------------------------------
const http = await baseline('http')
const bareGet = await measured(http, { url: http.url, connections: 32, seconds: SECONDS })
await http.stop()
const trpc = await baseline('trpc')
const input = encodeURIComponent(JSON.stringify({ taskId: 'x' }))
const trpcGet = await measured(trpc, { url: `${trpc.url}/get?input=${input}`, connections: 32, seconds: SECONDS })
await trpc.stop()
const bareSpawn: number[] = []
for (let i = 0; i < (quick ? 50 : 150); i++) {
  const from = performance.now()
  await once(spawn('/bin/true', { detached: true }), 'exit')
  bareSpawn.push(performance.now() - from)
}
const spawnMs = percentiles(bareSpawn)
const syncFile = await open(join(root, 'sync'), 'a')
const bareSync: number[] = []
for (let i = 0; i < 300; i++) {
  const from = performance.now()
  await syncFile.write('x'.repeat(1_000))
  await syncFile.datasync()
  bareSync.push(performance.now() - from)
}
await syncFile.close()
const syncMs = percentiles(bareSync)
report(
  'bare node:http GET, 32 connections',
  `${number(bareGet.perSecond, 0)}/s ${number(bareGet.cpuMicros)} µs`,
  '',
  '',
)
report("tRPC's own HTTP adapter GET", `${number(trpcGet.perSecond, 0)}/s ${number(trpcGet.cpuMicros)} µs`, '', '')
report('bare spawn of true, p50 / p99', `${number(spawnMs.p50, 2)} / ${number(spawnMs.p99, 2)} ms`, '', '')
report('bare append + fdatasync of 1 kB, p50 / p99', `${number(syncMs.p50, 2)} / ${number(syncMs.p99, 2)} ms`, '', '')

// --- by history -------------------------------------------------------------------------------------------------------
let postAtNone = NaN
for (const history of HISTORIES) {
  const dataDir = join(root, `history-${history}`)
  await mkdir(dataDir, { recursive: true, mode: 0o700 })
  await seed(dataDir, history)
  const server = await postern(dataDir, { maxRuns: 1 })
  const label = `${history} past runs: `
  const directory = join(root, `work-${history}`)
  await mkdir(directory)
  await api(server, 'POST', '/api/workspaces', { id: 'ws-bench', tag: 'bench', path: directory })
  report(`${label}start to listening`, `${number(server.startMs, 0)} ms`, '', '', '< 500 ms')
  report(`${label}memory, idle`, `${number(await rssMb(server.process.pid), 0)} MB`, '', '', '< 100 MB')

  const took: number[] = []
  for (let i = 0; i < (quick ? 20 : 60); i++) {
    const from = performance.now()
    await post(server, { agent: 'none', prompt: 'x', wait: true })
    took.push(performance.now() - from)
  }
  const ended = percentiles(took)
  report(
    `${label}POST to ended (true), p50 / p99`,
    `${number(ended.p50, 2)} / ${number(ended.p99, 2)} ms`,
    `spawn ${number(spawnMs.p50, 2)} ms`,
    `+${number(ended.p50 - spawnMs.p50, 2)} ms`,
    'bare spawn + 5 ms',
  )

  const { taskId } = await post(server, { agent: 'none', prompt: 'x', wait: true })
  const one = await measured(server, { url: `${server.url}/api/headless/${taskId}`, connections: 32, seconds: SECONDS })
  report(
    `${label}GET one run`,
    `${number(one.perSecond, 0)}/s ${number(one.cpuMicros)} µs`,
    `${number(bareGet.perSecond, 0)}/s ${number(bareGet.cpuMicros)} µs`,
    number(one.perSecond / bareGet.perSecond, 2),
    `>= 0.25; tRPC adapter x ${number(one.perSecond / trpcGet.perSecond, 2)} (>= 2)`,
  )
  const list = await measured(server, { url: `${server.url}/api/headless?limit=100`, connections: 8, seconds: SECONDS })
  report(`${label}list 100`, `${number(list.perSecond, 0)}/s ${number(list.cpuMicros, 0)} µs`, '', '')

  // One run holds the only place, so a POST is accepted into the queue: the cost of a durable answer alone.
  const holder = await post(server, { agent: 'sleep', prompt: 'x' })
  const body = (): string =>
    JSON.stringify({ agent: 'none', prompt: 'Compare the notes with the thesis.', whenBusy: 'queue' })
  const target = { url: `${server.url}/api/workspaces/ws-bench/headless`, method: 'POST', body, expect: 202 }
  const single = await measured(server, { ...target, connections: 1, seconds: SECONDS })
  if (history === 0) postAtNone = single.p50
  report(
    `${label}POST to 202, one client, p50 / p99`,
    `${number(single.p50, 2)} / ${number(single.p99, 2)} ms`,
    `fdatasync ${number(syncMs.p50, 2)} ms`,
    number(single.p50 / syncMs.p50, 2),
    history === 0 ? '' : `x ${number(single.p50 / postAtNone, 2)} of none (<= 1.2)`,
  )
  const many = await measured(server, { ...target, connections: 32, seconds: SECONDS })
  report(`${label}POST to 202, 32 clients`, `${number(many.perSecond, 0)}/s p99 ${number(many.p99)} ms`, '', '')
  await api(server, 'POST', `/api/headless/${holder.taskId}/cancel`).catch(() => undefined)
  server.process.kill('SIGKILL') // thousands wait in the queue: nothing to be learnt from working them
  await once(server.process, 'exit')
}

// --- the hook ---------------------------------------------------------------------------------------------------------
await hookBench({ root, seconds: SECONDS, deliveries: quick ? 1_000 : 100_000, syncMs })

// --- streams ----------------------------------------------------------------------------------------------------------
const COUNT = 200
const SIZE = 200
const PAUSE_MS = 5
for (const readers of quick ? [1, 100] : [1, 100, 1_000]) {
  const bare = await baseline('sse', String(COUNT), String(SIZE), String(PAUSE_MS))
  const bareMs = await follow(bare.url, readers, () => void bare.process.stdin?.write('go\n'))
  await bare.stop()
  const server = await postern(join(root, `sse-${readers}`))
  await api(server, 'POST', '/api/workspaces', { id: 'ws-bench', tag: 'bench' })
  const gate = join(root, `go-${readers}`)
  const script = `while [ ! -e ${gate} ]; do sleep 0.05; done; for i in $(seq ${COUNT}); do echo ${'x'.repeat(SIZE)}; sleep ${PAUSE_MS / 1000}; done`
  const { taskId } = await post(server, { agent: 'ticks', prompt: script })
  const before = await cpuMs(server.process.pid)
  const ms = await follow(`${server.url}/api/headless/${taskId}/events`, readers, () => void writeFile(gate, ''))
  const cpu = (await cpuMs(server.process.pid)) - before
  report(
    `${readers} SSE readers of ${COUNT} lines, until the last has all`,
    `${number(ms, 0)} ms, ${number(cpu, 0)} ms CPU`,
    `${number(bareMs, 0)} ms`,
    number(ms / bareMs, 2),
  )
  await server.stop()
}

/** Opens readers, starts the writing, and gives the milliseconds until every stream has ended. */
async function follow(url: string, readers: number, go: () => void): Promise<number> {
  const opened = Array.from({ length: readers }, () => {
    const { promise: ended, resolve } = Promise.withResolvers<void>()
    const request = get(url, { headers: { accept: 'text/event-stream' }, agent: false })
    const begun = once(request, 'response').then(([response]: IncomingMessage[]) => {
      if (response?.statusCode !== 200) throw new Error(`stream answered ${response?.statusCode}`)
      response.resume().on('end', resolve)
    })
    return { begun, ended }
  })
  await Promise.all(opened.map((each) => each.begun))
  const from = performance.now()
  go()
  await Promise.all(opened.map((each) => each.ended))
  return performance.now() - from
}

// --- a flood ----------------------------------------------------------------------------------------------------------
const flooded = await postern(join(root, 'flood'))
await api(flooded, 'POST', '/api/workspaces', { id: 'ws-bench', tag: 'bench' })
const idleMb = await rssMb(flooded.process.pid)
let mostMb = idleMb
const watching = setInterval(() => void rssMb(flooded.process.pid).then((mb) => (mostMb = Math.max(mostMb, mb))), 50)
const bytes = 1_000_000_000
const from = performance.now()
await post(flooded, {
  agent: 'ticks',
  prompt: `yes 'a line of some forty characters, no more' | head -c ${bytes}`,
  wait: true,
})
const floodMs = performance.now() - from
clearInterval(watching)
report(
  '1 GB of output from one run',
  `${number(floodMs / 1000, 2)} s, RSS +${number(mostMb - idleMb, 0)} MB`,
  `idle ${number(idleMb, 0)} MB`,
  '',
  '< 30 MB more',
)
await flooded.stop()
await rm(root, { recursive: true, force: true })
