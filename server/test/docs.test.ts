import { readFile, readdir } from 'node:fs/promises'
import { dirname, join, relative, resolve } from 'node:path'
import { execa } from 'execa'
import { describe, expect, test } from 'vitest'
import { ConfigFile } from '../src/config.ts'
import { temporaryDirectory } from './temporary.ts'

/** The documents and what they point at: pages, sections, decisions, and the test of each threat. */

const root = resolve(import.meta.dirname, '../..')
const docs = join(root, 'server/docs')

async function filesIn(folder: string, wanted: RegExp): Promise<string[]> {
  const entries = await readdir(join(root, folder), { recursive: true, withFileTypes: true })
  return entries
    .filter((entry) => entry.isFile() && wanted.test(entry.name))
    .map((entry) => join(entry.parentPath, entry.name))
    .filter((path) => !/\/(node_modules|dist|generated)\//.test(path))
}

const pages = [join(root, 'README.md'), ...(await filesIn('server/docs', /\.md$/))]
const tests = await filesIn('server', /\.test\.ts$/)
const sources = [
  ...(await filesIn('server/src', /\.ts$/)),
  ...(await filesIn('server/test', /\.ts$/)),
  ...(await filesIn('sdk/src', /\.ts$/)),
]
const textOf = new Map(
  await Promise.all(
    [...new Set([...pages, ...tests, ...sources])].map(async (path) => [path, await readFile(path, 'utf8')] as const),
  ),
)
const read = (path: string): string => textOf.get(path) ?? ''
const nameOf = (path: string): string => relative(root, path)

describe('the documents', () => {
  test('link only to what exists', async () => {
    const missing: string[] = []
    for (const page of pages) {
      for (const [, target = ''] of read(page).matchAll(/\]\(([^)#\s]+)(?:#[^)]*)?\)/g)) {
        if (/^[a-z]+:/.test(target)) continue
        await readFile(resolve(dirname(page), target)).catch((error: NodeJS.ErrnoException) => {
          if (error.code !== 'EISDIR') missing.push(`${nameOf(page)}: ${target}`)
        })
      }
    }
    expect(missing).toEqual([])
  })

  test('have the sections and decisions that the code cites', async () => {
    const decisions = (await readdir(join(docs, 'decisions'))).map((name) => name.slice(0, 4))
    const missing: string[] = []
    for (const path of [...sources, ...pages]) {
      for (const [cited, page = '', section = ''] of read(path).matchAll(/\bdocs\/([a-z]+)\.md (\d+(?:\.\d+)?)/g)) {
        const headings = read(join(docs, `${page}.md`))
        if (!new RegExp(`^##+ ${section.replace('.', '\\.')}\\.? `, 'm').test(headings))
          missing.push(`${nameOf(path)}: ${cited}`)
      }
      for (const [cited, number = ''] of read(path).matchAll(/\b[dD]ecisions? (\d{4})\b/g)) {
        if (!decisions.includes(number)) missing.push(`${nameOf(path)}: ${cited}`)
      }
    }
    expect(missing).toEqual([])
  })

  test('name a test for every threat, and that test carries its id', () => {
    const rows = read(join(docs, 'security.md'))
      .split('\n')
      .map((line) => /^\| ([A-Z]\d+) \|.*\| ([^|]+) \|$/.exec(line))
      .flatMap((match) => (match?.[1] && match[2] ? [{ id: match[1], tests: match[2] }] : []))
    expect(rows.length).toBeGreaterThan(0)
    const missing = rows.flatMap(({ id, tests: named }) =>
      [...named.matchAll(/`([^`]+)`(?: as ([A-Z]\d+))?/g)].flatMap(([, file = '', other = id]) => {
        const text = read(join(root, 'server', file))
        return new RegExp(`['"\`][^'"\`\\n]*\\b${other}\\b`).test(text) ? [] : [`${id}: ${file}`]
      }),
    )
    expect(missing).toEqual([])
    expect(rows.filter(({ tests: named }) => !named.includes('`') && !/\*\*later\*\*|documented/.test(named))).toEqual(
      [],
    )
  })

  test('of the command line name commands and flags that exist, and leave none out', async () => {
    const rows = [...read(join(root, 'README.md')).matchAll(/^\| (`postern .*) \| (.*) \| .* \|$/gm)]
    expect(rows.length).toBeGreaterThan(5)
    for (const [, command = '', flags = ''] of rows) {
      const words = /^`postern ((?:[a-z]+ ?)+)/.exec(command)?.[1]?.trim().split(' ') ?? []
      // A group stands for its `ls`.
      if (['runs', 'inbox', 'requests'].includes(words.join(' '))) words.push('ls')
      const { stdout } = await execa(process.execPath, [join(root, 'server/bin/postern.mjs'), ...words, '--help'])
      // For a word it does not know it would explain the command before it.
      expect(stdout).toMatch(new RegExp(`^Usage: postern ${words.join('(\\|ws)? ')}(\\|ws)? `, 'm'))
      const named: string[] = flags.match(/(?<![\w-])--?[a-z][a-z-]*/g) ?? []
      const own = stdout.split('\nGlobal Options:')[0] ?? ''
      const there = [...own.matchAll(/^ +(?:(-\w), )?(--[a-z-]+)/gm)].filter(([, , long]) => long !== '--help')
      for (const flag of named)
        expect(
          there.some(([, short, long]) => flag === short || flag === long),
          `${command} ${flag}`,
        ).toBe(true)
      for (const [, short = '', long = ''] of there)
        expect(named.includes(long) || named.includes(short), `${command} lacks ${long}`).toBe(true)
    }
  })

  test('show the tour as it is', async () => {
    await using directory = await temporaryDirectory()
    const env = { POSTERN_HOME: join(directory.path, 'ada/.postern'), POSTERN_PORT: '0' }
    const { stdout } = await execa(process.execPath, [join(root, 'server/bin/postern.mjs'), 'tour', '--exit'], { env })
    // Up to the line after which a tour without --exit goes on.
    const [shown = ''] =
      /(?<=^\$ npm start\nsetting up: .*\n)[^]*?^✓ tour passed.*/m.exec(read(join(root, 'README.md'))) ?? []
    expect(shown).not.toBe('')
    const steady = (text: string): string[] =>
      text
        .replaceAll(/(headless|inb|sess|grant)_\w{26}|\d+(\.\d+)?|\/\S*(?=\/ada\/)/g, '#')
        .split('\n')
        .map((line) => line.replace(/ Still serving;.*$/, '').trimEnd())
    for (const line of steady(shown.trimEnd())) {
      const cut = line.endsWith('…') ? line.slice(0, -1) : undefined
      const printed = steady(stdout).some((each) => (cut === undefined ? each === line : each.startsWith(cut)))
      expect(printed, `${line}\nis not in\n${stdout}`).toBe(true)
    }
    expect(stdout.split('\n').findIndex((line) => line.includes('tour passed'))).toBe(
      shown.trimEnd().split('\n').length - 1,
    )
  })

  test('list every reason for which a run does not succeed', () => {
    const [union = ''] = /export type RunReason =[^=]*/.exec(read(join(root, 'server/src/model.ts'))) ?? []
    const reasons = [...union.matchAll(/\| '(\w+)'/g)].map(([, reason = '']) => reason)
    expect(reasons.length).toBeGreaterThan(0)
    const listed = read(join(docs, 'contract.md'))
    expect(reasons.filter((reason) => !listed.includes(`\`${reason}\``))).toEqual([])
  })

  test('show a configuration that is one', () => {
    for (const page of [join(root, 'README.md'), join(docs, 'contract.md')]) {
      const shown = [...read(page).matchAll(/^```json\n([^]*?)^```$/gm)].map(
        ([, json = '']) => JSON.parse(json) as unknown,
      )
      expect(shown.length).toBeGreaterThan(0)
      for (const config of shown) expect(() => ConfigFile.parse(config)).not.toThrow()
    }
  })
})

test('the table of operations names everything that the server keeps in its data directory', () => {
  const places = sources
    .filter((path) => path.startsWith(join(root, 'server/src')))
    .flatMap((path) =>
      [...(textOf.get(path) ?? '').matchAll(/join\(dataDir, '([a-z][^']*)'/g)].map(([, name = '']) => name),
    )
  expect(places.length).toBeGreaterThan(15)
  const [, table = ''] = (textOf.get(join(docs, 'operations.md')) ?? '').split('\n## ')
  const missing = [...new Set(places)].filter((name) => !table.includes(`\`${name}\``) && !table.includes(`\`${name}/`))
  expect(missing).toEqual([])
})
