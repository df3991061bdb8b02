import { readFileSync, readdirSync } from 'node:fs'
import { dirname, join, relative, resolve } from 'node:path'
import { describe, expect, test } from 'vitest'

/**
 * The layer rule (docs/architecture.md 2) over the import statements of the sources, type imports counted: imports
 * point down, from http to nouns to machines to the model. A new arrow belongs in this table and in that page first.
 */
const MAY_IMPORT: Record<string, readonly string[]> = {
  main: ['cli', 'demo-agent'],
  cli: ['sdk'],
  // The one command that is a server rather than a client of one.
  'cli/serve': ['cli', 'server', 'config'],
  // Works when no server does: it looks at the same configuration the server would.
  'cli/doctor': ['cli', 'sdk', 'config'],
  // Takes up the workspace that an earlier tour left in the data directory.
  'cli/tour': ['cli', 'sdk', 'config'],
  // A program of its own, started as a child: it shares nothing with the server.
  'demo-agent': [],
  server: [
    'machines',
    'http',
    'workspaces',
    'runs',
    'sessions',
    'requests',
    'channels',
    'inbox',
    'issues',
    'credentials',
    'agents',
    'process',
    'events',
    'dispatch',
    'budgets',
    'store',
    'keys',
    'config',
  ],
  // The first half of the composition root.
  machines: [
    'workspaces',
    'runs',
    'sessions',
    'requests',
    'channels',
    'inbox',
    'issues',
    'credentials',
    'agents',
    'process',
    'events',
    'dispatch',
    'budgets',
    'store',
    'keys',
    'config',
  ],
  http: [
    'workspaces',
    'runs',
    'sessions',
    'requests',
    'channels',
    'inbox',
    'issues',
    'credentials',
    'agents',
    'events',
    'keys',
    'config',
  ],
  issues: ['runs', 'workspaces', 'store'],
  channels: ['sessions', 'keys', 'store'],
  sessions: ['workspaces', 'agents', 'process', 'events', 'budgets', 'store'],
  requests: ['store'],
  inbox: ['store'],
  credentials: ['keys', 'store'],
  runs: ['workspaces', 'agents', 'process', 'events', 'dispatch', 'budgets', 'store'],
  budgets: ['store'],
  workspaces: ['process', 'store'],
  events: ['store'],
  agents: [],
  process: [],
  dispatch: [],
  keys: ['store', 'config'],
  store: [],
  config: [],
  errors: [],
  model: [],
  clock: [],
  log: [],
}
/** What every part may import. */
const FOUNDATION = ['model', 'errors', 'clock', 'log']
/** Who starts programs: the one machine for it, and the demo agent, which is another program. */
const STARTS_PROGRAMS = ['process', 'demo-agent']
/** Modules that start programs. */
const PROCESS_MODULES = /^(execa|(node:)?child_process|(node:)?cluster)$/
/** Who may look at the environment of the process: the command line, which hands it on as a value. */
const READS_ENVIRONMENT = /^(config\.ts|main\.ts|cli\/.+|demo-agent\/demo-agent\.ts)$/

const sources = resolve(import.meta.dirname, '../src')

interface Source {
  /** Path below `src`, with `/`. */
  path: string
  text: string
  imports: string[]
}

const isTest = (path: string): boolean => /\.(test|contract)\.ts$/.test(path)

function readSources(folder: string): Source[] {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const file = join(folder, entry.name)
    if (entry.isDirectory()) return readSources(file)
    if (!entry.name.endsWith('.ts')) return []
    const text = readFileSync(file, 'utf8')
    return [{ path: relative(sources, file).replaceAll('\\', '/'), text, imports: importsOf(text) }]
  })
}

/** The specifiers of `import … from`, `export … from`, `import '…'` and `import('…')`. */
function importsOf(text: string): string[] {
  const code = text.replace(/^\s*(\/\/|\*|\/\*).*$/gm, '')
  const statements = code.matchAll(/^\s*(?:import|export)\b[^'";]*?\bfrom\s*['"]([^'"]+)['"]/gm)
  const bare = code.matchAll(/^\s*import\s*['"]([^'"]+)['"]/gm)
  const dynamic = code.matchAll(/\bimport\(\s*['"]([^'"]+)['"]/g)
  return [...statements, ...bare, ...dynamic].map((match) => match[1] ?? '')
}

/** The part a file belongs to: its first folder, or its own name at the top. */
const partOf = (path: string): string => path.split('/')[0]?.replace(/\.ts$/, '') ?? path

function arrowsOf(source: Source): string[] {
  const part = partOf(source.path)
  return source.imports
    .map((specifier) => {
      if (specifier === '@postern/sdk') return 'sdk'
      if (!specifier.startsWith('.')) return part
      const target = relative(sources, resolve(sources, dirname(source.path), specifier)).replaceAll('\\', '/')
      return target.startsWith('..') ? target : partOf(target)
    })
    .filter((target) => target !== part)
}

const all = readSources(sources)
const product = all.filter((source) => !isTest(source.path))

describe('the layers', () => {
  test('the reader of imports sees every form of them', () => {
    const text = [
      "import { a } from './a.ts'",
      "import type { B } from './b.ts'",
      "import {\n  c,\n  d,\n} from './c.ts'",
      "export { e } from './e.ts'",
      "import './f.ts'",
      "const g = await import('./g.ts')",
      "// import './not.ts'",
    ].join('\n')
    expect(importsOf(text).toSorted()).toEqual(['./a.ts', './b.ts', './c.ts', './e.ts', './f.ts', './g.ts'])
  })

  test('every part of the sources has its row in the table', () => {
    expect([...new Set(product.map((source) => partOf(source.path)))].filter((part) => !(part in MAY_IMPORT))).toEqual(
      [],
    )
  })

  test('imports point down', () => {
    const wrong = product.flatMap((source) => {
      const key = source.path.replace(/\.ts$/, '')
      const allowed = [...(MAY_IMPORT[key] ?? MAY_IMPORT[partOf(source.path)] ?? []), ...FOUNDATION]
      return arrowsOf(source)
        .filter((target) => !allowed.includes(target))
        .map((target) => `${source.path} imports ${target}`)
    })
    expect(wrong).toEqual([])
  })

  test('tests beside the sources import no layer above what they test', () => {
    const wrong = all
      .filter((source) => isTest(source.path) && !/^(cli|http)\//.test(source.path))
      .flatMap((source) =>
        arrowsOf(source)
          .filter((target) => ['http', 'cli', 'server', 'main'].includes(target))
          .map((target) => `${source.path} imports ${target}`),
      )
    expect(wrong).toEqual([])
  })

  test('only process/ starts programs, and the demo agent its own', () => {
    const wrong = product.filter(
      (source) =>
        !STARTS_PROGRAMS.includes(partOf(source.path)) && source.imports.some((name) => PROCESS_MODULES.test(name)),
    )
    expect(wrong.map((source) => source.path)).toEqual([])
  })

  test('only the configuration and the command line read the environment', () => {
    const wrong = product.filter(
      (source) => /\bprocess\.env\b/.test(source.text) && !READS_ENVIRONMENT.test(source.path),
    )
    expect(wrong.map((source) => source.path)).toEqual([])
  })
})
