import { mkdir, realpath, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { runQuick } from '../src/process/quick.ts'
import { createGit } from '../src/workspaces/git.ts'
import { temporaryDirectory } from './temporary.ts'

const environment = {
  PATH: process.env['PATH'],
  HOME: '/nonexistent',
  GIT_AUTHOR_NAME: 'a',
  GIT_AUTHOR_EMAIL: 'a@example',
  GIT_COMMITTER_NAME: 'a',
  GIT_COMMITTER_EMAIL: 'a@example',
}
export const git = createGit({ environment, binDirectory: '/nonexistent' })

/** What a person would type; with all of git's configuration in force. */
export async function typed(directory: string, ...args: string[]): Promise<string> {
  const result = await runQuick({
    program: '/usr/bin/env',
    args: ['git', ...args],
    cwd: directory,
    env: { ...environment, PATH: environment.PATH ?? '' },
    timeoutMs: 30_000,
    maxBytes: 10_000_000,
  })
  if (result.exitCode !== 0) throw new Error(`git ${args.join(' ')}: ${result.stderr}`)
  return result.stdout.toString()
}

/** A repository with one commit, which holds `kept.txt` and `sub/inner.txt`. */
export interface Place extends AsyncDisposable {
  repository: string
  scratch: string
  path: string
}
export async function repository(): Promise<Place> {
  const root = await temporaryDirectory()
  const path = join(await realpath(root.path), 'repository')
  await mkdir(join(path, 'sub'), { recursive: true })
  await typed(path, 'init', '-q', '-b', 'main')
  await writeFile(join(path, 'kept.txt'), 'one\n')
  await writeFile(join(path, 'sub', 'inner.txt'), 'inner\n')
  await typed(path, 'add', '-A')
  await typed(path, 'commit', '-q', '-m', 'first')
  const dispose = async (): Promise<void> => await root[Symbol.asyncDispose]()
  return { repository: path, scratch: join(root.path, 'scratch'), path: root.path, [Symbol.asyncDispose]: dispose }
}
