/**
 * What shows that somebody has logged an agent in. `$NAME`: a variable of the server that is set. A path: a file that is
 * there; `~` stands for HOME, `{NAME|~/other}` for what a variable names, else the other. Nothing is ever opened.
 */
export interface LoginEvidence {
  /** Any of these: logged in. */
  sure: string[]
  /** Any of these: perhaps; settings can name a key or a service in ways that only the program understands. */
  maybe: string[]
}

export type Login = 'yes' | 'no' | 'unknown'

/** What the evidence comes to; `unknown` also where there is no home to look in. */
export async function findLogin(
  evidence: LoginEvidence,
  environment: Record<string, string | undefined>,
  isFile: (path: string) => Promise<boolean>,
): Promise<Login> {
  let blind = false
  async function isThere(item: string): Promise<boolean> {
    if (item.startsWith('$')) return (environment[item.slice(1)] ?? '') !== ''
    const path = expand(item, environment)
    blind ||= path === undefined
    return path !== undefined && (await isFile(path))
  }
  const anyOf = async (items: string[]): Promise<boolean> => (await Promise.all(items.map(isThere))).includes(true)
  if (await anyOf(evidence.sure)) return 'yes'
  return (await anyOf(evidence.maybe)) || blind ? 'unknown' : 'no'
}

function expand(template: string, environment: Record<string, string | undefined>): string | undefined {
  const [, name = '', other = template, rest = ''] = /^\{(\w+)\|([^}]*)\}(.*)$/.exec(template) ?? []
  const named = environment[name] ?? ''
  const path = (named === '' ? other : named) + rest
  if (!path.startsWith('~')) return path
  const home = environment['HOME'] ?? ''
  return home === '' ? undefined : home + path.slice(1)
}
