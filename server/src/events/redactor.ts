import type { NewEvent } from '../model.ts'

/**
 * Replaces what is secret in everything a program says: the values it was given, as they stand and as JSON writes them,
 * and our own tokens. What is said in pieces is looked at as a whole. Source: docs/security.md 5.
 */

/** UTF-16 units of the shortest value that is replaced: shorter ones are words that stand everywhere. */
export const LEAST_SECRET_UNITS = 8
export const REDACTED = '[redacted]'

/** How our tokens begin; what follows of the alphabet of base64url, up to so many bytes, is the secret part. */
const TOKENS = ['pstn_h1_', 'pstn_adm1_', 'pstn_run1_'].map((prefix) => Buffer.from(prefix))
const TOKEN_START = Buffer.from('pstn_')
const MOST_TOKEN_BYTES = 200

export interface Redactor {
  /** A whole text. */
  text(text: string): string
  /** Whole bytes. */
  bytes(bytes: Buffer): Buffer
  /** A JSON value, with every text in it; the same one when nothing was replaced. */
  value<T>(value: T): T
  /** Bytes that come in chunks: what may be the beginning of a secret is held back until the next chunk tells. */
  stream(): RedactingStream
  /** Events in order, of which texts in pieces (`delta`, `output.text`) are looked at across the pieces. */
  events<E extends NewEvent>(): RedactingEvents<E>
}

export interface RedactingStream {
  push(chunk: Buffer): Buffer
  /** What was held back; nothing comes after it. */
  end(): Buffer
}

export interface RedactingEvents<E extends NewEvent> {
  push(event: E): E[]
  /** What was held back, as events; more may follow. */
  flush(): E[]
}

/** @param secrets values; those too short to be told from words are left alone */
export function createRedactor(secrets: readonly string[]): Redactor {
  const patterns = [...new Set(secrets.filter((secret) => secret.length >= LEAST_SECRET_UNITS).flatMap(spellings))]
  const wanted = patterns.map((pattern) => Buffer.from(pattern))
  const mayHold = (text: string): boolean => text.includes('pstn_') || patterns.some((each) => text.includes(each))

  function text(whole: string): string {
    if (!mayHold(whole)) return whole
    return bytes(Buffer.from(whole)).toString('utf8')
  }

  function bytes(whole: Buffer): Buffer {
    const stream = createStream(wanted)
    return Buffer.concat([stream.push(whole), stream.end()])
  }

  function value<T>(given: T): T {
    if (typeof given === 'string') return text(given) as T
    if (typeof given !== 'object' || given === null) return given
    if (Array.isArray(given)) {
      const mapped = given.map((inner) => value(inner as unknown))
      return mapped.every((inner, i) => inner === given[i]) ? given : (mapped as T)
    }
    let isSame = true
    const entries = Object.entries(given).map(([name, inner]): [string, unknown] => {
      const mapped: [string, unknown] = [text(name), value(inner as unknown)]
      if (mapped[0] !== name || mapped[1] !== inner) isSame = false
      return mapped
    })
    return isSame ? given : (Object.fromEntries(entries) as T)
  }

  return {
    text,
    bytes,
    value,
    stream: () => createStream(wanted),
    events: <E extends NewEvent>() => createEvents<E>(() => createStream(wanted), value),
  }
}

/** A value as it stands, and as it stands in a JSON text. */
function spellings(secret: string): string[] {
  return [secret, JSON.stringify(secret).slice(1, -1)]
}

/** A place in the data: of the secret there, and of what is replaced of it. */
interface Found {
  /** Where it can be told from here on, whatever follows. */
  at: number
  start: number
  end: number
}

/**
 * Every run of bytes that some secret covers becomes one `[redacted]`, so that of overlapping secrets nothing is left.
 * Whatever the chunks are, the result is that of the whole.
 */
function createStream(wanted: readonly Buffer[]): RedactingStream {
  let held: Buffer = Buffer.alloc(0)
  /** What is covered of `held` and after it by secrets that begin before it, sorted by start. */
  let pending: { start: number; end: number }[] = []
  /** The last byte before `held` was covered, and its mark is written. */
  let isMarked = false

  /** The data before `open`; the rest is held. */
  function emit(data: Buffer, open: number): Buffer {
    const found = [...pending, ...occurrences(data, wanted).filter(({ at }) => at < open)]
    held = data.subarray(open)
    pending = found
      .filter(({ end }) => end > open)
      .map(({ start, end }) => ({ start: Math.max(0, start - open), end: end - open }))
    if (found.length === 0) {
      if (open > 0) isMarked = false
      return data.subarray(0, open)
    }
    const pieces: Buffer[] = []
    let done = 0
    for (const { start, end } of found.toSorted((a, b) => a.start - b.start)) {
      const from = Math.min(start, open)
      if (from > done) {
        pieces.push(data.subarray(done, from))
        isMarked = false
      }
      if (start < open && end > done && !isMarked) {
        pieces.push(Buffer.from(REDACTED))
        isMarked = true
      }
      done = Math.max(done, Math.min(end, open))
    }
    if (done < open) {
      pieces.push(data.subarray(done, open))
      isMarked = false
    }
    return Buffer.concat(pieces)
  }

  return {
    push(chunk) {
      const data = held.length === 0 ? chunk : Buffer.concat([held, chunk])
      const open = openFrom(data, wanted)
      return open === data.length && data === chunk && pending.length === 0 && isClean(data, wanted)
        ? pass(chunk)
        : emit(data, open)
    },
    end: () => emit(held, held.length),
  }

  function pass(chunk: Buffer): Buffer {
    if (chunk.length > 0) isMarked = false
    return chunk
  }
}

const isClean = (data: Buffer, wanted: readonly Buffer[]): boolean =>
  data.indexOf(TOKEN_START) === -1 && wanted.every((each) => data.indexOf(each) === -1)

/** Where secrets stand; they may overlap. */
function occurrences(data: Buffer, wanted: readonly Buffer[]): Found[] {
  const found: Found[] = []
  for (const each of wanted) {
    for (let i = data.indexOf(each); i !== -1; i = data.indexOf(each, i + 1))
      found.push({ at: i, start: i, end: i + each.length })
  }
  for (let i = data.indexOf(TOKEN_START); i !== -1; i = data.indexOf(TOKEN_START, i + 1)) {
    for (const prefix of TOKENS) {
      const { end } = tokenAt(data, i, prefix)
      const start = i + prefix.length
      if (end > start) found.push({ at: i, start, end })
    }
  }
  return found
}

/** The first place from which on the data may be the beginning of a secret; its length when there is none. */
function openFrom(data: Buffer, wanted: readonly Buffer[]): number {
  let open = data.length
  const look = (first: number, longest: number, isOpen: (at: number) => boolean): void => {
    for (let i = data.indexOf(first, Math.max(0, data.length - longest)); i !== -1 && i < open;) {
      if (isOpen(i)) open = i
      else i = data.indexOf(first, i + 1)
    }
  }
  for (const each of wanted) look(each[0] ?? 0, each.length - 1, (i) => data.compare(each, 0, data.length - i, i) === 0)
  look(TOKEN_START[0] ?? 0, MOST_TOKEN_BYTES + 10, (i) => TOKENS.some((prefix) => tokenAt(data, i, prefix).isOpen))
  return open
}

/** Where the token ends that stands here (here, when there is none), and whether what follows may be more of it. */
function tokenAt(data: Buffer, at: number, prefix: Buffer): { end: number; isOpen: boolean } {
  const shown = Math.min(prefix.length, data.length - at)
  if (data.compare(prefix, 0, shown, at, at + shown) !== 0) return { end: at, isOpen: false }
  const most = at + prefix.length + MOST_TOKEN_BYTES
  let end = at + shown
  while (end < Math.min(data.length, most) && isTokenByte(data[end] ?? 0)) end++
  return { end, isOpen: end === data.length && end < most }
}

/** Letters, digits, `-` and `_`. */
function isTokenByte(byte: number): boolean {
  return (
    (byte >= 0x30 && byte <= 0x39) ||
    (byte >= 0x41 && byte <= 0x5a) ||
    (byte >= 0x61 && byte <= 0x7a) ||
    byte === 0x2d ||
    byte === 0x5f
  )
}

/** Says the same text on, so that what is held back of it may wait. */
const PASSING: ReadonlySet<string> = new Set([
  'usage',
  'log',
  'agent.session',
  'agent.message',
  'agent.thought',
  'output.text',
])

const isPiece = (event: NewEvent): event is { type: string; text: string } =>
  typeof event['text'] === 'string' &&
  (event.type === 'output.text' ||
    ((event.type === 'agent.message' || event.type === 'agent.thought') && event['delta'] === true))

function createEvents<E extends NewEvent>(open: () => RedactingStream, value: <T>(given: T) => T): RedactingEvents<E> {
  /** By type, the text that is being said, and an event that says it. */
  const saying = new Map<string, { stream: RedactingStream; last: E }>()

  function close(type: string): E[] {
    const { stream, last } = saying.get(type) ?? {}
    saying.delete(type)
    const text = stream?.end().toString('utf8') ?? ''
    return last && text !== '' ? [{ ...last, text }] : []
  }
  const flush = (): E[] => [...saying.keys()].flatMap(close)

  return {
    push(event) {
      if (isPiece(event)) {
        const { stream } = saying.get(event.type) ?? { stream: open() }
        saying.set(event.type, { stream, last: event })
        const given = Buffer.from(event.text)
        const said = stream.push(given)
        if (said.equals(given)) return [event]
        return said.length === 0 ? [] : [{ ...event, text: said.toString('utf8') }]
      }
      const before = PASSING.has(event.type) ? close(event.type) : flush()
      return [...before, event.type === 'agent.session' ? event : { ...value(event), type: event.type }]
    },
    flush,
  }
}
