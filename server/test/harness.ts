import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { readFile } from 'node:fs/promises'
import { loadConfig, type Config } from '../src/config.ts'
import { createLogger, type LogLevel } from '../src/log.ts'
import { startServer, type ServerOptions } from '../src/server.ts'

export interface TestServer extends AsyncDisposable {
  url: string
  port: number
  dataDir: string
  /** The admin token. */
  token: string
  /** What the server wrote to its log. */
  logged: string[]
  /** A new workspace; with `path`, of an existing directory. Returns its id. */
  workspace(input?: Record<string, unknown>): Promise<string>
  /** One request with JSON; `token: true` sends the admin token. */
  call<T = Record<string, unknown>>(
    method: string,
    path: string,
    body?: unknown,
    options?: CallOptions,
  ): Promise<Answer<T>>
  stop(): Promise<void>
}
export interface CallOptions {
  token?: boolean
  headers?: Record<string, string>
}
export interface Answer<T> {
  status: number
  headers: Headers
  text: string
  body: T
}

/** A real server on a free port and a directory of its own, which is removed with it unless it was given. */
export async function startTestServer(
  options: {
    /** What `config.json` holds. */
    config?: Record<string, unknown>
    dataDir?: string
    /** Beside the environment of the test. */
    environment?: Record<string, string>
    level?: LogLevel
  } & Pick<ServerOptions, 'clock' | 'disk' | 'channelLimits'> = {},
): Promise<TestServer> {
  const {
    config: settings,
    dataDir = await mkdtemp(join(tmpdir(), 'postern-test-')),
    environment,
    level = 'info',
    ...more
  } = options
  if (settings) await writeFile(join(dataDir, 'config.json'), JSON.stringify(settings))
  const config: Config = await loadConfig({ flags: { port: '0', data: dataDir }, env: {} })
  const logged: string[] = []
  const server = await startServer({
    config,
    environment: { ...process.env, ...environment },
    log: createLogger({ level, write: (line) => void logged.push(line) }),
    version: '0.0.0-test',
    ...more,
  })
  const token = (await readFile(join(dataDir, 'admin-token'), 'utf8')).trim()

  async function call<T>(
    method: string,
    path: string,
    body?: unknown,
    { token: withToken = false, headers = {} }: CallOptions = {},
  ): Promise<Answer<T>> {
    const response = await fetch(server.url + path, {
      method,
      headers: {
        ...(body !== undefined && { 'content-type': 'application/json' }),
        ...(withToken && { authorization: `Bearer ${token}` }),
        ...headers,
      },
      ...(body !== undefined && { body: typeof body === 'string' ? body : JSON.stringify(body) }),
    })
    const text = await response.text()
    let parsed: unknown
    try {
      parsed = JSON.parse(text)
    } catch {
      parsed = undefined
    }
    return { status: response.status, headers: response.headers, text, body: parsed as T }
  }
  let made = 0
  return {
    url: server.url,
    port: server.port,
    dataDir,
    token,
    logged,
    call,
    async workspace(input = {}) {
      const answer = await call<{ id: string }>(
        'POST',
        '/api/workspaces',
        { tag: `test ${++made}`, ...input },
        { token: true },
      )
      if (answer.status !== 201) throw new Error(`workspace: ${answer.status} ${answer.text}`)
      return answer.body.id
    },
    stop: server.stop,
    async [Symbol.asyncDispose]() {
      await server.stop()
      if (options.dataDir === undefined) await rm(dataDir, { recursive: true, force: true })
    },
  }
}
