import { pino, stdSerializers } from 'pino'

/** Leveled, structured messages; what follows `fields` is for people. */
export type Logger = Record<'debug' | 'info' | 'warn' | 'error', (fields: object, message: string) => void>

export type LogLevel = 'debug' | 'info' | 'warn' | 'error' | 'silent'

const TOKEN = /pstn_(h1|adm1|run1)_[A-Za-z0-9_-]+/g

/** The text without the secret part of any of our tokens. */
export const maskTokens = (text: string): string => text.replace(TOKEN, 'pstn_$1_[redacted]')

/**
 * A log of one JSON line per message, on stderr unless told otherwise. Tokens are masked wherever they stand; control
 * characters are escaped, so what an agent prints cannot forge a line.
 */
export function createLogger(options: { level?: LogLevel; write?: (line: string) => void } = {}): Logger {
  const { level = 'info', write = (line) => void process.stderr.write(line) } = options
  const settings = { level, base: null, serializers: { error: stdSerializers.err } }
  const inert = (line: string): string => line.replace(/[\u007f-\u009f]/g, '')
  return pino(settings, { write: (line: string) => write(maskTokens(inert(line))) })
}
