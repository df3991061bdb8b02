import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { ConnectionError, Postern } from '../src/index.ts'
import { TASK, json, nowhere, problem, run, serve, type ScriptedServer } from './server.ts'

let home: string
beforeEach(async () => {
  home = await mkdtemp(join(tmpdir(), 'postern-sdk-'))
  for (const name of ['POSTERN_URL', 'POSTERN_TOKEN', 'POSTERN_RUN_ID']) vi.stubEnv(name, undefined)
  vi.stubEnv('POSTERN_HOME', home)
})
afterEach(async () => {
  vi.unstubAllEnvs()
  await rm(home, { recursive: true, force: true })
})

const healthy = (): Promise<ScriptedServer> =>
  serve(({ path }, response) => json(response, 200, path === '/healthz' ? { status: 'ok', version: '0' } : run()))
const announce = (url: string): Promise<void> =>
  writeFile(join(home, 'server.json'), JSON.stringify({ url, pid: 4312 }))
const tokenFile = (token: string): Promise<void> => writeFile(join(home, 'admin-token'), `${token}\n`)

/** The token that the server was sent with the last request. */
async function sentToken(server: ScriptedServer): Promise<string | undefined> {
  await (await Postern.connect()).runs.get(TASK)
  return server.received.at(-1)?.headers.authorization
}
const failure = async (options?: Parameters<typeof Postern.connect>[0]): Promise<ConnectionError> => {
  const error = await Postern.connect(options).catch((error: unknown) => error)
  expect(error).toBeInstanceOf(ConnectionError)
  return error as ConnectionError
}

test('finds server and admin token in the data directory', async () => {
  await using server = await healthy()
  await announce(server.url)
  await tokenFile('pstn_adm1_file')
  expect(await sentToken(server)).toBe('Bearer pstn_adm1_file')
  expect(server.received[0]?.path).toBe('/healthz')
})

test('works without a token file', async () => {
  await using server = await healthy()
  await announce(server.url)
  expect(await sentToken(server)).toBeUndefined()
})

test('prefers POSTERN_URL and POSTERN_TOKEN, and to them the options', async () => {
  await using server = await healthy()
  await announce('http://127.0.0.1:1')
  await tokenFile('pstn_adm1_file')
  vi.stubEnv('POSTERN_URL', server.url)
  vi.stubEnv('POSTERN_TOKEN', 'pstn_adm1_named')
  expect(await sentToken(server)).toBe('Bearer pstn_adm1_named')
  vi.stubEnv('POSTERN_URL', 'http://127.0.0.1:1')
  const postern = await Postern.connect({ url: server.url, token: 'pstn_adm1_option' })
  await postern.runs.get(TASK)
  expect(server.received.at(-1)?.headers.authorization).toBe('Bearer pstn_adm1_option')
})

test('takes the token of the data directory for the very server it belongs to, and for no other', async () => {
  await using server = await healthy()
  await using other = await healthy()
  await announce(server.url)
  await tokenFile('pstn_adm1_file')
  vi.stubEnv('POSTERN_URL', server.url.replace('127.0.0.1', 'localhost'))
  expect(await sentToken(server)).toBe('Bearer pstn_adm1_file')
  vi.stubEnv('POSTERN_URL', other.url)
  expect(await sentToken(other)).toBeUndefined()
})

test('inside a run never takes the admin token', async () => {
  await using server = await healthy()
  await announce(server.url)
  await tokenFile('pstn_adm1_file')
  vi.stubEnv('POSTERN_RUN_ID', TASK)
  expect(await sentToken(server)).toBeUndefined()
})

test('names what was tried when no server is named', async () => {
  const error = await failure()
  expect(error).toMatchObject({ code: 'server_not_running', hint: 'postern serve, or set POSTERN_URL' })
  expect(error.message).toContain('POSTERN_URL is not set')
  expect(error.message).toContain(home)
  expect((await failure({ home: join(home, 'elsewhere') })).message).toContain('elsewhere')
})

test('names address, origin and cause when nothing answers', async () => {
  const url = await nowhere()
  await announce(url)
  expect((await failure()).message).toMatch(/127\.0\.0\.1:\d+ \(from server\.json in .*, pid 4312\): .*ECONNREFUSED/)
  vi.stubEnv('POSTERN_URL', `${url}/`)
  expect((await failure()).message).toContain('(from POSTERN_URL)')
  vi.stubEnv('POSTERN_URL', 'localhost:47331')
  expect((await failure()).message).toContain('"localhost:47331" (from POSTERN_URL) is not an http address')
})

test('does not take another program for the server', async () => {
  await using page = await serve((_, response) => void response.end('<h1>hello</h1>'))
  expect((await failure({ url: page.url })).message).toMatch(/nothing answers at .*the option `url`/)
  await using api = await serve((_, response) => json(response, 200, { fine: true }))
  expect((await failure({ url: api.url })).message).toContain('it is not a Postern server')
})

test('passes on what the server refuses', async () => {
  await using server = await serve((_, response) => problem(response, 401, 'invalid_token'))
  await expect(Postern.connect({ url: server.url, token: 'x' })).rejects.toMatchObject({ code: 'invalid_token' })
})

test('a server.json that cannot be read is not told as absent', async () => {
  await writeFile(join(home, 'server.json'), '{"url":')
  expect((await failure()).message).toMatch(
    /no server is named: .*server\.json in .* cannot be read \(it is not valid JSON\)/,
  )
  await rm(join(home, 'server.json'))
  await mkdir(join(home, 'server.json'))
  expect((await failure()).message).toMatch(/server\.json in .* cannot be read \(EISDIR/)
})
