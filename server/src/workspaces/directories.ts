import { constants } from 'node:fs'
import { access, lstat, mkdir, readdir, realpath, rm, stat } from 'node:fs/promises'
import { dirname, isAbsolute, join, parse, relative, sep } from 'node:path'
import { DomainError } from '../errors.ts'

/** What tells a directory from another one at the same path. */
export interface Identity {
  device: string
  inode: string
}

/** The directories of workspaces on disk: those Postern makes, under one of its own, and those it is shown. */
export interface Directories {
  /**
   * The real path of a directory somebody names.
   *
   * @throws DomainError `path_not_usable`: relative, missing, no directory, not open to us, a whole disk, or the state of
   * the server
   */
  existing(path: string): Promise<string>
  /**
   * Makes the directory of a new workspace, with mode 0700 and a git repository (none where git is missing: runs work
   * there, diffs do not). An empty one left by an earlier try is taken over. Undefined: there are files of another
   * workspace that was forgotten.
   *
   * @throws DomainError `storage_unavailable`
   */
  make(id: string): Promise<string | undefined>
  /**
   * Removes a directory that `make` made, with all in it; links are removed, not followed. What lies elsewhere, or is
   * another directory by now, is left alone. @throws DomainError `storage_unavailable`
   */
  purge(made: { id: string; path: string } & Identity): Promise<void>
  /** Undefined when the path is gone, leads through a link, or is no directory. */
  identify(path: string): Promise<Identity | undefined>
}

/** See `Directories`. `dataDir`: the state of the server. */
export function createDirectories(deps: { dataDir: string; init: (directory: string) => Promise<void> }): Directories {
  const { dataDir, init } = deps
  const own = join(dataDir, 'workspaces')

  async function identify(path: string): Promise<Identity | undefined> {
    if ((await realpath(path).catch(() => undefined)) !== path) return undefined
    const found = await stat(path, { bigint: true }).catch(() => undefined)
    return found?.isDirectory() ? { device: String(found.dev), inode: String(found.ino) } : undefined
  }

  return {
    async existing(path) {
      const refuse = (why: string): DomainError =>
        new DomainError('path_not_usable', `${JSON.stringify(path)} ${why}`, {
          hint: 'name an existing directory by its absolute path',
        })
      if (!isAbsolute(path)) throw refuse('is not absolute')
      if (path.includes('\0')) throw refuse('contains a NUL')
      const real = await realpath(path).catch(() => undefined)
      if (real === undefined) throw refuse('does not exist')
      if (!(await stat(real)).isDirectory()) throw refuse('is not a directory')
      await access(real, constants.R_OK | constants.X_OK).catch(() => {
        throw refuse('may not be read by the server')
      })
      if (real === parse(real).root) throw refuse('is a whole disk')
      const state = await realpath(dataDir)
      const isForgotten = dirname(real) === join(state, 'workspaces')
      if (isWithin(real, state) || (isWithin(state, real) && !isForgotten)) {
        throw refuse('holds the state of the server, or lies in it')
      }
      return real
    },

    async make(id) {
      const path = join(own, id)
      try {
        await mkdir(own, { recursive: true, mode: 0o700 })
        await mkdir(path, { mode: 0o700 }).catch((error: NodeJS.ErrnoException) => {
          if (error.code !== 'EEXIST') throw error
        })
        if (!(await lstat(path)).isDirectory()) return undefined
        const names = await readdir(path)
        if (names.some((name) => name !== '.git')) return undefined
        if (names.length === 0) await init(path).catch(() => undefined)
        return await realpath(path)
      } catch (cause) {
        throw new DomainError('storage_unavailable', `the directory of ${id} could not be made`, {
          cause,
          retryAfterSeconds: 1,
        })
      }
    },

    async purge({ id, path, inode }) {
      const expected = join(await realpath(own).catch(() => own), id)
      if (path !== expected || (await identify(path))?.inode !== inode) return
      await rm(path, { recursive: true, force: true }).catch((cause: unknown) => {
        throw new DomainError('storage_unavailable', `the files of ${id} could not all be removed`, {
          cause,
          retryAfterSeconds: 1,
        })
      })
    },

    identify,
  }
}

/** True when `inner` is `outer` or lies below it; both are real paths. */
function isWithin(outer: string, inner: string): boolean {
  const below = relative(outer, inner)
  return below !== '..' && !below.startsWith(`..${sep}`) && !isAbsolute(below)
}
