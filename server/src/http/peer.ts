import { readFile, readdir, readlink } from 'node:fs/promises'
import { endianness } from 'node:os'
import { BlockList, isIP } from 'node:net'
import ipaddr from 'ipaddr.js'

/** Who is at the other end of a loopback connection. */
export interface Peer {
  uid: number
  /** The socket's inode, by which its process is found. */
  inode: string
}

/** A connection as our end of it sees it. */
export interface Endpoints {
  remoteAddress?: string | undefined
  remotePort?: number | undefined
  localAddress?: string | undefined
  localPort?: number | undefined
}

const LOOPBACK = new BlockList()
LOOPBACK.addSubnet('127.0.0.0', 8, 'ipv4')
LOOPBACK.addSubnet('::ffff:127.0.0.0', 104, 'ipv6')
LOOPBACK.addAddress('::1', 'ipv6')

/** True for an address of this machine alone: 127.0.0.0/8 or ::1, also as IPv4 mapped into IPv6. */
export function isLoopbackAddress(address: string | undefined): boolean {
  // Node's own parser: ipaddr.js reads more forms than a socket's address has, `::127.0.0.1` for one.
  const family = address === undefined ? 0 : isIP(address)
  return address !== undefined && family !== 0 && LOOPBACK.check(address, family === 4 ? 'ipv4' : 'ipv6')
}

/**
 * Finds the owners of connections to this server, on Linux. Answers come from looks that began after the question; who
 * asks while one is under way shares the next, so a thousand new connections cost two looks.
 */
export function createPeers(deps: {
  /** Processes that belong to runs at work. */
  runProcesses(): Set<number> | Promise<Set<number>>
  /** Where the kernel tells of processes; a parameter for tests. */
  procDirectory?: string
}): {
  /** Undefined: the kernel knows no such connection, or will not say. */
  find(socket: Endpoints): Promise<Peer | undefined>
  /** Whether a process of a run holds the connection. Undefined: cannot tell. */
  isOfRun(peer: Peer): Promise<boolean | undefined>
} {
  const { runProcesses, procDirectory = '/proc' } = deps
  const tables = shared(async () => {
    const [v4, v6] = await Promise.all(
      ['tcp', 'tcp6'].map((name) => readFile(`${procDirectory}/net/${name}`, 'latin1').catch(() => '')),
    )
    return (v4 ?? '') + (v6 ?? '')
  })
  const heldByRuns = shared(async () => await socketsOf(await runProcesses(), procDirectory))

  return {
    async find(socket) {
      const table = await tables()
      for (const line of wanted(socket)) {
        const peer = lineOf(table, line)
        if (peer) return peer
      }
      return undefined
    },
    async isOfRun({ inode }) {
      const held = await heldByRuns().catch(() => CANNOT_TELL)
      if (held.inodes.has(inode)) return true
      return held.isComplete ? false : undefined
    },
  }
}

const CANNOT_TELL = { inodes: new Set<string>(), isComplete: false }

/** Runs `look` for everyone who asked before it began; at most one at a time. */
function shared<T>(look: () => Promise<T>): () => Promise<T> {
  let current: Promise<unknown> = Promise.resolve()
  let next: Promise<T> | undefined
  return () => {
    next ??= current.then(() => {
      const started = look()
      next = undefined
      current = started.catch(() => undefined)
      return started
    })
    return next
  }
}

/** Inodes of the sockets that the processes hold. A process that ended meanwhile holds none. */
async function socketsOf(
  pids: Set<number>,
  procDirectory: string,
): Promise<{ inodes: Set<string>; isComplete: boolean }> {
  const inodes = new Set<string>()
  let isComplete = true
  for (const pid of pids) {
    try {
      const folder = `${procDirectory}/${pid}/fd`
      const links = (await readdir(folder)).map((name) => readlink(`${folder}/${name}`).catch(() => ''))
      for (const target of await Promise.all(links)) {
        if (target.startsWith('socket:[')) inodes.add(target.slice(8, -1))
      }
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException
      if (code !== 'ENOENT' && code !== 'ESRCH') isComplete = false
    }
  }
  return { inodes, isComplete }
}

/** The caller's end of the connection as `/proc/net/tcp` and `tcp6` may write it: a client may map IPv4 into IPv6. */
function wanted(socket: Endpoints): string[] {
  const { remoteAddress, remotePort, localAddress, localPort } = socket
  if (remoteAddress === undefined || localAddress === undefined) return []
  if (remotePort === undefined || localPort === undefined) return []
  const [from, to] = [ipaddr.process(remoteAddress), ipaddr.process(localAddress)]
  const pairs: [number[], number[]][] = [[from.toByteArray(), to.toByteArray()]]
  if (from instanceof ipaddr.IPv4 && to instanceof ipaddr.IPv4) {
    pairs.push([from.toIPv4MappedAddress().toByteArray(), to.toIPv4MappedAddress().toByteArray()])
  }
  return pairs.map(([a, b]) => ` ${hexAddress(a)}:${hexPort(remotePort)} ${hexAddress(b)}:${hexPort(localPort)} `)
}

const hexPort = (port: number): string => port.toString(16).toUpperCase().padStart(4, '0')

/** Words of four bytes, each in the machine's own order, as the kernel prints them. */
export function hexAddress(bytes: number[], order: 'LE' | 'BE' = endianness()): string {
  let hex = ''
  for (let i = 0; i < bytes.length; i += 4) {
    const word = bytes.slice(i, i + 4)
    if (order === 'LE') word.reverse()
    hex += Buffer.from(word).toString('hex').toUpperCase()
  }
  return hex
}

/** Source: proc_pid_net(5): the fields behind the two addresses are st, queues, timer, retransmits, uid, timeout, inode. */
function lineOf(table: string, addresses: string): Peer | undefined {
  const at = table.indexOf(addresses)
  if (at === -1) return undefined
  const end = table.indexOf('\n', at)
  const fields = table
    .slice(at + addresses.length, end === -1 ? undefined : end)
    .trim()
    .split(/\s+/)
  const [uid, inode] = [fields[4], fields[6]]
  // A connection in its closing states has no owner any more, and inode 0.
  if (uid === undefined || inode === undefined || inode === '0' || !/^\d+$/.test(uid)) return undefined
  return { uid: Number(uid), inode }
}
