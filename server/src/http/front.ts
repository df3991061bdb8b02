import { RegExpRouter } from 'hono/router/reg-exp-router'
import { SmartRouter } from 'hono/router/smart-router'
import { TrieRouter } from 'hono/router/trie-router'
import { DomainError } from '../errors.ts'
import type { Caller, CallerCheck } from './caller.ts'
import { send, type Exchange } from './respond.ts'
import type { RunScope, ScopeCheck } from './run-scope.ts'

/** A method on a path, who may use it, and what it does. */
export interface Route {
  method: string
  /** With `{name}` for a parameter. */
  path: string
  /** True: local callers need no token. */
  isExempt: boolean
  /** What of it the token of an agent process covers; undefined: nothing. */
  runScope?: RunScope | undefined
  /** Answers the exchange, or throws what it is to be answered with. */
  handle(exchange: Exchange, params: Record<string, string>, caller: Caller): Promise<void> | void
}

/** Methods that exist on some route, and so are looked for when a path is called by another. */
const METHODS = ['GET', 'POST', 'PATCH', 'PUT', 'DELETE']

/**
 * The way from an exchange that passed the gate to its route: 404 for an unknown path, 405 with `Allow` for another
 * method, HEAD from GET, OPTIONS; then who calls and what their token covers, then the route.
 */
export function createFront(
  routes: Route[],
  check: CallerCheck,
  checkScope: ScopeCheck,
): (exchange: Exchange) => Promise<void> {
  // Hono's routers without Hono: they see method and path; requests and answers stay Node's own.
  const router = new SmartRouter<Route>({ routers: [new RegExpRouter(), new TrieRouter()] })
  for (const route of routes.toSorted(literalFirst)) {
    router.add(route.method, route.path.replace(/\{(\w+)\}/g, ':$1'), route)
  }

  function otherwise({ request, path }: Exchange): string {
    const possible = METHODS.filter((method) => router.match(method, path)[0].length > 0)
    if (possible.length === 0) throw new DomainError('not_found', 'no such path', { hint: '/docs lists every path' })
    const Allow = [...possible, ...(possible.includes('GET') ? ['HEAD'] : []), 'OPTIONS'].join(', ')
    if (request.method === 'OPTIONS') return Allow
    throw new DomainError('method_not_allowed', `${request.method} is not possible here; possible: ${Allow}`, {
      headers: { Allow },
    })
  }

  return async (exchange) => {
    const { request, facts, path } = exchange
    const [[first] = [], values] = router.match(request.method === 'HEAD' ? 'GET' : (request.method ?? ''), path)
    if (!first) return send(exchange, 204, { Allow: otherwise(exchange) }, '')
    const [route, params] = first
    const found = check(request.socket, facts, route.isExempt)
    const caller = found instanceof Promise ? await found : found
    const named = decoded(params, values)
    if (typeof caller !== 'string') await checkScope(caller, route.runScope, named)
    await route.handle(exchange, named, caller)
  }
}

/** Parameters by name; the gate has seen to it that they decode. */
function decoded(params: Record<string, string | number>, values: string[] | undefined): Record<string, string> {
  const entries = Object.entries(params)
  return Object.fromEntries(
    entries.map(([name, at]) => [name, decodeURIComponent(typeof at === 'number' ? (values?.[at] ?? '') : at)]),
  )
}

/** A literal segment wins over a parameter in the same place. */
function literalFirst(a: Route, b: Route): number {
  const key = (route: Route): string => route.path.replace(/\{\w+\}/g, '\uffff')
  return key(a) < key(b) ? -1 : 1
}
