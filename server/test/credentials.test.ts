import { chmod, readFile, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { startTestServer } from './harness.ts'
import { temporaryDirectory } from './temporary.ts'

/** Credentials through the API: sealed, write-only, given to the workspaces and agents that are to have them. */

const VALUE = 'sk-canary-0123456789abcdef'

/** Every file below a directory in which the text stands. */
async function filesWith(directory: string, text: string): Promise<string[]> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true })
  const paths = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name))
  const found = await Promise.all(paths.map(async (path) => ((await readFile(path)).includes(text) ? [path] : [])))
  return found.flat()
}

test('A8: no route answers with a value, and none without the admin token', async () => {
  await using server = await startTestServer()
  const body = { name: 'model', variables: { EXAMPLE_API_KEY: VALUE }, agents: ['demo'] }
  const admin = { token: true }
  expect((await server.call('POST', '/api/credentials', body)).status).toBe(401)
  expect((await server.call('GET', '/api/credentials')).status).toBe(401)
  expect((await server.call('DELETE', '/api/credentials/model')).status).toBe(401)

  const made = await server.call('POST', '/api/credentials', body, admin)
  expect([made.status, made.body]).toMatchObject([201, { name: 'model', variables: ['EXAMPLE_API_KEY'], usable: true }])
  const again = await server.call('POST', '/api/credentials', body, admin)
  expect(again.status).toBe(200)
  const listed = await server.call('GET', '/api/credentials', undefined, admin)
  expect(listed.body).toEqual({ credentials: [again.body] })
  const wsId = await server.workspace({ credentials: ['model'] })
  const shown = await server.call('GET', `/api/workspaces/${wsId}`)
  const refusals = await Promise.all(
    [
      { ...body, nope: 1 },
      { ...body, agents: ['nope'] },
      { ...body, variables: { [VALUE]: 'x', LD_PRELOAD: VALUE } },
      { ...body, variables: { LD_PRELOAD: VALUE } },
    ].map((bad) => server.call('POST', '/api/credentials', bad, admin)),
  )
  expect(refusals.map(({ status }) => status)).toEqual([400, 400, 400, 400])
  const removed = await server.call('DELETE', '/api/credentials/model', undefined, admin)
  expect([removed.status, removed.body]).toEqual([200, again.body])
  for (const answer of [made, again, listed, shown, ...refusals, removed]) expect(answer.text).not.toContain(VALUE)
  expect(server.logged.join('')).not.toContain(VALUE)
  expect(await filesWith(server.dataDir, VALUE)).toEqual([])
})

test('a workspace names only credentials that are set, and keeps the name of one that is removed', async () => {
  await using server = await startTestServer()
  const admin = { token: true }
  const refused = await server.call('POST', '/api/workspaces', { tag: 'x', credentials: ['typo'] }, admin)
  expect([refused.status, refused.body['code']]).toEqual([400, 'unknown_credential'])
  await server.call('POST', '/api/credentials', { name: 'a', variables: { KEY: VALUE } }, admin)
  const wsId = await server.workspace({ credentials: ['a'] })
  const path = `/api/workspaces/${wsId}`
  expect((await server.call('PATCH', path, { credentials: ['a', 'b'] }, admin)).status).toBe(400)
  await server.call('DELETE', '/api/credentials/a', undefined, admin)
  const changed = await server.call('PATCH', path, { tag: 'renamed' }, admin)
  expect([changed.status, changed.body]).toMatchObject([200, { tag: 'renamed', credentials: ['a'] }])
})

test('T18: a key file that others may have read is refused at the start', async () => {
  await using directory = await temporaryDirectory()
  {
    await using server = await startTestServer({ dataDir: directory.path })
    await server.call('POST', '/api/credentials', { name: 'a', variables: { KEY: VALUE } }, { token: true })
  }
  await chmod(join(directory.path, 'keys.json'), 0o644)
  await expect(startTestServer({ dataDir: directory.path })).rejects.toMatchObject({ name: 'ConfigError' })
  await chmod(join(directory.path, 'keys.json'), 0o600)
  await using server = await startTestServer({ dataDir: directory.path })
  const { body } = await server.call('GET', '/api/credentials', undefined, { token: true })
  expect(body).toMatchObject({ credentials: [{ name: 'a', usable: true }] })
})
