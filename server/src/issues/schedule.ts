import { Cron } from 'croner'
import { spanMs, type When } from '../model/issues.ts'

/**
 * The arithmetic of schedules. Pure: the moment to count from is an argument, in milliseconds since the epoch.
 *
 * `every` counts from the epoch, so its times depend on nothing that a restart could lose. `cron` follows the wall clock
 * of its zone by the rules of croner: one fixed time of day that a clock change skips fires at the first moment after the
 * gap, and one that comes twice fires the first time. Where minute or hour is a list, a range or a step, all follow the
 * clock: what it skips does not fire, what it shows twice fires twice. Decision 0020.
 */

/** What is wrong with a schedule that has the right shape. */
export interface WhenError {
  code: 'cron_invalid' | 'validation_failed'
  /** The key of `when` that is wrong. */
  key: 'cron' | 'timezone'
  message: string
}

/** Undefined: the schedule is one. Checks what a schema cannot: the expression, the zone, and that it ever fires. */
export function checkWhen(when: When): WhenError | undefined {
  if (when.kind !== 'cron') return undefined
  const { cron, timezone } = when
  if (timezone !== undefined && !isTimeZone(timezone)) {
    const message = `"${timezone}" is not an IANA time zone, such as Europe/Berlin`
    return { code: 'validation_failed', key: 'timezone', message }
  }
  let next: Date | null
  try {
    next = compile(when).nextRun(new Date(0))
  } catch (error) {
    return { code: 'cron_invalid', key: 'cron', message: `"${cron}": ${reasonOf(error)}` }
  }
  return next === null ? { code: 'cron_invalid', key: 'cron', message: `"${cron}" never comes` } : undefined
}

/** The first due time after `after`, exclusive; null: there is none. @param when checked by `checkWhen` */
export function nextDue(when: When, after: number): number | null {
  switch (when.kind) {
    case 'at': {
      const at = Date.parse(when.at)
      return at > after ? at : null
    }
    case 'every': {
      const every = spanMs(when.every) ?? Infinity
      return (Math.floor(after / every) + 1) * every
    }
    case 'cron':
      return compile(when).nextRun(new Date(after))?.getTime() ?? null
  }
}

/** The last due time after `after`, exclusive, and not after `until`; null: there is none. */
export function latestDue(when: When, after: number, until: number): number | null {
  if (until <= after) return null
  if (when.kind === 'at') {
    const at = Date.parse(when.at)
    return at > after && at <= until ? at : null
  }
  if (when.kind === 'every') {
    const every = spanMs(when.every) ?? Infinity
    const last = Math.floor(until / every) * every
    return last > after ? last : null
  }
  // Looks back further and further, so that a year of minutes is not walked through.
  for (let reach = 120_000; ; reach *= 8) {
    const from = Math.max(after, until - reach)
    let latest: number | null = null
    const cron = compile(when)
    for (let due = cron.nextRun(new Date(from)); due && due.getTime() <= until; due = cron.nextRun(due)) {
      latest = due.getTime()
    }
    if (latest !== null || from === after) return latest
  }
}

/** The next `count` due times after `after`, exclusive; fewer: there are no more. */
export function nextFires(when: When, after: number, count: number): number[] {
  const fires: number[] = []
  for (let due = nextDue(when, after); due !== null && fires.length < count; due = nextDue(when, due)) fires.push(due)
  return fires
}

function compile({ cron, timezone }: When & { kind: 'cron' }): Cron {
  return new Cron(cron, { timezone: timezone ?? 'UTC', mode: '5-part', paused: true })
}

function isTimeZone(name: string): boolean {
  try {
    // An offset such as +01:00 is taken too, but is no zone: it knows no clock change.
    return new Intl.DateTimeFormat('en', { timeZone: name }).resolvedOptions().timeZone !== '' && !/^[+-]/.test(name)
  } catch {
    return false
  }
}

const RANGES: Record<string, string> = {
  minute: '0-59',
  hour: '0-23',
  day: '1-31',
  month: '1-12',
  dayOfWeek: '0-7',
}

/** What the library says, in the words of the five fields. */
function reasonOf(error: unknown): string {
  const text = (error instanceof Error ? error.message : String(error)).replace(/^CronPattern: /, '')
  if (/^(mode '5-part'|invalid configuration format)/.test(text)) {
    return 'five fields are needed: minute, hour, day of month, month, day of week'
  }
  const [, field = '', value] = /^Invalid value for (\w+): (\S+)$/.exec(text) ?? []
  const range = RANGES[field]
  return range === undefined ? text : `${field.replace('dayOfWeek', 'day of week')} ${value} is outside ${range}`
}
