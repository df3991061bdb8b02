import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { decodeLine, encodeLine } from '../src/store/journal.ts'

interface Change {
  line: number
  table: string
  id: string
  row?: object
}

/** Gives a row its earlier values in what a dead server left: as if that had died before it changed them. */
export function setBack(dataDir: string, table: string, id: string, earlier: object): void {
  const state = JSON.parse(readFileSync(join(dataDir, 'db.json'), 'utf8')) as {
    line: number
    tables: Record<string, Record<string, object>>
  }
  const journal = join(dataDir, 'changes.journal')
  // Without what follows the last line break: the death cut it off.
  const lines = readFileSync(journal, 'utf8').split('\n').slice(0, -1)
  const changes = lines.map((line) => decodeLine(line) as Change)
  const last = changes.findLast((change) => change.table === table && change.id === id)
  const row = last ? last.row : state.tables[table]?.[id]
  if (!row) throw new Error(`there is no row ${table}/${id}`)
  const line = Math.max(state.line, changes.at(-1)?.line ?? 0) + 1
  const back: Change = { line, table, id, row: { ...row, ...earlier } }
  writeFileSync(journal, [...lines, encodeLine(back)].join('\n'))
}
