import { DomainError } from '../errors.ts'

/** A list's place as callers see it: opaque, and only of the list it was given by. */
export const encodeCursor = (id: string): string => Buffer.from(id).toString('base64url')

/** @throws DomainError `invalid_cursor` unless it is one that a list of ids with this prefix has given */
export function decodeCursor(prefix: string, cursor: string): string {
  const id = Buffer.from(cursor, 'base64url').toString()
  if (new RegExp(`^${prefix}_[0-9A-Z]{26}$`).test(id) && encodeCursor(id) === cursor) return id
  throw new DomainError('invalid_cursor', `${JSON.stringify(cursor.slice(0, 80))} is not a cursor of this list`, {
    hint: 'pass nextCursor of the page before as it is',
  })
}
