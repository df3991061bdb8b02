import { once } from 'node:events'
import { mkdir, readdir, readFile, readlink, stat, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { finish, place, start, turn, type Ended, type Place } from '../../test/demo-agent-process.ts'
import { eventually } from '../../test/temporary.ts'
import { census } from '../process/census.ts'

const types = ({ events }: Ended): string[] => events.map((event) => event.type)
const conversationOf = ({ events }: Ended): string => {
  const [first] = events
  return first?.type === 'agent.session' ? first.conversationId : ''
}

describe('any text, headless', () => {
  test('is answered with a look around, honest about having no model, the same every time', async () => {
    await using where = await place()
    const { workspace } = where
    await writeFile(join(workspace, 'a.ts'), '// TODO: more\n')
    await writeFile(join(workspace, 'package.json'), '{"scripts":{"test":"true"}}')
    await mkdir(join(workspace, 'node_modules'))
    await writeFile(join(workspace, 'node_modules', 'x.js'), '// TODO\n')

    const first = await turn(where, 'Explain this repository')
    expect(first.exitCode).toBe(0)
    expect(types(first)[0]).toBe('agent.session')
    expect(types(first).slice(-2)).toEqual(['usage', 'agent.end'])
    expect(first.events).toContainEqual({ type: 'usage', inputTokens: 0, outputTokens: 0, costUsd: 0 })
    expect(first.text).toContain('no model')
    expect(first.text).toContain('understood nothing')
    expect(first.text).toContain('2 files and 1 TODO')
    const report = await readFile(join(workspace, 'reports', 'first-look.md'), 'utf8')
    expect(report).toContain('`a.ts:1` // TODO: more')
    expect(report).toContain('`npm run test`')
    expect(report).toContain('Not a git repository.')
    await turn(where, 'Something else')
    expect(await readFile(join(workspace, 'reports', 'first-look.md'), 'utf8')).toBe(report)
  })

  test('writes nothing where it may only read, and says so', async () => {
    await using where = await place()
    const done = await turn(where, 'look', '--permissions', 'ask')
    expect(types(done)).toContain('permission.denied')
    expect(done.text).toContain('could not write')
    expect(await readdir(where.workspace)).toEqual([])
  })

  test('executes nothing that the repository brings', async () => {
    await using where = await place()
    const { workspace } = where
    await mkdir(join(workspace, '.git', 'refs'), { recursive: true })
    await mkdir(join(workspace, '.git', 'objects'))
    await writeFile(join(workspace, '.git', 'HEAD'), 'ref: refs/heads/main\n')
    const trap = `touch '${workspace}/planted'`
    await writeFile(
      join(workspace, '.git', 'config'),
      `[core]\n\tfsmonitor = "${trap}"\n\tpager = "${trap}"\n[log]\n\tshowSignature = true\n[gpg]\n\tprogram = "${trap}"\n`,
    )
    expect((await turn(where, 'look')).text).toContain('0 files')
    expect(await readdir(workspace)).not.toContain('planted')
  })
})

describe('slash commands', () => {
  test('are one tool call each, several in one prompt', async () => {
    await using where = await place()
    await writeFile(join(where.workspace, 'notes.md'), 'one FIXME\ntwo a.b\n')
    const done = await turn(where, '/files\n\n/todo\n/grep a.b\n/read notes.md\n/log 3\n/nosuch')
    const names = done.events.flatMap((event) => (event.type === 'tool.started' ? [event.name] : []))
    expect(names).toEqual(['list_files', 'find_todos', 'search', 'read_file', 'git_log'])
    expect(done.text).toContain('notes.md:1 one FIXME')
    expect(done.text).toContain('notes.md:2 two a.b')
    expect(done.text).toContain('no commits')
    expect(done.text).toContain('I do not know /nosuch')
    expect(done.text).toContain('no model')
  })

  test('change files and run programs only as far as the permissions go', async () => {
    await using where = await place()
    const { workspace } = where
    await writeFile(join(workspace, 'Makefile'), 'test:\n\t@echo fine\n')
    const prompt = '/write sub/a.txt some text\n/check'
    expect((await turn(where, prompt, '--permissions', 'ask')).text).toMatch(/denied.*"edit"[^]*denied.*"full"/)
    expect(await readdir(workspace)).toEqual(['Makefile'])
    expect((await turn(where, prompt)).text).toMatch(/wrote sub\/a.txt[^]*denied.*"full"/)
    expect(await readFile(join(workspace, 'sub', 'a.txt'), 'utf8')).toBe('some text\n')
    expect((await turn(where, prompt, '--permissions', 'full')).text).toContain('the tests passed\nfine')
    expect((await turn(where, '/ask really?')).text).toContain('nobody to ask')
  })

  test('S21: reach nothing outside the workspace, by no path and no link', async () => {
    await using where = await place()
    const { workspace } = where
    const outside = join(workspace, '..', 'outside')
    await mkdir(outside)
    await writeFile(join(outside, 'secret'), 'secret words')
    await symlink(outside, join(workspace, 'link'))
    await symlink(join(outside, 'secret'), join(workspace, 'file'))
    await symlink(join(outside, 'new'), join(workspace, 'dangling'))
    await mkdir(join(workspace, '.git'))
    const reads = ['../outside/secret', `${outside}/secret`, 'link/secret', 'file', 'link/../../outside/secret'].map(
      (path) => `/read ${path}`,
    )
    const writes = ['../new', 'link/new', 'file', 'dangling', 'link/sub/new', '.git/config', `${outside}/x`].map(
      (path) => `/write ${path} x`,
    )
    const done = await turn(where, [...reads, ...writes, '/grep secret'].join('\n'), '--permissions', 'full')
    expect(done.text).not.toContain('secret words')
    expect(done.events.filter((event) => event.type === 'tool.ended' && event.isError)).toHaveLength(12)
    expect(await readdir(outside)).toEqual(['secret'])
    expect(await readFile(join(outside, 'secret'), 'utf8')).toBe('secret words')
    expect((await turn(where, `/read ${workspace}/../workspace/missing`)).text).toContain('ENOENT')
  })

  test('give the exit code that is asked for, without a result', async () => {
    await using where = await place()
    const done = await turn(where, '/fail 3')
    expect(done).toMatchObject({ exitCode: 3, stderr: 'error: told to fail with 3\n' })
    expect(types(done)).not.toContain('agent.end')
  })
})

describe('a conversation', () => {
  test('goes on under its id, and knows what came before', async () => {
    await using where = await place()
    const first = await turn(where, '/files')
    const second = await turn(where, '/todo', '--resume', conversationOf(first))
    expect(conversationOf(second)).toBe(conversationOf(first))
    expect(second.text).toContain('message 2 of our conversation; the first was "/files"')
    expect((await stat(join(where.home, 'conversations'))).mode & 0o777).toBe(0o700)
  })

  test('that does not exist is an error, and no path to another file', async () => {
    await using where = await place()
    for (const id of ['00000000-0000-4000-8000-000000000000', '../../etc/passwd', '']) {
      const done = await turn(where, '/files', '--resume', id)
      expect(done.exitCode).toBe(1)
      expect(done.events).toMatchObject([{ type: 'agent.end', ok: false, error: { kind: 'agent' } }])
    }
  })
})

describe('when it is told to stop', () => {
  test('it is gone with the programs it runs', async () => {
    await using where = await place()
    await writeFile(join(where.workspace, 'Makefile'), 'test:\n\tsleep 600\n')
    const mark = `demo-${process.pid}-stop`
    const child = start(where, ['--permissions', 'full'], mark)
    child.stdin.end('/check')
    const done = finish(child)
    await eventually(() => (census().get(mark)?.length ?? 0) >= 3)
    child.kill('SIGTERM')
    expect(await done).toMatchObject({ exitCode: 143 })
    await eventually(() => !census().has(mark))
  })
})

describe('faults', () => {
  const fault = (where: Place, prompt: string, ...args: string[]): Promise<Ended> =>
    turn(where, prompt, '--faults', ...args)

  test('are off unless they were asked for', async () => {
    await using where = await place()
    const done = await turn(where, '/hang\n/crash\n/no-result')
    expect(done.exitCode).toBe(0)
    expect(done.text).toContain('/hang is a fault, and faults are off')
  })

  test('/no-result ends well without saying so; /crash dies; /garbage is nothing a decoder knows', async () => {
    await using where = await place()
    expect(types(await fault(where, '/no-result'))).not.toContain('agent.end')
    expect(await fault(where, '/crash')).toMatchObject({ exitCode: null, signal: 'SIGKILL' })
    const garbage = await fault(where, '/garbage')
    expect(garbage.exitCode).toBe(0)
    expect(types(garbage).filter((type) => type === 'log').length).toBeGreaterThanOrEqual(7)
  })

  test('/spam, /big, /usage and /flood print as much as they are told', async () => {
    await using where = await place()
    expect(types(await fault(where, '/spam 300')).filter((type) => type === 'agent.message')).toHaveLength(301)
    expect((await fault(where, '/big 300000')).lines.some((line) => line.length > 300_000)).toBe(true)
    expect((await fault(where, '/usage 100 20')).events).toContainEqual({
      type: 'usage',
      inputTokens: 100,
      outputTokens: 20,
      costUsd: 0,
    })
    expect((await fault(where, '/flood 1')).lines.filter((line) => line.startsWith('yyy'))).toHaveLength(8_192)
  })

  test('/mute prints nothing for a while, and /shared rewrites a file that all share', async () => {
    await using where = await place()
    expect((await fault(where, '/mute 1')).exitCode).toBe(0)
    await fault(where, '/shared')
    expect((await fault(where, '/shared')).text).toContain('{"starts":2}')
  })

  test('/limit fails until its time is over', async () => {
    await using where = await place()
    const first = await fault(where, '/limit 1')
    expect(first.exitCode).toBe(1)
    expect(first.events.find(({ type }) => type === 'agent.waiting')).toMatchObject({
      kind: 'rate_limit',
      status: 429,
      resetsAt: expect.stringMatching(/^20\d\d-.*Z$/) as string,
    })
    expect(first.events.at(-1)).toMatchObject({ ok: false, error: { kind: 'rate_limit' } })
    const later = await eventually(async () => {
      const done = await fault(where, '/limit 1')
      return done.exitCode === 0 && done
    })
    expect(later.text).toContain('over')
  })

  test('/forget goes on under another id', async () => {
    await using where = await place()
    const first = await fault(where, '/files')
    const second = await fault(where, '/forget', '--resume', conversationOf(first))
    expect(conversationOf(second)).not.toBe(conversationOf(first))
  })

  test('/result-stay stays after its result until it is told to go', async () => {
    await using where = await place()
    const child = start(where, ['--faults'])
    child.stdin.end('/result-stay')
    let seen = ''
    child.stdout.on('data', (chunk: Buffer) => (seen += chunk.toString()))
    const done = finish(child)
    await eventually(() => seen.includes('agent.end'))
    expect(child.exitCode).toBeNull()
    child.kill('SIGTERM')
    expect(await done).toMatchObject({ exitCode: 143 })
  })

  test('/orphan, /setsid, /empty-env and /fork leave processes behind', async () => {
    await using where = await place()
    const mark = `demo-${process.pid}-left`
    const child = start(where, ['--faults'], mark)
    child.stdin.end('/orphan\n/setsid\n/empty-env\n/fork 3')
    let said = ''
    child.stdout.on('data', (chunk: Buffer) => (said += chunk.toString()))
    await once(child, 'exit')
    expect(said).toContain('agent.end')
    const left = await eventually(() => {
      const found = census().get(mark) ?? []
      return found.length >= 5 && found // the one with an empty environment cannot be found by it
    })
    for (const pid of left) process.kill(pid, 'SIGKILL')
    await eventually(() => !census().has(mark))
    process.kill(await unmarkedIn(where.workspace), 'SIGKILL')
  })

  /** The process that `/empty-env` left, which only its directory gives away. */
  async function unmarkedIn(workspace: string): Promise<number> {
    return await eventually(async () => {
      for (const name of await readdir('/proc')) {
        const cwd = /^\d+$/.test(name) && (await readlink(`/proc/${name}/cwd`).catch(() => undefined))
        if (cwd !== workspace) continue
        const environment = await readFile(`/proc/${name}/environ`, 'latin1').catch(() => 'POSTERN')
        if (!environment.includes('POSTERN')) return Number(name)
      }
      return undefined
    })
  }
})
