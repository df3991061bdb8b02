import { mkdir, symlink, writeFile } from 'node:fs/promises'
import { createServer, connect, type AddressInfo, type Socket } from 'node:net'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { temporaryDirectory } from '../../test/temporary.ts'
import { createPeers, hexAddress } from './peer.ts'

describe('an address as the kernel prints it', () => {
  test('is in words of four bytes, each in the order of the machine', () => {
    expect(hexAddress([127, 0, 0, 1], 'LE')).toBe('0100007F')
    expect(hexAddress([127, 0, 0, 1], 'BE')).toBe('7F000001')
    const one = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]
    expect(hexAddress(one, 'LE')).toBe('00000000000000000000000001000000')
    const mapped = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 127, 0, 0, 1]
    expect(hexAddress(mapped, 'LE')).toBe('0000000000000000FFFF00000100007F')
  })
})

describe.skipIf(process.platform !== 'linux')('the owner of a connection', () => {
  async function connected(host: string): Promise<{ server: Socket; client: Socket } & Disposable> {
    const listener = createServer()
    await new Promise<void>((resolve) => listener.listen(0, host, resolve))
    const accepted = new Promise<Socket>((resolve) => listener.once('connection', resolve))
    const client = connect((listener.address() as AddressInfo).port, host)
    const server = await accepted
    return {
      server,
      client,
      [Symbol.dispose]() {
        for (const socket of [server, client]) socket.destroy()
        listener.close()
      },
    }
  }
  const peers = (pids: number[] = []) => createPeers({ runProcesses: () => new Set(pids) })

  test.each(['127.0.0.1', '::1', '127.8.9.10'])('on %s is found, with its user', async (host) => {
    using pair = await connected(host)
    const found = await peers().find(pair.server)
    expect(found?.uid).toBe(process.getuid?.())
    expect(found?.inode).toMatch(/^[1-9]\d*$/)
  })

  test('is told apart from the other end', async () => {
    using pair = await connected('127.0.0.1')
    const [one, other] = await Promise.all([peers().find(pair.server), peers().find(pair.client)])
    expect(one?.inode).not.toBe(other?.inode)
  })

  test('belongs to a run when one of its processes holds it, and only then', async () => {
    using pair = await connected('127.0.0.1')
    const peer = await peers().find(pair.server)
    if (!peer) throw new Error('not found')
    expect(await peers([process.pid]).isOfRun(peer)).toBe(true)
    expect(await peers([process.ppid]).isOfRun(peer)).toBe(false)
    expect(await peers([]).isOfRun(peer)).toBe(false)
    expect(await peers([2 ** 22 + 1]).isOfRun(peer)).toBe(false) // gone meanwhile
  })

  test('is unknown once the connection is gone', async () => {
    using pair = await connected('127.0.0.1')
    const { remoteAddress, remotePort, localAddress, localPort } = pair.server
    pair.client.destroy()
    await new Promise((resolve) => pair.server.resume().once('close', resolve))
    expect(await peers().find({ remoteAddress, remotePort, localAddress, localPort })).toBeUndefined()
    expect(await peers().find({ remoteAddress: undefined, remotePort, localAddress, localPort })).toBeUndefined()
  })
})

describe('a look at /proc', () => {
  const socket = { remoteAddress: '127.0.0.1', remotePort: 0x1234, localAddress: '127.0.0.1', localPort: 0xb8c3 }
  const line = (addresses: string, uid: number, inode: number): string =>
    `   1: ${addresses} 01 00000000:00000000 00:00000000 00000000  ${uid}        0 ${inode} 1 0000000000000000 20 4 30 10 -1\n`
  async function proc(tcp: string, tcp6 = '') {
    const directory = await temporaryDirectory()
    await mkdir(join(directory.path, 'net'))
    await writeFile(join(directory.path, 'net', 'tcp'), tcp)
    await writeFile(join(directory.path, 'net', 'tcp6'), tcp6)
    return directory
  }
  const at = (path: string, pids: number[] = []) =>
    createPeers({ runProcesses: () => new Set(pids), procDirectory: path })
  const isLittle = hexAddress([1, 0, 0, 0]) === '00000001'

  test.skipIf(!isLittle)('finds the caller, not the server, and a caller that mapped IPv4 into IPv6', async () => {
    const header = '  sl  local_address rem_address   st ...\n'
    const server = line('0100007F:B8C3 0100007F:1234', 0, 77)
    await using v4 = await proc(header + server + line('0100007F:1234 0100007F:B8C3', 1000, 88))
    expect(await at(v4.path).find(socket)).toEqual({ uid: 1000, inode: '88' })
    const mapped = '0000000000000000FFFF00000100007F'
    await using v6 = await proc(header + server, header + line(`${mapped}:1234 ${mapped}:B8C3`, 1001, 99))
    expect(await at(v6.path).find(socket)).toEqual({ uid: 1001, inode: '99' })
    await using closing = await proc(header + line('0100007F:1234 0100007F:B8C3', 0, 0))
    expect(await at(closing.path).find(socket)).toBeUndefined()
  })

  test('that meets a process it may not look into cannot tell', async () => {
    await using directory = await proc('')
    await mkdir(join(directory.path, '7', 'fd'), { recursive: true })
    await symlink('socket:[88]', join(directory.path, '7', 'fd', '3'))
    await mkdir(join(directory.path, '8'))
    await writeFile(join(directory.path, '8', 'fd'), 'not a directory, as little readable as another one')
    expect(await at(directory.path, [7]).isOfRun({ uid: 0, inode: '88' })).toBe(true)
    expect(await at(directory.path, [7]).isOfRun({ uid: 0, inode: '89' })).toBe(false)
    expect(await at(directory.path, [7, 8]).isOfRun({ uid: 0, inode: '88' })).toBe(true)
    expect(await at(directory.path, [7, 8]).isOfRun({ uid: 0, inode: '89' })).toBeUndefined()
  })

  test('begins after the question: no answer comes from an older one', async () => {
    await using directory = await proc('')
    await mkdir(join(directory.path, '7', 'fd'), { recursive: true })
    const { isOfRun } = at(directory.path, [7])
    const early = isOfRun({ uid: 0, inode: '88' })
    await early
    await symlink('socket:[88]', join(directory.path, '7', 'fd', '3'))
    const late = await Promise.all([isOfRun({ uid: 0, inode: '88' }), isOfRun({ uid: 0, inode: '88' })])
    expect(late).toEqual([true, true])
  })
})
