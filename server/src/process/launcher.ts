import { chmod, mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

/**
 * Puts a `postern` command into a directory that agents have first on their PATH: this very installation, run by this
 * very Node. Returns the directory.
 */
export async function writeLauncher(directory: string): Promise<string> {
  const program = fileURLToPath(new URL('../../bin/postern.mjs', import.meta.url))
  const quoted = [process.execPath, program].map((text) => `'${text.replaceAll("'", `'\\''`)}'`).join(' ')
  await mkdir(directory, { recursive: true, mode: 0o700 })
  const path = join(directory, 'postern')
  await writeFile(path, `#!/bin/sh\nexec ${quoted} "$@"\n`)
  await chmod(path, 0o700)
  return directory
}
