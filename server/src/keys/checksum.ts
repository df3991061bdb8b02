import { crc32 } from 'node:zlib'

const DIGITS = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz'

/** CRC-32 as zlib has it, 6 base62 digits, the most significant first. For scanners of secrets, not for security. */
export function checksum(text: string): string {
  let rest = crc32(text)
  let digits = ''
  for (let i = 0; i < 6; i++) {
    digits = (DIGITS[rest % 62] ?? '') + digits
    rest = Math.floor(rest / 62)
  }
  return digits
}
