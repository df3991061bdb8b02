import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { spanMs, type When } from '../model/issues.ts'
import { checkWhen, latestDue, nextDue, nextFires } from './schedule.ts'

const DAY = 86_400_000
const ms = (iso: string): number => Date.parse(iso)
const iso = (moments: number[]): string[] => moments.map((each) => new Date(each).toISOString())
const cron = (expression: string, timezone?: string): When => ({
  kind: 'cron',
  cron: expression,
  ...(timezone !== undefined && { timezone }),
})

/** Both changes of 2026 (Kolkata has none): the night, and how long that day is. */
const ZONES = {
  'America/New_York': { spring: '2026-03-08', autumn: '2026-11-01', hours: [23, 25], offsetMinutes: [-300, -240] },
  'Europe/Berlin': { spring: '2026-03-29', autumn: '2026-10-25', hours: [23, 25], offsetMinutes: [60, 120] },
  'Australia/Lord_Howe': { spring: '2026-10-04', autumn: '2026-04-05', hours: [23.5, 24.5], offsetMinutes: [630, 660] },
  'Asia/Kolkata': { spring: undefined, autumn: undefined, hours: [24, 24], offsetMinutes: [330, 330] },
} as const
const zones = Object.keys(ZONES) as (keyof typeof ZONES)[]

const wall = (moment: number, timeZone: string): string =>
  new Intl.DateTimeFormat('sv-SE', { timeZone, dateStyle: 'short', timeStyle: 'short' }).format(moment)

/** Every due time of a year, by asking for the next again and again as the scheduler does. */
function year(when: When): number[] {
  const found: number[] = []
  const end = ms('2027-01-01T00:00:00Z')
  for (let at = nextDue(when, ms('2026-01-01T00:00:00Z') - 1); at !== null && at < end; at = nextDue(when, at)) {
    found.push(at)
  }
  return found
}

describe.each(zones)('a year in %s', (zone) => {
  const { spring, autumn, hours, offsetMinutes } = ZONES[zone]

  test('a fixed time of day comes once on each day, at that time on the clock', () => {
    const fires = year(cron('30 8 * * *', zone))
    expect(fires).toHaveLength(365)
    expect(new Set(fires.map((at) => wall(at, zone).slice(11)))).toEqual(new Set(['08:30']))
    expect(new Set(fires.map((at) => wall(at, zone).slice(0, 10))).size).toBe(365)
  })

  test('the days of the changes are as long as the clock says, and all others 24 hours', () => {
    const fires = year(cron('0 12 * * *', zone))
    const lengths = fires.slice(1).map((at, i) => [wall(at, zone).slice(0, 10), (at - (fires[i] ?? 0)) / 3_600_000])
    const odd = lengths.filter(([, length]) => length !== 24)
    const expected = [
      [spring, hours[0]],
      [autumn, hours[1]],
    ].filter(([day]) => day !== undefined)
    expect(odd).toEqual(expected.toSorted(([a], [b]) => (String(a) < String(b) ? -1 : 1)))
  })

  test('every quarter of an hour is one in real time, also across both changes', () => {
    const fires = year(cron('*/15 * * * *', zone))
    const gaps = new Set(fires.slice(1).map((at, i) => at - (fires[i] ?? 0)))
    expect([...gaps]).toEqual([900_000])
    expect(fires).toHaveLength(365 * 96)
  })

  test('a time that the change skips or repeats comes once on that day', () => {
    for (const minute of [0, 15, 45]) {
      for (const hour of [1, 2]) {
        const fires = year(cron(`${minute} ${hour} * * *`, zone))
        expect(fires, `${hour}:${minute}`).toHaveLength(365)
        expect(new Set(fires.map((at) => wall(at, zone).slice(0, 10))).size, `${hour}:${minute}`).toBe(365)
      }
    }
  })

  test('the offsets are those of the zone', () => {
    const seen = new Set(
      year(cron('0 12 * * *', zone)).map((at) => (ms(`${wall(at, zone).replace(' ', 'T')}:00Z`) - at) / 60_000),
    )
    expect([...seen].toSorted((a, b) => a - b)).toEqual([...new Set(offsetMinutes)])
  })
})

describe('the nights of the changes', () => {
  test.each([
    // The gap: the first moment after it, on that day.
    ['30 2 * * *', 'America/New_York', '2026-03-08T00:00:00Z', '2026-03-08T07:00:00.000Z'],
    ['30 2 * * *', 'Europe/Berlin', '2026-03-28T12:00:00Z', '2026-03-29T01:00:00.000Z'],
    ['15 2 * * *', 'Australia/Lord_Howe', '2026-10-03T00:00:00Z', '2026-10-03T15:30:00.000Z'],
    // What comes twice: the first time only.
    ['30 1 * * *', 'America/New_York', '2026-11-01T00:00:00Z', '2026-11-01T05:30:00.000Z'],
    ['30 2 * * *', 'Europe/Berlin', '2026-10-24T12:00:00Z', '2026-10-25T00:30:00.000Z'],
    ['45 1 * * *', 'Australia/Lord_Howe', '2026-04-04T00:00:00Z', '2026-04-04T14:45:00.000Z'],
    // Half an hour beside the hour, and no change at all.
    ['30 8 * * 1-5', 'Asia/Kolkata', '2026-03-07T00:00:00Z', '2026-03-09T03:00:00.000Z'],
  ])('%s in %s after %s is %s', (expression, zone, after, expected) => {
    expect(iso(nextFires(cron(expression, zone), ms(after), 1))).toEqual([expected])
  })

  test('a fixed time that comes twice does not come again an hour later', () => {
    expect(iso(nextFires(cron('30 1 * * *', 'America/New_York'), ms('2026-11-01T05:30:00Z'), 1))).toEqual([
      '2026-11-02T06:30:00.000Z',
    ])
  })

  test('a list is no fixed time: what the clock skips does not come, and what it shows twice comes twice', () => {
    const berlin = cron('30 2,14 * * *', 'Europe/Berlin')
    expect(iso(nextFires(berlin, ms('2026-03-28T13:30:00Z'), 2))).toEqual([
      '2026-03-29T12:30:00.000Z',
      '2026-03-30T00:30:00.000Z',
    ])
    const newYork = cron('30 1,13 * * *', 'America/New_York')
    expect(iso(nextFires(newYork, ms('2026-11-01T00:00:00Z'), 3))).toEqual([
      '2026-11-01T05:30:00.000Z',
      '2026-11-01T06:30:00.000Z',
      '2026-11-01T18:30:00.000Z',
    ])
  })

  test('steps follow the clock through the hour that comes twice, and leave out the one that does not come', () => {
    const steps = cron('*/30 1-2 * * *', 'America/New_York')
    expect(iso(nextFires(steps, ms('2026-11-01T04:59:00Z'), 6)).map((text) => text.slice(8, 16))).toEqual([
      '01T05:00',
      '01T05:30',
      '01T06:00',
      '01T06:30',
      '01T07:00',
      '01T07:30',
    ])
    expect(iso(nextFires(steps, ms('2026-03-08T05:59:00Z'), 3)).map((text) => text.slice(8, 16))).toEqual([
      '08T06:00',
      '08T06:30',
      '09T05:00',
    ])
  })
})

const anyWhen: fc.Arbitrary<When> = fc.oneof(
  fc.integer({ min: 1, max: 100_000 }).map((n): When => ({ kind: 'every', every: `${n}s` })),
  fc
    .date({ min: new Date('2026-01-01'), max: new Date('2027-01-01'), noInvalidDate: true })
    .map((date): When => ({ kind: 'at', at: date.toISOString() })),
  fc
    .record({
      minute: fc.oneof(fc.constantFrom('*', '*/7', '0', '5,35'), fc.integer({ min: 0, max: 59 }).map(String)),
      hour: fc.oneof(fc.constantFrom('*', '*/3', '1-4'), fc.integer({ min: 0, max: 23 }).map(String)),
      day: fc.constantFrom('*', '1', '31', '*/10'),
      weekday: fc.constantFrom('*', '1-5', '0'),
      zone: fc.constantFrom(...zones, undefined),
    })
    .map(({ minute, hour, day, weekday, zone }) => cron(`${minute} ${hour} ${day} * ${weekday}`, zone)),
)
const moment = fc.integer({ min: ms('2026-01-01T00:00:00Z'), max: ms('2027-01-01T00:00:00Z') })

describe('for any schedule and any moment', () => {
  test('the next due time lies after the moment, and none lies between', () => {
    fc.assert(
      fc.property(anyWhen, moment, fc.integer({ min: 0, max: 3 * DAY }), (when, after, back) => {
        const next = nextDue(when, after)
        if (next === null) {
          expect(when.kind).toBe('at')
          return
        }
        expect(next).toBeGreaterThan(after)
        // Asking a little earlier finds something not later; asking just before finds the same.
        expect(nextDue(when, next - 1)).toBe(next)
        const earlier = nextDue(when, after - back) ?? Infinity
        expect(earlier).toBeLessThanOrEqual(next)
        if (earlier < next) expect(earlier).toBeLessThanOrEqual(after)
      }),
      { numRuns: 300 },
    )
  })

  test('the latest due time is the last of those that asking for the next finds', () => {
    fc.assert(
      fc.property(anyWhen, moment, fc.integer({ min: -1_000, max: 2 * DAY }), (when, after, span) => {
        const until = after + span
        let expected: number | null = null
        for (let at = nextDue(when, after); at !== null && at <= until; at = nextDue(when, at)) expected = at
        expect(latestDue(when, after, until)).toBe(expected)
      }),
      { numRuns: 40 },
    )
  })
})

test('a year of minutes that were missed is not walked through', () => {
  const minutes = cron('* * * * *', 'Europe/Berlin')
  const started = performance.now()
  expect(latestDue(minutes, ms('2025-11-20T00:00:00Z'), ms('2026-11-20T00:00:30Z'))).toBe(ms('2026-11-20T00:00:00Z'))
  // 525,600 steps would take longer than any test may.
  expect(performance.now() - started).toBeLessThan(20_000)
})

test('an interval counts from the epoch, so nothing that a restart loses can shift it', () => {
  expect(iso(nextFires({ kind: 'every', every: '1h' }, ms('2026-11-20T09:13:05Z'), 2))).toEqual([
    '2026-11-20T10:00:00.000Z',
    '2026-11-20T11:00:00.000Z',
  ])
})

test('a moment with an offset comes once', () => {
  const when: When = { kind: 'at', at: '2026-12-01T08:00:00+01:00' }
  expect(nextFires(when, 0, 3)).toEqual([ms('2026-12-01T07:00:00Z')])
  expect(nextDue(when, ms('2026-12-01T07:00:00Z'))).toBeNull()
})

test.each([
  ['61 9 * * *', '"61 9 * * *": minute 61 is outside 0-59'],
  ['0 24 * * *', '"0 24 * * *": hour 24 is outside 0-23'],
  ['0 9 * * 8', '"0 9 * * 8": day of week 8 is outside 0-7'],
  ['0 9 * *', 'five fields are needed'],
  ['0 0 9 * * 1', 'five fields are needed'],
  ['0 0 30 2 *', 'never comes'],
  ['often', 'five fields are needed'],
])('the expression %s is refused: %s', (expression, message) => {
  expect(checkWhen(cron(expression))).toMatchObject({ code: 'cron_invalid', key: 'cron' })
  expect(checkWhen(cron(expression))?.message).toContain(message)
})

test('a zone that does not exist, or is only an offset, is refused by name', () => {
  for (const zone of ['Mars/Olympus', '+01:00', 'Berlin']) {
    expect(checkWhen(cron('0 9 * * *', zone))).toMatchObject({ key: 'timezone', code: 'validation_failed' })
  }
  for (const zone of zones) expect(checkWhen(cron('0 9 * * *', zone))).toBeUndefined()
})

test.each([
  ['90s', 90_000],
  ['1h30m', 5_400_000],
  ['2d', 2 * DAY],
  ['1w', 7 * DAY],
  ['', undefined],
  ['5', undefined],
  ['1.5h', undefined],
  ['30m1h', undefined],
  ['-1h', undefined],
])('the span %s is %s ms', (text, expected) => {
  expect(spanMs(text)).toBe(expected)
})
