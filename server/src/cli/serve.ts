import { ConfigError, loadConfig } from '../config.ts'
import { createLogger } from '../log.ts'
import { startServer, type RunningServer } from '../server.ts'
import type { Context } from './context.ts'
import { CliExit, EXIT, whenReaderLeaves } from './exit.ts'
import { version } from './version.ts'

/** Milliseconds after which a server that cannot stop is ended all the same. */
const STOP_LIMIT_MS = 8_000

/** `postern serve`. Resolves with the exit code when the server has stopped. */
export async function serve(context: Context, flags: { host?: string; port?: string }): Promise<number> {
  const { server, dataDir, ended } = await startServing({ ...flags, ...context.dataFlag })
  context.screen.note(`data ${dataDir} · documents ${server.url}/docs · Ctrl-C stops`)
  return await ended
}

export interface ServeFlags {
  host?: string
  port?: string
  data?: string
}

export interface Serving {
  server: RunningServer
  dataDir: string
  /** Resolves with the exit code when a signal, or a fault of ours, has stopped the server. */
  ended: Promise<number>
  /** Stops it as a signal would. */
  stop(): Promise<number>
  /** True once a signal, a fault or `stop` began to stop it. */
  isStopping(): boolean
}

/**
 * Starts the server in this process, prints its one line and minds the signals: the first TERM, INT or HUP drains and
 * ends with 0, the second ends at once with 130.
 *
 * @throws CliExit with 65, 73 or 78 when the state or the configuration does not allow it
 */
export async function startServing(flags: ServeFlags): Promise<Serving> {
  const log = createLogger()
  let server: RunningServer
  let dataDir: string
  try {
    const config = await loadConfig({ flags, env: process.env })
    dataDir = config.dataDir
    server = await startServer({ config, environment: process.env, log, version })
  } catch (error) {
    throw refusal(error as Error)
  }
  process.stdout.write(`postern listening on ${server.url}\n`)

  const { promise: ended, resolve } = Promise.withResolvers<number>()
  let stopping: Promise<number> | undefined
  function stop(code: number = EXIT.ok): Promise<number> {
    stopping ??= (async () => {
      const limit = setTimeout(() => process.exit(code || EXIT.unexpected), STOP_LIMIT_MS)
      await server.stop()
      clearTimeout(limit)
      resolve(code)
      return code
    })()
    return stopping
  }
  const onSignal = (): void => {
    if (stopping) process.exit(EXIT.interruptedByUser)
    void stop()
  }
  for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) process.on(signal, onSignal)
  whenReaderLeaves(() => void stop())
  const onFault = (error: unknown): void => {
    log.error({ error }, 'a fault of the server: stopping')
    void stop(EXIT.unexpected)
  }
  process.on('unhandledRejection', onFault)
  process.on('uncaughtException', onFault)
  return { server, dataDir, ended, stop: () => stop(), isStopping: () => stopping !== undefined }
}

function refusal(error: Error): Error {
  switch (error.name) {
    case 'LockedError':
      return new CliExit(EXIT.dataInUse, error.message, 'stop that server, or serve another directory with --data')
    case 'DamagedStateError':
      return new CliExit(EXIT.damagedData, error.message, 'restore it from a backup, or move it away to begin anew')
    case ConfigError.name:
      return new CliExit(EXIT.badConfiguration, error.message)
    default:
      return error
  }
}
