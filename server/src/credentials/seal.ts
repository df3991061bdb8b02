import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto'

/**
 * Sealed texts: AES-256-GCM with a random nonce of 12 bytes, the name as associated data, so that a sealed value fits
 * one name only. Written as base64url of `kid (1 byte) · nonce (12) · ciphertext · tag (16)`. Source: docs/security.md 2.1.
 */

const NONCE_BYTES = 12
const TAG_BYTES = 16
const HEAD_BYTES = 1 + NONCE_BYTES

/** A key of 32 bytes and its number, 1 to 255. */
export interface SealingKey {
  kid: number
  key: Buffer
}

/** Seals a text for one name. Two seals of one text differ. */
export function seal(text: string, name: string, { kid, key }: SealingKey): string {
  const nonce = randomBytes(NONCE_BYTES)
  const cipher = createCipheriv('aes-256-gcm', key, nonce, { authTagLength: TAG_BYTES })
  cipher.setAAD(Buffer.from(name))
  const sealed = Buffer.concat([cipher.update(text, 'utf8'), cipher.final()])
  return Buffer.concat([Buffer.of(kid), nonce, sealed, cipher.getAuthTag()]).toString('base64url')
}

/** The number of the key that a text was sealed with; undefined for what is no sealed text. */
export function sealedWith(sealed: string): number | undefined {
  return bytesOf(sealed)?.[0]
}

/**
 * The text that was sealed for this name.
 *
 * @returns undefined when anything in it was changed, it was sealed for another name, or its key is gone
 */
export function unseal(sealed: string, name: string, keyOf: (kid: number) => Buffer | undefined): string | undefined {
  const bytes = bytesOf(sealed)
  const key = bytes && keyOf(bytes[0] ?? 0)
  if (!bytes || !key) return undefined
  const decipher = createDecipheriv('aes-256-gcm', key, bytes.subarray(1, HEAD_BYTES), { authTagLength: TAG_BYTES })
  decipher.setAAD(Buffer.from(name))
  decipher.setAuthTag(bytes.subarray(-TAG_BYTES))
  try {
    const text = decipher.update(bytes.subarray(HEAD_BYTES, -TAG_BYTES))
    return Buffer.concat([text, decipher.final()]).toString('utf8')
  } catch {
    return undefined // the tag does not fit
  }
}

/** The bytes of a canonical text of possible length. */
function bytesOf(sealed: string): Buffer | undefined {
  const bytes = Buffer.from(sealed, 'base64url')
  return bytes.length >= HEAD_BYTES + TAG_BYTES && bytes.toString('base64url') === sealed ? bytes : undefined
}
