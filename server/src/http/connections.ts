import type { Server } from 'node:http'
import type { Socket } from 'node:net'
import { isLoopbackAddress } from './peer.ts'

/** Connections that may be open without a whole request: silent, slow, or kept alive for the next. */
export const MAX_WAITING = 512
/** The same for one address that is not of this machine. */
export const MAX_WAITING_PER_ADDRESS = 64
/** Milliseconds after a crowd arrived before it is looked at: time for honest requests to be read. */
const LOOK_AFTER_MS = 100

/**
 * Keeps silent connections from shutting others out: past the limit the one that has waited longest is closed, so that
 * a newcomer is always answered.
 *
 * @param isExempt addresses that speak for many callers: trusted proxies
 */
export function limitWaiting(
  server: Server,
  isExempt: (address: string) => boolean,
): { busy(socket: Socket): void; waits(socket: Socket): void } {
  // Insertion order is age.
  const waiting = new Set<Socket>()
  const byAddress = new Map<string, Set<Socket>>()
  let isDue = false

  function busy(socket: Socket): void {
    if (!waiting.delete(socket)) return
    const address = addressOf(socket)
    const others = byAddress.get(address)
    others?.delete(socket)
    if (others?.size === 0) byAddress.delete(address)
  }
  function waits(socket: Socket): void {
    if (socket.destroyed) return
    waiting.add(socket)
    const address = addressOf(socket)
    const others = byAddress.get(address) ?? new Set()
    byAddress.set(address, others.add(socket))
    if ((waiting.size > MAX_WAITING || others.size > MAX_WAITING_PER_ADDRESS) && !isDue) {
      isDue = true
      setTimeout(trim, LOOK_AFTER_MS).unref()
    }
  }
  function trim(): void {
    isDue = false
    for (const [address, sockets] of byAddress) {
      if (isLoopbackAddress(address) || isExempt(address)) continue
      closeOldest(sockets, MAX_WAITING_PER_ADDRESS)
    }
    closeOldest(waiting, MAX_WAITING)
  }
  function closeOldest(sockets: Set<Socket>, limit: number): void {
    for (const socket of sockets) {
      if (sockets.size <= limit) return
      busy(socket)
      socket.destroy()
    }
  }

  const addresses = new WeakMap<Socket, string>()
  const addressOf = (socket: Socket): string => addresses.get(socket) ?? ''

  server.on('connection', (socket) => {
    // Kept: a closed socket forgets its address.
    addresses.set(socket, socket.remoteAddress ?? '')
    waits(socket)
    socket.once('close', () => busy(socket))
  })
  return { busy, waits }
}
