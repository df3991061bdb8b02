import { watch, type FSWatcher } from 'node:fs'
import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import { ISSUE_FOLDER } from '../model/issues.ts'

/**
 * Tells when the issue folder of a workspace may have changed: it watches the folder, or, while there is none, the
 * nearest folder above it. No event is a proof, and none may be missed for long: who uses this also looks by itself now
 * and then, and calls `again`.
 *
 * @param root real path of the workspace
 */
export function watchFolder(root: string, onChange: () => void): { again(): Promise<void>; close(): void } {
  const levels = [join(root, ISSUE_FOLDER), join(root, ISSUE_FOLDER.split('/')[0] ?? ''), root]
  let watcher: FSWatcher | undefined
  let watched: { path: string; inode: bigint } | undefined
  let closed = false

  function drop(): void {
    watcher?.close()
    watcher = undefined
    watched = undefined
  }

  async function again(): Promise<void> {
    for (const path of levels) {
      const found = await stat(path, { bigint: true }).catch(() => undefined)
      if (closed) return
      if (!found?.isDirectory()) continue
      if (watched?.path === path && watched.inode === found.ino) return
      drop()
      const [first] = ISSUE_FOLDER.split('/')
      try {
        watcher = watch(path, (_event, name) => {
          // The root of a workspace is busy: only what could hold the folder matters there.
          if (path === root && name !== null && name !== first) return
          onChange()
        })
        watcher.on('error', drop)
        watched = { path, inode: found.ino }
      } catch {
        drop() // no watches left on this machine: then the slow look has to do
      }
      return
    }
    drop()
  }

  return {
    again,
    close() {
      closed = true
      drop()
    },
  }
}
