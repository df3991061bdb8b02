import { chmod, mkdir, readdir, readFile, realpath, rename, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { temporaryDirectory } from '../../test/temporary.ts'
import { systemClock } from '../clock.ts'
import { openStore } from '../store/store.ts'
import { systemDisk } from '../store/disk.ts'
import { createGit } from './git.ts'
import { slug } from './naming.ts'
import type { Workspaces } from './types.ts'
import { createWorkspaces } from './workspaces.ts'

const known = [
  { id: 'demo', hasModel: false, headless: {} },
  { id: 'shell', hasModel: false },
  { id: 'echo', configured: true, hasModel: true, headless: {} },
]

interface House extends AsyncDisposable {
  workspaces: Workspaces
  dataDir: string
  /** A directory of the user's. */
  outside: string
  busy: Set<string>
  /** The same state under a new server. */
  restart(): Promise<Workspaces>
}

async function house(agents = known): Promise<House> {
  const root = await temporaryDirectory()
  const dataDir = join(root.path, 'data')
  const outside = join(await realpath(root.path), 'outside')
  await mkdir(dataDir)
  await mkdir(outside)
  const busy = new Set<string>()
  const git = createGit({ environment: process.env, binDirectory: '/nonexistent' })
  let close = async (): Promise<void> => undefined
  async function start(): Promise<Workspaces> {
    await close()
    const onTrouble = (message: string): void => expect.fail(message)
    const store = await openStore({ disk: systemDisk, dataDir, clock: systemClock, maxIdempotencyKeys: 100, onTrouble })
    close = () => store.close()
    return createWorkspaces({
      checkCredentials: () => Promise.resolve(), // shown in test/credentials.test.ts
      table: store.workspaces,
      claims: store.claims,
      agents: { all: () => agents, find: (id) => agents.find((agent) => agent.id === id) },
      git,
      dataDir,
      clock: systemClock,
      busy: (id) => busy.has(id),
    })
  }
  return {
    workspaces: await start(),
    dataDir,
    outside,
    busy,
    restart: start,
    async [Symbol.asyncDispose]() {
      await close()
      await root[Symbol.asyncDispose]()
    },
  }
}
const refusal = (code: string, text = ''): unknown =>
  expect.objectContaining({ code, message: expect.stringContaining(text) as string })

describe('a workspace without a path', () => {
  test('gets a private directory with a repository, and every agent, configured ones first', async () => {
    await using place = await house()
    const { workspace } = await place.workspaces.create({ tag: 'My News' })
    const path = join(await realpath(place.dataDir), 'workspaces', 'ws-my-news')
    expect(workspace).toMatchObject({ id: 'ws-my-news', tag: 'My News', path, managed: true, permissions: 'edit' })
    expect(workspace).toMatchObject({ agents: ['echo', 'demo'], defaultAgent: 'echo', maxRuns: null })
    expect(workspace).not.toHaveProperty('inode')
    expect(await readdir(path)).toEqual(['.git'])
    expect((await stat(path)).mode & 0o777).toBe(0o700)
    expect(await place.workspaces.directory(workspace.id)).toBe(path)
  })

  test('does not run by default what may not be installed', async () => {
    const real = { id: 'real', hasModel: true, headless: {} }
    await using place = await house([real, ...known.slice(0, 2)])
    const { workspace } = await place.workspaces.create({ tag: 'x' })
    expect(workspace).toMatchObject({ agents: ['demo', 'real'], defaultAgent: 'demo' })
  })

  test('runs the demo agent where there is no other', async () => {
    await using place = await house(known.slice(0, 2))
    expect((await place.workspaces.create({ tag: 'x' })).workspace).toMatchObject({
      agents: ['demo'],
      defaultAgent: 'demo',
    })
  })

  test('gets the next free id when nobody named one, also when many come at once', async () => {
    await using place = await house()
    const made = await Promise.all(Array.from({ length: 5 }, () => place.workspaces.create({ tag: 'news' })))
    const ids = made.map(({ workspace }) => workspace.id)
    expect(ids.toSorted()).toEqual(['ws-news', 'ws-news-2', 'ws-news-3', 'ws-news-4', 'ws-news-5'])
    await expect(place.workspaces.create({ tag: 'other', id: 'ws-news' })).rejects.toThrow(refusal('workspace_exists'))
  })

  test('does not take over the files of one that was forgotten', async () => {
    await using place = await house()
    const first = (await place.workspaces.create({ tag: 'news' })).workspace
    await writeFile(join(first.path, 'notes.txt'), 'mine')
    await place.workspaces.remove('ws-news', { purge: false })
    expect((await place.workspaces.create({ tag: 'news' })).workspace.id).toBe('ws-news-2')
    await expect(place.workspaces.create({ tag: 'news', id: 'ws-news' })).rejects.toThrow(
      refusal('workspace_exists', 'still'),
    )
    const again = await place.workspaces.create({ tag: 'news', id: 'ws-news', path: first.path })
    expect(again.workspace).toMatchObject({ id: 'ws-news', managed: false })
  })

  test('is not made behind a link', async () => {
    await using place = await house()
    await mkdir(join(place.dataDir, 'workspaces'))
    await symlink(place.outside, join(place.dataDir, 'workspaces', 'ws-news'))
    expect((await place.workspaces.create({ tag: 'news' })).workspace.id).toBe('ws-news-2')
  })
})

describe('a workspace with a path', () => {
  test('is the real directory, and nothing in it is changed', async () => {
    await using place = await house()
    const link = join(place.dataDir, '..', 'link')
    await symlink(place.outside, link)
    const { workspace } = await place.workspaces.create({ tag: 'x', path: link })
    expect(workspace).toMatchObject({ path: place.outside, managed: false })
    expect(await readdir(place.outside)).toEqual([])
    await expect(place.workspaces.create({ tag: 'y', path: place.outside })).rejects.toThrow(
      refusal('workspace_exists', 'ws-x'),
    )
  })

  test('is refused with the reason when it cannot be one', async () => {
    await using place = await house()
    const { workspaces, dataDir, outside } = place
    const file = join(outside, 'file')
    await writeFile(file, '')
    await mkdir(join(dataDir, 'runs'))
    const cases: [string, string][] = [
      ['relative/path', 'not absolute'],
      ['/tmp/\0', 'NUL'],
      [join(outside, 'missing'), 'does not exist'],
      [file, 'not a directory'],
      ['/', 'whole disk'],
      [dataDir, 'state of the server'],
      [join(dataDir, 'runs'), 'state of the server'],
      [join(dataDir, '..'), 'state of the server'],
    ]
    for (const [path, why] of cases) {
      await expect(workspaces.create({ tag: 'x', path })).rejects.toThrow(refusal('path_not_usable', why))
    }
    if (process.getuid?.() !== 0) {
      await chmod(outside, 0)
      await expect(workspaces.create({ tag: 'x', path: outside })).rejects.toThrow(refusal('path_not_usable', 'read'))
      await chmod(outside, 0o700)
    }
    expect(await workspaces.list()).toEqual([])
  })

  test('S10: is given to nobody once it was swapped for a link, replaced or removed', async () => {
    await using place = await house()
    const { outside } = place
    await place.workspaces.create({ tag: 'x', path: outside })
    const elsewhere = `${outside}-moved`
    const moved = refusal('path_not_usable', 'not the one')
    await rename(outside, elsewhere)
    await expect(place.workspaces.directory('ws-x')).rejects.toThrow(moved)
    await symlink(elsewhere, outside)
    await expect(place.workspaces.directory('ws-x')).rejects.toThrow(moved)
    await rm(outside)
    await mkdir(outside)
    await expect(place.workspaces.directory('ws-x')).rejects.toThrow(moved)
    await rm(outside, { recursive: true })
    await rename(elsewhere, outside)
    expect(await place.workspaces.directory('ws-x')).toBe(outside)
    expect(await (await place.restart()).directory('ws-x')).toBe(outside)
  })
})

describe('agents of a workspace', () => {
  test('must exist, and the default one must be among them', async () => {
    await using place = await house()
    const { workspaces } = place
    await expect(workspaces.create({ tag: 'x', agents: ['codex'] })).rejects.toThrow(
      refusal('unknown_agent', 'demo, shell, echo'),
    )
    await expect(workspaces.create({ tag: 'x', agents: ['demo'], defaultAgent: 'echo' })).rejects.toThrow(
      refusal('agent_not_enabled', '(demo)'),
    )
    const { workspace } = await workspaces.create({ tag: 'x', agents: ['demo', 'demo', 'echo'] })
    expect(workspace).toMatchObject({ agents: ['demo', 'echo'], defaultAgent: 'demo' })
    expect(await workspaces.update('ws-x', { agents: ['echo'] })).toMatchObject({
      agents: ['echo'],
      defaultAgent: 'echo',
    })
    await expect(workspaces.update('ws-x', { defaultAgent: 'demo' })).rejects.toThrow(refusal('agent_not_enabled'))
    expect(await workspaces.update('ws-x', { tag: 'new', maxRuns: 2 })).toMatchObject({
      id: 'ws-x',
      tag: 'new',
      maxRuns: 2,
    })
  })
})

describe('finding and forgetting', () => {
  test('an unknown id is answered with the nearest one', async () => {
    await using place = await house()
    await place.workspaces.create({ tag: 'news' })
    await place.workspaces.create({ tag: 'risk' })
    await expect(place.workspaces.get('ws-newz')).rejects.toThrow(refusal('workspace_not_found', '"ws-news"'))
    await expect(place.workspaces.get('ws-somethingelse')).rejects.toThrow(
      expect.not.objectContaining({ message: expect.stringContaining('nearest') as string }),
    )
  })

  test('forgetting keeps files; purging removes what Postern made, and follows no link', async () => {
    await using place = await house()
    const { workspaces, outside } = place
    await writeFile(join(outside, 'mine.txt'), 'mine')
    const made = (await workspaces.create({ tag: 'made' })).workspace
    await symlink(outside, join(made.path, 'link'))
    await workspaces.create({ tag: 'shown', path: outside })
    await workspaces.remove('ws-made', { purge: true })
    await workspaces.remove('ws-shown', { purge: true })
    expect(await workspaces.list()).toEqual([])
    await expect(stat(made.path)).rejects.toThrow('ENOENT')
    expect(await readFile(join(outside, 'mine.txt'), 'utf8')).toBe('mine')
  })

  test('purging leaves alone what took the place of the directory', async () => {
    await using place = await house()
    const { workspaces, outside } = place
    const made = (await workspaces.create({ tag: 'made' })).workspace
    await rm(made.path, { recursive: true })
    await symlink(outside, made.path)
    await writeFile(join(outside, 'mine.txt'), 'mine')
    await workspaces.remove('ws-made', { purge: true })
    expect(await readdir(outside)).toEqual(['mine.txt'])
  })

  test('one with runs at work is not forgotten', async () => {
    await using place = await house()
    await place.workspaces.create({ tag: 'x' })
    place.busy.add('ws-x')
    await expect(place.workspaces.remove('ws-x', { purge: true })).rejects.toThrow(refusal('workspace_busy'))
    expect(await place.workspaces.list()).toHaveLength(1)
  })
})

describe('an idempotency key', () => {
  const scope = { caller: 'admin', method: 'POST', path: '/api/workspaces', key: 'k' }

  test('makes one workspace, also across a restart, and refuses another body', async () => {
    await using place = await house()
    const first = await place.workspaces.create({ tag: 'news' }, scope)
    expect(first.replayed).toBe(false)
    expect(await place.workspaces.create({ tag: 'news' }, scope)).toEqual({ ...first, replayed: true })
    await expect(place.workspaces.create({ tag: 'other' }, scope)).rejects.toThrow(refusal('idempotency_mismatch'))
    const later = await place.restart()
    expect(await later.create({ tag: 'news' }, scope)).toEqual({ ...first, replayed: true })
    expect(await later.list()).toHaveLength(1)
  })

  test('is free again when nothing was made', async () => {
    await using place = await house()
    await expect(place.workspaces.create({ tag: 'x', agents: ['codex'] }, scope)).rejects.toThrow(
      refusal('unknown_agent'),
    )
    expect((await place.workspaces.create({ tag: 'x' }, scope)).replayed).toBe(false)
  })
})

test('a tag becomes an id that anybody can type', () => {
  expect(['Über Größe!', '  a  b ', '新闻', '-x-', 'a'.repeat(100)].map((tag) => slug(tag))).toEqual([
    'uber-gro-e',
    'a-b',
    'workspace',
    'x',
    'a'.repeat(40),
  ])
})
