import { lookAround } from '#local'
import { Agents } from './agents.ts'
import { Channels, Deliveries, Keys } from './channels.ts'
import { makeCall, type Call, type CallOptions } from './call.ts'
import { ConnectionError, PosternError, ServerError, reasonOf } from './errors.ts'
import { Credentials } from './credentials.ts'
import { createClient, createConfig } from './generated/client/index.ts'
import { Server } from './generated/sdk.gen.ts'
import { Requests } from './requests.ts'
import { Issues } from './issues.ts'
import { Inbox } from './inbox.ts'
import { Runs } from './runs.ts'
import { Sessions } from './sessions.ts'
import type { LocalServer } from './local.ts'
import { createTransport, type Logger, type Sending } from './transport.ts'
import type { Health } from './types.ts'
import { Workspaces } from './workspaces.ts'

export interface PosternOptions {
  /** Where the server is, such as `http://127.0.0.1:47331`; a path in it is kept. */
  url: string
  /** The admin token, or a run's. A local caller needs none to start and read runs. */
  token?: string | undefined
  /** Instead of the global one. */
  fetch?: typeof fetch | undefined
  /** Milliseconds for one answer; default 60,000. Of a stream, until it begins. */
  timeoutMs?: number | undefined
  /** Repetitions of a request that failed in a way that may pass; default 2. */
  retries?: number | undefined
  /** Told of every request; never of a token or a body. `console` fits. */
  logger?: Logger | undefined
}

export interface ConnectOptions extends Partial<PosternOptions> {
  /** The data directory to look in; default `POSTERN_HOME`, else `~/.postern`. */
  home?: string | undefined
  signal?: AbortSignal | undefined
}

export interface RawOptions extends CallOptions {
  method?: string
  query?: Record<string, string | number | boolean | undefined>
  headers?: Record<string, string>
  /** Sent as JSON. */
  body?: unknown
  /** Hand out the body as it comes, without a limit of time. */
  stream?: boolean
}

/** Milliseconds that `connect` gives the server to show that it is there. */
const CONNECT_TIMEOUT_MS = 5_000

/** A client of one Postern server. */
export class Postern {
  readonly url: string
  readonly runs: Runs
  readonly workspaces: Workspaces
  readonly agents: Agents
  readonly credentials: Credentials
  readonly sessions: Sessions
  readonly channels: Channels
  readonly deliveries: Deliveries
  readonly requests: Requests
  readonly keys: Keys
  readonly issues: Issues
  readonly inbox: Inbox
  readonly #server: Server
  readonly #send: ReturnType<typeof createTransport>

  /** Makes a client without asking the server anything. `Postern.connect()` finds the server by itself. */
  constructor(options: PosternOptions) {
    const { url, token, timeoutMs, retries, logger } = options
    this.url = url.replace(/\/+$/, '')
    this.#send = createTransport({ token, fetch: options.fetch, timeoutMs, retries, logger })
    const client = createClient(createConfig({ baseUrl: this.url, ky: this.#send, throwOnError: true }))
    this.runs = new Runs(client, logger)
    this.workspaces = new Workspaces(client)
    this.agents = new Agents(client)
    this.credentials = new Credentials(client)
    this.sessions = new Sessions(client, logger)
    this.channels = new Channels(client)
    this.deliveries = new Deliveries(client)
    this.requests = new Requests(client)
    this.keys = new Keys(client)
    this.issues = new Issues(client)
    this.inbox = new Inbox(client, logger)
    this.#server = new Server({ client })
  }

  /**
   * A client of the server that the options, `POSTERN_URL`, or `server.json` in the data directory name, checked to
   * answer. Its token: the option, `POSTERN_TOKEN`, or the `admin-token` beside the `server.json` that names this very
   * server; never that of one server sent to another, and inside a run never the admin token.
   *
   * @throws ConnectionError `server_not_running`, naming what was tried
   */
  static async connect(options: ConnectOptions = {}): Promise<Postern> {
    const { home, signal, ...rest } = options
    const local = await lookAround(home)
    const url = options.url ?? local.namedUrl ?? local.url
    const origin =
      options.url !== undefined
        ? 'the option `url`'
        : local.namedUrl !== undefined
          ? 'POSTERN_URL'
          : `server.json in ${local.home}${local.pid === undefined ? '' : `, pid ${local.pid}`}`
    if (url === undefined) throw notRunning(`no server is named: ${whatWasTried(local)}`)
    if (!URL.canParse(url) || !/^https?:$/.test(new URL(url).protocol)) {
      throw notRunning(`${JSON.stringify(url)} (from ${origin}) is not an http address`)
    }
    const isLocal = local.url !== undefined && isSameServer(url, local.url)
    const token = options.token ?? local.namedToken ?? (isLocal ? local.adminToken : undefined)
    const postern = new Postern({ ...rest, url, token })
    try {
      const { status } = await postern.health({ signal, timeoutMs: CONNECT_TIMEOUT_MS })
      if (status !== 'ok') throw new Error('it is not a Postern server')
    } catch (error) {
      signal?.throwIfAborted()
      if (error instanceof PosternError && !(error instanceof ConnectionError || error instanceof ServerError))
        throw error
      throw notRunning(`nothing answers at ${postern.url} (from ${origin}): ${reasonOf(error)}`, error)
    }
    return postern
  }

  /** Answers when the server does. */
  health(options: CallOptions = {}): Call<Health> {
    return makeCall((generated) => this.#server.health({ ...generated, parseAs: 'json' }), options, { retries: 0 })
  }

  /**
   * Any request to this server, with its token, retries and errors; for what has no method here.
   *
   * @param path such as `/metrics`
   * @throws PosternError unless the answer is 2xx
   */
  async raw(path: string, options: RawOptions = {}): Promise<Response> {
    const { method = 'GET', query = {}, body, signal, timeoutMs, stream } = options
    const url = new URL(`${this.url}${path}`)
    for (const [name, value] of Object.entries(query))
      if (value !== undefined) url.searchParams.set(name, String(value))
    const headers = new Headers(options.headers)
    if (body !== undefined) headers.set('content-type', 'application/json')
    const request = new Request(url, { method, headers, ...(body !== undefined && { body: JSON.stringify(body) }) })
    const sending: Sending = { timeoutMs, stream }
    return await this.#send(request, { ...(signal && { signal }), context: { ...sending } })
  }
}

function notRunning(detail: string, cause?: unknown): ConnectionError {
  const hint = 'postern serve, or set POSTERN_URL'
  return new ConnectionError({ code: 'server_not_running', detail, retryable: true, hint, cause })
}

function whatWasTried({ home, unreadable }: LocalServer): string {
  if (home === undefined) return 'outside Node, pass the option `url`'
  const file =
    unreadable === undefined
      ? `there is no server.json in ${home}`
      : `server.json in ${home} cannot be read (${unreadable})`
  return `POSTERN_URL is not set, and ${file}`
}

/** True when both addresses are one server: the same origin, or two names of loopback with the same port. */
function isSameServer(one: string, other: string): boolean {
  const [a, b] = [new URL(one), new URL(other)]
  if (a.protocol !== b.protocol || a.port !== b.port) return false
  return a.hostname === b.hostname || (isLoopback(a.hostname) && isLoopback(b.hostname))
}

const isLoopback = (hostname: string): boolean => /^(localhost|127(\.\d{1,3}){3}|\[::1\])$/.test(hostname)
