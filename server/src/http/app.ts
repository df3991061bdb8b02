import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import { randomBytes } from 'node:crypto'
import ipaddr from 'ipaddr.js'
import type { Clock } from '../clock.ts'
import { ConfigError, isLoopbackHost, type Config } from '../config.ts'
import { DomainError, type ErrorCode } from '../errors.ts'
import type { ProcessTokens } from '../keys/process-tokens.ts'
import type { Logger } from '../log.ts'
import type { ChannelLimits } from '../model/channels.ts'
import { adminToken } from './admin-token.ts'
import { CallerGone, dropRest, hasBody } from './body.ts'
import { plainRoute, procedureRoutes } from './calls.ts'
import { createCallerCheck } from './caller.ts'
import { limitWaiting } from './connections.ts'
import { createEventStream, type StreamLimits } from './events.ts'
import { createFront } from './front.ts'
import { checkGate, MAX_HEADER_BYTES, reachOf, type Reach } from './gate.ts'
import { readHeaders } from './headers.ts'
import { createHook, isHookPath, SHOWN_PATH } from './hook.ts'
import { countAnswer, metricsText, newCounters } from './metrics.ts'
import { documentRoute, outputRoutes } from './output.ts'
import { pageRoutes } from './pages.ts'
import { createPeers } from './peer.ts'
import { PLAIN } from './plain.ts'
import { rawProblem, send, sendJson, sendProblem, type Exchange } from './respond.ts'
import { createScopeCheck } from './run-scope.ts'
import type { Nouns } from './trpc.ts'

export interface HttpLimits {
  /** Milliseconds for request line and headers. */
  headersMs: number
  /** Milliseconds for a whole request. */
  requestMs: number
  stream?: StreamLimits
}
export const HTTP_LIMITS: HttpLimits = { headersMs: 10_000, requestMs: 30_000 }

/** Milliseconds that `close` waits for requests under way. */
const CLOSE_WAIT_MS = 3_000
/** Milliseconds for which the answer to an unreadable request stays to be read. */
const LINGER_MS = 1_000
/** Ports tried behind the default one when nobody named a port. */
const MAX_PORTS = 100

export interface HttpDeps extends Nouns {
  config: Config
  clock: Clock
  log: Logger
  version: string
  isDraining(): boolean
  processTokens: Pick<ProcessTokens, 'find'>
  /** Processes that belong to runs at work; empty when none is. */
  runProcesses(): Set<number> | Promise<Set<number>>
  limits?: HttpLimits
  channelLimits?: Partial<ChannelLimits>
}

export interface Http {
  /** Accepts connections. @throws ConfigError when the port cannot be had */
  listen(): Promise<{ url: string; port: number }>
  /** Stops accepting, ends idle connections, waits up to 3 s for requests under way, and cuts off the rest. Safe to repeat. */
  close(): Promise<void>
}

/**
 * The HTTP boundary. Nothing below it knows that it exists; nothing in a request can end the process.
 *
 * @throws ConfigError when the admin token is missing where it must exist, or not as we would have made it
 */
export async function createHttp(deps: HttpDeps): Promise<Http> {
  const { config, clock, log, version, isDraining, runs, limits = HTTP_LIMITS } = deps
  const token = await adminToken(config.dataDir, isLoopbackHost(config.host))
  const closing = new AbortController()
  const peers = createPeers({ runProcesses: deps.runProcesses })
  const check = createCallerCheck({
    config,
    adminToken: token,
    processTokens: deps.processTokens,
    peers,
    hasRuns: () => runs.capacity().running + deps.sessions.counts().live > 0,
  })
  const stream = createEventStream({ clock, closing: closing.signal, ...(limits.stream && { limits: limits.stream }) })
  const hook = createHook({
    channels: deps.channels,
    clock,
    trustedProxies: config.trustedProxies,
    isDraining,
    ...(deps.channelLimits && { limits: deps.channelLimits }),
  })
  const counters = newCounters()
  const under = new Map<Exchange, Socket>()
  const current = new WeakMap<Socket, Exchange>()
  let isClosing = false
  let url = ''
  let reach: Reach = reachOf(config, config.port)

  const front = createFront(
    [
      ...procedureRoutes(deps, stream),
      ...outputRoutes(runs),
      documentRoute(deps.inbox),
      ...pageRoutes({
        version,
        workspaces: deps.workspaces,
        baseUrl: () => config.publicUrl?.replace(/\/$/, '') ?? url,
      }),
      plainRoute(PLAIN.health, (exchange) => sendJson(exchange, 200, { status: 'ok', version })),
      plainRoute(PLAIN.ready, (exchange) => {
        if (isDraining()) throw new DomainError('draining', 'the server is stopping', { retryAfterSeconds: 5 })
        sendJson(exchange, 200, { status: 'ready' })
      }),
      plainRoute(PLAIN.metrics, (exchange) => {
        const state = {
          version,
          capacity: runs.capacity(),
          ended: runs.endedCounts(),
          counters,
          openRequests: under.size,
        }
        send(exchange, 200, { 'Content-Type': 'text/plain; version=0.0.4; charset=utf-8' }, metricsText(state))
      }),
    ],
    check,
    createScopeCheck(deps),
  )

  const server = createServer({
    maxHeaderSize: MAX_HEADER_BYTES,
    headersTimeout: limits.headersMs,
    requestTimeout: limits.requestMs,
    connectionsCheckingInterval: Math.min(1_000, limits.headersMs),
    // Answered by the gate, in our own words.
    requireHostHeader: false,
  })
  // Node's own limit drops what is beyond it; ours refuses.
  server.maxHeadersCount = 0
  const waiting = limitWaiting(server, (address) => config.trustedProxies.includes(address))

  const nextId = idSource()
  function onRequest(request: IncomingMessage, response: ServerResponse): void {
    const { socket } = request
    const [path = '', ...search] = (request.url ?? '').split('?')
    const facts = readHeaders(request.rawHeaders)
    const exchange: Exchange = { request, response, id: nextId(), facts, path, search: search.join('?'), log }
    const startedAt = clock.monotonic()
    under.set(exchange, socket)
    current.set(socket, exchange)
    if (hasBody(request)) request.once('end', () => waiting.busy(socket))
    else waiting.busy(socket)
    if (isClosing) response.shouldKeepAlive = false
    response.on('error', (error) => log.debug({ requestId: exchange.id, error }, 'an answer could not be sent'))
    response.once('close', () => {
      under.delete(exchange)
      waiting.waits(socket)
      countAnswer(counters, response.statusCode)
      const durationMs = Math.round(clock.monotonic() - startedAt)
      const { method } = request
      const shown = isHookPath(path) ? SHOWN_PATH : path
      log.debug({ requestId: exchange.id, method, path: shown, status: response.statusCode, durationMs }, 'answered')
    })
    void answer(exchange)
  }

  async function answer(exchange: Exchange): Promise<void> {
    try {
      checkGate(exchange.request, exchange.facts, reach)
      // Before anything else looks at who calls: there the token is the authority.
      await (isHookPath(exchange.path) ? hook(exchange) : front(exchange))
    } catch (error) {
      fail(exchange, error)
    }
    if (!exchange.request.complete) dropRest(exchange.request)
  }

  function fail(exchange: Exchange, error: unknown): void {
    try {
      if (error instanceof CallerGone) exchange.response.destroy()
      else sendProblem(exchange, error)
    } catch (again) {
      log.error({ requestId: exchange.id, error: again }, 'a failure could not be answered')
      exchange.response.destroy()
    }
  }

  /** A request that the parser gave up: answered on the socket, unless an answer is under way on it. */
  function onUnreadable(error: NodeJS.ErrnoException, socket: Socket): void {
    const open = current.get(socket)
    const isAnswering = open !== undefined && under.has(open) && (open.response.headersSent || open.request.complete)
    if (error.code === 'ECONNRESET' || !socket.writable || isAnswering) return void socket.destroy()
    if (socket.writableEnded) return
    const [code, detail] = reasonOf(error)
    countAnswer(counters, code === 'headers_too_large' ? 431 : 400)
    socket.end(rawProblem(code, detail, nextId()))
    setTimeout(() => socket.destroy(), LINGER_MS).unref()
  }

  function reasonOf({ code }: NodeJS.ErrnoException): [ErrorCode, string] {
    if (code === 'HPE_HEADER_OVERFLOW')
      return ['headers_too_large', `request line and headers exceed ${MAX_HEADER_BYTES} bytes`]
    if (code === 'ERR_HTTP_REQUEST_TIMEOUT') {
      const { headersMs, requestMs } = limits
      return [
        'request_timeout',
        `the headers did not arrive within ${headersMs} ms, or the body within ${requestMs} ms`,
      ]
    }
    return ['bad_request', 'the request is not valid HTTP/1.1']
  }

  server.on('request', onRequest)
  // A body that waits to be asked for is asked for once everything before it is in order.
  server.on('checkContinue', onRequest)
  server.on('checkExpectation', onRequest)
  server.on('clientError', (error, socket) => onUnreadable(error, socket as Socket))
  server.on('connect', (_, socket) => {
    // Node has let go of this socket: an error on it would end the process.
    socket.on('error', () => socket.destroy())
    onUnreadable(new Error('CONNECT'), socket as Socket)
  })

  return {
    async listen() {
      const port = await bind(server, config)
      server.on('error', (error) => log.error({ error }, 'the HTTP server failed'))
      reach = reachOf(config, port)
      url = urlOf(config.host, port)
      if (port !== config.port && config.port !== 0) log.warn({ port }, `port ${config.port} is taken; using ${port}`)
      if (config.publicUrl !== undefined || config.requireToken || config.trustedProxies.length > 0) {
        log.info({}, 'every caller needs a token: publicUrl, trustedProxies or requireToken is set')
      }
      return { url, port }
    },
    async close() {
      isClosing = true
      closing.abort()
      const closed = new Promise<void>((resolve) => server.close(() => resolve()))
      for (const { response } of under.keys()) if (!response.headersSent) response.shouldKeepAlive = false
      server.closeIdleConnections()
      const over = new AbortController()
      await Promise.race([closed, clock.sleep(CLOSE_WAIT_MS, over.signal).catch(() => undefined)])
      over.abort()
      server.closeAllConnections()
      await closed
    },
  }
}

/** Request ids: unique across restarts, short enough to be read out. */
function idSource(): () => string {
  const start = randomBytes(5).toString('hex')
  let count = 0
  return () => `req_${start}${(++count).toString(36).padStart(4, '0')}`
}

/** The address to call, also when the bind takes any address. */
export function urlOf(host: string, port: number): string {
  const isAny = ipaddr.isValid(host) && ipaddr.process(host).range() === 'unspecified'
  const name = isAny ? (host.includes(':') ? '::1' : '127.0.0.1') : host
  return `http://${name.includes(':') ? `[${name}]` : name}:${port}`
}

/** A named port or none; the default one or the next that is free. @throws ConfigError */
async function bind(server: Server, { host, port, portNamed }: Config): Promise<number> {
  const last = portNamed || port === 0 ? port : Math.min(65_535, port + MAX_PORTS)
  for (let candidate = port; ; candidate++) {
    try {
      await tryListen(server, host, candidate)
      return (server.address() as AddressInfo).port
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException
      if (code === 'EADDRINUSE' && candidate < last) continue
      if (code === 'EADDRINUSE')
        throw new ConfigError(`port ${candidate} on ${host} is taken: stop what uses it, or name another`)
      throw new ConfigError(`cannot listen on ${host}, port ${candidate}: ${code ?? (error as Error).message}`)
    }
  }
}

function tryListen(server: Server, host: string, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const settle = (done: () => void): void => {
      server.off('error', onError).off('listening', onListening)
      done()
    }
    const onError = (error: Error): void => settle(() => reject(error))
    const onListening = (): void => settle(resolve)
    server.on('error', onError).on('listening', onListening)
    server.listen({ host, port })
  })
}
