import { mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

/**
 * A control group for one run: what no process can leave by changing its group, session or environment.
 * Source: cgroups(7), the kernel's cgroup-v2 document (`cgroup.procs`, `cgroup.kill`).
 */
export interface Cgroup {
  readonly path: string
  pids(): number[]
  kill(): void
  /** Removes it once it is empty; false while processes are in it. */
  remove(): boolean
}

export interface Cgroups {
  create(name: string): Cgroup | undefined
  /** The groups that an earlier server left. */
  left(): Cgroup[]
}

export const CGROUP_PREFIX = 'postern-'

/**
 * Control groups below our own, where this process may make them (a delegated or writable cgroup v2); undefined where
 * not: then the process group and the mark have to do.
 */
export function openCgroups(): Cgroups | undefined {
  const parent = ownDirectory()
  if (parent === undefined) return undefined
  const probe = at(join(parent, `${CGROUP_PREFIX}probe-${process.pid}`))
  try {
    mkdirSync(probe.path)
    // Without cgroup.kill (before Linux 5.14) a fork bomb outruns us: then we do without.
    readFileSync(join(probe.path, 'cgroup.events'))
    writeFileSync(join(probe.path, 'cgroup.kill'), '1')
    return {
      create(name) {
        const group = at(join(parent, `${CGROUP_PREFIX}${name}`))
        try {
          mkdirSync(group.path)
          return group
        } catch {
          return undefined
        }
      },
      left: () =>
        readdirSync(parent).flatMap((name) => (name.startsWith(CGROUP_PREFIX) ? [at(join(parent, name))] : [])),
    }
  } catch {
    return undefined
  } finally {
    probe.remove()
  }
}

function at(path: string): Cgroup {
  return {
    path,
    pids() {
      try {
        return readFileSync(join(path, 'cgroup.procs'), 'latin1').split('\n').filter(Boolean).map(Number)
      } catch {
        return []
      }
    },
    kill() {
      try {
        writeFileSync(join(path, 'cgroup.kill'), '1')
      } catch {
        // already removed
      }
    },
    remove() {
      try {
        rmdirSync(path)
        return true
      } catch (error) {
        return (error as NodeJS.ErrnoException).code === 'ENOENT'
      }
    },
  }
}

function ownDirectory(): string | undefined {
  try {
    const mount = /^\S+ \S+ \S+ (\S+) (\S+) .* - cgroup2 /m.exec(readFileSync('/proc/self/mountinfo', 'latin1'))
    const own = /^0::(\/.*)$/m.exec(readFileSync('/proc/self/cgroup', 'latin1'))?.[1]
    if (!mount || own === undefined) return undefined
    const [, root = '/', mountPoint = ''] = mount
    const below = root === '/' ? own : own.startsWith(root) ? own.slice(root.length) : undefined
    return below === undefined ? undefined : join(mountPoint, below)
  } catch {
    return undefined
  }
}
