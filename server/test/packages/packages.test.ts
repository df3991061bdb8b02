import { mkdir, mkdtemp, readFile, readdir, rm, stat, writeFile } from 'node:fs/promises'
import { homedir, tmpdir } from 'node:os'
import { delimiter, dirname, join, resolve } from 'node:path'
import { execa } from 'execa'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'

/** What a user of the published packages gets: packed, checked, installed from the tarballs, run. */

const root = resolve(import.meta.dirname, '../../..')
const tool = (name: string): string => join(root, 'server/node_modules/.bin', name)
const PATH = [dirname(process.execPath), process.env['PATH']].join(delimiter)

interface Packed {
  tarball: string
  /** The tarball, unpacked. */
  folder: string
  /** Paths in it, without the leading `package/`. */
  files: string[]
}

let work: string
let sdk: Packed
let server: Packed

async function pack(name: string): Promise<Packed> {
  const destination = join(work, name)
  await mkdir(destination, { recursive: true })
  const { packageManager } = JSON.parse(await readFile(join(root, 'package.json'), 'utf8')) as {
    packageManager: string
  }
  await execa('npx', ['--yes', packageManager, '--dir', join(root, name), 'pack', '--pack-destination', destination], {
    cwd: root,
    env: { PATH },
  })
  const file = (await readdir(destination)).find((entry) => entry.endsWith('.tgz'))
  if (!file) throw new Error(`packing ${name} left no tarball in ${destination}`)
  const tarball = join(destination, file)
  await execa('tar', ['-xzf', tarball, '-C', destination])
  const folder = join(destination, 'package')
  const entries = await readdir(folder, { recursive: true, withFileTypes: true })
  const files = entries
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(folder.length + 1))
    .toSorted()
  const unpacked = await Promise.all(files.map(async (path) => (await stat(join(folder, path))).size))
  const kilobytes = (bytes: number): string => `${(bytes / 1000).toFixed(1)} kB`
  const total = unpacked.reduce((sum, size) => sum + size, 0)
  console.log(`${file}: ${kilobytes((await stat(tarball)).size)}, ${files.length} files, ${kilobytes(total)} unpacked`)
  return { tarball, folder, files }
}

beforeAll(async () => {
  work = await mkdtemp(join(tmpdir(), 'postern-packages-'))
  sdk = await pack('sdk')
  server = await pack('server')
})

afterAll(async () => {
  await rm(work, { recursive: true, force: true })
})

describe('the tarballs', () => {
  test('hold what runs, the documents and the licence, and nothing else', () => {
    const surplus = /(^|\/)(test|tests|node_modules)\/|\.(test|contract)\.|\.map$|tsconfig|vitest|\.tgz$/
    for (const { files } of [sdk, server]) {
      expect(files.filter((file) => surplus.test(file))).toEqual([])
      expect(files).toEqual(expect.arrayContaining(['LICENSE', 'README.md', 'package.json']))
    }
    expect(sdk.files.filter((file) => !/^(dist\/.+\.(js|d\.ts)|LICENSE|README\.md|package\.json)$/.test(file))).toEqual(
      [],
    )
    expect(server.files.filter((file) => file.endsWith('.ts'))).toEqual([])
    expect(server.files).toEqual(expect.arrayContaining(['bin/postern.mjs', 'dist/main.js']))
  })

  test('name no path of the machine that packed them', async () => {
    const telling = [root, homedir()].filter((path) => path.length > 1)
    for (const { folder, files } of [sdk, server]) {
      for (const file of files) {
        const text = await readFile(join(folder, file), 'utf8')
        expect(
          telling.filter((path) => text.includes(`${path}/`)),
          file,
        ).toEqual([])
      }
    }
  })

  test('pass publint, and the types of the SDK are right for every resolver that loads ES modules', async () => {
    for (const { tarball } of [sdk, server])
      await execa(tool('publint'), ['run', tarball, '--strict'], { env: { PATH } })
    await execa(tool('attw'), [sdk.tarball, '--profile', 'esm-only'], { env: { PATH } })
  })
})

test('both install into an empty project, serve, and run a prompt through packed SDK and command line', async () => {
  const project = join(work, 'project')
  const dataDir = join(work, 'data')
  await mkdir(project)
  await writeFile(join(project, 'package.json'), JSON.stringify({ name: 'empty', private: true, type: 'module' }))
  await execa('npm', ['install', '--no-audit', '--no-fund', sdk.tarball, server.tarball], {
    cwd: project,
    env: { PATH },
  })

  const postern = join(project, 'node_modules/.bin/postern')
  const env = { PATH, POSTERN_HOME: dataDir }
  const child = execa(postern, ['serve', '--port', '0'], { cwd: project, env, reject: false })
  try {
    const url = await readyLine(child)
    await writeFile(
      join(project, 'caller.js'),
      `import { Postern } from '@postern/sdk'
       const postern = await Postern.connect()
       const workspace = await postern.workspaces.create({ tag: 'packed', agents: ['demo'] })
       const run = await postern.runs.create({ wsId: workspace.id, prompt: 'Look around and report' })
       const done = await postern.runs.waitFor(run.taskId)
       console.log(JSON.stringify({ wsId: workspace.id, status: done.status, text: done.result.text }))`,
    )
    const called = await execa(process.execPath, ['caller.js'], { cwd: project, env: { ...env, POSTERN_URL: url } })
    const { wsId, status, text } = JSON.parse(called.stdout) as { wsId: string; status: string; text: string }
    expect(status).toBe('succeeded')
    expect(text).toMatch(/no model/)

    const run = await execa(postern, ['run', 'Look around and report', '-w', wsId, '--wait'], { cwd: project, env })
    expect(run.stdout).toMatch(/no model/)
    const page = await fetch(new URL('/docs', url))
    expect(page.status).toBe(200)
  } finally {
    child.kill('SIGTERM')
  }
  expect((await child).exitCode).toBe(0)
})

/** The address of the ready line. @throws when the server ends before it prints one. */
async function readyLine(child: AsyncIterable<unknown>): Promise<string> {
  for await (const line of child) {
    const ready = /^postern listening on (\S+)$/.exec(String(line))
    if (ready?.[1]) return ready[1]
  }
  throw new Error('the server ended before it was ready')
}
