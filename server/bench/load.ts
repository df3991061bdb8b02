import { Agent, request } from 'node:http'

export interface Load {
  requests: number
  perSecond: number
  /** Milliseconds. */
  p50: number
  p99: number
}

/**
 * Sends the same request over `connections` kept-alive connections until `seconds` have passed, at least `least` times.
 * Small on purpose: the generator shares two cores with what it measures.
 */
export async function load(options: {
  url: string | (() => string)
  method?: string
  body?: () => string
  headers?: Record<string, string>
  connections: number
  seconds: number
  expect?: number | number[]
}): Promise<Load> {
  const { url, method = 'GET', body, headers = {}, connections, seconds, expect = 200 } = options
  const expected = new Set([expect].flat())
  const agent = new Agent({ keepAlive: true, maxSockets: connections })
  const took: number[] = []
  const from = performance.now()
  const until = from + seconds * 1000
  async function worker(): Promise<void> {
    while (performance.now() < until) {
      const start = performance.now()
      const target = typeof url === 'string' ? url : url()
      const status = await once(target, { method, agent, headers }, body?.())
      if (!expected.has(status)) throw new Error(`${method} ${target} answered ${status}, not ${[...expected].join()}`)
      took.push(performance.now() - start)
    }
  }
  await Promise.all(Array.from({ length: connections }, worker))
  const elapsed = (performance.now() - from) / 1000
  agent.destroy()
  return { requests: took.length, perSecond: took.length / elapsed, ...percentiles(took) }
}

export function percentiles(values: number[]): { p50: number; p99: number } {
  const sorted = values.toSorted((a, b) => a - b)
  const at = (share: number): number => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? NaN
  return { p50: at(0.5), p99: at(0.99) }
}

function once(
  url: string,
  options: { method: string; agent: Agent; headers: Record<string, string> },
  body: string | undefined,
): Promise<number> {
  return new Promise((resolve, reject) => {
    const type =
      body === undefined ? {} : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) }
    const sent = request(url, { ...options, headers: { ...type, ...options.headers } }, (response) => {
      response.resume()
      response.on('end', () => resolve(response.statusCode ?? 0))
      response.on('error', reject)
    })
    sent.on('error', reject)
    sent.end(body)
  })
}
