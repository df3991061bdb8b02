import { DomainError, type ErrorCode } from '../errors.ts'
import type { When } from '../model/issues.ts'
import { fileOf } from './folder.ts'
import { parseIssue } from './issue-file.ts'
import { checkWhen } from './schedule.ts'
import type { IssueRef } from './types.ts'

const ORDER = ['title', 'status', 'priority', 'when', 'agent', 'timeoutMs', 'overlap', 'catchUp']

/** Keys in the order in which people read them. */
export function inOrder(values: Record<string, unknown>): Record<string, unknown> {
  const all = { status: 'todo', ...values } as Record<string, unknown>
  return Object.fromEntries(ORDER.map((key): [string, unknown] => [key, all[key]]))
}

/** The schedule is one. @throws DomainError `cron_invalid`, `validation_failed`, pointing below `pointer` */
export function checkSchedule(when: When, pointer = ''): void {
  const wrong = checkWhen(when)
  if (!wrong) return
  throw new DomainError(wrong.code, wrong.message, {
    errors: [{ pointer: `${pointer}/${wrong.key}`, detail: wrong.message }],
    ...(wrong.code === 'cron_invalid' && { hint: 'postern issue schedule --preview "0 9 * * 1-5"' }),
  })
}

/** What we write, we can read. @throws DomainError `validation_failed` */
export function checkText(text: string): void {
  const parsed = parseIssue(text)
  if ('issue' in parsed) return
  throw new DomainError('validation_failed', parsed.errors.map(({ message }) => message).join('; '))
}

/** The file is not the one that was read. @param revision the one that the caller named */
export function changed({ issueId }: IssueRef, revision: string | undefined): DomainError {
  const since = revision === undefined ? 'while it was written' : `since revision ${revision}`
  return new DomainError('issue_changed', `${fileOf(issueId)} was changed ${since}`, {
    hint: `postern issue show ${issueId}, then again`,
  })
}

/** For `catch`: an error with this code is undefined; everything else is thrown on. */
export const unless =
  (code: ErrorCode) =>
  (error: unknown): undefined => {
    if (error instanceof DomainError && error.code === code) return undefined
    throw error
  }
