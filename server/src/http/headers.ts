/** What the gate and the caller's check need to know of the header section, from one look at the raw lines. */
export interface HeaderFacts {
  count: number
  hosts: readonly string[]
  origins: readonly string[]
  fetchSites: readonly string[]
  authorizations: readonly string[]
  idempotencyKeys: readonly string[]
  prefers: readonly string[]
  forwardedFor: readonly string[]
  upgrades: readonly string[]
  /** Some header says that the request came through a proxy. */
  isForwarded: boolean
}

const NONE: readonly string[] = []

/** Headers that proxies add. Any of them means that the sender may be anyone. */
const FORWARDING =
  /^(?:forwarded|via|x-forwarded-.*|x-real-ip|x-client-ip|true-client-ip|cf-.*|fly-.*|tailscale-.*|x-envoy-.*|x-amzn-.*)$/

const LISTS = new Map<string, Exclude<keyof HeaderFacts, 'count' | 'isForwarded'>>(
  Object.entries({
    host: 'hosts',
    origin: 'origins',
    'sec-fetch-site': 'fetchSites',
    authorization: 'authorizations',
    'idempotency-key': 'idempotencyKeys',
    prefer: 'prefers',
    'x-forwarded-for': 'forwardedFor',
    upgrade: 'upgrades',
  } as const),
)

/**
 * Reads names and values as they were sent: the parsed headers join some repeated lines and silently keep the first of
 * others.
 *
 * @param rawHeaders names and values in turn
 */
export function readHeaders(rawHeaders: readonly string[]): HeaderFacts {
  const facts: HeaderFacts = {
    count: rawHeaders.length / 2,
    hosts: NONE,
    origins: NONE,
    fetchSites: NONE,
    authorizations: NONE,
    idempotencyKeys: NONE,
    prefers: NONE,
    forwardedFor: NONE,
    upgrades: NONE,
    isForwarded: false,
  }
  for (let i = 0; i + 1 < rawHeaders.length; i += 2) {
    const name = (rawHeaders[i] ?? '').toLowerCase()
    const list = LISTS.get(name)
    if (list) facts[list] = [...facts[list], rawHeaders[i + 1] ?? '']
    if (!facts.isForwarded && FORWARDING.test(name)) facts.isForwarded = true
  }
  return facts
}
