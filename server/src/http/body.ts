import type { IncomingMessage } from 'node:http'
import { DomainError } from '../errors.ts'
import { LIMITS } from '../model.ts'
import { parseJson } from './json.ts'
import type { Exchange } from './respond.ts'

/** The caller hung up before the request was whole: there is nobody to answer. */
export class CallerGone extends Error {}

/** True when the request announces or carries a body. */
export function hasBody({ headers }: IncomingMessage): boolean {
  const length = headers['content-length']
  return headers['transfer-encoding'] !== undefined || (length !== undefined && length !== '0')
}

/**
 * The JSON body. Encoding, media type and announced length are judged before a byte is read.
 *
 * @param isRequired false: undefined when there is none
 * @throws DomainError `unsupported_media_type`, `payload_too_large`, `invalid_json`; CallerGone
 */
export async function readJsonBody(
  exchange: Exchange,
  { limitBytes = LIMITS.bodyBytes, isRequired = false }: { limitBytes?: number; isRequired?: boolean } = {},
): Promise<unknown> {
  const { request, response } = exchange
  if (!isRequired && !hasBody(request)) return undefined
  const { headers } = request
  const encoding = headers['content-encoding']
  if (encoding !== undefined && encoding.toLowerCase() !== 'identity') {
    throw new DomainError('unsupported_media_type', 'Content-Encoding is not possible here; send the body as it is')
  }
  checkMediaType(headers['content-type'])
  const announced = Number(headers['content-length'] ?? 0)
  if (announced > limitBytes) {
    throw new DomainError('payload_too_large', `the body announces ${announced} bytes; the limit is ${limitBytes}`)
  }
  if (headers.expect !== undefined) response.writeContinue()
  return parseJson(await readBytes(request, limitBytes))
}

function checkMediaType(contentType: string | undefined): void {
  const [type = '', ...parameters] = (contentType ?? '').split(';').map((part) => part.trim().toLowerCase())
  const charset = parameters.find((parameter) => parameter.startsWith('charset='))
  const isUtf8 = charset === undefined || /^charset="?utf-?8"?$/.test(charset)
  if (type === 'application/json' && isUtf8) return
  const named = contentType === undefined ? 'no Content-Type' : `Content-Type ${contentType.slice(0, 100)}`
  throw new DomainError('unsupported_media_type', `${named}; the body must be application/json in UTF-8`)
}

function readBytes(request: IncomingMessage, limit: number): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = []
    let size = 0
    const settle = (done: () => void): void => {
      request.off('data', onData).off('end', onEnd).off('close', onClose)
      done()
    }
    const onData = (chunk: Buffer): void => {
      size += chunk.length
      chunks.push(chunk)
      if (size <= limit) return
      settle(() => {
        request.pause()
        reject(new DomainError('payload_too_large', `the body has more than ${limit} bytes, the limit`))
      })
    }
    const onEnd = (): void =>
      settle(() => resolve(chunks.length === 1 && chunks[0] ? chunks[0] : Buffer.concat(chunks)))
    const onClose = (): void => settle(() => reject(new CallerGone()))
    if (request.destroyed) return onClose()
    request.on('data', onData).on('end', onEnd).on('close', onClose)
  })
}

/** Bytes of a refused body that are read and thrown away, so that the caller gets to read the answer. */
const DRAIN_BYTES = 8 * LIMITS.bodyBytes
/** Milliseconds that a refused caller has to stop sending. */
const DRAIN_MS = 2_000

/**
 * Ends what is left of a request that was answered before it was whole. A socket closed while data is under way would
 * be reset, and the answer lost; so a modest rest is read and dropped, a huge one is left unread, and either way the
 * connection is closed when the caller does not finish soon.
 */
export function dropRest(request: IncomingMessage): void {
  if (request.complete || request.destroyed) return
  let left = Number(request.headers['content-length'] ?? 0) > DRAIN_BYTES ? 0 : DRAIN_BYTES
  const onData = (chunk: Buffer): void => {
    left -= chunk.length
    if (left <= 0) request.pause()
  }
  // A listener of ours also keeps Node from reading on without limit.
  request.on('data', onData)
  if (left === 0) request.pause()
  else request.resume()
  const timer = setTimeout(() => request.socket.destroy(), DRAIN_MS)
  timer.unref()
  const over = (): void => clearTimeout(timer)
  request.once('end', over).once('close', over)
}
