import type { IncomingMessage, ServerResponse } from 'node:http'
import { TRPCError } from '@trpc/server'
import { DomainError, ERRORS, type ErrorCode } from '../errors.ts'
import type { Logger } from '../log.ts'
import type { HeaderFacts } from './headers.ts'
import { problemOf } from './problem.ts'

/** One request and its answer. */
export interface Exchange {
  readonly request: IncomingMessage
  readonly response: ServerResponse
  /** Named in `X-Request-Id`, in problems and in the log. */
  readonly id: string
  readonly facts: HeaderFacts
  /** The path as it was sent, not decoded. */
  readonly path: string
  /** What follows the `?`, not decoded. */
  readonly search: string
  readonly log: Logger
}

export type Headers = Record<string, string | number>

const ALWAYS = { 'Cache-Control': 'no-store', 'X-Content-Type-Options': 'nosniff' } as const

/** Status and headers, with those that every answer carries. Once per exchange. */
export function sendHead({ response, id }: Exchange, status: number, headers: Headers): void {
  response.writeHead(status, { 'X-Request-Id': id, ...ALWAYS, ...headers })
}

/** A whole answer. For HEAD the body is left out and its length kept. */
export function send(exchange: Exchange, status: number, headers: Headers, body: string | Buffer): void {
  const { request, response } = exchange
  if (response.headersSent || response.destroyed) return
  // A text goes out in one write with the head before it; bytes would be a second one.
  const length = typeof body === 'string' ? Buffer.byteLength(body) : body.length
  sendHead(exchange, status, status === 204 ? headers : { ...headers, 'Content-Length': length })
  if (request.method === 'HEAD' || status === 204) response.end()
  else response.end(body)
}

export function sendJson(exchange: Exchange, status: number, value: unknown, headers: Headers = {}): void {
  send(exchange, status, { 'Content-Type': 'application/json', ...headers }, JSON.stringify(value))
}

/**
 * Answers a failure as problem+json. Everything that is not a `DomainError` is a 500 that says nothing of its cause;
 * the cause goes to the log, under the request's id. Source: RFC 9457.
 */
export function sendProblem(exchange: Exchange, error: unknown): void {
  const known = domainErrorOf(error)
  if (ERRORS[known.code].status >= 500) {
    const { id, request, log } = exchange
    log.error(
      { requestId: id, method: request.method, code: known.code, error: known.details.cause ?? error },
      known.message,
    )
  }
  const { body, status, headers } = problemAnswer(known, exchange.id)
  if (exchange.response.headersSent) exchange.response.destroy()
  else send(exchange, status, headers, body)
}

/** The same answer for a socket whose request could not be parsed, so that there is no response to write to. */
export function rawProblem(code: ErrorCode, detail: string, requestId: string): string {
  const { body, status, headers } = problemAnswer(new DomainError(code, detail), requestId)
  const all: Headers = {
    Date: new Date().toUTCString(),
    Connection: 'close',
    'X-Request-Id': requestId,
    ...ALWAYS,
    ...headers,
    'Content-Length': Buffer.byteLength(body),
  }
  const lines = Object.entries(all).map(([name, value]) => `${name}: ${value}\r\n`)
  return `HTTP/1.1 ${status} ${ERRORS[code].title}\r\n${lines.join('')}\r\n${body}`
}

function problemAnswer({ code, message, details }: DomainError, requestId: string): Answer {
  const { status } = ERRORS[code]
  const headers: Headers = { 'Content-Type': 'application/problem+json', ...details.headers }
  if (details.retryAfterSeconds !== undefined)
    headers['Retry-After'] = Math.max(1, Math.ceil(details.retryAfterSeconds))
  return { status, headers, body: JSON.stringify(problemOf(code, requestId, message, details)) }
}

interface Answer {
  status: number
  headers: Headers
  body: string
}

/** The error that a noun threw, out of tRPC's wrapping; else one that says nothing. */
function domainErrorOf(error: unknown): DomainError {
  if (error instanceof DomainError) return error
  if (error instanceof TRPCError && error.cause instanceof DomainError) return error.cause
  const cause = error instanceof TRPCError ? (error.cause ?? error) : error
  return new DomainError('internal_error', 'something went wrong on the server', {
    hint: 'the log of the server says more, under this request id',
    cause,
  })
}
