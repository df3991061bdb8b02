import { readdirSync, readFileSync } from 'node:fs'
import type { ProcessIdentity } from './types.ts'

/** The variable that marks every process of a run: children inherit it, also those that leave the group or the session. */
export const MARK = 'POSTERN_RUN_ID'

/**
 * Every live process that carries a mark, by mark: one look at `/proc`, some 20 µs a process. Empty where there is no
 * `/proc`; then only process groups are known.
 */
export function census(): Map<string, number[]> {
  const found = new Map<string, number[]>()
  for (const pid of processIds()) {
    const mark = markOf(pid)
    if (mark === undefined) continue
    const pids = found.get(mark)
    if (pids) pids.push(pid)
    else found.set(mark, [pid])
  }
  return found
}

function processIds(): number[] {
  try {
    return readdirSync('/proc').flatMap((name) => (/^\d+$/.test(name) ? [Number(name)] : []))
  } catch {
    return []
  }
}

const NEEDLE = `${MARK}=`

function markOf(pid: number): string | undefined {
  if (pid === process.pid) return undefined
  let environment: string
  try {
    environment = readFileSync(`/proc/${pid}/environ`, 'latin1')
  } catch {
    return undefined // gone, or another user's
  }
  const at = environment.startsWith(NEEDLE) ? 0 : environment.indexOf(`\0${NEEDLE}`) + 1
  if (at === 0 && !environment.startsWith(NEEDLE)) return undefined
  const end = environment.indexOf('\0', at)
  return environment.slice(at + NEEDLE.length, end === -1 ? undefined : end)
}

/** What tells this process from a later one with its pid; undefined when it is gone. */
export function identify(pid: number): ProcessIdentity | undefined {
  try {
    // The name in parentheses may hold spaces and parentheses: the fields are counted behind the last one.
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1')
    const startTime = stat.slice(stat.lastIndexOf(') ') + 2).split(' ')[19] ?? null
    return { pid, startTime, bootId: bootId() }
  } catch {
    return isAlive(pid) ? { pid, startTime: null, bootId: null } : undefined
  }
}

/** True when the process with that pid is the one that was identified, and not a later one. */
export function isSame(known: ProcessIdentity): boolean {
  const now = identify(known.pid)
  return (
    now !== undefined && known.startTime !== null && now.startTime === known.startTime && now.bootId === known.bootId
  )
}

/** True when some process has that pid. */
export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}

function bootId(): string | null {
  try {
    return readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').trim()
  } catch {
    return null
  }
}

/** Signals a process, or a group by its negative pid; false when nobody was there. */
export function signal(pid: number, name: NodeJS.Signals): boolean {
  try {
    process.kill(pid, name)
    return true
  } catch {
    return false
  }
}
