import { createServer, connect, type Server } from 'node:net'
import { once } from 'node:events'
import { readFileSync, readlinkSync } from 'node:fs'
import { readFile, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

/** Another server owns the data directory: exit code 73. */
export class LockedError extends Error {
  override readonly name = 'LockedError'
}

/** Longest path a Unix socket can have on every platform (104 bytes on macOS, 108 on Linux, one for the final zero). */
const MAX_SOCKET_PATH = 103

/**
 * Takes a data directory for this process, or refuses. The lock is a listening socket: the kernel frees it with the
 * process, and a stopped or suspended owner keeps it, whatever the clock says. On Linux an abstract socket named by the
 * directory's device and inode decides; the socket file beside it is what a server in another network namespace (a
 * container on the same directory) meets, and what decides elsewhere. Decision 0011.
 *
 * @returns the release; the lock also ends with the process
 * @throws LockedError naming the owner's pid
 */
export async function lockDataDirectory(dataDir: string): Promise<() => Promise<void>> {
  const { dev, ino } = await stat(dataDir, { bigint: true })
  const ownerPath = join(dataDir, 'owner.json')
  const held: Server[] = []
  try {
    if (process.platform === 'linux') held.push(await listen(`\0postern-${dev}-${ino}`))
    const socketPath = join(dataDir, 'lock.sock')
    if (Buffer.byteLength(socketPath) <= MAX_SOCKET_PATH) {
      if (await answers(socketPath)) throw new InUse()
      await rm(socketPath, { force: true })
      held.push(await listen(socketPath))
    } else if (held.length === 0) {
      throw new Error(
        `the data directory's path is too long for a lock (${MAX_SOCKET_PATH - 10} bytes at most): ${dataDir}`,
      )
    }
  } catch (error) {
    for (const server of held) server.close()
    if (!(error instanceof InUse)) throw error
    const owner = (await readFile(ownerPath, 'utf8')
      .then(JSON.parse)
      .catch(() => undefined)) as { pid?: number } | undefined
    throw new LockedError(`${dataDir} is in use by pid ${owner?.pid ?? 'unknown'}`)
  }
  await writeFile(ownerPath, `${JSON.stringify({ pid: process.pid, ...processIdentity() })}\n`, { mode: 0o600 })
  return async () => {
    await rm(ownerPath, { force: true })
    await Promise.all(held.map((server) => new Promise((resolve) => server.close(resolve))))
  }
}

class InUse extends Error {}

async function listen(path: string): Promise<Server> {
  const server = createServer((socket) => socket.destroy())
  server.listen(path)
  try {
    await once(server, 'listening')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EADDRINUSE') throw new InUse()
    throw error
  }
  server.unref()
  return server
}

/** True when a live process, even a stopped one, listens there: the kernel completes the connection for it. */
async function answers(path: string): Promise<boolean> {
  const socket = connect(path)
  try {
    await once(socket, 'connect')
    return true
  } catch {
    return false
  } finally {
    socket.destroy()
  }
}

/** What tells this process from a later one with its pid. */
function processIdentity(): { startTime: string | null; bootId: string | null; networkNamespace: string | null } {
  try {
    const fields = readFileSync('/proc/self/stat', 'utf8').split(') ')[1]?.split(' ')
    return {
      startTime: fields?.[19] ?? null,
      bootId: readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim(),
      networkNamespace: readlinkSync('/proc/self/ns/net'),
    }
  } catch {
    return { startTime: null, bootId: null, networkNamespace: null }
  }
}
