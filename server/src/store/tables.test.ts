import { appendFile, readFile, readdir, stat, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { ulid } from 'ulid'
import { describe, expect, test } from 'vitest'
import { z } from 'zod'
import { systemClock } from '../clock.ts'
import { diskError, faultyDisk } from '../../test/faulty-disk.ts'
import { temporaryDirectory } from '../../test/temporary.ts'
import { createArchive } from './archive.ts'
import { createArchivedTable, HOT_ROWS } from './archived-table.ts'
import { DamagedStateError, systemDisk, type Disk } from './disk.ts'
import { encodeLine } from './journal.ts'
import { row, tableContract, type Row } from './table.contract.ts'
import { openTables } from './tables.ts'

const Schema: z.ZodType<Row> = z.object({
  id: z.string(),
  name: z.string(),
  state: z.enum(['open', 'ended']),
  tags: z.array(z.string()),
})
const T0 = Date.UTC(2026, 0, 15)
/** Ids a week apart, so that they fall into several months. */
const ids = Array.from({ length: 9 }, (_, i) => `row_${ulid(T0 + i * 7 * 86_400_000)}`)

async function open(dataDir: string, disk: Disk = systemDisk) {
  const tables = await openTables({ disk, dataDir, onError: () => undefined })
  return { tables, table: tables.table('rows', Schema), [Symbol.asyncDispose]: () => tables.close() }
}
async function openArchived(dataDir: string) {
  const { tables, table: hot } = await open(dataDir)
  const archive = createArchive({
    disk: systemDisk,
    directory: join(dataDir, 'archive'),
    schema: Schema,
    indexed: ['state'],
    onDamage: (message) => damage.push(message),
  })
  const damage: string[] = []
  const table = createArchivedTable({
    hot,
    archive,
    clock: systemClock,
    endedAt: (each) => (each.state === 'ended' ? Date.now() : undefined),
    mayBeArchived: (where) => where.state !== 'open',
    onError: (error) => damage.push(String(error)),
  })
  async function close(): Promise<void> {
    await table.settle()
    await archive.close()
    await tables.close()
  }
  return { table, hot, archive, damage, close, [Symbol.asyncDispose]: close }
}

tableContract('rows in db.json', async () => {
  const directory = await temporaryDirectory()
  const opened = await open(directory.path)
  const dispose = async (): Promise<void> => {
    await opened.tables.close()
    await directory[Symbol.asyncDispose]()
  }
  return { table: opened.table, ids, [Symbol.asyncDispose]: dispose }
})
tableContract('hot rows and an archive', async () => {
  const directory = await temporaryDirectory()
  const opened = await openArchived(directory.path)
  const dispose = async (): Promise<void> => {
    await opened.close()
    await directory[Symbol.asyncDispose]()
  }
  return { table: opened.table, ids, [Symbol.asyncDispose]: dispose }
})

describe('state on disk', () => {
  test('what was acknowledged is there after a restart, with and without a state file', async () => {
    await using directory = await temporaryDirectory()
    await using first = await open(directory.path)
    await Promise.all(ids.map((id) => first.table.insert(row(id))))
    // Not closed yet: the state file was never written, as after a kill.
    await using second = await open(directory.path)
    expect(await second.table.list({ order: 'oldest' })).toEqual(ids.map((id) => row(id)))
    await second.tables.close()
    expect((await stat(join(directory.path, 'changes.journal'))).size).toBe(0)
    await using third = await open(directory.path)
    expect(await third.table.list()).toHaveLength(ids.length)
  })

  test('D11: files are readable by their owner only', async () => {
    await using directory = await temporaryDirectory()
    const { tables, table } = await open(directory.path)
    await table.insert(row('a'))
    await tables.close()
    for (const name of await readdir(directory.path)) {
      expect([name, (await stat(join(directory.path, name))).mode & 0o777]).toEqual([name, 0o600])
    }
  })

  test.each([
    ['empty', ''],
    ['null', 'null'],
    ['an array', '[]'],
    ['cut', '{"schemaVersion":1,"line":0,"tab'],
    ['a byte order mark', '\uFEFF{"schemaVersion":1,"line":0,"tables":{}}'],
    ['D12: a newer version', '{"schemaVersion":2,"line":0,"tables":{}}'],
    ['another shape', '{"schemaVersion":1,"runs":[]}'],
    ['a row that does not fit', '{"schemaVersion":1,"line":0,"tables":{"rows":{"a":{"id":"a"}}}}'],
  ])('D4: a state file that is %s is refused by name and left as it is', async (_, content) => {
    await using directory = await temporaryDirectory()
    const path = join(directory.path, 'db.json')
    await writeFile(path, content)
    await expect(open(directory.path)).rejects.toThrow(DamagedStateError)
    await expect(open(directory.path)).rejects.toThrow('db.json')
    expect(await readFile(path, 'utf8')).toBe(content)
  })

  test('D5: a journal cut at any byte of its last line keeps the lines before', async () => {
    await using directory = await temporaryDirectory()
    const path = join(directory.path, 'changes.journal')
    const first = encodeLine({ line: 1, table: 'rows', id: 'a', row: row('a') })
    const second = encodeLine({ line: 2, table: 'rows', id: 'b', row: row('b') })
    for (let cut = 0; cut < second.length; cut++) {
      await writeFile(path, first + second)
      await truncate(path, first.length + cut)
      const opened = await openTables({ disk: systemDisk, dataDir: directory.path, onError: () => undefined })
      expect(await opened.table('rows', Schema).list()).toEqual([row('a')])
      expect((await stat(path)).size).toBe(first.length)
    }
  })

  test('D6: a flipped bit in the middle of a journal is refused with its offset', async () => {
    await using directory = await temporaryDirectory()
    const path = join(directory.path, 'changes.journal')
    const lines = ['a', 'b', 'c'].map((id, i) => encodeLine({ line: i + 1, table: 'rows', id, row: row(id) }))
    const good = Buffer.from(lines.join(''))
    const start = lines[0]?.length ?? 0
    for (let at = start; at < start + (lines[1]?.length ?? 0) - 1; at += 3) {
      const bad = Buffer.from(good)
      bad[at] = (bad[at] ?? 0) ^ 0x10
      if (bad[at] === 10) continue // a new line end: cuts the line in two, which the next case shows as well
      await writeFile(path, bad)
      await expect(open(directory.path)).rejects.toThrow(`changes.journal at byte ${start}`)
      expect(await readFile(path)).toEqual(bad)
    }
  })

  test('a refused write changes nothing in memory, and the next one goes through', async () => {
    await using directory = await temporaryDirectory()
    const faulty = faultyDisk()
    await using opened = await open(directory.path, faulty.disk)
    await opened.table.insert(row('a'))
    faulty.onCall = (name) => {
      if (name === 'datasync') throw diskError('ENOSPC')
      return undefined
    }
    await expect(opened.table.insert(row('b'))).rejects.toMatchObject({ code: 'storage_unavailable' })
    await expect(opened.table.update('a', { name: 'new' })).rejects.toMatchObject({ code: 'storage_unavailable' })
    await expect(opened.table.remove('a')).rejects.toMatchObject({ code: 'storage_unavailable' })
    expect(await opened.table.list()).toEqual([row('a')])
    faulty.onCall = undefined
    expect(await opened.table.insert(row('b'))).toBe(true)
    await opened.tables.close()
    await using again = await open(directory.path)
    expect(await again.table.list({ order: 'oldest' })).toEqual([row('a'), row('b')])
  })

  test('a write that takes only part of its bytes is completed', async () => {
    await using directory = await temporaryDirectory()
    const faulty = faultyDisk()
    faulty.onCall = () => 'short'
    const { tables, table } = await open(directory.path, faulty.disk)
    await table.insert(row('a', { name: 'x'.repeat(5_000) }))
    await tables.close()
    await using again = await open(directory.path)
    expect((await again.table.get('a'))?.name).toHaveLength(5_000)
  })
})

describe('archive', () => {
  test('ended rows beyond the hot set move out and stay listable, readable and changeable', async () => {
    await using directory = await temporaryDirectory()
    const count = HOT_ROWS + 250
    const many = Array.from({ length: count }, (_, i) => `row_${ulid(T0 + i * 3_600_000)}`)
    await using opened = await openArchived(directory.path)
    const [longRun = '', ...others] = many
    await opened.table.insert(row(longRun))
    for (const id of others) await opened.table.insert(row(id, { state: 'ended' }))
    await opened.table.settle()
    expect(opened.hot.size).toBeLessThanOrEqual(HOT_ROWS + 1)
    expect(await opened.hot.get(longRun)).toBeDefined() // it has not ended, however old
    const listed = (await opened.table.list()).map((each) => each.id)
    expect(listed).toEqual([...many].reverse())
    const page = await opened.table.list({ after: many[200] ?? '', limit: 300 })
    expect(page.map((each) => each.id)).toEqual(many.slice(0, 200).reverse())
    const [, old = ''] = many
    expect(await opened.table.get(old)).toEqual(row(old, { state: 'ended' }))
    expect(await opened.table.update(old, { name: 'new' }, { state: 'open' })).toBeUndefined()
    expect((await opened.table.update(old, { name: 'new' }, { state: 'ended' }))?.name).toBe('new')
    await opened.close()
    await using again = await openArchived(directory.path)
    expect((await again.table.get(old))?.name).toBe('new')
    expect(await again.table.list({ where: { state: 'ended' } })).toHaveLength(count - 1)
    expect(await again.table.remove(old)).toBe(true)
    expect(await again.table.get(old)).toBeUndefined()
  })

  test('an archived row that is changed back to one that has not ended is hot again, and listed once', async () => {
    await using directory = await temporaryDirectory()
    await using opened = await openArchived(directory.path)
    const { table, hot } = opened
    const first = row(ids[0] ?? '', { state: 'ended' })
    await table.insert(first)
    for (let i = 0; i < HOT_ROWS; i++) await table.insert(row(`row_${ulid(T0 + 1 + i)}`, { state: 'ended' }))
    await table.settle()
    expect(await hot.get(first.id)).toBeUndefined()
    expect(await table.update(first.id, { state: 'open' }, { state: 'ended' })).toEqual({ ...first, state: 'open' })
    expect(await hot.get(first.id)).toEqual({ ...first, state: 'open' })
    expect((await table.list({ where: { state: 'open' } })).map(({ id }) => id)).toEqual([first.id])
    expect((await table.list()).filter(({ id }) => id === first.id)).toHaveLength(1)
  })

  test('of twins after a crash between archive and removal, the hot one is shown, once', async () => {
    await using directory = await temporaryDirectory()
    await using opened = await openArchived(directory.path)
    const [a = ''] = ids
    await opened.table.insert(row(a, { name: 'hot' }))
    await opened.archive.append([row(a, { name: 'archived' })])
    expect((await opened.table.list()).map((each) => each.name)).toEqual(['hot'])
    expect((await opened.table.get(a))?.name).toBe('hot')
  })

  test('a damaged archive line is reported and hides no other; a cut last line is written over', async () => {
    await using directory = await temporaryDirectory()
    const opened = await openArchived(directory.path)
    const [a, b] = [`row_${ulid(T0)}`, `row_${ulid(T0 + 1)}`] as const
    await opened.archive.append([row(a, { state: 'ended' })])
    await opened.close()
    const path = join(directory.path, 'archive', '2026-01.ndjson')
    await appendFile(path, 'deadbeef {"id":"nonsense"\n12345678 {"id":"row_cut')
    await using again = await openArchived(directory.path)
    await again.archive.append([row(b, { state: 'ended' })])
    expect((await again.table.list()).map((each) => each.id)).toEqual([b, a])
    expect(again.damage.join()).toContain('2026-01.ndjson at byte')
  })
})
