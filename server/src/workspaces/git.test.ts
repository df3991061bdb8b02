import { chmod, mkdir, readdir, readFile, rename, rm, symlink, truncate, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { git, repository, typed } from '../../test/repositories.ts'
import { runQuick } from '../process/quick.ts'
import { MAX_FILE_BYTES } from './snapshots.ts'

/** The snapshot before and after `work`, and the patch between them. */
async function changed(
  directory: string,
  scratch: string,
  work: () => Promise<unknown>,
): Promise<{ text: string; files: number }> {
  const before = await git.snapshot(directory, scratch)
  await work()
  const after = await git.snapshot(directory, scratch)
  const { patch, filesChanged } = await git.diff(directory, scratch, before?.tree ?? '', after?.tree ?? '')
  return { text: patch.toString('latin1'), files: filesChanged }
}

describe('where a repository stands', () => {
  test('is its commit and branch', async () => {
    await using place = await repository()
    const headSha = (await typed(place.repository, 'rev-parse', 'HEAD')).trim()
    expect(await git.describe(place.repository)).toEqual({ headSha, branch: 'main' })
    expect(await git.describe(join(place.repository, 'sub'))).toEqual({ headSha, branch: 'main' })
  })

  test('is found in packed references, through symbolic ones, and in a worktree', async () => {
    await using place = await repository()
    const headSha = (await typed(place.repository, 'rev-parse', 'HEAD')).trim()
    await typed(place.repository, 'pack-refs', '--all')
    expect(await git.describe(place.repository)).toEqual({ headSha, branch: 'main' })
    await typed(place.repository, 'symbolic-ref', 'refs/heads/alias', 'refs/heads/main')
    await typed(place.repository, 'symbolic-ref', 'HEAD', 'refs/heads/alias')
    expect(await git.describe(place.repository)).toEqual({ headSha, branch: 'alias' })
    const other = join(place.path, 'other')
    await typed(place.repository, 'worktree', 'add', '-q', '-b', 'feature/x', other, 'main')
    expect(await git.describe(other)).toEqual({ headSha, branch: 'feature/x' })
  })

  test('has no commit before the first, and no branch when detached', async () => {
    await using place = await repository()
    const headSha = (await typed(place.repository, 'rev-parse', 'HEAD')).trim()
    await typed(place.repository, 'checkout', '-q', '--detach')
    expect(await git.describe(place.repository)).toEqual({ headSha, branch: null })
    const fresh = join(place.path, 'fresh')
    await mkdir(fresh)
    await git.init(fresh)
    expect(await git.describe(fresh)).toEqual({ headSha: null, branch: 'main' })
  })

  test('is nowhere outside git, in a bare repository and in .git', async () => {
    await using place = await repository()
    await typed(place.path, 'clone', '-q', '--bare', place.repository, 'bare.git')
    for (const directory of [place.path, join(place.path, 'bare.git'), join(place.repository, '.git', 'refs')]) {
      expect(await git.describe(directory)).toBeUndefined()
      expect(await git.snapshot(directory, place.scratch)).toBeUndefined()
    }
  })

  test('does not wait for a named pipe in the place of a file', async () => {
    await using place = await repository()
    const head = join(place.repository, '.git', 'HEAD')
    await rm(head)
    await runQuick({
      program: '/usr/bin/env',
      args: ['mkfifo', head],
      cwd: '/',
      env: {},
      timeoutMs: 5_000,
      maxBytes: 100,
    })
    expect(await git.describe(place.repository)).toBeUndefined()
  })
})

describe('the patch of a run', () => {
  test('holds what was changed, added, removed and committed, and git can apply it', async () => {
    await using place = await repository()
    const { repository: directory, scratch } = place
    await writeFile(join(directory, 'untracked.txt'), 'was there\n')
    const copy = join(place.path, 'copy')
    await typed(place.path, 'clone', '-q', directory, copy)
    await writeFile(join(copy, 'untracked.txt'), 'was there\n')

    const { text, files } = await changed(directory, scratch, async () => {
      await writeFile(join(directory, 'kept.txt'), 'two\n')
      await writeFile(join(directory, 'new ü.txt'), 'new\n')
      await writeFile(join(directory, 'binary'), Buffer.from([0, 1, 2, 255]))
      await writeFile(join(directory, 'committed.txt'), 'committed\n')
      await typed(directory, 'add', 'committed.txt')
      await typed(directory, 'commit', '-q', '-m', 'second')
      await rm(join(directory, 'sub'), { recursive: true })
    })
    expect(files).toBe(5)
    expect(text).not.toContain('untracked.txt')
    await writeFile(join(place.path, 'run.patch'), text, 'latin1')
    await typed(copy, 'apply', join(place.path, 'run.patch'))
    expect((await readdir(copy)).toSorted()).toEqual(
      ['.git', 'binary', 'committed.txt', 'kept.txt', 'new ü.txt', 'untracked.txt'].toSorted(),
    )
    expect(await readFile(join(copy, 'binary'))).toEqual(Buffer.from([0, 1, 2, 255]))
    expect(await readFile(join(copy, 'kept.txt'), 'utf8')).toBe('two\n')
  })

  test('is empty, and takes no further call, when nothing changed', async () => {
    await using place = await repository()
    const first = await git.snapshot(place.repository, place.scratch)
    await utimes(join(place.repository, 'kept.txt'), 1, 1) // touched, not changed
    const second = await git.snapshot(place.repository, place.scratch)
    expect(second?.tree).toBe(first?.tree)
    const none = await git.diff(place.repository, place.scratch, first?.tree ?? '', second?.tree ?? '')
    expect(none).toEqual({ patch: Buffer.alloc(0), filesChanged: 0 })
  })

  test('is empty beside a file that is left out of it', async () => {
    await using place = await repository()
    const { repository: directory, scratch } = place
    await writeFile(join(directory, 'large'), '')
    await truncate(join(directory, 'large'), MAX_FILE_BYTES + 1)
    const { text, files } = await changed(directory, scratch, () => Promise.resolve())
    expect([text, files]).toEqual(['', 0])
  })

  test('sees a change of the same size in the same second', async () => {
    await using place = await repository()
    const { text } = await changed(place.repository, place.scratch, () =>
      writeFile(join(place.repository, 'kept.txt'), 'ONE\n'),
    )
    expect(text).toContain('+ONE')
  })

  test('holds only what lies in a workspace that is a part of the repository', async () => {
    await using place = await repository()
    const directory = join(place.repository, 'sub')
    const { text, files } = await changed(directory, place.scratch, async () => {
      await writeFile(join(directory, 'inner.txt'), 'changed\n')
      await writeFile(join(place.repository, 'kept.txt'), 'elsewhere\n')
    })
    expect(files).toBe(1)
    expect(text).toContain('diff --git a/inner.txt b/inner.txt')
    expect(text).not.toContain('elsewhere')
  })

  test('begins from nothing in a repository without a commit', async () => {
    await using place = await repository()
    const fresh = join(place.path, 'fresh')
    await mkdir(fresh)
    await git.init(fresh)
    const { text, files } = await changed(fresh, place.scratch, () => writeFile(join(fresh, 'a.txt'), 'a\n'))
    expect(files).toBe(1)
    expect(text).toContain('new file mode')
  })

  test('leaves out what is ignored, and keeps what is ignored only now', async () => {
    await using place = await repository()
    await writeFile(join(place.repository, '.gitignore'), 'out/\n')
    await writeFile(join(place.repository, 'notes.txt'), 'mine\n')
    const { text, files } = await changed(place.repository, place.scratch, async () => {
      await mkdir(join(place.repository, 'out'))
      await writeFile(join(place.repository, 'out', 'x'), 'x\n')
      await writeFile(join(place.repository, '.gitignore'), 'out/\nnotes.txt\n')
    })
    expect(files).toBe(1)
    expect(text).toContain('.gitignore')
    expect(text).not.toContain('mine')
  })

  test('knows what .git/info/exclude ignores', async () => {
    await using place = await repository()
    await writeFile(join(place.repository, '.git', 'info', 'exclude'), 'private\n')
    const { files } = await changed(place.repository, place.scratch, () =>
      writeFile(join(place.repository, 'private'), 'x'),
    )
    expect(files).toBe(0)
  })

  test('survives files that became directories, directories that became files and links', async () => {
    await using place = await repository()
    const directory = place.repository
    await mkdir(join(directory, 'folder'))
    await writeFile(join(directory, 'folder', 'inner.txt'), 'inner\n')
    await typed(directory, 'add', '-A')
    await typed(directory, 'commit', '-q', '-m', 'folder')
    const { text, files } = await changed(directory, place.scratch, async () => {
      await rm(join(directory, 'kept.txt'))
      await mkdir(join(directory, 'kept.txt'))
      await writeFile(join(directory, 'kept.txt', 'deep'), 'deep\n')
      await rename(join(directory, 'sub'), join(directory, 'moved'))
      await writeFile(join(directory, 'sub'), 'a file now\n')
      await rm(join(directory, 'folder'), { recursive: true })
      await symlink('moved', join(directory, 'folder'))
    })
    expect(files).toBe(7)
    expect(text).toContain('new file mode 120000')
  })

  test('leaves out what may not be read, what is too large and repositories within', async () => {
    await using place = await repository()
    const directory = place.repository
    const { text, files } = await changed(directory, place.scratch, async () => {
      await writeFile(join(directory, 'fine.txt'), 'fine\n')
      await writeFile(join(directory, 'secret.txt'), 'secret\n')
      await chmod(join(directory, 'secret.txt'), 0)
      await writeFile(join(directory, 'large'), Buffer.alloc(MAX_FILE_BYTES + 1))
      await mkdir(join(directory, 'nested'))
      await typed(join(directory, 'nested'), 'init', '-q')
      await writeFile(join(directory, 'nested', 'x'), 'x\n')
    })
    // Root may read everything.
    expect(files).toBe(process.getuid?.() === 0 ? 2 : 1)
    expect(text).toContain('fine.txt')
    expect(text).not.toContain('large')
    expect(text).not.toContain('nested')
  })

  test('survives names that are no text, and a merge that stopped half way', async () => {
    await using place = await repository()
    const directory = place.repository
    await typed(directory, 'checkout', '-q', '-b', 'theirs')
    await writeFile(join(directory, 'kept.txt'), 'theirs\n')
    await typed(directory, 'commit', '-q', '-a', '-m', 'theirs')
    await typed(directory, 'checkout', '-q', 'main')
    await writeFile(join(directory, 'kept.txt'), 'ours\n')
    await typed(directory, 'commit', '-q', '-a', '-m', 'ours')
    const { text, files } = await changed(directory, place.scratch, async () => {
      await typed(directory, 'merge', '-q', 'theirs').catch(() => undefined)
      await writeFile(Buffer.concat([Buffer.from(`${directory}/x`), Buffer.from([0xff])]), 'x\n')
    })
    expect(files).toBe(2)
    expect(text).toContain('<<<<<<<')
  })

  test('works with SHA-256, a split index and CRLF by configuration', async () => {
    await using place = await repository()
    const directory = join(place.path, 'other')
    await mkdir(directory)
    await typed(directory, 'init', '-q', '--object-format=sha256')
    await typed(directory, 'config', 'core.autocrlf', 'true')
    await writeFile(join(directory, 'a.txt'), 'one\r\ntwo\r\n')
    await typed(directory, 'add', '-A')
    await typed(directory, 'commit', '-q', '-m', 'first')
    await typed(directory, 'update-index', '--split-index')
    const { text } = await changed(directory, place.scratch, () =>
      writeFile(join(directory, 'a.txt'), 'one\r\nthree\r\n'),
    )
    expect(text).toContain(' one\n-two\n+three\n')
    expect((await git.describe(directory))?.headSha).toHaveLength(64)
  })

  test('never writes into the repository', async () => {
    await using place = await repository()
    const directory = place.repository
    const before = await listing(join(directory, '.git'))
    await changed(directory, place.scratch, () => writeFile(join(directory, 'new.txt'), 'new\n'))
    expect(await listing(join(directory, '.git'))).toEqual(before)
  })
})

describe('a worktree', () => {
  const branch = 'postern/headless_1'

  test('stands on a branch of its own, in the directory that answers to the workspace', async () => {
    await using place = await repository()
    const path = join(place.path, 'worktrees', 'one')
    expect(await git.addWorktree(place.repository, path, branch)).toBe(path)
    expect(await git.describe(path)).toEqual({ ...(await git.describe(place.repository)), branch })
    const second = join(place.path, 'worktrees', 'two')
    expect(await git.addWorktree(join(place.repository, 'sub'), second, 'postern/two')).toBe(join(second, 'sub'))
    expect(await readFile(join(second, 'sub', 'inner.txt'), 'utf8')).toBe('inner\n')
  })

  test('is removed with its branch when nothing in it would be lost', async () => {
    await using place = await repository()
    const path = join(place.path, 'worktree')
    await git.addWorktree(place.repository, path, branch)
    expect(await git.removeWorktree(path, branch, (await git.describe(path))?.headSha ?? null)).toBe(true)
    expect(await readdir(place.path)).not.toContain('worktree')
    expect(await typed(place.repository, 'branch', '--list')).toBe('* main\n')
    expect(await typed(place.repository, 'worktree', 'list')).not.toContain('worktree ')
  })

  const work: [string, (path: string) => Promise<unknown>][] = [
    ['a changed file', (path) => writeFile(join(path, 'kept.txt'), 'changed\n')],
    ['an untracked file', (path) => writeFile(join(path, 'new.txt'), 'new\n')],
    [
      'an untracked file where git was told not to show them',
      async (path) => {
        await typed(path, 'config', 'status.showUntrackedFiles', 'no')
        await writeFile(join(path, 'new.txt'), 'new\n')
      },
    ],
    [
      'a staged file',
      async (path) => {
        await writeFile(join(path, 'new.txt'), 'new\n')
        await typed(path, 'add', '-A')
      },
    ],
    ['a new commit', (path) => typed(path, 'commit', '-q', '--allow-empty', '-m', 'second')],
    ['a commit on no branch', (path) => typed(path, 'checkout', '-q', '--detach')],
    [
      'a repository within',
      async (path) => {
        await mkdir(join(path, 'nested'))
        await typed(join(path, 'nested'), 'init', '-q')
        await typed(join(path, 'nested'), 'commit', '-q', '--allow-empty', '-m', 'nested')
      },
    ],
  ]
  test.each(work)('is kept when it holds %s', async (_, change) => {
    await using place = await repository()
    const path = join(place.path, 'worktree')
    await git.addWorktree(place.repository, path, branch)
    const base = (await git.describe(path))?.headSha ?? null
    await change(path)
    expect(await git.removeWorktree(path, branch, base)).toBe(false)
    expect(await readdir(place.path)).toContain('worktree')
    expect(await typed(place.repository, 'branch', '--list')).toContain(branch)
  })

  test('is refused with a reason where there is no commit, and outside git', async () => {
    await using place = await repository()
    const fresh = join(place.path, 'fresh')
    await mkdir(fresh)
    await git.init(fresh)
    await expect(git.addWorktree(fresh, join(place.path, 'w'), branch)).rejects.toThrow('no commit yet')
    await expect(git.addWorktree(place.path, join(place.path, 'w'), branch)).rejects.toThrow('not a git repository')
  })
})

async function listing(directory: string): Promise<string[]> {
  return (await readdir(directory, { recursive: true })).toSorted()
}
