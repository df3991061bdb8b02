import { createReadStream } from 'node:fs'
import { pipeline } from 'node:stream/promises'
import { DomainError } from '../errors.ts'
import type { Inbox } from '../inbox/types.ts'
import type { OutputFile, Runs } from '../runs/types.ts'
import { plainRoute } from './calls.ts'
import type { Route } from './front.ts'
import { PLAIN } from './plain.ts'
import { send, sendHead, type Exchange, type Headers } from './respond.ts'

interface OutputInput {
  taskId: string
  stream?: 'stdout' | 'stderr'
  tailBytes?: number
}

/** What a run printed, and the patch it made: plain bytes. */
export function outputRoutes(runs: Runs): Route[] {
  return [
    plainRoute<OutputInput>(PLAIN.output, async (exchange, { taskId, stream = 'stdout', tailBytes }) => {
      const range = exchange.request.headers.range
      if (tailBytes !== undefined && range !== undefined) {
        throw new DomainError('validation_failed', 'tailBytes and Range exclude each other')
      }
      const file = await runs.output(taskId, stream)
      // Without a validator nothing tells the versions of a growing file apart: `If-Range` never matches.
      const part = exchange.request.headers['if-range'] === undefined ? partOf(range, file.sizeBytes) : undefined
      if (tailBytes === undefined)
        return await sendPart(exchange, file, part ?? { start: 0, end: file.sizeBytes }, !!part)
      // Of a truncated stream the file holds the beginning; its end lies beside it.
      const { path, sizeBytes } = file.tail ?? file
      const end = { start: Math.max(0, sizeBytes - tailBytes), end: sizeBytes }
      await sendPart(exchange, { ...file, path, sizeBytes }, end, false)
    }),
    plainRoute<{ taskId: string }>(PLAIN.diff, async (exchange, { taskId }) => {
      send(exchange, 200, { 'Content-Type': 'text/x-diff; charset=utf-8' }, await runs.diff(taskId))
    }),
  ]
}

/**
 * The bytes of one document of an Inbox entry. Never shown in the page of a browser: what an agent wrote may be a script.
 */
export function documentRoute(inbox: Inbox): Route {
  return plainRoute<{ id: string; index: string }>(PLAIN.inboxDocument, async (exchange, { id, index }) => {
    const { name, bytes } = await inbox.document(id, Number(index))
    const file = encodeURIComponent(name.slice(name.lastIndexOf('/') + 1)).replaceAll("'", '%27')
    const headers: Headers = {
      'Content-Type': 'application/octet-stream',
      'Content-Disposition': `attachment; filename*=UTF-8''${file}`,
    }
    send(exchange, 200, headers, bytes)
  })
}

/** Bytes from `start` up to, not including, `end`. */
interface Part {
  start: number
  end: number
}

/**
 * What a `Range` header asks for; undefined when there is none, or none that must be honoured (several ranges, another
 * unit, malformed). Source: RFC 9110, section 14.2.
 *
 * @throws DomainError `range_not_satisfiable`
 */
export function partOf(range: string | undefined, sizeBytes: number): Part | undefined {
  const match = /^bytes=\s*(\d{0,15})-(\d{0,15})\s*$/i.exec(range ?? '')
  if (!match || (match[1] === '' && match[2] === '')) return undefined
  const [first, last] = [match[1] ?? '', match[2] ?? '']
  const start = first === '' ? Math.max(0, sizeBytes - Number(last)) : Number(first)
  if (first !== '' && last !== '' && Number(last) < start) return undefined
  const end = first === '' || last === '' ? sizeBytes : Math.min(sizeBytes, Number(last) + 1)
  if (start >= end) {
    throw new DomainError('range_not_satisfiable', `the output has ${sizeBytes} bytes`, {
      headers: { 'Content-Range': `bytes */${sizeBytes}` },
    })
  }
  return { start, end }
}

async function sendPart(exchange: Exchange, file: OutputFile, { start, end }: Part, isPartial: boolean): Promise<void> {
  const { request, response } = exchange
  const headers: Headers = {
    'Content-Type': 'text/plain; charset=utf-8',
    'Accept-Ranges': 'bytes',
    'X-Postern-Truncated': String(file.truncated),
    'X-Postern-Complete': String(file.complete),
    'Content-Length': end - start,
  }
  if (isPartial) headers['Content-Range'] = `bytes ${start}-${end - 1}/${file.sizeBytes}`
  if (response.destroyed) return
  sendHead(exchange, isPartial ? 206 : 200, headers)
  if (request.method === 'HEAD' || start === end) return void response.end()
  try {
    await pipeline(createReadStream(file.path, { start, end: end - 1 }), response)
  } catch (error) {
    // The caller hung up, or the file was retired meanwhile: an answer cut short, as its length shows.
    response.destroy()
    if ((error as NodeJS.ErrnoException).code !== 'ERR_STREAM_PREMATURE_CLOSE') throw error
  }
}
