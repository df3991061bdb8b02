import { watch, type FSWatcher } from 'node:fs'
import { stat } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { ISSUE_FOLDER } from '../model/issues.ts'

/**
 * Tells when the issue folder of a workspace may have changed: it watches the folder, or, while there is none, the
 * nearest folder above it. No event is a proof, and none may be missed for long: who uses this also looks by itself now
 * and then, and calls `again`.
 *
 * @param root real path of the workspace
 */
export function watchFolder(root: string, onChange: () => void): { again(): Promise<void>; close(): void } {
  const [first = ''] = ISSUE_FOLDER.split('/')
  const levels = [join(root, ISSUE_FOLDER), join(root, first), root]
  let watcher: FSWatcher | undefined
  let watched: { path: string; inode: bigint } | undefined
  let closed = false

  function drop(): void {
    watcher?.close()
    watcher = undefined
    watched = undefined
  }

  async function nearest(): Promise<typeof watched> {
    for (const path of levels) {
      const found = await stat(path, { bigint: true }).catch(() => undefined)
      if (found?.isDirectory()) return { path, inode: found.ino }
    }
    return undefined
  }

  function begin(path: string): FSWatcher {
    const begun = watch(path, (_event, name) => {
      // Under its own name the system tells of the folder itself. It may be gone, and the next one have its inode.
      if (name === basename(path)) drop()
      // The root of a workspace is busy: only what could hold the folder matters there.
      else if (path === root && name !== null && name !== first) return
      onChange()
    })
    return begun.on('error', drop)
  }

  return {
    async again() {
      // Until it stays the same: folders come and go between a look and the beginning of a watch.
      for (;;) {
        const found = await nearest()
        if (closed || (found?.path === watched?.path && found?.inode === watched?.inode)) return
        drop()
        if (!found) return
        try {
          watcher = begin(found.path)
          watched = found
        } catch (error) {
          // No watches left on this machine: then the slow look has to do.
          if ((error as NodeJS.ErrnoException).code !== 'ENOENT') return
        }
      }
    },

    close() {
      closed = true
      drop()
    },
  }
}
