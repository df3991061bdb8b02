import { createHash, timingSafeEqual } from 'node:crypto'
import { join } from 'node:path'
import { ConfigError } from '../config.ts'
import { isTokenShaped, newToken } from '../keys/random-token.ts'
import { createSecretFile, readSecretFile } from '../keys/secret-file.ts'

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
  await createSecretFile(path, `${newToken('pstn_adm1_')}\n`)
  const made = await read(path)
  if (made === undefined) throw new ConfigError(`${path} vanished while it was made`)
  return made
}

async function read(path: string): Promise<string | undefined> {
  const text = (await readSecretFile(path))?.trimEnd()
  if (text !== undefined && !isTokenShaped('pstn_adm1_', text)) {
    throw new ConfigError(`${path} does not hold an admin token: remove it, and the next start on loopback makes one`)
  }
  return text
}
