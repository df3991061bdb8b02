import { readFileSync } from 'node:fs'

const manifest = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as {
  version: string
  engines: { node: string }
}

/** The version of this installation. */
export const version = manifest.version
/** The versions of Node it takes, as parts `^x.y.z` and `>=x.y.z` with `||` between them. */
export const nodeRange = manifest.engines.node

/** True for a version that such a range takes. */
export function satisfies(found: string, range = nodeRange): boolean {
  const numbers = (text: string): number[] => text.split('.').map(Number)
  return range.split('||').some((part) => {
    const [, sign, least = ''] = /^\s*(\^|>=)(\d+\.\d+\.\d+)\s*$/.exec(part) ?? []
    const [has, needs] = [numbers(found), numbers(least)]
    if (sign === '^' && has[0] !== needs[0]) return false
    const differs = needs.findIndex((number, i) => number !== has[i])
    return differs === -1 || (has[differs] ?? 0) > (needs[differs] ?? 0)
  })
}
