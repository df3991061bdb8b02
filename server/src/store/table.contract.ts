import { describe, expect, test } from 'vitest'
import type { Table } from './table.ts'

export interface Row {
  id: string
  name: string
  state: 'open' | 'ended'
  tags: string[]
}

export const row = (id: string, more: Partial<Row> = {}): Row => ({ id, name: id, state: 'open', tags: [], ...more })

/** What every implementation of `Table` must do. `open` gives an empty table; ids are `row_<ulid>`, oldest first. */
export function tableContract(
  name: string,
  open: () => Promise<{ table: Table<Row>; ids: string[] } & AsyncDisposable>,
): void {
  describe(`Table contract: ${name}`, () => {
    test('a row that was inserted is found, another is not', async () => {
      await using opened = await open()
      const [a = '', b = ''] = opened.ids
      expect(await opened.table.insert(row(a))).toBe(true)
      expect(await opened.table.get(a)).toEqual(row(a))
      expect(await opened.table.get(b)).toBeUndefined()
    })

    test('of many who insert one id at once, one gets it and the row is his', async () => {
      await using opened = await open()
      const [a = ''] = opened.ids
      const results = await Promise.all(
        Array.from({ length: 20 }, (_, i) => opened.table.insert(row(a, { name: `n${i}` }))),
      )
      expect(results.filter(Boolean)).toHaveLength(1)
      expect((await opened.table.get(a))?.name).toBe(`n${results.indexOf(true)}`)
    })

    test('of two who finish the same row, one wins', async () => {
      await using opened = await open()
      const [a = ''] = opened.ids
      await opened.table.insert(row(a))
      const results = await Promise.all([
        opened.table.update(a, { state: 'ended', name: 'first' }, { state: 'open' }),
        opened.table.update(a, { state: 'ended', name: 'second' }, { state: 'open' }),
      ])
      expect(results.filter(Boolean)).toHaveLength(1)
      expect((await opened.table.get(a))?.name).toBe(results[0] ? 'first' : 'second')
    })

    test('an update of a missing row, or under a guard that does not hold, changes nothing', async () => {
      await using opened = await open()
      const [a = '', b = ''] = opened.ids
      await opened.table.insert(row(a, { tags: ['x'] }))
      expect(await opened.table.update(b, { name: 'new' })).toBeUndefined()
      expect(await opened.table.update(a, { name: 'new' }, { tags: ['y'] })).toBeUndefined()
      expect(await opened.table.update(a, { name: 'new' }, { tags: ['x'] })).toEqual(
        row(a, { tags: ['x'], name: 'new' }),
      )
    })

    test('a row can be removed once', async () => {
      await using opened = await open()
      const [a = ''] = opened.ids
      await opened.table.insert(row(a))
      expect(await opened.table.remove(a)).toBe(true)
      expect(await opened.table.remove(a)).toBe(false)
      expect(await opened.table.get(a)).toBeUndefined()
      expect(await opened.table.list()).toEqual([])
    })

    test('lists are sorted by id, filtered, limited and continued behind `after`, both ways', async () => {
      await using opened = await open()
      for (const [i, id] of opened.ids.entries())
        await opened.table.insert(row(id, { state: i % 2 ? 'ended' : 'open' }))
      const newest = [...opened.ids].reverse()
      expect((await opened.table.list()).map((each) => each.id)).toEqual(newest)
      expect((await opened.table.list({ order: 'oldest', limit: 2 })).map((each) => each.id)).toEqual(
        opened.ids.slice(0, 2),
      )
      const ended = newest.filter((id) => opened.ids.indexOf(id) % 2)
      expect((await opened.table.list({ where: { state: 'ended' } })).map((each) => each.id)).toEqual(ended)
      const paged: string[] = []
      for (let after: string | undefined; ;) {
        const page = await opened.table.list({ where: { state: 'ended' }, limit: 2, ...(after && { after }) })
        paged.push(...page.map((each) => each.id))
        after = page.at(-1)?.id
        if (!after) break
      }
      expect(paged).toEqual(ended)
      const [, , third = ''] = opened.ids
      expect((await opened.table.list({ order: 'oldest', after: third })).map((each) => each.id)).toEqual(
        opened.ids.slice(3),
      )
    })

    test('a row that was handed out cannot change what is stored', async () => {
      await using opened = await open()
      const [a = ''] = opened.ids
      await opened.table.insert(row(a, { tags: ['x'] }))
      const found = await opened.table.get(a)
      try {
        found?.tags.push('y') // frozen rows refuse, copies take it
      } catch (error) {
        expect(error).toBeInstanceOf(TypeError)
      }
      expect((await opened.table.get(a))?.tags).toEqual(['x'])
    })
  })
}
