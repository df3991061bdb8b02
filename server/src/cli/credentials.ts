import { createInterface } from 'node:readline/promises'
import { Writable } from 'node:stream'
import { text as readAll } from 'node:stream/consumers'
import type { Credential } from '@postern/sdk'
import type { Context } from './context.ts'
import { CliExit, EXIT } from './exit.ts'
import { age, table } from './text.ts'

export async function listCredentials(context: Context): Promise<number> {
  const { screen, options, me } = context
  const postern = await context.connect()
  const { credentials } = await postern.credentials.list().page()
  if (options.json) {
    screen.printJson({ credentials })
    return EXIT.ok
  }
  const rows = credentials.map((each) => [
    each.usable ? each.name : screen.style('red', `✗ ${each.name}`),
    each.variables.join(','),
    each.agents.length === 0 ? 'all' : each.agents.join(','),
    age(each.updatedAt),
  ])
  screen.print(table(screen, ['NAME', 'VARIABLES', 'AGENTS', 'SET'], rows))
  for (const { name, usable } of credentials)
    if (!usable) screen.complain(`${screen.style('red', '✗')} ${name} was sealed with a key that is lost: set it again`)
  screen.note(`next: ${me} ${credentials[0] ? `ws set <id> --credentials ${credentials[0].name}` : 'cred set <name>'}`)
  return EXIT.ok
}

export async function setCredential(context: Context, name: string, flags: { agents?: string }): Promise<number> {
  const variables = process.stdin.isTTY ? await asked(context) : parseLines(await readAll(process.stdin))
  const agents = flags.agents?.split(',').flatMap((each) => each.trim() || [])
  const postern = await context.connect()
  const credential = await postern.credentials.set({ name, variables, ...(agents && { agents }) })
  return show(context, credential, 'set', `ws set <id> --credentials ${name}`)
}

export async function removeCredential(context: Context, name: string): Promise<number> {
  const postern = await context.connect()
  return show(context, await postern.credentials.delete(name), 'forgotten', 'cred ls')
}

function show({ screen, options, me }: Context, credential: Credential, done: string, next: string): number {
  if (options.json) screen.printJson(credential)
  else screen.print(`${credential.name}\t${done}\t${credential.variables.join(',')}`)
  screen.note(`next: ${me} ${next}`)
  return EXIT.ok
}

/** Lines `KEY=VALUE`; empty ones and those that begin with `#` are passed over, a value stands as it is. @throws CliExit 2 */
function parseLines(text: string): Record<string, string> {
  const variables: Record<string, string> = {}
  for (const [index, whole] of text.split(/\r?\n/).entries()) {
    const line = whole.replace(/^\s*export\s+/, '')
    if (line.trim() === '' || line.trimStart().startsWith('#')) continue
    const at = line.indexOf('=')
    // What stands there may be a secret: it is not repeated.
    if (at < 1) throw new CliExit(EXIT.usage, `line ${index + 1} of stdin is not KEY=VALUE`)
    variables[line.slice(0, at).trim()] = line.slice(at + 1)
  }
  if (Object.keys(variables).length === 0)
    throw new CliExit(EXIT.usage, 'no variables: lines KEY=VALUE are read from stdin', 'postern cred set --help')
  return variables
}

/** Asks for variables until an empty name; what is typed as a value is not shown. @throws CliExit 2, 130 */
async function asked({ options }: Context): Promise<Record<string, string>> {
  if (!options.input) throw new CliExit(EXIT.usage, 'with --no-input the variables come from stdin: lines KEY=VALUE')
  let isHidden = false
  const output = new Writable({
    write(chunk: Buffer, _encoding, done) {
      if (!isHidden) process.stderr.write(chunk)
      done()
    },
  })
  const typing = createInterface({ input: process.stdin, output, terminal: true, historySize: 0 })
  const left = new AbortController()
  typing.once('SIGINT', () => left.abort())
  try {
    const variables: Record<string, string> = {}
    for (;;) {
      const name = (await typing.question('variable (empty: done): ', { signal: left.signal })).trim()
      if (name === '') break
      process.stderr.write(`value of ${name} (hidden): `)
      isHidden = true
      variables[name] = await typing.question('', { signal: left.signal })
      isHidden = false
      process.stderr.write('\n')
    }
    if (Object.keys(variables).length === 0) throw new CliExit(EXIT.usage, 'no variables were given')
    return variables
  } catch (error) {
    if (left.signal.aborted) throw new CliExit(EXIT.interruptedByUser)
    throw error
  } finally {
    typing.close()
  }
}
