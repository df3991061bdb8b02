import ky, { type KyInstance, type Options } from 'ky'
import { ConnectionError, PosternError, connectionError, errorOf } from './errors.ts'
import { MAX_RETRY_AFTER_MS, backoffMs, newKey, sleep } from './retrying.ts'

/** Repetitions of a request that failed in a way that may pass. */
export const DEFAULT_RETRIES = 2
/** Milliseconds until an answer is complete; of a stream, until it begins. */
export const DEFAULT_TIMEOUT_MS = 60_000

/** Where the SDK says what it does; `console` fits. Never given a token or a body. */
export interface Logger {
  debug(message: string): void
  warn(message: string): void
}

/** What one call asks of the transport; handed through the generated code as ky's `context`. */
export interface Sending {
  timeoutMs?: number | undefined
  retries?: number | undefined
  /** The body is read as it comes, without a limit of time. */
  stream?: boolean | undefined
}

/**
 * The ky that the generated code calls: one request with its repetitions. It resolves with a 2xx whose body is complete
 * (but of a stream), and throws `PosternError`, or the reason of the caller's signal.
 *
 * A POST carries an `Idempotency-Key`, the same in every repetition. Retried are lost connections, 408, 429, 502, 503,
 * 504, a key in flight, and whatever else the server calls retryable; what it calls not retryable never is.
 * `Retry-After` is obeyed.
 */
export function createTransport(settings: {
  token?: string | undefined
  fetch?: typeof fetch | undefined
  timeoutMs?: number | undefined
  retries?: number | undefined
  logger?: Logger | undefined
}): KyInstance {
  const { token, logger } = settings
  const fetchOption = settings.fetch ? { fetch: settings.fetch } : {}

  async function attempt(request: Request, options: Options, sending: Sending): Promise<Response> {
    const timeoutMs = sending.timeoutMs ?? settings.timeoutMs ?? DEFAULT_TIMEOUT_MS
    const what = `${request.method} ${request.url}`
    const timeout = new AbortController()
    const timer = setTimeout(() => timeout.abort(), timeoutMs)
    const signal = options.signal ? AbortSignal.any([options.signal, timeout.signal]) : timeout.signal
    try {
      // A redirect would repeat a POST as a GET, and carry the key elsewhere: the API never sends one.
      const own = {
        ...fetchOption,
        retry: 0,
        timeout: false,
        throwHttpErrors: false,
        redirect: 'error',
        signal,
      } as const
      const response = await ky(request.clone(), own)
      if (!response.ok) throw errorOf(response.status, response.headers, await response.text())
      if (sending.stream) return response
      const { status, statusText, headers } = response
      const body = await response.arrayBuffer()
      return new Response(body.byteLength === 0 ? null : body, { status, statusText, headers })
    } catch (error) {
      options.signal?.throwIfAborted()
      if (error instanceof PosternError) throw error
      if (!timeout.signal.aborted) throw connectionError(what, error)
      throw new ConnectionError({
        code: 'request_timed_out',
        detail: `${what}: no answer within ${timeoutMs} ms`,
        retryable: true,
      })
    } finally {
      clearTimeout(timer)
    }
  }

  async function send(request: Request, options: Options = {}): Promise<Response> {
    const sending = (options.context ?? {}) as Sending
    const retries = sending.retries ?? settings.retries ?? DEFAULT_RETRIES
    const { signal } = options
    if (token !== undefined) request.headers.set('authorization', `Bearer ${token}`)
    if (request.method === 'POST' && !request.headers.has('idempotency-key')) {
      request.headers.set('idempotency-key', newKey())
    }
    for (let failures = 0; ;) {
      const startedAt = performance.now()
      try {
        signal?.throwIfAborted()
        const response = await attempt(request, options, sending)
        logger?.debug(`${request.method} ${request.url} ${response.status} ${sinceMs(startedAt)} ms`)
        return response
      } catch (error) {
        if (!(error instanceof PosternError)) throw error
        logger?.debug(`${request.method} ${request.url} ${error.status ?? error.code} ${sinceMs(startedAt)} ms`)
        failures += 1
        if (failures > retries || !mayPass(error)) throw error
        const waitMs = Math.max(error.retryAfterMs ?? 0, backoffMs(failures))
        logger?.warn(`${error.code}: ${error.detail}; again in ${Math.ceil(waitMs / 100) / 10} s`)
        await sleep(waitMs, signal ?? undefined)
      }
    }
  }
  return Object.assign(send, ky)
}

/** True when repeating the request soon makes sense. A timeout does not: it was long enough for an answer. */
function mayPass(error: PosternError): boolean {
  if (error.code === 'request_timed_out' || (error.retryAfterMs ?? 0) > MAX_RETRY_AFTER_MS) return false
  if (error.status === 409) return error.code === 'idempotency_in_flight'
  return error.retryable
}

const sinceMs = (startedAt: number): number => Math.round(performance.now() - startedAt)
