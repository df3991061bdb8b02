/**
 * The bare limits, each a program of its own: `node baselines.ts http|trpc|sse`. Prints `ready <port>` and serves until
 * its stdin ends.
 */
import { createServer, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { initTRPC } from '@trpc/server'
import { createHTTPServer } from '@trpc/server/adapters/standalone'
import { z } from 'zod'
import { Run } from '../src/model.ts'
import { sampleRow } from './seed.ts'
import { toRun } from '../src/runs/view.ts'

const run = await toRun(sampleRow(0, Date.now()), '/nowhere', { live: undefined, canResume: true })
const text = JSON.stringify(run)
const [kind] = process.argv.slice(2)

if (kind === 'http') {
  const server = createServer((request, response) => {
    if (request.method === 'POST') request.resume()
    response.writeHead(200, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) })
    response.end(text)
  })
  server.listen(0, '127.0.0.1', () => console.log(`ready ${(server.address() as AddressInfo).port}`))
} else if (kind === 'trpc') {
  const t = initTRPC.create()
  const router = t.router({
    get: t.procedure
      .input(z.strictObject({ taskId: z.string() }))
      .output(Run)
      .query(() => run),
  })
  const server = createHTTPServer({ router })
  server.listen(0, '127.0.0.1', () => console.log(`ready ${(server.address() as AddressInfo).port}`))
} else if (kind === 'sse') {
  const [count = 0, size = 0, pauseMs = 0] = process.argv.slice(3).map(Number)
  const server = createServer((_, response) => {
    response.writeHead(200, { 'content-type': 'text/event-stream' })
    response.flushHeaders()
    readers.add(response)
    response.on('close', () => readers.delete(response))
  })
  const readers = new Set<ServerResponse>()
  server.listen(0, '127.0.0.1', () => console.log(`ready ${(server.address() as AddressInfo).port}`))
  process.stdin.once('data', () => void write())
  async function write(): Promise<void> {
    const data = 'x'.repeat(size)
    for (let i = 1; i <= count; i++) {
      const message = `id: ${i}\nevent: output.text\ndata: ${JSON.stringify({ seq: i, type: 'output.text', text: data })}\n\n`
      for (const reader of readers) reader.write(message)
      await new Promise((resolve) => setTimeout(resolve, pauseMs))
    }
    for (const reader of readers) reader.end()
  }
}
process.stdin.on('end', () => process.exit(0)).resume()
