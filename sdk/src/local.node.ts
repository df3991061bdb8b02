import { readFile } from 'node:fs/promises'
import { homedir } from 'node:os'
import { join, resolve } from 'node:path'
import type { LocalServer } from './local.ts'

/**
 * What environment and data directory say about the server of this machine. A file that is missing says nothing; of a
 * `server.json` that cannot be read it is said why.
 *
 * @param home the data directory; default `POSTERN_HOME`, else `~/.postern`
 */
export async function lookAround(home?: string): Promise<LocalServer> {
  const { env } = process
  const directory = resolve(home || env['POSTERN_HOME'] || join(homedir(), '.postern'))
  const [server, token] = await Promise.all([
    read(join(directory, 'server.json')).then(parseServer, whyNot),
    read(join(directory, 'admin-token')).catch(() => undefined),
  ])
  const isInsideRun = Boolean(env['POSTERN_RUN_ID'])
  return {
    namedUrl: env['POSTERN_URL'] || undefined,
    namedToken: env['POSTERN_TOKEN'] || undefined,
    home: directory,
    ...server,
    adminToken: isInsideRun ? undefined : token?.trim() || undefined,
  }
}

/** Undefined: there is none. */
async function read(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8')
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined
    throw error
  }
}

type Found = Pick<LocalServer, 'url' | 'pid' | 'unreadable'>

function parseServer(text: string | undefined): Found {
  if (text === undefined) return {}
  try {
    const { url, pid } = JSON.parse(text) as { url?: unknown; pid?: unknown }
    return { ...(typeof url === 'string' && { url }), ...(typeof pid === 'number' && { pid }) }
  } catch {
    return { unreadable: 'it is not valid JSON' }
  }
}

const whyNot = (error: Error): Found => ({ unreadable: error.message })
