import { PosternError, ServerError } from './errors.ts'
import type { Sending } from './transport.ts'

/** What every call takes. */
export interface CallOptions {
  /** Gives up the call; it then rejects with the signal's reason. */
  signal?: AbortSignal | undefined
  /** Milliseconds for one answer; default 60,000. */
  timeoutMs?: number | undefined
  /** Repetitions of a request that failed in a way that may pass; default: those of the client. */
  retries?: number | undefined
}
/** What a call that starts or makes something takes. */
export interface PostOptions extends CallOptions {
  /** 1 to 255 visible ASCII characters. Default: a new one for each call, the same in its retries. */
  idempotencyKey?: string | undefined
}

/** An answer with what came beside it. */
export interface Answer<Data> {
  data: Data
  status: number
  headers: Headers
  requestId: string | undefined
}

/** A promise of the plain object; `withResponse` adds status and headers. */
export type Call<Data> = Promise<Data> & { withResponse(): Promise<Answer<Data>> }

/** What the generated code takes from every call. */
export interface GeneratedOptions {
  throwOnError: true
  signal?: AbortSignal
  kyOptions: { context: Record<string, unknown> }
}

/**
 * Turns one call of the generated code into ours.
 *
 * @param send makes the call with the options given to it
 * @param sending what this call asks of the transport, unless the caller's options say otherwise
 */
export function makeCall<Data>(
  send: (options: GeneratedOptions) => Promise<{ data: unknown; response: Response }>,
  options: CallOptions = {},
  sending: Sending = {},
): Call<Data> {
  const { signal, timeoutMs, retries } = options
  const context: Sending = {
    ...sending,
    ...(timeoutMs !== undefined && { timeoutMs }),
    ...(retries !== undefined && { retries }),
  }
  const answer = send({
    throwOnError: true,
    ...(signal && { signal }),
    kyOptions: { context: { ...context } },
  }).then(
    ({ data, response }): Answer<Data> => ({
      data: data as Data,
      status: response.status,
      headers: response.headers,
      requestId: response.headers.get('x-request-id') ?? undefined,
    }),
    (error: unknown) => {
      signal?.throwIfAborted()
      throw error instanceof PosternError || !(error instanceof SyntaxError) ? error : notOurs(error)
    },
  )
  return asCall(answer)
}

/** The `Idempotency-Key` the caller gave; without one the transport makes it. */
export function keyHeader({ idempotencyKey }: PostOptions): { 'Idempotency-Key'?: string } {
  return idempotencyKey === undefined ? {} : { 'Idempotency-Key': idempotencyKey }
}

/** A promise of the plain object, and with `withResponse` of all that came. */
export function asCall<Data>(answer: Promise<Answer<Data>>): Call<Data> {
  const data = answer.then((found) => found.data)
  return Object.assign(data, {
    withResponse() {
      // From now on a failure is told through the other promise alone.
      data.catch(() => undefined)
      return answer
    },
  })
}

/** A 2xx that is not JSON: something else answers at this address. */
function notOurs(cause: SyntaxError): ServerError {
  return new ServerError({
    code: 'unexpected_answer',
    detail: "the answer is not the API's: it is not valid JSON",
    retryable: false,
    cause,
  })
}

/** A list that pages itself. Each loop, and each call, asks the server anew. */
export interface Listing<Item, Page> extends AsyncIterable<Item> {
  /** The items as an array; with `limit`, at most so many, and no page is asked for in vain. */
  toArray(options?: { limit?: number }): Promise<Item[]>
  /** One page, as the API answers it. */
  page(options?: { cursor?: string | undefined }): Call<Page>
}

/** @param read what a page holds, and how to ask for the next; `null` when it is the last */
export function makeListing<Item, Page>(
  page: (cursor: string | undefined) => Call<Page>,
  read: (page: Page) => { items: Item[]; nextCursor: string | null },
): Listing<Item, Page> {
  async function* items(): AsyncGenerator<Item, void, void> {
    let cursor: string | undefined
    do {
      const { items, nextCursor } = read(await page(cursor))
      yield* items
      cursor = nextCursor ?? undefined
    } while (cursor !== undefined)
  }
  return {
    [Symbol.asyncIterator]: items,
    async toArray({ limit = Infinity } = {}) {
      const found: Item[] = []
      if (limit <= 0) return found
      for await (const item of items()) {
        found.push(item)
        if (found.length >= limit) break
      }
      return found
    },
    page: ({ cursor } = {}) => page(cursor),
  }
}
