import type { IncomingMessage } from 'node:http'
import { isLoopbackHost, type Config } from '../config.ts'
import { DomainError } from '../errors.ts'
import type { HeaderFacts } from './headers.ts'

/** Most header lines of a request. Node's own limit would drop the rest silently, and with it a proxy's traces. */
export const MAX_HEADERS = 100
/** Bytes of request line and headers. */
export const MAX_HEADER_BYTES = 16_384

/** Where this server may be reached, as `Host` and `Origin` name it. */
export interface Reach {
  /** Lower-case values of `Host` that are ours; undefined: a bind beyond this machine, where any host is taken. */
  hosts: Set<string> | undefined
  /** Origin of `publicUrl`. */
  publicOrigin: string | undefined
}

/** @param port the port that is really listened on */
export function reachOf(config: Pick<Config, 'host' | 'publicUrl'>, port: number): Reach {
  const url = config.publicUrl === undefined ? undefined : new URL(config.publicUrl)
  const publicOrigin = url?.origin.toLowerCase()
  if (!isLoopbackHost(config.host)) return { hosts: undefined, publicOrigin }
  const own = config.host.includes(':') ? `[${config.host}]` : config.host
  const names = ['localhost', '127.0.0.1', '[::1]', 'postern.localhost', own.toLowerCase()]
  const hosts = new Set(names.flatMap((name) => (port === 80 ? [name, `${name}:80`] : [`${name}:${port}`])))
  if (url) hosts.add(url.host.toLowerCase())
  return { hosts, publicOrigin }
}

/**
 * What must hold before a request is routed: size and number of headers, one `Host` that is ours, an origin that is
 * ours, a target in origin form. Source: docs/security.md 4.2.
 *
 * @throws DomainError `headers_too_large`, `bad_request`, `host_not_allowed`, `origin_not_allowed`, `not_found`
 */
export function checkGate(request: Pick<IncomingMessage, 'method' | 'url'>, facts: HeaderFacts, reach: Reach): void {
  if (facts.count > MAX_HEADERS) {
    throw new DomainError('headers_too_large', `${facts.count} headers; the limit is ${MAX_HEADERS}`)
  }
  const [host] = facts.hosts
  if (facts.hosts.length !== 1 || host === undefined) {
    throw new DomainError('bad_request', `${facts.hosts.length} Host headers; exactly 1 is needed`)
  }
  checkTarget(request.url ?? '')
  if (!isHost(host) || (reach.hosts && !reach.hosts.has(host.toLowerCase()))) {
    throw new DomainError('host_not_allowed', 'the Host header does not name this server', {
      hint: 'call it by the address it prints at start; behind a proxy set publicUrl',
    })
  }
  checkOrigin(facts, host.toLowerCase(), reach)
  // An offer of HTTP/2 may be ignored, and some clients make it with every request; nothing else is spoken here.
  if (facts.upgrades.some((protocol) => protocol.toLowerCase() !== 'h2c')) {
    throw new DomainError('bad_request', 'this server does not upgrade connections')
  }
}

/** A name or address with an optional port, as a URL may hold it. */
const isHost = (host: string): boolean => /^(?:[a-z0-9._-]{1,253}|\[[0-9a-f:.]{2,45}\])(?::\d{1,5})?$/i.test(host)

function checkOrigin(facts: HeaderFacts, host: string, reach: Reach): void {
  const isOurs = (origin: string): boolean =>
    origin === `http://${host}` ||
    (reach.hosts === undefined && origin === `https://${host}`) ||
    origin === reach.publicOrigin
  const foreign = facts.origins.length > 1 || facts.origins.some((origin) => !isOurs(origin.toLowerCase()))
  const crossSite = facts.fetchSites.some((site) => site !== 'same-origin' && site !== 'none')
  if (foreign || crossSite) {
    throw new DomainError('origin_not_allowed', 'requests from other web pages are refused', {
      hint: 'call from a program, or from a page of this server; there is no CORS',
    })
  }
}

/** Origin form, printable ASCII, valid percent-encoding, and no dot segments to be resolved by anyone. */
function checkTarget(target: string): void {
  if (!target.startsWith('/')) {
    throw new DomainError('bad_request', 'the request target must be a path that starts with /')
  }
  if (!/^[\x21\x22\x24-\x5b\x5d-\x7e]+$/.test(target)) {
    throw new DomainError('bad_request', 'the request target holds a character that must be percent-encoded')
  }
  if (target.includes('%')) {
    try {
      decodeURIComponent(target)
    } catch {
      throw new DomainError('bad_request', 'the request target is not valid percent-encoded UTF-8')
    }
  }
  const path = target.split('?', 1)[0] ?? ''
  if (/\/(?:\.|%2e){1,2}(?:\/|$)/i.test(path)) {
    throw new DomainError('not_found', 'paths with . or .. segments lead nowhere')
  }
}
