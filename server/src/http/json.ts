import secureJson from 'secure-json-parse'
import { DomainError } from '../errors.ts'
import { LIMITS } from '../model.ts'

const utf8 = new TextDecoder('utf-8', { fatal: true })

/**
 * Parses a JSON text that a stranger sent: UTF-8, at most 32 levels deep (looked at before parsing), without duplicate
 * keys and without `__proto__`.
 *
 * @throws DomainError `invalid_json`
 */
export function parseJson(bytes: Buffer): unknown {
  let text: string
  try {
    text = utf8.decode(bytes)
  } catch {
    throw invalid('the body is not valid UTF-8')
  }
  scan(text)
  try {
    return secureJson.parse(text, undefined, { protoAction: 'error', constructorAction: 'error' })
  } catch (error) {
    throw invalid(`the body is not valid JSON: ${reasonOf(error)}`)
  }
}

const invalid = (detail: string): DomainError => new DomainError('invalid_json', detail)

/** What the parser complains of, without the text around it. */
function reasonOf(error: unknown): string {
  const message = error instanceof Error ? error.message : ''
  if (message.includes('forbidden prototype')) return '__proto__ and constructor.prototype are forbidden'
  return /at position \d+/.exec(message)?.[0] ?? 'it ends too early, or is empty'
}

/**
 * One pass over the text: counts levels and compares the keys of each object. It need not judge the rest of the
 * grammar, which the parser does: a text that misleads it is refused there.
 */
function scan(text: string): void {
  const keys: (Set<string> | undefined)[] = [] // one entry a level; undefined: an array
  let expectKey = false
  for (let i = 0; i < text.length; i++) {
    switch (text.charCodeAt(i)) {
      case 0x7b: // {
      case 0x5b: // [
        expectKey = text.charCodeAt(i) === 0x7b
        keys.push(expectKey ? new Set() : undefined)
        if (keys.length > LIMITS.jsonDepth) {
          throw invalid(`the body is nested more than ${LIMITS.jsonDepth} levels deep`)
        }
        break
      case 0x7d: // }
      case 0x5d: // ]
        keys.pop()
        expectKey = false
        break
      case 0x2c: // ,
        expectKey = keys.at(-1) !== undefined
        break
      case 0x22: {
        const end = endOfString(text, i)
        if (expectKey) addKey(keys.at(-1), text.slice(i, end))
        expectKey = false
        i = end - 1
        break
      }
    }
  }
}

/** Position behind the closing quote of the string that opens at `start`. */
function endOfString(text: string, start: number): number {
  for (let i = start + 1; ;) {
    const quote = text.indexOf('"', i)
    if (quote === -1) return text.length
    let escapes = 0
    while (text.charCodeAt(quote - 1 - escapes) === 0x5c) escapes++
    if (escapes % 2 === 0) return quote + 1
    i = quote + 1
  }
}

function addKey(keys: Set<string> | undefined, literal: string): void {
  let key: string
  try {
    key = JSON.parse(literal) as string
  } catch {
    return // not a string: the parser will say so
  }
  if (keys?.has(key)) throw invalid(`the key ${JSON.stringify(key.slice(0, 80))} stands twice in one object`)
  keys?.add(key)
}
