import { createHash, randomBytes, timingSafeEqual } from 'node:crypto'
import { constants } from 'node:fs'
import { link, open, rename, rm, type FileHandle } from 'node:fs/promises'
import { join } from 'node:path'
import { crc32 } from 'node:zlib'
import { ConfigError } from '../config.ts'

const PREFIX = 'pstn_adm1_'
const DIGITS = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz'
const SHAPE = /^pstn_adm1_[A-Za-z0-9_-]{43}[0-9A-Za-z]{6}$/

/** A new admin token: prefix, 32 random bytes as base64url, CRC-32 in base62 (for secret scanners, not for security). */
export function newAdminToken(): string {
  const body = PREFIX + randomBytes(32).toString('base64url')
  return body + checksum(body)
}

/** True for a text that some server could have made as its admin token. */
export function isAdminTokenShaped(text: string): boolean {
  return SHAPE.test(text) && checksum(text.slice(0, -6)) === text.slice(-6)
}

/** CRC-32 as zlib has it, 6 base62 digits, the most significant first. */
function checksum(text: string): string {
  let rest = crc32(text)
  let digits = ''
  for (let i = 0; i < 6; i++) {
    digits = (DIGITS[rest % 62] ?? '') + digits
    rest = Math.floor(rest / 62)
  }
  return digits
}

/** A check against one token that takes the same time for every wrong one. */
export function tokenCheck(token: string): (presented: string) => boolean {
  const digest = (text: string): Buffer => createHash('sha256').update(text).digest()
  const expected = digest(token)
  return (presented) => timingSafeEqual(digest(presented), expected)
}

/**
 * The admin token of a data directory, made at the first start on loopback.
 *
 * @param mayCreate false for a bind beyond this machine, which is refused until a token exists
 * @throws ConfigError when the file has another mode, owner, kind or shape than we would give it, or may not be made
 */
export async function adminToken(dataDir: string, mayCreate: boolean): Promise<string> {
  const path = join(dataDir, 'admin-token')
  const found = await read(path)
  if (found !== undefined) return found
  if (!mayCreate) {
    throw new ConfigError(
      `a bind that is not loopback needs an admin token, and ${path} does not exist: start once on 127.0.0.1 to make it`,
    )
  }
  await create(path, newAdminToken())
  const made = await read(path)
  if (made === undefined) throw new ConfigError(`${path} vanished while it was made`)
  return made
}

/** Whole or not at all: written beside, then linked, which fails when the name is taken. */
async function create(path: string, token: string): Promise<void> {
  const temporary = `${path}.${process.pid}.tmp`
  await rm(temporary, { force: true })
  const file = await open(temporary, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL, 0o600)
  try {
    await file.writeFile(`${token}\n`)
    await file.sync()
  } finally {
    await file.close()
  }
  try {
    await link(temporary, path)
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    // Not every file system has links; the lock on the data directory keeps others from making one meanwhile.
    if (code !== 'EEXIST') await rename(temporary, path)
  } finally {
    await rm(temporary, { force: true })
  }
}

async function read(path: string): Promise<string | undefined> {
  let file: FileHandle
  try {
    file = await open(path, constants.O_RDONLY | (constants.O_NOFOLLOW ?? 0) | (constants.O_NONBLOCK ?? 0))
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ENOENT') return undefined
    throw new ConfigError(
      `${path} cannot be read (${code ?? 'unknown error'}): it must be a file of this user, mode 0600`,
    )
  }
  try {
    const stat = await file.stat()
    if (!stat.isFile()) throw new ConfigError(`${path} is not a regular file`)
    if (process.getuid && stat.uid !== process.getuid()) {
      throw new ConfigError(`${path} belongs to user ${stat.uid}; it must belong to user ${process.getuid()}`)
    }
    if (process.platform !== 'win32' && (stat.mode & 0o077) !== 0) {
      const mode = (stat.mode & 0o777).toString(8).padStart(4, '0')
      throw new ConfigError(`${path} has mode ${mode}, so others may have read it: remove it, or chmod 0600`)
    }
    const text = (await file.readFile('utf8')).trimEnd()
    if (!isAdminTokenShaped(text)) {
      throw new ConfigError(`${path} does not hold an admin token: remove it, and the next start on loopback makes one`)
    }
    return text
  } finally {
    await file.close()
  }
}
