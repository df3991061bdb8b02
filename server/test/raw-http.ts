import { connect, type Socket } from 'node:net'

/** An answer as it came over the wire. */
export interface RawAnswer {
  status: number
  /** Names in lower case; of repeated ones the last. */
  headers: Record<string, string>
  body: string
  /** The body as JSON; undefined when it is none. */
  json: Record<string, unknown> | undefined
}

/** Sends bytes as they are on a connection of their own; resolves with everything that came back until it was closed. */
export function exchangeBytes(port: number, bytes: string | Buffer, host = '127.0.0.1'): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect({ port, host })
    const chunks: Buffer[] = []
    socket.on('data', (chunk) => chunks.push(chunk))
    // A server may close before everything was sent; what it said first is the answer.
    socket.on('error', (error) => (chunks.length > 0 ? undefined : reject(error)))
    socket.on('close', () => resolve(Buffer.concat(chunks).toString('utf8')))
    socket.write(bytes)
  })
}

/** One request, written by hand, and its answer. Adds `Connection: close`, and `Host` unless the headers hold one. */
export async function rawRequest(
  port: number,
  request: { line: string; headers?: string[]; body?: string | Buffer; host?: string | null },
): Promise<RawAnswer> {
  const { line, headers = [], body = '', host = `127.0.0.1:${port}` } = request
  const lines = [`${line} HTTP/1.1`, ...(host === null ? [] : [`Host: ${host}`]), ...headers, 'Connection: close']
  const head = Buffer.from(`${lines.join('\r\n')}\r\n\r\n`, 'latin1')
  return parseAnswer(await exchangeBytes(port, Buffer.concat([head, Buffer.from(body)])))
}

/** The same with a JSON body and its length. */
export function rawJson(port: number, line: string, body: string | Buffer, headers: string[] = []): Promise<RawAnswer> {
  const length = Buffer.byteLength(body)
  return rawRequest(port, {
    line,
    headers: [`Content-Length: ${length}`, 'Content-Type: application/json', ...headers],
    body,
  })
}

/** The first final answer in what a server sent. */
export function parseAnswer(text: string): RawAnswer {
  const from = text.startsWith('HTTP/1.1 100') ? text.indexOf('\r\n\r\n') + 4 : 0
  const end = text.indexOf('\r\n\r\n', from)
  const [statusLine = '', ...lines] = text.slice(from, end === -1 ? undefined : end).split('\r\n')
  const headers: Record<string, string> = {}
  for (const line of lines) {
    const at = line.indexOf(':')
    headers[line.slice(0, at).toLowerCase()] = line.slice(at + 1).trim()
  }
  const body = end === -1 ? '' : text.slice(end + 4)
  let json: Record<string, unknown> | undefined
  try {
    json = JSON.parse(body) as Record<string, unknown>
  } catch {
    json = undefined
  }
  return { status: Number(statusLine.split(' ')[1] ?? 0), headers, body, json }
}

/** An open connection to write on piece by piece. `until` resolves when what was received holds the text. */
export interface RawConnection {
  socket: Socket
  received(): string
  until(text: string): Promise<string>
  closed: Promise<void>
}

export async function rawConnection(port: number, host = '127.0.0.1'): Promise<RawConnection> {
  const socket = connect({ port, host })
  let received = ''
  const waiting = new Set<() => void>()
  const look = (): void => waiting.forEach((each) => each())
  socket.setEncoding('utf8')
  socket.on('data', (chunk: string) => {
    received += chunk
    look()
  })
  socket.on('error', () => undefined)
  const closed = new Promise<void>((resolve) => socket.once('close', () => resolve()))
  let isClosed = false
  void closed.then(() => {
    isClosed = true
    look()
  })
  await new Promise<void>((resolve, reject) => socket.once('connect', resolve).once('error', reject))
  return {
    socket,
    closed,
    received: () => received,
    until: (text) =>
      new Promise((resolve, reject) => {
        const check = (): void => {
          if (received.includes(text)) resolve(received)
          else if (isClosed) reject(new Error(`closed before ${JSON.stringify(text)} came: ${received.slice(-500)}`))
          else return
          waiting.delete(check)
        }
        waiting.add(check)
        check()
      }),
  }
}
