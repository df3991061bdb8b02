import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { parse } from 'yaml'
import { UpdateIssue } from '../model/issues.ts'
import { appendComment, editIssue, newIssue, parseIssue, type ParsedIssue } from './issue-file.ts'

const FILE = `---
# Written by hand.
title: Pre-market brief
status: todo                # backlog todo in_progress done canceled

owner: "ada"                # nobody but people reads this
priority: high
when: { kind: cron, cron: "30 8 * * 1-5", timezone: America/New_York }   # trading days
labels:
  - markets   # first
  - daily
agent: claude
timeoutMs: 600000
# The end.
---
Read positions.md.

Write the brief.
`

function read(text: string): ParsedIssue {
  const parsed = parseIssue(text)
  if ('errors' in parsed) throw new Error(JSON.stringify(parsed.errors))
  return parsed.issue
}
const errorsOf = (text: string): string[] => {
  const parsed = parseIssue(text)
  return 'errors' in parsed ? parsed.errors.map(({ line, message }) => `${line}: ${message}`) : []
}
/** Lines that differ, as `-old` and `+new`. */
function changed(before: string, after: string): string[] {
  const [a, b] = [before.split('\n'), after.split('\n')]
  return [
    ...a.filter((line) => !b.includes(line)).map((line) => `-${line}`),
    ...b.filter((line) => !a.includes(line)).map((line) => `+${line}`),
  ]
}

describe('a file', () => {
  test('is read with its defaults, its body as it stands and what it does not know', () => {
    expect(read(FILE)).toEqual({
      title: 'Pre-market brief',
      status: 'todo',
      owner: 'ada',
      priority: 'high',
      when: { kind: 'cron', cron: '30 8 * * 1-5', timezone: 'America/New_York' },
      labels: ['markets', 'daily'],
      agent: 'claude',
      timeoutMs: 600_000,
      overlap: 'skip',
      catchUp: 'once',
      body: 'Read positions.md.\n\nWrite the brief.',
      comments: [],
    })
    expect(read('---\ntitle: x\nagent:\nwhen: null\n---')).toMatchObject({ status: 'todo', priority: 'none', body: '' })
  })

  test('may come from an editor of another system', () => {
    expect(read(`\uFEFF${FILE.replaceAll('\n', '\r\n')}`)).toMatchObject({
      title: 'Pre-market brief',
      body: 'Read positions.md.\r\n\r\nWrite the brief.',
    })
  })

  test.each([
    ['hello', ['1: the file must begin with frontmatter: a line `---`, keys, a line `---`']],
    ['---\ntitle: x\n', ['1: the frontmatter is not closed: a line `---` is missing after the keys']],
    ['---\n- a\n---\n', ['2: the frontmatter must be keys with values, such as `title: …`']],
    ['---\nstatus: todo\n---\n', ['2: title: is missing']],
    [
      '---\ntitle: x\n\nstatus: later\n---\n',
      ['4: status: must be one of backlog, todo, in_progress, done, canceled, not "later"'],
    ],
    [
      '---\ntitle: x\nwhen:\n  kind: cron\n  cron: 61 9 * * *\n---\nx',
      ['5: when.cron: "61 9 * * *": minute 61 is outside 0-59'],
    ],
    [
      '---\ntitle: x\nwhen:\n  kind: cron\n  cron: 0 9 * * *\n  timezone: Mars/Olympus\n---\nx',
      ['6: when.timezone: "Mars/Olympus" is not an IANA time zone, such as Europe/Berlin'],
    ],
    [
      '---\ntitle: x\nwhen: { kind: every, every: often }\n---\n',
      ['3: when.every: must be a span from 1s to 366d, such as 90s, 15m, 1h30m or 2d'],
    ],
    [
      '---\ntitle: x\nwhen: { kind: at, at: tomorrow }\n---\n',
      ['3: when.at: must be a moment such as 2026-12-01T08:00:00Z'],
    ],
    [
      '---\ntitle: x\nwhen: { kind: at, at: 2026-12-01T08:00:00 }\n---\n',
      ['3: when.at: must be a moment such as 2026-12-01T08:00:00Z'],
    ],
    ['---\ntitle: x\nwhen:\n  kind: every\n  every: 1h\n  evry: 2h\n---\n', ['6: when.evry: Unrecognized key: "evry"']],
    [
      '---\ntitle: x\nwhen: hourly\n---\n',
      ['3: when: must be {kind: at, at: …}, {kind: every, every: …} or {kind: cron, cron: …, timezone: …}'],
    ],
    [
      '---\ntitle: x\nwhen: { kind: every, every: 1h }\n---\n \n',
      ['5: a scheduled issue needs a body: it is the prompt'],
    ],
    ['---\ntitle: x\nevery: 10s\n---\n', ['3: `every` belongs under `when`: `when: { kind: every, every: 1h }`']],
    ['---\ntitle: x\ntitle: y\n---\n', ['3: Map keys must be unique']],
    [
      '---\ntitle: x\nagent: [a\n---\n',
      ['4: Flow sequence in block collection must be sufficiently indented and end with a ]'],
    ],
    [
      '---\ntitle: x\ntimeoutMs: 10m\noverlap: maybe\n---\n',
      ['3: timeoutMs: must be a number, not text', '4: overlap: must be one of skip, queue, not "maybe"'],
    ],
  ])('%j is broken in the lines %j', (text, expected) => {
    expect(errorsOf(text)).toEqual(expected)
  })

  test('that uses aliases to grow is refused', () => {
    const bomb = [
      'a: &a [x, x, x]',
      ...['b', 'c', 'd', 'e'].map((key, i) => `${key}: &${key} [${Array(9).fill(`*${'abcd'[i]}`).join(', ')}]`),
    ]
    expect(errorsOf(`---\ntitle: x\n${bomb.join('\n')}\n---\n`).join()).toMatch(/alias/i)
  })

  test('may have a frontmatter of 8 KiB and no more, so that none takes long to read', () => {
    const filled = (bytes: number): string => `title: x\nnote: "${'ü'.repeat((bytes - 18) / 2)}"\n`
    expect(read(`---\n${filled(8_192)}---\n`)['note']).toHaveLength(4_087)
    expect(errorsOf(`---\n${filled(8_194)}---\n`)).toEqual(['2: the frontmatter has 8194 bytes; the limit is 8192'])
    const keys = Array.from({ length: 24_000 }, (_, i) => `k${i}: 1\n`).join('')
    expect(errorsOf(`---\ntitle: x\n${keys}---\n`)).toEqual(['2: the frontmatter has 228899 bytes; the limit is 8192'])
  })

  test('may have a body of 16,000 characters and no more', () => {
    expect(read(`---\ntitle: x\n---\n${'x'.repeat(16_000)}`).body).toHaveLength(16_000)
    expect(errorsOf(`---\ntitle: x\n---\n${'x'.repeat(16_001)}`)).toEqual([
      '4: the body has 16001 characters; the limit is 16000',
    ])
  })
})

describe('an edit', () => {
  test('changes the line it is about and no other byte', () => {
    expect(changed(FILE, editIssue(FILE, { status: 'done' }))).toEqual([
      '-status: todo                # backlog todo in_progress done canceled',
      '+status: done                # backlog todo in_progress done canceled',
    ])
    expect(editIssue(FILE, { status: 'todo' })).toBe(FILE)
  })

  test('changes one value inside a schedule and keeps the rest of it', () => {
    const after = editIssue(FILE, { when: { kind: 'cron', cron: '0 9 * * *', timezone: 'America/New_York' } })
    expect(changed(FILE, after)).toEqual([
      '-when: { kind: cron, cron: "30 8 * * 1-5", timezone: America/New_York }   # trading days',
      '+when: { kind: cron, cron: 0 9 * * *, timezone: America/New_York }   # trading days',
    ])
    const other = editIssue(FILE, { when: { kind: 'every', every: '1h' } })
    expect(changed(FILE, other)[1]).toBe('+when: { kind: every, every: 1h }   # trading days')
    const block =
      '---\ntitle: x\nwhen:\n  # why so early\n  kind: cron\n  cron: 0 6 * * *   # early\nowner: ada\n---\nx\n'
    expect(editIssue(block, { when: { kind: 'cron', cron: '0 7 * * *' } })).toBe(block.replace('0 6', '0 7'))
    expect(editIssue(block, { when: null })).not.toContain('cron')
    expect(read(editIssue(block, { when: null }))).toMatchObject({ owner: 'ada', title: 'x' })
  })

  test('puts a new key at the end, takes one out with its line, and fills an empty one', () => {
    expect(changed(FILE, editIssue(FILE, { overlap: 'queue' }))).toEqual(['+overlap: queue'])
    expect(changed(FILE, editIssue(FILE, { agent: null }))).toEqual(['-agent: claude'])
    expect(editIssue('---\ntitle: x\nagent:   # later\n---\n', { agent: 'demo' })).toBe(
      '---\ntitle: x\nagent: demo   # later\n---\n',
    )
    expect(editIssue(FILE, { catchUp: null })).toBe(FILE)
  })

  test('keeps the line ends of the file', () => {
    const windows = FILE.replaceAll('\n', '\r\n')
    expect(editIssue(windows, { status: 'done', overlap: 'queue' }).replaceAll('\r\n', '')).not.toContain('\n')
    const braces = '---\r\n{ title: x, # so\r\n  owner: ada }\r\n---\r\nBody\r\n'
    expect(editIssue(braces, { status: 'done' }).replaceAll('\r\n', '')).not.toMatch(/[\r\n]/)
  })

  test('replaces the body and leaves frontmatter and comments', () => {
    const commented = appendComment(FILE, { at: '2026-11-20T09:00:00.000Z', author: 'ada', text: 'Skip holidays.' })
    const after = editIssue(commented, { body: 'Read it.' })
    expect(read(after)).toMatchObject({ body: 'Read it.', comments: [{ author: 'ada', text: 'Skip holidays.' }] })
    expect(after.split('---\n')[1]).toBe(FILE.split('---\n')[1])
  })

  test('writes a frontmatter in braces anew, and keeps what it says', () => {
    expect(read(editIssue('---\n{ title: x, owner: ada }\n---\n', { status: 'done' }))).toMatchObject({
      owner: 'ada',
      status: 'done',
    })
  })

  test.each<[string, string, Record<string, unknown>]>([
    ['a value that an alias repeats', 'title: &t x\nowner: *t\n', { title: 'y' }],
    ['a value that an alias repeats, in braces', '{ title: &t x, owner: *t }\n', { title: 'y' }],
    ['a key whose value an alias repeats', 'title: x\nagent: &a demo\nowner: *a\n', { agent: null }],
    [
      'a schedule that an alias repeats',
      'title: x\nwhen: &w { kind: every, every: 1h }\nowner: *w\n',
      { when: { kind: 'at', at: '2026-12-01T08:00:00Z' } },
    ],
  ])('that would change %s is refused', (_, yaml, change) => {
    expect(() => editIssue(`---\n${yaml}---\nBody\n`, change)).toThrow(
      expect.objectContaining({ code: 'validation_failed', message: expect.stringContaining('by hand') as string }),
    )
  })

  test('of another key leaves an alias and its anchor', () => {
    const text = '---\ntitle: &t x\nowner: *t\n---\nBody\n'
    expect(editIssue(text, { status: 'done', body: 'New' })).toBe(
      '---\ntitle: &t x\nowner: *t\nstatus: done\n---\nNew\n',
    )
  })

  const title = fc
    .string({ unit: 'grapheme', minLength: 1, maxLength: 60 })
    .filter(
      (text) =>
        text.trim() === text &&
        !/\p{Cc}/u.test(text) &&
        text !== '' &&
        text.isWellFormed() &&
        !/[\u2028\u2029\uFEFF]/.test(text),
    )
  const COMMENT = '<!-- comment 2026-11-20T09:00:00.000Z ada -->'
  /** What looks like the line before a comment, or would be one were it a line of its own. */
  const nearly = fc.constantFrom(
    '<!-- comment by ada -->',
    '<!-- comment todo later -->',
    '<!-- comment 2026-11-20 ada -->',
    '<!-- comment 2026-11-31T10:00:00.000Z ada -->',
    ` ${COMMENT}`,
    `x\r${COMMENT}`,
    `x\u2028${COMMENT}`,
    `${COMMENT}\r`,
  )
  const body = fc
    .array(fc.oneof(fc.string({ maxLength: 80 }), nearly), { minLength: 1, maxLength: 5 })
    .map((lines) => lines.join('\n'))
    .filter((text) => /\S/.test(text) && UpdateIssue.safeParse({ body: text }).success)
  const edit = fc.record(
    {
      title,
      status: fc.constantFrom('backlog', 'todo', 'in_progress', 'done', 'canceled'),
      priority: fc.constantFrom('urgent', 'none', 'low'),
      agent: fc.constantFrom('demo', 'codex', null),
      timeoutMs: fc.oneof(fc.integer({ min: 1, max: 9e6 }), fc.constant(null)),
      when: fc.constantFrom(
        null,
        { kind: 'every', every: '1h' },
        { kind: 'at', at: '2026-12-01T08:00:00Z' },
        { kind: 'cron', cron: '*/5 * * * *', timezone: 'Asia/Kolkata' },
        { kind: 'cron', cron: '0 9 * * 1#2' },
      ),
      body,
    },
    { requiredKeys: [] },
  )
  const layouts = [
    FILE,
    FILE.replaceAll('\n', '\r\n'),
    '---\ntitle: >\n  a\n  b\nstatus: "todo" # x\nwhen:\n  kind: every\n  every: 1h # y\nzeta: { a: [1, 2] }\n# z\n---\nBody\n',
    '---\ntitle: x\n---',
    '---\n{ title: x, zeta: 1 }\n---\nBody\n',
    '---\r\n{ title: x, zeta: "a\r\n  b" }\r\n---\r\nBody\r\n',
    `---\ntitle: x\n---\nBody\n<!-- comment by ada -->\nx\r${COMMENT}\n\n${COMMENT}\nHi.\n\n<!-- comment later on -->\n\n${COMMENT}\n`,
  ]

  test('any edits read back as made, and no unknown key, comment or order of keys is lost', () => {
    fc.assert(
      fc.property(fc.constantFrom(...layouts), fc.array(edit, { minLength: 1, maxLength: 4 }), (file, edits) => {
        let text = file
        for (const each of edits) text = editIssue(text, each)
        const [, yaml = ''] = /^---\r?\n([^]*?)^---/m.exec(text) ?? []
        const [, before = ''] = /^---\r?\n([^]*?)^---/m.exec(file) ?? []
        const data = parse(yaml) as Record<string, unknown>
        const was = parse(before) as Record<string, unknown>
        const wanted = Object.assign({}, ...edits) as Record<string, unknown>
        for (const [key, value] of Object.entries(wanted)) {
          if (key !== 'body') expect(data[key] ?? null).toEqual(value)
          else if (!String(value).endsWith('\r')) expect(read(text).body).toBe(value)
        }
        const { comments } = read(file)
        if (comments.length > 0) expect(read(text).comments).toEqual(comments)
        for (const key of Object.keys(was)) if (!(key in wanted)) expect(data[key]).toEqual(was[key])
        const order = Object.keys(data).filter((key) => key in was)
        expect(order).toEqual(
          Object.keys(was)
            .filter((key) => order.includes(key) && !removedOnce(key, edits))
            .concat(order.filter((key) => removedOnce(key, edits))),
        )
        for (const comment of before.match(/#.*[a-z].*$/gm) ?? []) {
          const line = before.split('\n').find((each) => each.includes(comment)) ?? ''
          const [key = ''] = line.trim().split(':')
          if (line.trim().startsWith('#') && !insideWhen(before, comment)) expect(text).toContain(comment)
          else if (!(key in wanted) && key in was) expect(text).toContain(comment)
        }
      }),
      { numRuns: 500 },
    )
  })
  const removedOnce = (key: string, edits: object[]): boolean =>
    edits.some((each) => (each as Record<string, unknown>)[key] === null)
  const insideWhen = (yaml: string, comment: string): boolean =>
    /^when:\n(?: .*\n)*/m.exec(yaml)?.[0].includes(comment) ?? false
})

describe('comments', () => {
  const at = '2026-11-20T09:00:00.000Z'
  test('are appended in their form, read back, and are no part of the prompt', () => {
    const once = appendComment(FILE, { at, author: 'ada', text: 'Skip it on holidays.\n\nAnd on Fridays.\n' })
    const twice = appendComment(once, { at: '2026-11-21T09:00:00.000Z', author: 'claude', text: 'Done.' })
    expect(twice).toBe(
      `${FILE}\n<!-- comment ${at} ada -->\nSkip it on holidays.\n\nAnd on Fridays.\n\n<!-- comment 2026-11-21T09:00:00.000Z claude -->\nDone.\n`,
    )
    expect(read(twice)).toMatchObject({
      body: read(FILE).body,
      comments: [
        { at, author: 'ada', text: 'Skip it on holidays.\n\nAnd on Fridays.' },
        { at: '2026-11-21T09:00:00.000Z', author: 'claude', text: 'Done.' },
      ],
    })
  })

  test('an ordinary comment of markdown stays in the prompt', () => {
    const body = 'Read it.\n<!-- comment on this -->\n<!-- note -->'
    expect(read(`---\ntitle: x\n---\n${body}\n`)).toMatchObject({ body, comments: [] })
    expect(read(editIssue(`---\ntitle: x\n---\n${body}\n`, { body: 'New.' }))).toMatchObject({ body: 'New.' })
    const commented = appendComment(`---\ntitle: x\n---\n${body}\n`, { at, author: 'ada', text: 'Skip it.' })
    expect(read(editIssue(commented, { body: 'New.' }))).toMatchObject({
      body: 'New.',
      comments: [{ at, author: 'ada', text: 'Skip it.' }],
    })
  })
})

test('a new file reads back as it was asked for', () => {
  const text = newIssue(
    { title: 'a: "b" # c', when: { kind: 'cron', cron: '*/5 * * * *', timezone: 'UTC' }, agent: undefined },
    'Do it.',
  )
  expect(text).toBe(`---\ntitle: 'a: "b" # c'\nwhen: { kind: cron, cron: "*/5 * * * *", timezone: UTC }\n---\nDo it.\n`)
  expect(read(text)).toMatchObject({
    title: 'a: "b" # c',
    when: { kind: 'cron', cron: '*/5 * * * *' },
    body: 'Do it.',
  })
})
