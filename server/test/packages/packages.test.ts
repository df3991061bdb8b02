import { mkdir, mkdtemp, readFile, readdir, rm, stat, writeFile } from 'node:fs/promises'
import { homedir, tmpdir } from 'node:os'
import { delimiter, dirname, join, resolve } from 'node:path'
import { execa } from 'execa'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { serve } from '../server-process.ts'

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
let packedSdk: Packed
let packedServer: Packed

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
  packedSdk = await pack('sdk')
  packedServer = await pack('server')
})

afterAll(async () => {
  await rm(work, { recursive: true, force: true })
})

describe('the tarballs', () => {
  test('hold what runs, the documents and the licence, and nothing else', () => {
    const surplus = /(^|\/)(test|tests|node_modules)\/|\.(test|contract)\.|\.map$|tsconfig|vitest|\.tgz$/
    for (const { files } of [packedSdk, packedServer]) {
      expect(files.filter((file) => surplus.test(file))).toEqual([])
      expect(files).toEqual(expect.arrayContaining(['LICENSE', 'README.md', 'package.json']))
    }
    expect(
      packedSdk.files.filter((file) => !/^(dist\/.+\.(js|d\.ts)|LICENSE|README\.md|package\.json)$/.test(file)),
    ).toEqual([])
    expect(packedServer.files.filter((file) => file.endsWith('.ts'))).toEqual([])
    expect(packedServer.files).toEqual(expect.arrayContaining(['bin/postern.mjs', 'dist/main.js']))
  })

  test('name no path of the machine that packed them', async () => {
    const telling = [root, homedir()].filter((path) => path.length > 1)
    for (const { folder, files } of [packedSdk, packedServer]) {
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
    for (const { tarball } of [packedSdk, packedServer])
      await execa(tool('publint'), ['run', tarball, '--strict'], { env: { PATH } })
    await execa(tool('attw'), [packedSdk.tarball, '--profile', 'esm-only'], { env: { PATH } })
  })
})

/** The oldest line of Node that the packages run on, at the version that their `engines` name first. */
const OLDEST_NODE = '22.23.3'

/** Absolute path of another Node, from its npm package. */
async function otherNode(version: string): Promise<string> {
  const folder = join(work, `node-${version}`)
  await mkdir(folder)
  await execa('npm', ['install', '--no-audit', '--no-fund', '--prefix', folder, `node@${version}`], { env: { PATH } })
  return join(folder, 'node_modules/node/bin/node')
}

test('both install into an empty project, serve, and run a prompt through packed SDK and command line', async () => {
  const project = join(work, 'project')
  const dataDir = join(work, 'data')
  await mkdir(project)
  await writeFile(join(project, 'package.json'), JSON.stringify({ name: 'empty', private: true, type: 'module' }))
  await execa('npm', ['install', '--no-audit', '--no-fund', packedSdk.tarball, packedServer.tarball], {
    cwd: project,
    env: { PATH },
  })

  const postern = join(project, 'node_modules/.bin/postern')
  const server = await serve({ dataDir, postern: [postern], env: { PATH } })
  const env = { PATH, POSTERN_HOME: dataDir }
  try {
    await writeFile(
      join(project, 'caller.js'),
      `import { Postern } from '@postern/sdk'
       const postern = await Postern.connect()
       const workspace = await postern.workspaces.create({ tag: 'packed', agents: ['demo'] })
       const run = await postern.runs.create({ wsId: workspace.id, prompt: 'Look around and report' })
       const done = await postern.runs.waitFor(run.taskId)
       console.log(JSON.stringify({ wsId: workspace.id, status: done.status, text: done.result.text }))`,
    )
    const called = await execa(process.execPath, ['caller.js'], { cwd: project, env })
    const { wsId, status, text } = JSON.parse(called.stdout) as { wsId: string; status: string; text: string }
    expect(status).toBe('succeeded')
    expect(text).toMatch(/no model/)

    const run = await execa(postern, ['run', 'Look around and report', '-w', wsId, '--wait'], { cwd: project, env })
    expect(run.stdout).toMatch(/no model/)
    expect((await fetch(new URL('/docs', server.url))).status).toBe(200)
  } finally {
    expect(await server.end('SIGTERM')).toMatchObject({ code: 0 })
  }
})

test.each(['this', OLDEST_NODE])('the tour passes from the installed packages on Node %s', async (version) => {
  const node = version === 'this' ? process.execPath : await otherNode(version)
  expect((await execa(node, ['--version'])).stdout).toBe(version === 'this' ? process.version : `v${version}`)
  const command = join(work, 'project/node_modules/postern/bin/postern.mjs')
  const env = {
    PATH: [dirname(node), PATH].join(delimiter),
    POSTERN_HOME: join(work, `tour-${version}`),
    POSTERN_PORT: '0',
  }
  const { stdout } = await execa(node, [command, 'tour', '--exit'], { cwd: join(work, 'project'), env })
  expect(stdout).toMatch(/tour passed/)
})
