import { chmod, mkdir, rm, symlink, writeFile } from 'node:fs/promises'
import { delimiter, join } from 'node:path'
import { expect, test } from 'vitest'
import { temporaryDirectory } from '../../test/temporary.ts'
import { askVersion, findProgram } from './program.ts'

async function program(path: string, text = '#!/bin/sh\necho "claude 1.2.3"\n'): Promise<string> {
  await mkdir(join(path, '..'), { recursive: true })
  await writeFile(path, text)
  await chmod(path, 0o755)
  return path
}

test('S5: a program is found on absolute PATH entries only, never in the workspace or in node_modules/.bin', async () => {
  await using place = await temporaryDirectory()
  const workspace = join(place.path, 'workspace')
  await program(join(workspace, 'claude'))
  const local = join(workspace, 'node_modules', '.bin')
  await program(join(local, 'claude'))
  const real = await program(join(place.path, 'bin', 'claude'))
  const before = process.cwd()
  process.chdir(workspace)
  try {
    const path = ['.', '', 'node_modules/.bin', local, `${local}/`, join(place.path, 'bin')].join(delimiter)
    expect(await findProgram('claude', path)).toBe(real)
    for (const name of ['./claude', 'workspace/claude', '../claude', '', '.', '..']) {
      expect(await findProgram(name, path)).toBeUndefined()
    }
    expect(await findProgram('claude', ['.', '', local].join(delimiter))).toBeUndefined()
  } finally {
    process.chdir(before)
  }
})

test('a program keeps the name it is called by, and one that was exchanged is found as it is now', async () => {
  await using place = await temporaryDirectory()
  const target = await program(join(place.path, 'lib', 'cli.js'))
  await mkdir(join(place.path, 'bin'))
  await symlink(target, join(place.path, 'bin', 'claude'))
  const [first, second] = [join(place.path, 'bin'), join(place.path, 'later')]
  const path = [first, second].join(delimiter)
  expect(await findProgram('claude', path)).toBe(join(first, 'claude'))
  await program(join(second, 'claude'))
  await rm(target)
  expect(await findProgram('claude', path)).toBe(join(second, 'claude'))
})

test('directories, and files that may not be executed, are no programs', async () => {
  await using place = await temporaryDirectory()
  await mkdir(join(place.path, 'a', 'claude'), { recursive: true })
  await chmod(await program(join(place.path, 'b', 'claude')), 0o644)
  expect(await findProgram('claude', [join(place.path, 'a'), join(place.path, 'b')].join(delimiter))).toBeUndefined()
  expect(await findProgram(join(place.path, 'a', 'claude'), '')).toBeUndefined()
})

test('the version is the first line a program prints; one that fails or says nothing has none', async () => {
  await using place = await temporaryDirectory()
  const ask = async (text: string): Promise<string | undefined> =>
    await askVersion(await program(join(place.path, `p${Math.random()}`), text), ['--version'], '/usr/bin:/bin')
  expect(await ask('#!/bin/sh\necho "codex-cli 0.169.0 $1"; echo more\n')).toBe('codex-cli 0.169.0 --version')
  expect(await ask('#!/bin/sh\nexit 1\n')).toBeUndefined()
  expect(await ask('#!/bin/sh\n')).toBeUndefined()
})
