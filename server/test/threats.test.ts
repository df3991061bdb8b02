import { once } from 'node:events'
import { readFile, readdir } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { describe, expect, test } from 'vitest'
import { startTestServer } from './harness.ts'
import { rawJson } from './raw-http.ts'
import { serve } from './server-process.ts'
import { temporaryDirectory } from './temporary.ts'

/** Rows of docs/security.md 7 that belong to no single part. */

const root = resolve(import.meta.dirname, '../..')
const BAD_TOKENS = 1_000
const AT_ONCE = 20

describe('tokens', () => {
  test('T26: no example, page or document holds one', async () => {
    const folders = ['examples', 'server/docs', 'server/docs/decisions']
    const inFolders = await Promise.all(
      folders.map(async (folder) =>
        (await readdir(join(root, folder), { withFileTypes: true }))
          .filter((entry) => entry.isFile())
          .map((entry) => join(folder, entry.name)),
      ),
    )
    for (const file of ['README.md', 'sdk/README.md', 'server/README.md', 'openapi.json', ...inFolders.flat()]) {
      expect((await readFile(join(root, file), 'utf8')).match(/pstn_[a-z]+\d_[A-Za-z0-9_-]{20,}/g), file).toBeNull()
    }
  })

  test('A2: a thousand bad tokens are refused, and the server answers others meanwhile', async () => {
    await using server = await startTestServer()
    const bad = { headers: { authorization: `Bearer pstn_adm1_${'x'.repeat(49)}` } }
    const statuses = new Set<number>()
    for (let sent = 0; sent < BAD_TOKENS; sent += AT_ONCE) {
      const answers = await Promise.all(
        Array.from({ length: AT_ONCE }, () => server.call('GET', '/api/headless', undefined, bad)),
      )
      for (const { status } of answers) statuses.add(status)
      expect((await server.call('GET', '/healthz')).status).toBe(200)
    }
    expect(statuses).toEqual(new Set([401, 429]))
    expect((await server.call('GET', '/api/headless', undefined, { token: true })).status).toBe(200)
  })
})

describe('idempotency', () => {
  test('I5: two keys in one request are refused, and nothing starts', async () => {
    await using server = await startTestServer()
    const line = `POST /api/workspaces/${await server.workspace()}/headless`
    for (const keys of [
      ['one', 'two'],
      ['same', 'same'],
    ]) {
      const answer = await rawJson(
        server.port,
        line,
        '{"prompt":"x"}',
        keys.map((key) => `Idempotency-Key: ${key}`),
      )
      expect(answer).toMatchObject({
        status: 400,
        json: { code: expect.stringMatching(/bad_request|idempotency_key_invalid/) as string },
      })
    }
    expect((await server.call<{ tasks: unknown[] }>('GET', '/api/headless')).body.tasks).toEqual([])
  })
})

describe('output', () => {
  test('C2: a script that an agent prints is text to every browser', async () => {
    await using server = await startTestServer({ config: { agents: { cat: { command: ['cat'] } } } })
    const workspace = await server.workspace({ tag: '<script>alert(1)</script>', agents: ['cat'] })
    const prompt = '<script>alert(1)</script>'
    const { body: run } = await server.call<{ taskId: string }>('POST', `/api/workspaces/${workspace}/headless`, {
      prompt,
      wait: true,
    })
    for (const path of [
      `/api/headless/${run.taskId}/output`,
      `/api/headless/${run.taskId}`,
      `/api/workspaces/${workspace}`,
      `/api/headless/${run.taskId}/events`,
    ]) {
      const answer = await server.call('GET', path)
      expect(answer.status, path).toBe(200)
      expect(answer.headers.get('content-type'), path).toMatch(/^(text\/plain|application\/json)/)
      expect(answer.headers.get('x-content-type-options'), path).toBe('nosniff')
    }
    const page = await server.call('GET', '/docs')
    expect(page.headers.get('content-security-policy')).toMatch(
      /default-src 'none'|script-src 'self'|default-src 'self'/,
    )
    expect(page.headers.get('content-security-policy')).not.toMatch(/script-src[^;]*'unsafe-(inline|eval)'/)
    expect(page.text).not.toContain('alert(1)')
  })
})

describe('the process', () => {
  test('D13: a fault that nobody caught is logged, and the server stops in order with 1', async () => {
    await using directory = await temporaryDirectory()
    const fault = "process.on('SIGUSR2', () => void Promise.reject(new Error('planted')))"
    const NODE_OPTIONS = `--import=data:text/javascript,${encodeURIComponent(fault)}`
    const server = await serve({ dataDir: directory.path, env: { NODE_OPTIONS } })
    server.child.kill('SIGUSR2')
    const [code] = (await once(server.child, 'exit')) as [number | null]
    expect(code).toBe(1)
    expect(server.stderr()).toContain('planted')
    expect(await readdir(directory.path)).not.toContain('server.json')
  })
})
