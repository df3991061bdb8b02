import type { FileHandle } from 'node:fs/promises'
import { systemDisk, type Disk } from '../src/store/disk.ts'

const HANDLE_CALLS = new Set(['write', 'sync', 'datasync', 'truncate'])
const DISK_CALLS = new Set(['open', 'rename', 'unlink', 'mkdir', 'rm'])

export interface FaultyDisk {
  disk: Disk
  /** Calls seen so far, in order, such as `open` or `datasync`. */
  calls: string[]
  /** Called before each call; what it throws is what the disk says. `short`: the write takes half of what it was given. */
  onCall: ((name: string, n: number) => 'short' | undefined) | undefined
}

/** The real disk, with a hook before every call that changes something. */
export function faultyDisk(): FaultyDisk {
  const state: FaultyDisk = { disk: systemDisk, calls: [], onCall: undefined }
  const note = (name: string): 'short' | undefined => {
    state.calls.push(name)
    return state.onCall?.(name, state.calls.length)
  }
  const wrapHandle = (handle: FileHandle): FileHandle =>
    new Proxy(handle, {
      get(target, name) {
        const value: unknown = Reflect.get(target, name)
        if (typeof value !== 'function') return value
        return async (...args: unknown[]) => {
          const what = HANDLE_CALLS.has(String(name)) ? note(String(name)) : undefined
          const call = value.bind(target) as (...args: unknown[]) => Promise<unknown>
          if (what === 'short' && name === 'write') {
            const [data, offset = 0, length = data.length, ...rest] = args as [Buffer, number?, number?]
            return await call(data, offset, Math.max(1, Math.floor(length / 2)), ...rest)
          }
          return await call(...args)
        }
      },
    })
  state.disk = new Proxy(systemDisk, {
    get(target, name) {
      const value: (...args: unknown[]) => Promise<unknown> = Reflect.get(target, name)
      return async (...args: unknown[]) => {
        if (DISK_CALLS.has(String(name))) note(String(name))
        const result = await value(...args)
        return name === 'open' ? wrapHandle(result as FileHandle) : result
      }
    },
  })
  return state
}

/** The real disk, with a hook before each sync that is told what was written since the last; what it throws the disk says. */
export function diskBeforeSync(beforeSync: (written: string) => Promise<void> | void): Disk {
  return {
    ...systemDisk,
    async open(...args) {
      const file = await systemDisk.open(...args)
      const write = file.write.bind(file) as (data: Buffer, ...more: number[]) => Promise<unknown>
      const datasync = file.datasync.bind(file)
      let written = ''
      return Object.assign(file, {
        write(data: Buffer, ...more: number[]) {
          written += data.toString()
          return write(data, ...more)
        },
        async datasync() {
          const what = written
          written = ''
          await beforeSync(what)
          await datasync()
        },
      })
    },
  }
}

/** The real disk, which from the first write that contains a text on syncs nothing until it is released. */
export function heldDisk(text: string): { disk: Disk; readonly isHeld: boolean; release(): void } {
  const released = Promise.withResolvers<void>()
  let isHeld = false
  const disk = diskBeforeSync(async (written) => {
    isHeld ||= written.includes(text)
    if (isHeld) await released.promise
  })
  return {
    disk,
    get isHeld() {
      return isHeld
    },
    release: () => released.resolve(),
  }
}

/** An error as the system gives it. */
export const diskError = (code: 'EIO' | 'ENOSPC'): Error => Object.assign(new Error(`${code}: simulated`), { code })
