import type { Socket } from 'node:net'
import { crc32 } from 'node:zlib'
import ipaddr from 'ipaddr.js'
import { RateLimiterMemory } from 'rate-limiter-flexible'
import { isLoopbackHost, type Config } from '../config.ts'
import { DomainError } from '../errors.ts'
import { tokenCheck } from './admin-token.ts'
import type { HeaderFacts } from './headers.ts'
import type { ProcessTokens } from '../keys/process-tokens.ts'
import type { RunCaller } from './run-scope.ts'
import { isLoopbackAddress, type createPeers, type Endpoints } from './peer.ts'

/** Who calls: the operator, somebody on this machine, or an agent process with a token of its own. */
export type Caller = 'admin' | 'local' | RunCaller

/** The name of a caller, which scopes idempotency keys. */
export const callerName = (caller: Caller): string =>
  typeof caller === 'string' ? caller : (caller.taskId ?? caller.sessionId ?? caller.kind)

/** Wrong tokens in 60 seconds, from one address, after which further wrong ones are refused with 429. */
const MAX_FAILURES = 10
const FAILURE_WINDOW_SECONDS = 60
/** Counts of failures that are kept; addresses share them, so their number is bounded. A good token is never counted. */
const FAILURE_COUNTS = 4_096

export interface CallerCheck {
  /**
   * Who calls, and whether they may. A value when nothing had to be looked up, which is nearly always.
   *
   * @param isExempt true for a route that local callers may use without a token
   * @throws DomainError `bad_request`, `token_required`, `invalid_token`, `too_many_failures`
   */
  (socket: Socket, facts: HeaderFacts, isExempt: boolean): Caller | Promise<Caller>
}

/** Who may call, and from where. Source: docs/contract.md 8; docs/security.md 4.1, 4.3. */
export function createCallerCheck(deps: {
  config: Pick<Config, 'host' | 'publicUrl' | 'trustedProxies' | 'requireToken'>
  adminToken: string
  /** Tokens of agent processes; what they cover is judged with the route. */
  processTokens: Pick<ProcessTokens, 'find'>
  peers: ReturnType<typeof createPeers>
  /** True while runs are at work: only then can a caller belong to one. */
  hasRuns(): boolean
  platform?: NodeJS.Platform
  /** The user this server runs as. */
  uid?: number
}): CallerCheck {
  const {
    config,
    adminToken,
    processTokens,
    peers,
    hasRuns,
    platform = process.platform,
    uid = process.getuid?.(),
  } = deps
  const isAdmin = tokenCheck(adminToken)
  const exemption = hasExemption(config)
  const failures = new RateLimiterMemory({ points: MAX_FAILURES, duration: FAILURE_WINDOW_SECONDS })
  const known = new WeakMap<Socket, { isOurUser: boolean; inode: string; isOfRun: boolean | undefined }>()

  async function refuse(socket: Socket, facts: HeaderFacts): Promise<never> {
    const address = addressForLimits(socket, facts, config.trustedProxies)
    try {
      await failures.consume(crc32(address) % FAILURE_COUNTS)
    } catch (limit) {
      const seconds = Math.ceil(((limit as { msBeforeNext?: number }).msBeforeNext ?? 1_000) / 1_000)
      throw new DomainError(
        'too_many_failures',
        `more than ${MAX_FAILURES} bad tokens in ${FAILURE_WINDOW_SECONDS} s`,
        {
          retryAfterSeconds: seconds,
          hint: 'a good token always passes',
        },
      )
    }
    throw new DomainError('invalid_token', 'the token in Authorization is not valid', {
      headers: { 'WWW-Authenticate': 'Bearer realm="postern", error="invalid_token"' },
      hint: 'use the token in admin-token under the data directory, or none when calling locally; one of a run dies with it',
    })
  }

  async function isOurs(socket: Socket): Promise<boolean> {
    let peer = known.get(socket)
    if (!peer) {
      const found = await peers.find(socket)
      if (!found) return false
      peer = { isOurUser: found.uid === uid, inode: found.inode, isOfRun: undefined }
      known.set(socket, peer)
    }
    if (!peer.isOurUser) return false
    if (peer.isOfRun === undefined && hasRuns()) {
      peer.isOfRun = await peers.isOfRun({ uid: uid ?? -1, inode: peer.inode })
      if (peer.isOfRun === undefined) return false
    }
    return peer.isOfRun !== true
  }

  return (socket, facts, isExempt) => {
    const { authorizations } = facts
    const [authorization] = authorizations
    if (authorizations.length > 1) {
      throw new DomainError('bad_request', `${authorizations.length} Authorization headers; at most 1 is possible`)
    }
    if (authorization !== undefined) {
      const token = /^Bearer +([^\s]+)$/i.exec(authorization)?.[1]
      if (token === undefined) return refuse(socket, facts)
      if (isAdmin(token)) return 'admin'
      const holder = processTokens.find(token)
      return holder ? { kind: 'run', ...holder } : refuse(socket, facts)
    }
    if (!isExempt) throw tokenRequired('this needs the admin token, also from a local caller')
    if (!exemption) throw tokenRequired('this server takes no caller without a token')
    if (!mayBeLocal(socket, facts)) {
      const how = facts.isForwarded ? 'through a proxy' : `from ${socket.remoteAddress ?? 'an unknown address'}`
      throw tokenRequired(`called ${how}, not a local caller`)
    }
    if (platform !== 'linux') return 'local'
    const peer = known.get(socket)
    if (peer?.isOurUser && (peer.isOfRun === false || (peer.isOfRun === undefined && !hasRuns()))) return 'local'
    return isOurs(socket).then((ours) => {
      if (ours) return 'local'
      throw tokenRequired('called by another user of this machine, or from inside a run')
    })
  }
}

function tokenRequired(detail: string): DomainError {
  return new DomainError('token_required', detail, {
    headers: { 'WWW-Authenticate': 'Bearer realm="postern"' },
    hint: 'send the token in admin-token under the data directory as Authorization: Bearer',
  })
}

/** True when callers of this machine may do without a token at all. Any sign of a proxy ends it for the whole server. */
export function hasExemption(config: Pick<Config, 'host' | 'publicUrl' | 'trustedProxies' | 'requireToken'>): boolean {
  const { host, publicUrl, trustedProxies, requireToken } = config
  return isLoopbackHost(host) && publicUrl === undefined && trustedProxies.length === 0 && !requireToken
}

/** What address and headers can say. Headers only ever take away: the absence of traces proves nothing. */
export function mayBeLocal(socket: Pick<Endpoints, 'remoteAddress'>, facts: Pick<HeaderFacts, 'isForwarded'>): boolean {
  return isLoopbackAddress(socket.remoteAddress) && !facts.isForwarded
}

/**
 * The address that limits count by: the socket's, or behind trusted proxies the rightmost one of `X-Forwarded-For`
 * that is not one of them. Anything malformed counts as the socket's. IPv6 callers count by their /64.
 */
export function addressForLimits(
  socket: Pick<Endpoints, 'remoteAddress'>,
  facts: Pick<HeaderFacts, 'forwardedFor'>,
  trustedProxies: readonly string[],
): string {
  const own = socket.remoteAddress ?? ''
  if (!ipaddr.isValid(own)) return 'unknown'
  let address = ipaddr.process(own)
  const hops = facts.forwardedFor.join(',').split(',')
  for (let hop = hops.pop(); hop !== undefined && isTrusted(address, trustedProxies); hop = hops.pop()) {
    const text = hop.trim()
    if (!ipaddr.isValid(text)) return network(ipaddr.process(own))
    address = ipaddr.process(text)
  }
  return network(address)
}

function isTrusted(address: ipaddr.IPv4 | ipaddr.IPv6, trustedProxies: readonly string[]): boolean {
  return trustedProxies.some((text) => {
    const range = ipaddr.isValidCIDR(text) ? ipaddr.parseCIDR(text) : undefined
    if (!range) return ipaddr.isValid(text) && ipaddr.process(text).toString() === address.toString()
    return range[0].kind() === address.kind() && address.match(range)
  })
}

function network(address: ipaddr.IPv4 | ipaddr.IPv6): string {
  if (address instanceof ipaddr.IPv4) return address.toString()
  return `${new ipaddr.IPv6(address.parts.map((part, i) => (i < 4 ? part : 0))).toString()}/64`
}
