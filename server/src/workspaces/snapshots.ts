import { access, constants, lstat, mkdir, readdir, realpath, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { failure, GitError, mustGit, type RunGitCommand } from './git-command.ts'
import { findRepository, harmlessSettings, readHead, readSmall, type Head, type Repository } from './repository.ts'

/** Bytes of a patch at most; of a larger one only the names of the files are kept. */
export const MAX_PATCH_BYTES = 64 * 1024 * 1024
/** Bytes of one file that git does not have; a larger one is left out of snapshots. */
export const MAX_FILE_BYTES = 64 * 1024 * 1024
/** Files that git does not have, and their bytes together; with more there is no snapshot. */
export const MAX_CHANGED_FILES = 20_000
export const MAX_CHANGED_BYTES = 512 * 1024 * 1024
const MAX_LIST_BYTES = 32 * 1024 * 1024
const MAX_INDEX_BYTES = 1024 * 1024 * 1024
/** Settings of the user's own, not the repository's, that say how files are read. */
const USER_SETTINGS = '^core\\.(excludesfile|autocrlf|eol)$'

/**
 * Trees of files as they are, taken without touching the repository and without obeying it: git works in a directory of
 * our own (`scratch`), with a configuration of our own, a copy of the index, and the repository's objects to borrow from.
 * Filters, hooks, drivers and the file-system monitor that the repository configures are not known there.
 *
 * A snapshot is a copy of the index brought up to date; the next one begins with it, so that what did not change is not
 * read again. Repositories below the directory (also submodules) count as the commit they are on, or not at all.
 */
export function createSnapshots(
  git: RunGitCommand,
  server: Record<string, string | undefined>,
): {
  snapshot(directory: string, scratch: string): Promise<(Head & { tree: string }) | undefined>
  diff(directory: string, scratch: string, from: string, to: string): Promise<{ patch: Buffer; filesChanged: number }>
} {
  let user: Promise<string[]> | undefined

  /** Asked for once: what the user ignores everywhere, and how lines end. */
  async function userSettings(): Promise<string[]> {
    const args = ['config', '--global', '--includes', '-z', '--get-regexp', USER_SETTINGS]
    const { stdout } = await git('/', args)
    return stdout
      .toString('utf8')
      .split('\0')
      .filter(Boolean)
      .flatMap((entry) => {
        const [name = '', value = ''] = entry.split('\n')
        return ['-c', `${name}=${value.replace(/^~\//, `${server['HOME'] ?? '~'}/`)}`]
      })
  }

  const index = (scratch: string, id: string): string => join(scratch, id, 'index')
  const environment = (repository: Repository, scratch: string, id: string): Record<string, string> => ({
    GIT_CONFIG_GLOBAL: '/dev/null',
    GIT_CONFIG_NOSYSTEM: '1',
    GIT_DIR: scratch,
    GIT_WORK_TREE: repository.top,
    GIT_INDEX_FILE: index(scratch, id),
  })

  /** Paths (bytes as latin1) that differ from the index, changed and removed ones before new ones. */
  async function listChanged(directory: string, env: Record<string, string>): Promise<string[]> {
    const settings = await (user ??= userSettings())
    const args = [...settings, 'ls-files', '-z', '-t', '--modified', '--others', '--exclude-standard']
    const stdout = await mustGit(git, directory, args, { env, maxBytes: MAX_LIST_BYTES })
    const entries = stdout.toString('latin1').split('\0').filter(Boolean)
    const isNew = (entry: string): boolean => entry.startsWith('?')
    const sorted = [...entries.filter((entry) => !isNew(entry)), ...entries.filter(isNew)]
    // A trailing slash: a repository of its own, of which git would only keep the commit.
    return [...new Set(sorted.map((entry) => entry.slice(2)))].filter((path) => !path.endsWith('/'))
  }

  /** Without files that are too large. @throws GitError when there are too many */
  async function withinLimits(directory: string, paths: string[]): Promise<string[]> {
    if (paths.length > MAX_CHANGED_FILES) {
      throw new GitError(`${paths.length} files that git does not have; the limit is ${MAX_CHANGED_FILES}`)
    }
    const sizes = await Promise.all(paths.map((path) => sizeOf(bytesOf(directory, path))))
    const kept = paths.filter((_, at) => (sizes[at] ?? 0) <= MAX_FILE_BYTES)
    const sum = sizes.reduce((total, size) => total + (size <= MAX_FILE_BYTES ? size : 0), 0)
    if (sum > MAX_CHANGED_BYTES) {
      throw new GitError(`${sum} bytes of files that git does not have; the limit is ${MAX_CHANGED_BYTES}`)
    }
    return kept
  }

  async function updateIndex(directory: string, env: Record<string, string>, paths: string[]): Promise<void> {
    if (paths.length === 0) return
    const settings = await (user ??= userSettings())
    const args = [...settings, 'update-index', '-z', '--add', '--remove', '--replace', '--stdin']
    const update = async (which: string[]): Promise<Buffer> =>
      await mustGit(git, directory, args, {
        env,
        stdin: Buffer.from(which.map((path) => `${path}\0`).join(''), 'latin1'),
      })
    try {
      await update(paths)
    } catch {
      // It stops at the first file that may not be read or stands behind a link: those are left out.
      const fine = await Promise.all(paths.map((path) => canBeRead(directory, path)))
      await update(paths.filter((_, at) => fine[at]))
    }
  }

  return {
    async snapshot(given, scratch) {
      const directory = await realpath(given)
      const repository = await findRepository(directory)
      if (!repository) return undefined
      const head = await readHead(repository)
      const last = await newest(scratch)
      let id = `snapshot-${last}`
      if (last === 0) {
        id = 'snapshot-1'
        await prepare(repository, scratch)
        await copyIndex(join(repository.gitDir, 'index'), scratch, id)
      }
      const changed = await listChanged(directory, environment(repository, scratch, id))
      const kept = await withinLimits(directory, changed)
      if (kept.length === 0) return { ...head, tree: id }
      if (last > 0) {
        id = `snapshot-${last + 1}`
        await copyIndex(index(scratch, `snapshot-${last}`), scratch, id)
      }
      await updateIndex(directory, environment(repository, scratch, id), kept)
      return { ...head, tree: id }
    },

    async diff(given, scratch, from, to) {
      if (from === to) return { patch: Buffer.alloc(0), filesChanged: 0 }
      const directory = await realpath(given)
      const repository = await findRepository(directory)
      if (!repository) throw new GitError('the repository is gone')
      const env = environment(repository, scratch, to)
      const tree = await mustGit(git, directory, ['write-tree', '--missing-ok'], {
        env: { ...env, GIT_INDEX_FILE: index(scratch, from) },
      })
      const compare = ['diff-index', '--cached', '--relative', '--no-renames', '--no-ext-diff', '--no-textconv']
      const base = tree.toString('latin1').trim()
      const patch = ['--patch', '--binary', '--no-color', '--src-prefix=a/', '--dst-prefix=b/']
      const full = await git(directory, [...compare, ...patch, base], { env, maxBytes: MAX_PATCH_BYTES })
      if (full.exitCode === 0) return { patch: full.stdout, filesChanged: countFiles(full.stdout) }
      if (!full.truncated) throw failure(compare, full)
      const names = await mustGit(git, directory, [...compare, '--name-status', base], {
        env,
        maxBytes: MAX_PATCH_BYTES,
      })
      const note = `The patch is larger than ${MAX_PATCH_BYTES} bytes and was not kept. The files:\n`
      return { patch: Buffer.concat([Buffer.from(note), names]), filesChanged: count(names, '\n') }
    },
  }
}

/** The number of the last snapshot in a scratch directory; 0: there is none. */
async function newest(scratch: string): Promise<number> {
  const names = await readdir(scratch).catch(() => [] as string[])
  return Math.max(0, ...names.flatMap((name) => Number(/^snapshot-(\d+)$/.exec(name)?.[1] ?? 0)))
}

/** Makes a git directory of our own that borrows the repository's objects. Source: gitrepository-layout(5). */
async function prepare(repository: Repository, scratch: string): Promise<void> {
  const { commonDir, gitDir } = repository
  for (const folder of ['refs', 'info', join('objects', 'info')]) {
    await mkdir(join(scratch, folder), { recursive: true, mode: 0o700 })
  }
  const settings = await harmlessSettings(repository)
  const format = settings.get('objectformat')
  settings.delete('objectformat')
  const config = [
    '[core]',
    `\trepositoryFormatVersion = ${format === undefined ? 0 : 1}`,
    '\tbare = false',
    '\tlooseCompression = 0',
    '\tfsync = none', // it is all thrown away
    ...[...settings].map(([name, value]) => `\t${name} = ${value}`),
    ...(format === undefined ? [] : ['[extensions]', `\tobjectFormat = ${format}`]),
  ]
  const exclude = await readSmall(join(commonDir, 'info', 'exclude'), MAX_LIST_BYTES)
  const files: [string, string | Buffer][] = [
    ['HEAD', 'ref: refs/heads/none\n'],
    ['config', `${config.join('\n')}\n`],
    [join('objects', 'info', 'alternates'), `${quoted(join(commonDir, 'objects'))}\n`],
    [join('info', 'exclude'), exclude ?? ''],
  ]
  await Promise.all(files.map(([name, text]) => writeFile(join(scratch, name), text, { mode: 0o600 })))
  // What a split index goes on in.
  for (const name of await readdir(gitDir).catch(() => [] as string[])) {
    if (!name.startsWith('sharedindex.')) continue
    const shared = await readSmall(join(gitDir, name), MAX_INDEX_BYTES)
    if (shared) await writeFile(join(scratch, name), shared, { mode: 0o600 })
  }
}

/**
 * Copies an index into a new snapshot; without one, git takes it for empty. The copy keeps its age, in whole seconds:
 * by it git knows which files may have changed in the moment they were looked at.
 */
async function copyIndex(source: string, scratch: string, id: string): Promise<void> {
  await mkdir(join(scratch, id), { mode: 0o700 })
  const found = await lstat(source).catch(() => undefined)
  const content = found && (await readSmall(source, MAX_INDEX_BYTES))
  if (!content) return
  const copy = join(scratch, id, 'index')
  await writeFile(copy, content, { mode: 0o600 })
  const seconds = Math.floor(found.mtimeMs / 1000)
  await utimes(copy, seconds, seconds)
}

const bytesOf = (directory: string, path: string): Buffer =>
  Buffer.concat([Buffer.from(`${directory}/`), Buffer.from(path, 'latin1')])

async function sizeOf(path: Buffer): Promise<number> {
  return (await lstat(path).catch(() => undefined))?.size ?? 0
}

/** False for a file behind a link, and for one that may not be read. */
async function canBeRead(directory: string, path: string): Promise<boolean> {
  const bytes = bytesOf(directory, path)
  const parent = bytes.subarray(0, bytes.lastIndexOf('/'))
  const real = await realpath(parent, 'buffer').catch(() => undefined)
  if (real && !real.equals(parent)) return false
  const found = await lstat(bytes).catch(() => undefined)
  if (!found?.isFile()) return true
  return await access(bytes, constants.R_OK).then(
    () => true,
    () => false,
  )
}

/** A path as a line of `alternates`. Source: gitrepository-layout(5). */
const quoted = (path: string): string =>
  path.includes('\n') ? `"${path.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n')}"` : path

/** In a patch every line of content has a mark before it, so headers are headers. */
const countFiles = (patch: Buffer): number => (patch.length === 0 ? 0 : count(patch, '\ndiff --git ') + 1)

/** How often a text occurs. */
function count(bytes: Buffer, text: string): number {
  let found = 0
  for (let at = bytes.indexOf(text); at !== -1; at = bytes.indexOf(text, at + text.length)) found++
  return found
}
