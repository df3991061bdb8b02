import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { createServer as createSocketServer, type AddressInfo, type Socket } from 'node:net'

export interface Received {
  method: string
  path: string
  headers: IncomingMessage['headers']
  body: string
  at: number
}

export interface ScriptedServer extends AsyncDisposable {
  url: string
  /** Requests in order of arrival. */
  received: Received[]
  sockets: Set<Socket>
  /** Resolves once no connection is open. */
  allClosed(): Promise<void>
}

type Handler = (request: Received, response: ServerResponse, count: number) => void | Promise<void>

/** A real server on loopback whose answers the test writes; `count` numbers the requests from 1. */
export async function serve(handler: Handler): Promise<ScriptedServer> {
  const received: Received[] = []
  const sockets = new Set<Socket>()
  const server = createServer((incoming, response) => {
    void (async () => {
      let body = ''
      for await (const chunk of incoming) body += String(chunk)
      const { method = '', url = '', headers } = incoming
      const request = { method, path: url, headers, body, at: performance.now() }
      received.push(request)
      await handler(request, response, received.length)
    })().catch(() => response.destroy())
  })
  server.on('connection', (socket) => {
    sockets.add(socket)
    socket.on('close', () => sockets.delete(socket))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  return {
    url: `http://127.0.0.1:${port}`,
    received,
    sockets,
    async allClosed() {
      while (sockets.size > 0) await Promise.all([...sockets].map((socket) => once(socket, 'close')))
    },
    async [Symbol.asyncDispose]() {
      server.closeAllConnections()
      server.close()
      await once(server, 'close')
    },
  }
}

/** An address on which nothing answers. */
export async function nowhere(): Promise<string> {
  const free = createSocketServer().listen(0, '127.0.0.1')
  await once(free, 'listening')
  const { port } = free.address() as AddressInfo
  free.close()
  await once(free, 'close')
  return `http://127.0.0.1:${port}`
}

export function json(
  response: ServerResponse,
  status: number,
  body: unknown,
  headers: Record<string, string> = {},
): void {
  const isProblem = status >= 400
  response.writeHead(status, {
    'content-type': isProblem ? 'application/problem+json' : 'application/json',
    ...headers,
  })
  response.end(JSON.stringify(body))
}

export function problem(
  response: ServerResponse,
  status: number,
  code: string,
  more: { retryable?: boolean; hint?: string; detail?: string } = {},
  headers: Record<string, string> = {},
): void {
  const { retryable = status >= 500 || status === 429, detail = `${code} happened`, hint } = more
  const title = code
  const body = {
    type: `/docs#${code}`,
    title,
    status,
    detail,
    code,
    retryable,
    requestId: 'req_1',
    ...(hint && { hint }),
  }
  json(response, status, body, { 'x-request-id': 'req_1', ...headers })
}

export const TASK = 'headless_01M7W3M6R0B5D8F1H4K7N0Q3T6'

export function run(changes: Record<string, unknown> = {}): Record<string, unknown> {
  return {
    taskId: TASK,
    status: 'running',
    wsId: 'ws-news',
    detail: null,
    reason: null,
    finishedAt: null,
    lastSeq: 0,
    ...changes,
  }
}
export const ended = (changes: Record<string, unknown> = {}): Record<string, unknown> =>
  run({ status: 'succeeded', finishedAt: '2026-11-20T09:13:05.911Z', lastSeq: 3, ...changes })

/** Begins a stream of events. */
export function stream(response: ServerResponse): {
  send(...seqs: number[]): void
  comment(): void
  cut(): void
  end(): void
} {
  response.writeHead(200, { 'content-type': 'text/event-stream' })
  response.write(': hello\n\n')
  return {
    send(...seqs) {
      for (const seq of seqs) {
        const type = seq === LAST ? 'run.ended' : 'agent.message'
        response.write(
          `id: ${seq}\nevent: ${type}\ndata: ${JSON.stringify({ seq, type, at: 'now', text: 'grüße' })}\n\n`,
        )
      }
    },
    comment: () => void response.write(': still here\n\n'),
    cut: () => void response.socket?.destroy(),
    end: () => void response.end(),
  }
}
/** The seq of the terminal event in `stream`. */
export const LAST = 10
