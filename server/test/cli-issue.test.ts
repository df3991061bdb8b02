import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Workspace } from '../src/model.ts'
import { cli as startAndEnd, stable, type Ran } from './cli-process.ts'
import { startTestServer, type TestServer } from './harness.ts'

/** `postern issue` as people type it, against a real server. What they see is in `golden/`. */

let server: TestServer
let folder: string
beforeAll(async () => {
  server = await startTestServer()
  await server.workspace({ id: 'ws-news', tag: 'news', agents: ['demo'] })
  await server.workspace({ id: 'ws-risk', tag: 'risk', agents: ['demo'] })
  const { body } = await server.call<Workspace>('GET', '/api/workspaces/ws-news')
  folder = join(body.path, '.postern/issues')
})
afterAll(() => server[Symbol.asyncDispose]())

const cli = (args: string[], stdin?: string): Promise<Ran> =>
  startAndEnd(['issue', ...args], { home: server.dataDir, ...(stdin !== undefined && { stdin }) })
const read = (name: string): Promise<string> => readFile(join(folder, `${name}.md`), 'utf8')
async function golden(name: string, { code, stdout, stderr }: Ran): Promise<void> {
  const parts = [`exit ${code}`, '--- stdout', stdout.trimEnd(), '--- stderr', stderr.trimEnd(), '']
  const text = stable(parts.join('\n'), server).replaceAll(/\b[0-9a-f]{16}\b/g, '<revision>')
  await expect(text).toMatchFileSnapshot(`golden/${name}.txt`)
}

test.each([[], ['new'], ['set'], ['schedule']])('help of postern issue %s shows examples first', async (...words) => {
  const ran = await cli([...words, '--help'])
  expect(ran.stdout).toMatch(/^Examples:\n {2}\$ postern issue/)
  await golden(['help-issue', ...words].join('-'), ran)
})

test('an issue is written, listed, shown, changed, commented on, run and removed', async () => {
  const flags = [
    '-w',
    'news',
    '--cron',
    '30 8 * * 1-5',
    '--timezone',
    'Asia/Kolkata',
    '--priority',
    'high',
    '--body',
    '-',
  ]
  await golden('issue-new', await cli(['new', 'Pre-market brief', ...flags], '/files\n'))
  expect(await read('pre-market-brief')).toBe(
    '---\ntitle: Pre-market brief\nstatus: todo\npriority: high\nwhen: { kind: cron, cron: 30 8 * * 1-5, timezone: Asia/Kolkata }\n---\n/files\n',
  )
  await golden('issue-ls', await cli([]))
  const set = await cli(['set', 'pre', '--status', 'in_progress', '--every', '1d', '--agent', 'demo'])
  expect([set.code, await read('pre-market-brief')]).toEqual([
    0,
    '---\ntitle: Pre-market brief\nstatus: in_progress\npriority: high\nwhen: { kind: every, every: 1d }\nagent: demo\n---\n/files\n',
  ])
  await golden(
    'issue-comment',
    await cli(['comment', 'news/pre-market-brief', 'Skip it on holidays.', '--author', 'ada']),
  )
  await golden('issue-show', await cli(['show', 'pre']))
  const off = await cli(['set', 'pre', '--no-schedule', '--agent', 'none'])
  expect([off.code, (await read('pre-market-brief')).includes('when:')]).toEqual([0, false])
  const ran = await cli(['run', 'pre', '--wait'])
  expect([ran.code, ran.stderr]).toEqual([0, expect.stringMatching(/accepted headless_.*· ws-news · demo/)])
  await golden('issue-rm-prefix', await cli(['rm', 'pre']))
  await golden('issue-rm', await cli(['rm', 'pre-market-brief']))
  expect((await cli(['show', 'pre-market-brief'])).code).toBe(5)
})

describe('the schedule', () => {
  test('of an issue shows the next fires; a preview those of an expression', async () => {
    await cli(['new', 'Hourly', '-w', 'ws-news', '--every', '1h', '--body', '/files'])
    const { code, stdout } = await cli(['schedule', 'hourly', '--count', '2'])
    expect([code, stable(stdout)]).toEqual([
      0,
      'when       every 1h\nhealth     ok\nnext       <time>\n           <time>\n',
    ])
    const preview = await cli(['schedule', '--preview', '30 8 * * 1', '--timezone', 'Asia/Kolkata', '--count', '1'])
    expect(preview.stdout).toMatch(/^\d{4}-\d\d-\d\dT03:00:00Z {2}Monday.* at 08:30 Asia\/Kolkata\n$/)
    expect(
      JSON.parse(
        (await startAndEnd(['issue', 'schedule', '--preview', '0 9 * * *', '--json'], { home: server.dataDir })).stdout,
      ),
    ).toMatchObject({
      when: { kind: 'cron', cron: '0 9 * * *' },
    })
    await cli(['rm', 'hourly'])
  })

  test('that is wrong says what, and how to look at one', async () => {
    await golden('issue-cron-invalid', await cli(['schedule', '--preview', '61 9 * * *']))
    expect((await cli(['new', 'x', '-w', 'news', '--every', '1h', '--at', '2026-12-01T08:00:00Z'])).code).toBe(2)
    expect((await cli(['new', 'x', '-w', 'news', '--timezone', 'UTC'])).code).toBe(2)
    expect((await cli(['schedule'])).code).toBe(2)
  })
})

test('broken files are named on stderr with their line, and the others are listed', async () => {
  await mkdir(folder, { recursive: true })
  await writeFile(join(folder, 'broken.md'), '---\ntitle: x\nwhen:\n  kind: cron\n  cron: 61 9 * * *\n---\nx\n')
  await writeFile(join(folder, 'good.md'), '---\ntitle: Good\n---\nx\n')
  await golden('issue-broken', await cli(['ls', '-w', 'ws-news']))
  await golden('issue-broken-show', await cli(['show', 'broken']))
  expect(await cli(['rm', 'broken'])).toMatchObject({ code: 0, stdout: 'broken\tremoved\n' })
})

test('a name that several workspaces have is asked for more exactly', async () => {
  await cli(['new', 'Twin', '-w', 'news'])
  await cli(['new', 'Twin', '-w', 'risk'])
  await golden('issue-twins', await cli(['show', 'twin']))
  expect((await cli(['show', 'twin', '-w', 'risk'])).stdout).toContain('ws-risk/twin')
  expect((await cli(['show', 'risk/twin'])).stdout).toContain('ws-risk/twin')
})
