import { mkdir, readdir, readFile, rm, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { git, repository, typed, type Place } from '../../test/repositories.ts'

describe('S11 a hostile repository', () => {
  test.each(['process', 'clean'])(
    'executes nothing, neither for snapshots nor for worktrees (filter by %s)',
    async (kind) => {
      await using place = await repository()
      const { planted } = await poison(place)
      if (kind === 'clean') await typed(place.repository, 'config', '--unset', 'filter.evil.process')
      await typed(place.repository, 'status').catch(() => undefined)
      expect(await readdir(planted)).toContain('fsmonitor') // the traps work
      await typed(place.repository, 'add', '-A').catch(() => undefined)
      expect(await readdir(planted)).toContain(kind)
      await rm(planted, { recursive: true })
      await mkdir(planted)

      await exercise(place)
      expect(await readdir(planted)).toEqual([])
    },
  )

  test('is not obeyed in a submodule either', async () => {
    await using place = await repository()
    const { repository: directory } = place
    const module = join(directory, 'module')
    await typed(place.path, 'clone', '-q', directory, module)
    const { planted } = await poison({ ...place, repository: module })
    await typed(directory, 'add', 'module')
    await typed(directory, 'commit', '-q', '-m', 'a repository within')
    await writeFile(join(module, 'kept.txt'), 'changed\n')
    await rm(planted, { recursive: true })
    await mkdir(planted)
    await typed(directory, 'add', '--all').catch(() => undefined)
    expect(await readdir(planted)).not.toEqual([]) // the traps work
    await rm(planted, { recursive: true })
    await mkdir(planted)
    await exercise(place)
    expect(await readdir(planted)).toEqual([])
  })

  test('is not obeyed when an agent put one into its worktree, which is kept', async () => {
    await using place = await repository()
    const { repository: directory } = place
    const worktree = join(place.path, 'worktree')
    const seed = join(directory, 'module')
    await typed(place.path, 'clone', '-q', directory, seed)
    await typed(directory, 'add', 'module')
    await typed(directory, 'commit', '-q', '-m', 'a repository within')
    const commit = (await git.describe(seed))?.headSha
    await git.addWorktree(directory, worktree, 'postern/run')
    const module = join(worktree, 'module')
    await typed(place.path, 'clone', '-q', directory, module)
    const { planted } = await poison({ ...place, repository: module })
    await typed(module, 'update-ref', 'refs/heads/main', commit ?? '')
    await rm(planted, { recursive: true })
    await mkdir(planted)
    const base = (await git.describe(worktree))?.headSha ?? null
    expect(await git.removeWorktree(worktree, 'postern/run', base)).toBe(false)
    expect(await readdir(planted)).toEqual([])
    await typed(worktree, 'status').catch(() => undefined)
    expect(await readdir(planted)).not.toEqual([]) // the traps work
  })

  test('whose filter cannot be switched off by name gets no worktree', async () => {
    await using place = await repository()
    const { planted } = await poison(place, 'a=b')
    await expect(git.addWorktree(place.repository, join(place.path, 'w'), 'postern/x')).rejects.toThrow('switched off')
    await git.snapshot(place.repository, place.scratch)
    expect(await readdir(planted)).toEqual([])
  })
})

/** Everything we do with git, once. */
async function exercise({ repository: directory, path, scratch }: Place): Promise<void> {
  await git.describe(directory)
  const before = await git.snapshot(directory, scratch)
  await writeFile(join(directory, 'kept.txt'), 'changed\n')
  await writeFile(join(directory, 'new.txt'), 'new\n')
  const after = await git.snapshot(directory, scratch)
  const { filesChanged } = await git.diff(directory, scratch, before?.tree ?? '', after?.tree ?? '')
  expect(filesChanged).toBe(2)
  const worktree = join(path, 'worktree')
  await git.addWorktree(directory, worktree, 'postern/run')
  const base = (await git.describe(worktree))?.headSha ?? null
  const inside = join(path, 'scratch-2')
  await git.snapshot(worktree, inside)
  expect(await git.removeWorktree(worktree, 'postern/run', base)).toBe(true)
}

/** Every way we know by which a repository has git run a program: each plants a file. */
async function poison(place: Place, filter = 'evil'): Promise<{ planted: string }> {
  const { repository: directory, path } = place
  const planted = join(path, 'planted')
  await mkdir(planted)
  const trap = (name: string): string => `touch '${planted}/${name}'; cat`
  await writeFile(join(directory, '.gitattributes'), `* filter=${filter} diff=evil merge=evil\n`)
  await typed(directory, 'add', '-A')
  await typed(directory, 'commit', '-q', '-m', 'attributes')
  const hooks = join(directory, '.git', 'hooks')
  await mkdir(hooks, { recursive: true })
  const names = [
    'post-checkout',
    'pre-commit',
    'post-index-change',
    'reference-transaction',
    'fsmonitor-watchman',
    'post-commit',
  ]
  for (const name of names) {
    await writeFile(join(hooks, name), `#!/bin/sh\ntouch '${planted}/hook-${name}'\n`, { mode: 0o755 })
  }
  const monitor = join(path, 'monitor.sh')
  await writeFile(monitor, `#!/bin/sh\ntouch '${planted}/fsmonitor'\nexit 1\n`, { mode: 0o755 })
  const quote = (text: string): string => `"${text.replaceAll('\\', '\\\\').replaceAll('"', '\\"')}"`
  const included = join(directory, '.git', 'included')
  await writeFile(included, `[filter ${quote(filter)}]\n\tsmudge = ${quote(trap('smudge'))}\n`)
  const config = [
    '[core]',
    `\tfsmonitor = ${quote(monitor)}`,
    `\thooksPath = ${quote(hooks)}`,
    ...['sshCommand', 'askPass', 'pager', 'editor', 'gitProxy', 'alternateRefsCommand'].map(
      (name) => `\t${name} = ${quote(trap(name))}`,
    ),
    `[filter ${quote(filter)}]`,
    `\tclean = ${quote(trap('clean'))}`,
    `\tprocess = ${quote(trap('process'))}`,
    '\trequired = true',
    '[include]',
    `\tpath = ${quote(included)}`,
    '[diff]',
    `\texternal = ${quote(trap('diff-external'))}`,
    '[diff "evil"]',
    `\tcommand = ${quote(trap('diff-command'))}`,
    `\ttextconv = ${quote(trap('textconv'))}`,
    '[merge "evil"]',
    `\tdriver = ${quote(trap('merge-driver'))}`,
    '[hook "evil"]',
    '\tevent = post-checkout',
    `\tcommand = ${quote(trap('configured-hook'))}`,
    '[credential]',
    `\thelper = ${quote(`!${trap('credential')}`)}`,
    '[gpg]',
    `\tprogram = ${quote(trap('gpg'))}`,
    '[commit]',
    '\tgpgSign = true',
    '[log]',
    '\tshowSignature = true',
    ...['status', 'add', 'diff', 'worktree'].flatMap((name) => [
      '[alias]',
      `\t${name} = ${quote(`!${trap(`alias-${name}`)}`)}`,
    ]),
    '[remote "origin"]',
    `\turl = ${quote(`ext::sh -c "touch ${planted}/remote"`)}`,
    '\tpromisor = true',
    '\tpartialclonefilter = blob:none',
    '[submodule]',
    '\trecurse = true',
    '[status]',
    '\tsubmoduleSummary = true',
  ].join('\n')
  const file = join(directory, '.git', 'config')
  await writeFile(file, `${await readFile(file, 'utf8')}${config}\n`)
  // So that git has to look at every file again.
  for (const name of ['kept.txt', '.gitattributes']) await utimes(join(directory, name), 1, 1)
  await rm(planted, { recursive: true })
  await mkdir(planted)
  return { planted }
}
