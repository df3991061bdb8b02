import { asCall, type Answer, type Call } from './call.ts'
import { BadRequestError, ConnectionError, PosternError, ServerError, errorOf, reasonOf } from './errors.ts'
import type { Receipt } from './live-types.ts'
import { MAX_RETRY_AFTER_MS, backoffMs, newKey, sleep } from './retrying.ts'

/** For whoever was given an address and nothing else: no client, no token, no `node:`. */

/** Tries after the first. More than of a client: who knocks seldom looks at the answer. */
const DEFAULT_RETRIES = 4
const DEFAULT_TIMEOUT_MS = 30_000
const RETRYABLE = new Set([408, 429, 502, 503, 504])

export interface Knock {
  /** 1 to 16,000 characters. */
  message: string
  /** Who you say you are: one line, such as `ci`. */
  from?: string | undefined
  /** 1 to 255 visible ASCII characters: the same key is delivered once, within 24 h. Default: a new one for each call. */
  key?: string | undefined
}

export interface KnockOptions {
  /** Gives up; rejects with the signal's reason. */
  signal?: AbortSignal | undefined
  /** Milliseconds for one answer; default 30,000. */
  timeoutMs?: number | undefined
  /** Tries after the first; default 4. */
  retries?: number | undefined
  /** Instead of the global one. */
  fetch?: typeof fetch | undefined
}

/**
 * Sends a message to an address that somebody minted. Tried again, with the same key, where that may help: no answer,
 * 408, 429 (`Retry-After` is obeyed up to a minute), 502, 503, 504, and a key that is still at work; so a message is
 * delivered once. No error holds the address.
 *
 * @throws ForbiddenError when the address is not valid: mistyped, expired or revoked; GoneError once the session has
 *   ended; CapacityError when too many messages wait; IdempotencyError for a key that carried another message;
 *   BadRequestError; ConnectionError
 */
export function send(url: string, knock: Knock, options: KnockOptions = {}): Call<Receipt> {
  return asCall(knockUntilAnswered(url, knock, options))
}

async function knockUntilAnswered(url: string, knock: Knock, options: KnockOptions): Promise<Answer<Receipt>> {
  const { signal, retries = DEFAULT_RETRIES } = options
  if (!URL.canParse(url) || !/^https?:$/.test(new URL(url).protocol)) {
    // It may be an address with a slip of the pen: it is not repeated here.
    throw new BadRequestError({
      code: 'validation_failed',
      detail: 'the hook is not an http address',
      retryable: false,
    })
  }
  const key = knock.key ?? newKey()
  for (let failures = 0; ;) {
    signal?.throwIfAborted()
    try {
      return await knockOnce(url, knock, key, options)
    } catch (error) {
      signal?.throwIfAborted()
      failures += 1
      if (!(error instanceof PosternError) || failures > retries || !mayPass(error)) throw error
      await sleep(Math.max(error.retryAfterMs ?? 0, backoffMs(failures)), signal)
    }
  }
}

function mayPass(error: PosternError): boolean {
  if ((error.retryAfterMs ?? 0) > MAX_RETRY_AFTER_MS) return false
  if (error instanceof ConnectionError || error.code === 'idempotency_in_flight') return true
  return RETRYABLE.has(error.status ?? 0)
}

async function knockOnce(url: string, knock: Knock, key: string, options: KnockOptions): Promise<Answer<Receipt>> {
  const { signal, timeoutMs = DEFAULT_TIMEOUT_MS } = options
  const { message, from } = knock
  const timeout = AbortSignal.timeout(timeoutMs)
  let response: Response
  let body: string
  try {
    response = await (options.fetch ?? fetch)(url, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json', 'Idempotency-Key': key },
      body: JSON.stringify({ message, ...(from !== undefined && { from }) }),
      signal: signal ? AbortSignal.any([signal, timeout]) : timeout,
      // The address is a secret: it goes to nobody else.
      redirect: 'error',
      credentials: 'omit',
      referrerPolicy: 'no-referrer',
    })
    body = await response.text()
  } catch (error) {
    const what = timeout.aborted ? `no answer within ${timeoutMs} ms` : reasonOf(error).replaceAll(url, 'the hook')
    throw new ConnectionError({
      code: timeout.aborted ? 'request_timed_out' : 'connection_failed',
      detail: `the hook at ${new URL(url).host}: ${what}`,
      retryable: true,
    })
  }
  const { status, headers } = response
  if (!response.ok) throw errorOf(status, headers, body)
  return { data: receiptOf(body), status, headers, requestId: headers.get('x-request-id') ?? undefined }
}

/** @throws ServerError when something else answers at this address */
function receiptOf(body: string): Receipt {
  try {
    const receipt = JSON.parse(body) as Receipt
    if (typeof receipt.deliveryId === 'string') return receipt
  } catch {
    // Said below.
  }
  const detail = "the answer is not a hook's: it names no delivery"
  throw new ServerError({ code: 'unexpected_answer', detail, retryable: false })
}
