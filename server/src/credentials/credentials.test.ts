import { readFile, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { temporaryDirectory } from '../../test/temporary.ts'
import { systemClock } from '../clock.ts'
import { openKeyRing, type KeyRing } from '../keys/keys.ts'
import { CREDENTIAL_LIMITS, SetCredential } from '../model/credentials.ts'
import { mayGive } from '../process/environment.ts'
import { systemDisk } from '../store/disk.ts'
import { openStore, type Store } from '../store/store.ts'
import { openCredentials } from './credentials.ts'
import { sealedWith } from './seal.ts'
import type { CredentialKeeper } from './types.ts'

interface Opened extends AsyncDisposable {
  credentials: CredentialKeeper
  keys: KeyRing
  store: Store
  troubles: string[]
}

/** The noun over a real store and key ring in a directory, which may be opened again and again. */
async function open(dataDir: string): Promise<Opened> {
  const shared = { disk: systemDisk, dataDir, clock: systemClock }
  const store = await openStore({ ...shared, maxIdempotencyKeys: 1_000, onTrouble: () => undefined })
  const keys = await openKeyRing(shared)
  const troubles: string[] = []
  const credentials = await openCredentials({
    table: store.credentials,
    claims: store.claims,
    keys,
    clock: systemClock,
    maySet: mayGive,
    agentIds: () => ['demo', 'claude'],
    onTrouble: (message) => void troubles.push(message),
  })
  return { credentials, keys, store, troubles, [Symbol.asyncDispose]: () => store.close() }
}

const VALUE = 'sk-canary-0123456789abcdef'
const idempotency = (key: string) => ({ caller: 'admin', method: 'POST', path: '/api/credentials', key })

async function everyByte(directory: string): Promise<Buffer> {
  const files = await readdir(directory, { recursive: true, withFileTypes: true })
  const paths = files.filter((file) => file.isFile()).map((file) => join(file.parentPath, file.name))
  return Buffer.concat(await Promise.all(paths.map((path) => readFile(path))))
}

test('A8: a value is given back to nobody but the agents it is for, and stands nowhere on disk', async () => {
  await using directory = await temporaryDirectory()
  {
    await using opened = await open(directory.path)
    const { credentials } = opened
    const set = await credentials.set(
      { name: 'model', variables: { B_KEY: VALUE, A_URL: 'https://api.example' }, agents: ['claude'] },
      idempotency('first'),
    )
    expect(set.credential).toMatchObject({
      name: 'model',
      variables: ['A_URL', 'B_KEY'],
      agents: ['claude'],
      usable: true,
    })
    expect(JSON.stringify([set, await credentials.list()])).not.toContain(VALUE)
    expect(await credentials.open(['model'], 'claude')).toEqual({
      variables: { B_KEY: VALUE, A_URL: 'https://api.example' },
      values: [VALUE, 'https://api.example'],
    })
    expect(await credentials.open(['model'], 'demo')).toEqual({ variables: {}, values: [] })
    const { sealed: _, ...row } = (await opened.store.credentials.get('model')) ?? { sealed: '' }
    expect(JSON.stringify(row)).not.toContain(VALUE)
    expect((await everyByte(directory.path)).includes(VALUE)).toBe(false)
  }
  expect((await everyByte(directory.path)).includes(VALUE)).toBe(false)
  await using again = await open(directory.path)
  expect((await again.credentials.open(['model'], 'claude')).variables['B_KEY']).toBe(VALUE)
})

test('an existing name is replaced whole, and what was removed is given to nobody', async () => {
  await using directory = await temporaryDirectory()
  await using opened = await open(directory.path)
  const { credentials } = opened
  expect((await credentials.set({ name: 'a', variables: { ONE: 'first-value' } })).created).toBe(true)
  const replaced = await credentials.set({ name: 'a', variables: { TWO: 'second-value' }, agents: ['demo', 'demo'] })
  expect([replaced.created, replaced.credential.agents]).toEqual([false, ['demo']])
  expect((await credentials.open(['a'], 'demo')).variables).toEqual({ TWO: 'second-value' })
  await credentials.remove('a')
  await expect(credentials.open(['a'], 'demo')).rejects.toMatchObject({ code: 'credential_not_found' })
  await expect(credentials.remove('a')).rejects.toMatchObject({ code: 'credential_not_found' })
  await expect(credentials.check(['a'])).rejects.toMatchObject({ code: 'unknown_credential' })
})

test('of two that set one variable the later wins, and both values are known', async () => {
  await using directory = await temporaryDirectory()
  await using opened = await open(directory.path)
  const { credentials } = opened
  await credentials.set({ name: 'a', variables: { KEY: 'of-the-first' } })
  await credentials.set({ name: 'b', variables: { KEY: 'of-the-second' } })
  expect(await credentials.open(['a', 'b'], 'demo')).toEqual({
    variables: { KEY: 'of-the-second' },
    values: ['of-the-first', 'of-the-second'],
  })
  expect((await credentials.open(['b', 'a'], 'demo')).variables).toEqual({ KEY: 'of-the-first' })
})

test('S7: no credential sets what changes the program, what it loads or who it is', async () => {
  await using directory = await temporaryDirectory()
  await using opened = await open(directory.path)
  const names = [
    'PATH',
    'LD_PRELOAD',
    'NODE_OPTIONS',
    'POSTERN_TOKEN',
    'GIT_DIR',
    'PYTHONPATH',
    'npm_config_x',
    'TMPDIR',
  ]
  for (const name of names) {
    const refused = opened.credentials.set({ name: 'x', variables: { GOOD_KEY: 'value-1', [name]: VALUE } })
    await expect(refused).rejects.toMatchObject({ code: 'variable_not_allowed' })
    await expect(refused).rejects.not.toThrow(VALUE)
  }
  expect(await opened.credentials.list()).toEqual([])
})

test('agents that do not exist are refused by name', async () => {
  await using directory = await temporaryDirectory()
  await using opened = await open(directory.path)
  const set = opened.credentials.set({ name: 'x', variables: { KEY: 'value' }, agents: ['cluade'] })
  await expect(set).rejects.toMatchObject({ code: 'unknown_agent' })
})

test('a rotation seals everything again before the old key goes, what is set meanwhile too', async () => {
  await using directory = await temporaryDirectory()
  {
    await using opened = await open(directory.path)
    const { credentials, keys, store } = opened
    for (let i = 0; i < 20; i++) await credentials.set({ name: `c${i}`, variables: { KEY: `value-${i}` } })
    // Begun with the old key, ended after it was replaced.
    const meanwhile = Array.from({ length: 10 }, (_, i) =>
      credentials.set({ name: `m${i}`, variables: { KEY: `meanwhile-${i}` } }),
    )
    expect(await keys.rotate()).toBe(2)
    await credentials.reseal()
    await Promise.all(meanwhile)
    await keys.drop(1)
    const rows = await store.credentials.list()
    expect(new Set(rows.map(({ sealed }) => sealedWith(sealed)))).toEqual(new Set([2]))
  }
  await using again = await open(directory.path)
  expect(again.troubles).toEqual([])
  expect((await again.credentials.list()).filter(({ usable }) => !usable)).toEqual([])
  expect((await again.credentials.open(['c7', 'm9'], 'demo')).values).toEqual(['value-7', 'meanwhile-9'])
})

test('a rotation that was cut off is finished at the next start', async () => {
  await using directory = await temporaryDirectory()
  {
    await using opened = await open(directory.path)
    await opened.credentials.set({ name: 'a', variables: { KEY: VALUE } })
    await opened.keys.rotate() // and the server dies before it seals again
  }
  await using again = await open(directory.path)
  expect(sealedWith((await again.store.credentials.get('a'))?.sealed ?? '')).toBe(2)
  await again.keys.drop(1)
  expect((await again.credentials.open(['a'], 'demo')).values).toEqual([VALUE])
})

test('a credential whose key is lost is shown as such, given to nobody, and mended by setting it again', async () => {
  await using directory = await temporaryDirectory()
  {
    await using opened = await open(directory.path)
    await opened.credentials.set({ name: 'a', variables: { KEY: VALUE } })
    await opened.credentials.set({ name: 'b', variables: { KEY: VALUE } })
    await opened.keys.rotate()
    await opened.keys.drop(1)
  }
  await using again = await open(directory.path)
  expect(again.troubles).toHaveLength(2)
  expect((await again.credentials.list()).map(({ usable }) => usable)).toEqual([false, false])
  await expect(again.credentials.open(['a'], 'demo')).rejects.toMatchObject({ code: 'credential_not_found' })
  await again.credentials.set({ name: 'a', variables: { KEY: VALUE } })
  expect((await again.credentials.list()).map(({ usable }) => usable)).toEqual([true, false])
})

test('a row edited by hand into another name is not opened', async () => {
  await using directory = await temporaryDirectory()
  await using opened = await open(directory.path)
  await opened.credentials.set({ name: 'mine', variables: { KEY: VALUE } })
  await opened.credentials.set({ name: 'other', variables: { KEY: 'harmless-value' } })
  const mine = await opened.store.credentials.get('mine')
  await opened.store.credentials.update('other', { sealed: mine?.sealed ?? '' })
  await expect(opened.credentials.open(['other'], 'demo')).rejects.toMatchObject({ code: 'credential_not_found' })
})

test('a key sets once: the same body is answered again, another is refused, also after a rotation and a restart', async () => {
  await using directory = await temporaryDirectory()
  const body = { name: 'a', variables: { KEY: VALUE } }
  {
    await using opened = await open(directory.path)
    const first = await opened.credentials.set(body, idempotency('k'))
    expect([first.created, first.replayed]).toEqual([true, false])
    await opened.credentials.set({ name: 'a', variables: { KEY: 'a-later-value' } })
    await opened.keys.rotate()
    await opened.credentials.reseal()
  }
  await using again = await open(directory.path)
  const replay = await again.credentials.set(body, idempotency('k'))
  expect([replay.created, replay.replayed]).toEqual([true, true])
  expect((await again.credentials.open(['a'], 'demo')).values).toEqual(['a-later-value'])
  const other = again.credentials.set({ name: 'a', variables: { KEY: 'guess' } }, idempotency('k'))
  await expect(other).rejects.toMatchObject({ code: 'idempotency_mismatch' })
})

test('the file of keys does not let a value be guessed: equal bodies have other fingerprints in another ring', async () => {
  const fingerprints = new Set<string>()
  for (let i = 0; i < 2; i++) {
    await using directory = await temporaryDirectory()
    await using opened = await open(directory.path)
    await opened.credentials.set({ name: 'a', variables: { PIN: '1234' } }, idempotency('k'))
    const journal = await readFile(join(directory.path, 'claims.journal'), 'utf8')
    fingerprints.add(/"fingerprint":"([^"]+)"/.exec(journal)?.[1] ?? 'none')
  }
  expect(fingerprints.size).toBe(2)
  expect(fingerprints).not.toContain('none')
})

test('the limits hold on both sides, and what is refused is not repeated', () => {
  const { variables: most, bytes } = CREDENTIAL_LIMITS
  const many = (count: number) => Object.fromEntries(Array.from({ length: count }, (_, i) => [`V${i}`, 'x']))
  const parse = (variables: unknown) => SetCredential.safeParse({ name: 'a', variables })
  expect(parse(many(most)).success).toBe(true)
  expect(parse(many(most + 1)).error?.issues[0]?.message).toBe('65 variables; the limit is 64')
  expect(parse({ KEY: 'x'.repeat(bytes - 3) }).success).toBe(true)
  expect(parse({ KEY: 'x'.repeat(bytes - 2) }).error?.issues[0]?.message).toContain(`the limit is ${bytes}`)
  for (const variables of [
    {},
    { KEY: '' },
    { KEY: `${VALUE}\0` },
    { [`KEY=${VALUE}`]: 'x' },
    { '1KEY': VALUE },
    { KEY: 1 },
  ]) {
    const found = parse(variables)
    expect(found.success).toBe(false)
    expect(found.error?.issues.map(({ message }) => message).join()).not.toContain(VALUE)
  }
  for (const name of ['', '.hidden', '../x', 'a b', 'x'.repeat(65)])
    expect(SetCredential.safeParse({ name, variables: { KEY: 'x' } }).success).toBe(false)
  expect(SetCredential.safeParse({ name: 'x'.repeat(64), variables: { KEY: 'x' } }).success).toBe(true)
})
