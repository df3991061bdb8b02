import { lstatSync, realpathSync } from 'node:fs'
import { dirname, isAbsolute, join, relative, resolve, sep } from 'node:path'

/** What the demo agent refuses to touch; the message says why. */
export class OutsideError extends Error {
  override readonly name = 'OutsideError'
}

/**
 * The real path of something in the workspace, existing or about to be made: `..`, absolute paths and links are
 * resolved first, and what lies outside the workspace, or in its `.git`, is refused.
 *
 * @param root real path of the workspace
 * @throws OutsideError
 */
export function inside(root: string, path: string): string {
  if (path.includes('\0')) throw new OutsideError('a path cannot hold NUL')
  const wanted = resolve(root, path)
  // The part that exists is resolved; a link that leads nowhere exists too, and leads outside as far as anybody knows.
  let existing = wanted
  const missing: string[] = []
  while (!exists(existing)) {
    missing.unshift(existing.slice(dirname(existing).length).replace(/^[\\/]/, ''))
    existing = dirname(existing)
  }
  let real: string
  try {
    real = join(realpathSync(existing), ...missing)
  } catch {
    throw new OutsideError(`${path} is a link that leads nowhere`)
  }
  const below = relative(root, real)
  if (below === '..' || below.startsWith(`..${sep}`) || isAbsolute(below)) {
    throw new OutsideError(`${path} is outside the workspace`)
  }
  if (below.split(sep).includes('.git')) throw new OutsideError(`${path} is in .git, which I leave alone`)
  return real
}

function exists(path: string): boolean {
  try {
    lstatSync(path)
    return true
  } catch {
    return false
  }
}
