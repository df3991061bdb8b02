import { readFile, readdir } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { createContext, runInContext } from 'node:vm'
import { build } from 'vite'
import { beforeAll, expect, test } from 'vitest'
import { TASK, ended, json, serve, stream } from './server.ts'

/** The built package, as a bundler makes it ready for a browser. Build it first: the tasks of the repository do. */
const dist = fileURLToPath(new URL('../dist/', import.meta.url))

/** What a page has and the SDK may use; `process`, `Buffer` and `require` are not among it. */
const PAGE = { AbortController, AbortSignal, DOMException, Headers, Request, Response, TextDecoder, TextEncoder, URL }
const MORE = { URLSearchParams, ReadableStream, FormData, Blob, clearTimeout, crypto, fetch, performance, setTimeout }

let code: string
beforeAll(async () => {
  const built = await build({
    configFile: false,
    logLevel: 'silent',
    build: {
      write: false,
      minify: false,
      lib: { entry: `${dist}index.js`, formats: ['iife'], name: 'sdk' },
    },
  })
  const [bundle] = [built].flat()
  const chunk = bundle && 'output' in bundle ? bundle.output[0] : undefined
  code = chunk?.code ?? ''
})

test('only the file for Node imports from Node', async () => {
  const files = (await readdir(dist, { recursive: true })).filter((name) => name.endsWith('.js'))
  expect(files.length).toBeGreaterThan(10)
  const importing = []
  for (const name of files) if (/['"]node:/.test(await readFile(dist + name, 'utf8'))) importing.push(name)
  expect(importing).toEqual(['local.node.js'])
})

test('a bundle for browsers holds nothing of Node', () => {
  expect(code.length).toBeGreaterThan(10_000)
  expect(code).not.toMatch(/['"]node:/)
  expect(code).not.toMatch(/\b(require\(|Buffer\.|process\.env)/)
})

test('the bundle starts, follows and waits where there is only a page', async () => {
  await using server = await serve((request, response) => {
    if (request.path.endsWith('/events')) return stream(response).send(1, 2, 3, 4, 5, 6, 7, 8, 9, 10)
    if (request.path === '/healthz') return json(response, 200, { status: 'ok', version: '0' })
    return json(response, request.method === 'POST' ? 202 : 200, ended())
  })
  const page = createContext({ ...PAGE, ...MORE, url: server.url })
  page['globalThis'] = page
  const result: unknown = await runInContext(
    `${code}
    ;(async () => {
      const refused = await sdk.Postern.connect().catch((error) => error.message)
      const postern = await sdk.Postern.connect({ url })
      const run = await postern.runs.create({ wsId: 'ws-news', prompt: 'Look around' })
      const seqs = []
      for await (const event of postern.runs.events(run.taskId)) seqs.push(event.seq)
      const done = await postern.runs.waitFor(run.taskId)
      return JSON.stringify([refused, seqs.length, done.status, done.taskId])
    })()`,
    page,
  )
  expect(JSON.parse(String(result))).toEqual([
    'no server is named: outside Node, pass the option `url`',
    10,
    'succeeded',
    TASK,
  ])
})
