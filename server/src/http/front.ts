import { Hono } from 'hono'
import { DomainError } from '../errors.ts'
import type { Caller, CallerCheck } from './caller.ts'
import { send, type Exchange } from './respond.ts'

/** A method on a path, who may use it, and what it does. */
export interface Route {
  method: string
  /** With `{name}` for a parameter. */
  path: string
  /** True: local callers need no token. */
  isExempt: boolean
  /** Answers the exchange, or throws what it is to be answered with. */
  handle(exchange: Exchange, params: Record<string, string>, caller: Caller): Promise<void> | void
}

/** Methods that exist on some route, and so are looked for when a path is called by another. */
const METHODS = ['GET', 'POST', 'PATCH', 'PUT', 'DELETE']
/** A handler answers on Node's response; the router only wants to see that it came back. */
const ANSWERED = new Response(null)

/**
 * The way from an exchange that passed the gate to its route: 404 for an unknown path, 405 with `Allow` for another
 * method, HEAD from GET, OPTIONS; then who calls, then the route.
 */
export function createFront(routes: Route[], check: CallerCheck): (exchange: Exchange) => Promise<void> {
  const app = new Hono<{ Bindings: Exchange }>({ getPath: (_, options) => options?.env?.path ?? '/' })
  // The router sees method and path alone; headers and body stay with Node's own request, as they were sent.
  const seen = new Map(METHODS.map((method) => [method, new Request('http://localhost/', { method })]))
  for (const { method, path, isExempt, handle } of routes.toSorted(literalFirst)) {
    app.on(method, path.replace(/\{(\w+)\}/g, ':$1'), async ({ env: exchange, req }) => {
      const found = check(exchange.request.socket, exchange.facts, isExempt)
      const caller = typeof found === 'string' ? found : await found
      await handle(exchange, req.param() as Record<string, string>, caller)
      return ANSWERED
    })
  }
  app.onError((error) => {
    throw error
  })
  app.notFound(({ env: exchange }) => {
    otherwise(exchange)
    return ANSWERED
  })

  function otherwise(exchange: Exchange): void {
    const { request, path } = exchange
    const possible = METHODS.filter((method) => app.router.match(method, path)[0].length > 0)
    if (possible.length === 0) throw new DomainError('not_found', 'no such path', { hint: '/docs lists every path' })
    const Allow = [...possible, ...(possible.includes('GET') ? ['HEAD'] : []), 'OPTIONS'].join(', ')
    if (request.method === 'OPTIONS') return send(exchange, 204, { Allow }, '')
    throw new DomainError('method_not_allowed', `${request.method} is not possible here; possible: ${Allow}`, {
      headers: { Allow },
    })
  }

  return async (exchange) => {
    const method = exchange.request.method ?? ''
    const request = seen.get(method === 'HEAD' ? 'GET' : method)
    if (request) await app.fetch(request, exchange)
    else otherwise(exchange)
  }
}

/** A literal segment wins over a parameter in the same place. */
function literalFirst(a: Route, b: Route): number {
  const key = (route: Route): string => route.path.replace(/\{\w+\}/g, '\uffff')
  return key(a) < key(b) ? -1 : 1
}
