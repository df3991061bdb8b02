import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { TestServer } from './harness.ts'
import { serve, type ServerProcess } from './server-process.ts'

export type Killable = Pick<TestServer, 'call' | 'workspace'> & { process: ServerProcess }

/** A server in a process of its own, to be killed. */
export async function startKillable(dataDir: string, config?: object): Promise<Killable> {
  if (config) await writeFile(join(dataDir, 'config.json'), JSON.stringify(config))
  const process = await serve({ dataDir })
  const token = (await readFile(join(dataDir, 'admin-token'), 'utf8')).trim()
  const call: TestServer['call'] = async (method, path, body, { headers = {} } = {}) => {
    const response = await fetch(process.url + path, {
      method,
      headers: {
        authorization: `Bearer ${token}`,
        ...(body !== undefined && { 'content-type': 'application/json' }),
        ...headers,
      },
      ...(body !== undefined && { body: JSON.stringify(body) }),
    })
    const text = await response.text()
    return { status: response.status, headers: response.headers, text, body: JSON.parse(text) as never }
  }
  return {
    process,
    call,
    async workspace(input = {}) {
      const answer = await call<{ id: string }>('POST', '/api/workspaces', { tag: 'crash', ...input })
      return answer.body.id
    },
  }
}
