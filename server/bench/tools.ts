/** What the benchmarks share: starting a server beside them, calling it, measuring it, printing a row. */
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { load } from './load.ts'

export interface Child {
  process: ChildProcess
  url: string
  startMs: number
  stop(): Promise<void>
}

export async function start(args: string[], ready: RegExp, toUrl: (match: string) => string): Promise<Child> {
  const from = performance.now()
  const child = spawn(process.execPath, args, {
    stdio: ['pipe', 'pipe', 'inherit'],
    env: { ...process.env, NODE_ENV: 'production' },
  })
  let text = ''
  for await (const chunk of child.stdout ?? []) {
    text += String(chunk)
    const found = ready.exec(text)
    if (!found) continue
    const startMs = performance.now() - from
    child.stdout?.resume()
    const stop = async (): Promise<void> => {
      child.stdin?.end()
      child.kill('SIGTERM')
      if (child.exitCode === null) await once(child, 'exit')
    }
    return { process: child, url: toUrl(found[1] ?? ''), startMs, stop }
  }
  throw new Error(`${args.join(' ')} ended without being ready: ${text}`)
}
export const here = (path: string): string => fileURLToPath(new URL(path, import.meta.url))
export const baseline = (...args: string[]): Promise<Child> =>
  start([here('baselines.ts'), ...args], /ready (\d+)/, (port) => `http://127.0.0.1:${port}`)

export async function api<T>(
  on: { url: string; token: string },
  method: string,
  path: string,
  body?: unknown,
): Promise<T> {
  const response = await fetch(on.url + path, {
    method,
    headers: { authorization: `Bearer ${on.token}`, ...(body !== undefined && { 'content-type': 'application/json' }) },
    ...(body !== undefined && { body: JSON.stringify(body) }),
  })
  if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${await response.text()}`)
  return (await response.json()) as T
}

/** User and system time of a process, in milliseconds. */
export async function cpuMs(pid: number | undefined): Promise<number> {
  const stat = await readFile(`/proc/${pid}/stat`, 'latin1')
  const fields = stat.slice(stat.lastIndexOf(') ') + 2).split(' ')
  return (Number(fields[11]) + Number(fields[12])) * 10 // clock ticks of 10 ms
}
export async function rssMb(pid: number | undefined): Promise<number> {
  const found = /VmRSS:\s+(\d+)/.exec(await readFile(`/proc/${pid}/status`, 'latin1'))
  return Number(found?.[1] ?? 0) / 1024
}
export async function measured(child: Child, options: Parameters<typeof load>[0]) {
  await load({ ...options, seconds: 0.5 }) // warm
  const before = await cpuMs(child.process.pid)
  const result = await load(options)
  const cpuMicros = (((await cpuMs(child.process.pid)) - before) * 1000) / result.requests
  return { ...result, cpuMicros }
}

export const number = (value: number, digits = 1): string => (Number.isFinite(value) ? value.toFixed(digits) : '-')
export function report(what: string, figure: string, bare: string, ratio: string, aim = ''): void {
  console.log([what.padEnd(52), figure.padStart(30), bare.padStart(26), ratio.padStart(10), aim].join('  '))
}
