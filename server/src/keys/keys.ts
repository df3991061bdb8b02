import { hkdfSync, randomBytes } from 'node:crypto'
import { join } from 'node:path'
import { z } from 'zod'
import { isoTime, type Clock } from '../clock.ts'
import { ConfigError } from '../config.ts'
import { DomainError } from '../errors.ts'
import { replaceFile, type Disk } from '../store/disk.ts'
import { createSecretFile, readSecretFile } from './secret-file.ts'

/** What a key is derived for. Each has an info string of its own, so that no two purposes ever share a key. */
export type KeyPurpose = 'hook-token' | 'credential-seal' | 'credential-fingerprint'

/** Numbers of keys: one byte of a token names its key, and 0 is none. */
export const MAX_KID = 255
const SECRET_BYTES = 32

const KeyRingFile = z.strictObject({
  current: z.int().min(1).max(MAX_KID),
  keys: z.record(
    z.string().regex(/^[1-9]\d{0,2}$/),
    z.strictObject({
      secret: z.string().regex(/^[A-Za-z0-9_-]{43}$/),
      createdAt: z.iso.datetime(),
      verifyUntil: z.iso.datetime().optional(),
    }),
  ),
})
type KeyRingFile = z.infer<typeof KeyRingFile>

/** Root keys, by number, and what is derived from them. Source: docs/security.md 2.1. */
export interface KeyRing {
  /** Number of the key that new tokens and seals are made with. */
  readonly current: number
  /** Numbers of all keys, also of those that only verify. */
  kids(): number[]
  /**
   * The key of one purpose, 32 bytes: HKDF-SHA-256 of the secret, without salt, info `postern/<purpose>/v1/kid<n>`.
   *
   * @returns undefined when there is no such key, or it is out of date
   */
  deriveKey(purpose: KeyPurpose, kid: number): Buffer | undefined
  /** Adds a key and makes it the current one; on disk when it resolves. Its number. @throws DomainError `storage_unavailable` */
  rotate(): Promise<number>
  /** Lets an old key verify until a moment (milliseconds since the epoch); on disk when it resolves. */
  retire(kid: number, verifyUntil: number): Promise<void>
  /** Removes an old key, and nothing made with it is good any more; on disk when it resolves. */
  drop(kid: number): Promise<void>
}

/**
 * The key ring of a data directory, `keys.json`, made at the first start.
 *
 * @throws ConfigError when the file has another mode, owner, kind or shape than we would give it
 */
export async function openKeyRing(options: { disk: Disk; dataDir: string; clock: Clock }): Promise<KeyRing> {
  const { disk, dataDir, clock } = options
  const path = join(dataDir, 'keys.json')
  const newKey = () => ({
    secret: randomBytes(SECRET_BYTES).toString('base64url'),
    createdAt: isoTime(clock.now()),
  })
  let ring = await read(path)
  if (!ring) {
    await createSecretFile(path, textOf({ current: 1, keys: { 1: newKey() } }))
    ring = await read(path)
    if (!ring) throw new ConfigError(`${path} vanished while it was made`)
  }
  let state: KeyRingFile = ring
  const derived = new Map<string, Buffer>()
  let turn: Promise<unknown> = Promise.resolve()

  const isInDate = (kid: number): boolean => {
    const key = state.keys[kid]
    if (!key) return false
    return key.verifyUntil === undefined || clock.now() < Date.parse(key.verifyUntil)
  }

  /** Changes take turns; the file comes first, memory after it. */
  function change<T>(work: (now: KeyRingFile) => { changed: KeyRingFile; result: T }): Promise<T> {
    const mine = turn.then(async () => {
      const { changed, result } = work(state)
      try {
        await replaceFile(disk, path, Buffer.from(textOf(changed)))
      } catch (cause) {
        throw new DomainError('storage_unavailable', 'the key ring could not be written; nothing was changed', {
          retryAfterSeconds: 5,
          cause,
        })
      }
      state = changed
      derived.clear()
      return result
    })
    turn = mine.catch(() => undefined)
    return mine
  }

  return {
    get current() {
      return state.current
    },
    kids: () => Object.keys(state.keys).map(Number),
    deriveKey(purpose, kid) {
      if (!isInDate(kid)) return undefined
      const info = `postern/${purpose}/v1/kid${kid}`
      const known = derived.get(info)
      if (known) return known
      const secret = Buffer.from(state.keys[kid]?.secret ?? '', 'base64url')
      const key = Buffer.from(hkdfSync('sha256', secret, '', info, 32))
      derived.set(info, key)
      return key
    },
    rotate: () =>
      change((now) => {
        const kid = nextKid(now)
        return { changed: { current: kid, keys: { ...inDate(now, isInDate), [kid]: newKey() } }, result: kid }
      }),
    retire: (kid, verifyUntil) =>
      change((now) => {
        const key = now.keys[kid]
        if (!key || kid === now.current) return { changed: now, result: undefined }
        const retired = { ...key, verifyUntil: isoTime(verifyUntil) }
        return { changed: { ...now, keys: { ...now.keys, [kid]: retired } }, result: undefined }
      }),
    drop: (kid) =>
      change((now) => {
        const { [kid]: _, ...keys } = now.keys
        return { changed: kid === now.current ? now : { ...now, keys }, result: undefined }
      }),
  }
}

/** The number after the current one that no key has; after 255 it begins again. @throws DomainError `keys_in_use` */
function nextKid({ current, keys }: KeyRingFile): number {
  for (let step = 0; step < MAX_KID; step++) {
    const kid = ((current + step) % MAX_KID) + 1
    if (!(kid in keys)) return kid
  }
  throw new DomainError('keys_in_use', `${MAX_KID} of ${MAX_KID} keys are in use`, {
    hint: 'rotate with "drop": true, which ends what was made with the old ones',
  })
}

/** Without the keys that verify nothing any more. */
function inDate({ keys }: KeyRingFile, isInDate: (kid: number) => boolean): KeyRingFile['keys'] {
  return Object.fromEntries(Object.entries(keys).filter(([kid]) => isInDate(Number(kid))))
}

const textOf = (ring: KeyRingFile): string => `${JSON.stringify(ring, undefined, 2)}\n`

async function read(path: string): Promise<KeyRingFile | undefined> {
  const text = await readSecretFile(path)
  if (text === undefined) return undefined
  let json: unknown
  try {
    json = JSON.parse(text)
  } catch {
    json = undefined
  }
  const parsed = KeyRingFile.safeParse(json)
  const isRing =
    parsed.success &&
    String(parsed.data.current) in parsed.data.keys &&
    Object.keys(parsed.data.keys).every((kid) => Number(kid) <= MAX_KID)
  if (!isRing) {
    throw new ConfigError(
      `${path} does not hold a key ring: restore it from a copy; without it every channel address and credential is void`,
    )
  }
  return parsed.data
}
