/** What the gate and the caller's check need to know of the header section, from one look at the raw lines. */
export interface HeaderFacts {
  count: number
  hosts: string[]
  origins: string[]
  fetchSites: string[]
  authorizations: string[]
  idempotencyKeys: string[]
  prefers: string[]
  forwardedFor: string[]
  upgrades: string[]
  /** Some header says that the request came through a proxy. */
  isForwarded: boolean
}

/** Headers that proxies add. Any of them means that the sender may be anyone. */
const FORWARDING =
  /^(?:forwarded|via|x-forwarded-.*|x-real-ip|x-client-ip|true-client-ip|cf-.*|fly-.*|tailscale-.*|x-envoy-.*|x-amzn-.*)$/

const LISTS: Partial<Record<string, Exclude<keyof HeaderFacts, 'count' | 'isForwarded'>>> = {
  host: 'hosts',
  origin: 'origins',
  'sec-fetch-site': 'fetchSites',
  authorization: 'authorizations',
  'idempotency-key': 'idempotencyKeys',
  prefer: 'prefers',
  'x-forwarded-for': 'forwardedFor',
  upgrade: 'upgrades',
}

/**
 * Reads names and values as they were sent: the parsed headers join some repeated lines and silently keep the first of
 * others.
 *
 * @param rawHeaders names and values in turn
 */
export function readHeaders(rawHeaders: readonly string[]): HeaderFacts {
  const facts: HeaderFacts = {
    count: rawHeaders.length / 2,
    hosts: [],
    origins: [],
    fetchSites: [],
    authorizations: [],
    idempotencyKeys: [],
    prefers: [],
    forwardedFor: [],
    upgrades: [],
    isForwarded: false,
  }
  for (let i = 0; i + 1 < rawHeaders.length; i += 2) {
    const name = (rawHeaders[i] ?? '').toLowerCase()
    const list = Object.hasOwn(LISTS, name) ? LISTS[name] : undefined
    if (list) facts[list].push(rawHeaders[i + 1] ?? '')
    if (!facts.isForwarded && FORWARDING.test(name)) facts.isForwarded = true
  }
  return facts
}
