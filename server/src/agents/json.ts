/** Levels of what an agent prints as JSON at most: everything that looks at it later goes down level by level. */
export const MAX_JSON_LEVELS = 100

/**
 * Parses what an agent printed; how deep it is nested is looked at before.
 *
 * @throws SyntaxError, RangeError
 */
export function parseJson(text: string): unknown {
  let levels = 0
  let isString = false
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i)
    if (isString) {
      if (code === 0x5c) i++
      else if (code === 0x22) isString = false
    } else if (code === 0x22) isString = true
    else if (code === 0x5b || code === 0x7b) {
      if (++levels > MAX_JSON_LEVELS) throw new RangeError(`nested more than ${MAX_JSON_LEVELS} levels deep`)
    } else if (code === 0x5d || code === 0x7d) levels--
  }
  return JSON.parse(text)
}
