import { readFile } from 'node:fs/promises'
import { homedir } from 'node:os'
import { join, resolve } from 'node:path'
import type { LocalServer } from './local.ts'

/**
 * What environment and data directory say about the server of this machine. A file that is missing or cannot be read
 * says nothing.
 *
 * @param home the data directory; default `POSTERN_HOME`, else `~/.postern`
 */
export async function lookAround(home?: string): Promise<LocalServer> {
  const { env } = process
  const directory = resolve(home || env['POSTERN_HOME'] || join(homedir(), '.postern'))
  const [server, token] = await Promise.all([
    read(join(directory, 'server.json')),
    read(join(directory, 'admin-token')),
  ])
  const isInsideRun = Boolean(env['POSTERN_RUN_ID'])
  return {
    namedUrl: env['POSTERN_URL'] || undefined,
    namedToken: env['POSTERN_TOKEN'] || undefined,
    home: directory,
    ...parseServer(server),
    adminToken: isInsideRun ? undefined : token?.trim() || undefined,
  }
}

async function read(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8')
  } catch {
    return undefined
  }
}

function parseServer(text: string | undefined): { url?: string; pid?: number } {
  try {
    const { url, pid } = JSON.parse(text ?? '{}') as { url?: unknown; pid?: unknown }
    return { ...(typeof url === 'string' && { url }), ...(typeof pid === 'number' && { pid }) }
  } catch {
    return {}
  }
}
