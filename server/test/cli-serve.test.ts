import { chmod, mkdir, readFile, stat, writeFile } from 'node:fs/promises'
import { createServer, type AddressInfo } from 'node:net'
import { once } from 'node:events'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { cli, stable, startCli, type CliProcess } from './cli-process.ts'
import { eventually, temporaryDirectory } from './temporary.ts'

/** The commands that are a server, or look after one. */

const READY = /^postern listening on (http:\/\/\S+)$/m
/** The address of a server that was started. */
const ready = (process: CliProcess): Promise<string> => eventually(() => READY.exec(process.stdout())?.[1])

/** A server as an operator starts it, ended with the test. */
async function servingIn(
  { home, env }: { home: string; env?: Record<string, string> },
  ...flags: string[]
): Promise<CliProcess & { url: string } & AsyncDisposable> {
  const process = startCli(['serve', '--port', '0', ...flags], { home, ...(env && { env }) })
  const url = await Promise.race([ready(process), process.ended.then((ran) => Promise.reject(new Error(ran.stderr)))])
  return {
    ...process,
    url,
    async [Symbol.asyncDispose]() {
      process.child.kill('SIGTERM')
      await process.ended
    },
  }
}

const serving = (home: string, ...flags: string[]) => servingIn({ home }, ...flags)

describe('postern serve', () => {
  test('prints its one line on stdout, writes server.json, and ends with 0 when told to', async () => {
    await using home = await temporaryDirectory()
    for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) {
      await using server = await serving(home.path)
      expect(server.stdout()).toBe(`postern listening on ${server.url}\n`)
      const file = join(home.path, 'server.json')
      expect(JSON.parse(await readFile(file, 'utf8'))).toMatchObject({ url: server.url, pid: server.child.pid })
      expect((await stat(file)).mode & 0o777).toBe(0o600)
      expect((await cli(['runs', '--json'], { home: home.path })).code).toBe(0)
      server.child.kill(signal)
      expect(await server.ended).toMatchObject({ code: 0, signal: null })
      await expect(stat(file)).rejects.toThrow('ENOENT')
    }
  })

  test('ends at once with 130 at the second signal', async () => {
    await using home = await temporaryDirectory()
    await using server = await serving(home.path)
    const at = { home: home.path }
    await cli(['ws', 'add', '--tag', 'stay', '--agents', 'demo'], at)
    // A reader that stays keeps the server from stopping at once.
    const { stdout } = await cli(['run', '/sleep 50', '-w', 'ws-stay'], at)
    const watching = startCli(['runs', 'events', stdout.trim(), '--follow'], at)
    await eventually(() => watching.stdout().includes('run.started'))
    server.child.kill('SIGTERM')
    server.child.kill('SIGINT')
    expect((await server.ended).code).toBe(130)
    watching.child.kill('SIGKILL')
    await watching.ended
  })

  test('refuses a directory that another server has, with 73 and its pid', async () => {
    await using home = await temporaryDirectory()
    await using server = await serving(home.path)
    const second = await cli(['serve', '--port', '0'], { home: home.path })
    expect(second).toMatchObject({ code: 73, stdout: '' })
    expect(second.stderr).toContain(`in use by pid ${server.child.pid}`)
  })

  test('refuses damaged state with 65, naming the file', async () => {
    await using home = await temporaryDirectory()
    await writeFile(join(home.path, 'db.json'), '{"runs":')
    const ran = await cli(['serve', '--port', '0'], { home: home.path })
    expect(ran).toMatchObject({ code: 65, stdout: '' })
    expect(ran.stderr).toContain('db.json')
  })

  test('refuses bad configuration with 78, naming file, key and value', async () => {
    await using home = await temporaryDirectory()
    await writeFile(join(home.path, 'config.json'), '{"maxRunz": 1}')
    const unknown = await cli(['serve', '--port', '0'], { home: home.path })
    expect(unknown.code).toBe(78)
    expect(unknown.stderr).toMatch(/config\.json.*maxRunz/)
    await writeFile(join(home.path, 'config.json'), '{}')
    const bad = await cli(['serve', '--port', 'many'], { home: home.path })
    expect(bad).toMatchObject({ code: 78, stderr: expect.stringContaining('many') as string })
  })

  test.skipIf(process.platform !== 'linux')('refuses with 78 a data directory that cannot be made', async () => {
    await using home = await temporaryDirectory()
    const file = join(home.path, 'file')
    await writeFile(file, '')
    for (const [path, why] of [
      [join(file, 'sub'), `${file} is not a directory`],
      [file, `${file} is not a directory`],
      ['/proc/postern', 'ENOENT'],
    ] as const) {
      const ran = await cli(['serve', '--port', '0'], { home: path })
      expect(ran).toMatchObject({ code: 78, stdout: '' })
      expect(ran.stderr).toMatch(/^✗ the data directory \S+ cannot be made or used: /)
      expect(ran.stderr).toContain(why)
    }
    const looked = await cli(['doctor'], { home: join(file, 'sub') })
    expect(looked.code).toBe(1)
    expect(looked.stdout).toMatch(/^✗ data directory .*file is not a directory\n.*--data or POSTERN_HOME$/m)
    expect(looked.stdout).toMatch(/^✓ configuration/m)
  })

  test('refuses a named port that is taken', async () => {
    await using home = await temporaryDirectory()
    const taken = createServer().listen(0, '127.0.0.1')
    await once(taken, 'listening')
    const { port } = taken.address() as AddressInfo
    const ran = await cli(['serve', '--port', String(port)], { home: home.path })
    taken.close()
    expect(ran).toMatchObject({ code: 78, stderr: expect.stringContaining(String(port)) as string })
  })
})

describe('postern tour', () => {
  test('starts a server, passes, and with --exit stops everything', async () => {
    await using home = await temporaryDirectory()
    const ran = await cli(['tour', '--exit'], { home: home.path, env: { POSTERN_PORT: '0' } })
    expect(ran.code, ran.stderr).toBe(0)
    const url = READY.exec(ran.stdout)?.[1] ?? ''
    await expect(stable(ran.stdout, { url, dataDir: home.path })).toMatchFileSnapshot('golden/tour.txt')
    expect(ran.stderr).toBe('')
    await expect(fetch(url)).rejects.toThrow('fetch failed')
  })

  test('uses the server that is there, again and again, and leaves it running', async () => {
    await using home = await temporaryDirectory()
    await using server = await serving(home.path)
    for (const flags of [[], ['--exit']]) {
      const ran = await cli(['tour', ...flags], { home: home.path })
      expect(ran.code, ran.stderr).toBe(0)
      expect(ran.stdout).toMatch(new RegExp(`^using the server at ${server.url}\n1 workspace {2}ws-demo`))
    }
    expect((await fetch(`${server.url}/healthz`)).status).toBe(200)
    expect((await cli(['ws', '--json'], { home: home.path })).stdout.match(/"id":"ws-demo"/g)).toHaveLength(1)
    // Nothing piles up: each tour ends the session of the one before, and with --exit its own.
    const sessions = (await cli(['session', 'ls', '--json'], { home: home.path })).stdout
    expect(sessions.match(/"state":"ended"/g)).toHaveLength(2)
  })

  test('keeps serving until told to stop', async () => {
    await using home = await temporaryDirectory()
    const tour = startCli(['tour'], { home: home.path, env: { POSTERN_PORT: '0' } })
    await eventually(() => tour.stdout().includes('Still serving; Ctrl-C stops.'))
    const url = await ready(tour)
    expect((await fetch(`${url}/healthz`)).status).toBe(200)
    // What it says to type next works as it stands: the knock, and after the revocation the 403.
    await eventually(() => tour.stdout().includes('documents:'))
    const [, webhook = '', body = ''] = /curl -X POST (\S+\/hook\/\S+) .* -d '(.*)'/.exec(tour.stdout()) ?? []
    const knock = async (): Promise<number> =>
      (await fetch(webhook, { method: 'POST', headers: { 'Content-Type': 'application/json' }, body })).status
    expect(await knock()).toBe(200)
    const [, grantId = ''] = /channel revoke (grant_\w+)/.exec(tour.stdout()) ?? []
    expect(await cli(['channel', 'revoke', grantId], { home: home.path })).toMatchObject({ code: 0 })
    expect(await knock()).toBe(403)
    tour.child.kill('SIGINT')
    expect((await tour.ended).code).toBe(0)
  })

  test('interrupted in the middle it ends politely, and complains of nothing', async () => {
    await using home = await temporaryDirectory()
    const tour = startCli(['tour'], { home: home.path, env: { POSTERN_PORT: '0' } })
    await eventually(() => /^2 run/m.test(tour.stdout()))
    tour.child.kill('SIGINT')
    const ran = await tour.ended
    expect(ran.code).toBe(0)
    expect(ran.stderr).not.toContain('tour failed')
  }, 25_000) // less than an SDK tries to reach a server that is gone

  test('ends its server in order when nobody reads what it prints any more', async () => {
    await using home = await temporaryDirectory()
    const tour = startCli(['tour'], { home: home.path, env: { POSTERN_PORT: '0' } })
    await eventually(() => /^2 run/m.test(tour.stdout()))
    tour.child.stdout?.destroy()
    expect(await tour.ended).toMatchObject({ code: 0 })
    await expect(stat(join(home.path, 'server.json'))).rejects.toMatchObject({ code: 'ENOENT' })
  }, 25_000)

  test('suggests no agent that its workspace does not let in', async () => {
    await using home = await temporaryDirectory()
    const programs = join(home.path, 'programs')
    await mkdir(programs)
    await writeFile(join(programs, 'opencode'), '#!/bin/sh\necho 1.2.3\n', { mode: 0o755 })
    const env = { HOME: home.path, PATH: `${programs}:/usr/bin:/bin`, ANTHROPIC_API_KEY: 'none' }
    await using server = await servingIn({ home: home.path, env })
    const at = { home: home.path }
    await cli(['ws', 'add', '--id', 'ws-demo', '--tag', 'demo'], at)
    expect((await cli(['tour'], at)).stdout, server.url).toContain('-w ws-demo -a opencode --wait')
    await cli(['ws', 'set', 'ws-demo', '--agents', 'demo'], at)
    expect((await cli(['tour'], at)).stdout).toContain('run "Look around" -w ws-demo --wait')
  })

  test('plays in the directory that a removed ws-demo left', async () => {
    await using home = await temporaryDirectory()
    await using server = await serving(home.path)
    const at = { home: home.path }
    expect(await cli(['tour', '--exit'], at)).toMatchObject({ code: 0 })
    expect(await cli(['ws', 'rm', 'ws-demo'], at)).toMatchObject({ code: 0 })
    const again = await cli(['tour', '--exit'], at)
    expect(again.code, again.stderr).toBe(0)
    expect(again.stdout).toMatch(/^1 workspace {2}ws-demo .*, as it was left$/m)
    expect(server.url).toMatch(/^http/)
  })

  test('keeps serving when a step failed, and says what to type', async () => {
    await using home = await temporaryDirectory()
    {
      await using server = await serving(home.path)
      await cli(['ws', 'add', '--id', 'ws-demo', '--tag', 'demo', '--agents', 'shell'], { home: home.path })
      expect(server.url).toMatch(/^http/)
    }
    const tour = startCli(['tour'], { home: home.path, env: { POSTERN_PORT: '0' } })
    const url = await ready(tour)
    await eventually(() => tour.stdout().includes('Still serving; Ctrl-C stops.'))
    expect(tour.stderr()).toMatch(/^✗ tour failed at "run": .*demo.*\n {2}npx postern workspace set ws-demo/)
    expect((await fetch(`${url}/healthz`)).status).toBe(200)
    tour.child.kill('SIGINT')
    expect((await tour.ended).code).toBe(0)
  })

  test('names the step that failed and exits with 1', async () => {
    await using home = await temporaryDirectory()
    await using server = await serving(home.path)
    const at = { home: home.path }
    await cli(['ws', 'add', '--id', 'ws-demo', '--tag', 'demo', '--agents', 'shell'], at)
    const ran = await cli(['tour', '--exit'], at)
    expect(ran.code).toBe(1)
    expect(ran.stderr).toMatch(/^✗ tour failed at "run": .*demo.*\n/)
    expect((await fetch(`${server.url}/healthz`)).status).toBe(200)
  })
})

describe('postern doctor', () => {
  test('finds nothing wrong with a new machine, and with a server', async () => {
    await using home = await temporaryDirectory()
    await chmod(home.path, 0o700)
    const before = await cli(['doctor'], { home: home.path })
    expect(before.code, before.stdout).toBe(0)
    for (const name of ['Node', 'git', 'data directory', 'configuration', 'admin token', 'disk', 'clock', 'port']) {
      expect(before.stdout).toMatch(new RegExp(`^✓ ${name} `, 'm'))
    }
    await using server = await serving(home.path)
    const { stdout } = await cli(['doctor', '--json'], { home: home.path })
    const { ok, findings } = JSON.parse(stdout) as { ok: boolean; findings: { check: string; detail: string }[] }
    expect(ok).toBe(true)
    expect(findings).toContainEqual({ check: 'server', ok: true, detail: `${server.url} answers`, fix: null })
  })

  test('gives a fix for what is wrong, and exits with 1', async () => {
    await using home = await temporaryDirectory()
    await chmod(home.path, 0o755)
    await writeFile(join(home.path, 'admin-token'), 'x', { mode: 0o644 })
    await writeFile(join(home.path, 'config.json'), '{"maxRunz": 1}')
    const ran = await cli(['doctor'], { home: home.path })
    expect(ran.code).toBe(1)
    expect(ran.stdout).toContain(`→ chmod 700 ${home.path}`)
    expect(ran.stdout).toContain(`→ chmod 600 ${join(home.path, 'admin-token')}`)
    expect(ran.stdout).toMatch(/✗ configuration .*maxRunz/)
  })

  test('names the file of a token that cannot be read, not a server that it never asked', async () => {
    await using home = await temporaryDirectory()
    const ran = await cli(['doctor', '--token-file', '/nowhere'], { home: home.path })
    expect(ran.stdout).toMatch(/^✗ server +--token-file \/nowhere: ENOENT/m)
    expect(ran.stdout).not.toContain('undefined')
  })

  test('tells of each agent that is there its version and whether it is logged in, and how to', async () => {
    await using home = await temporaryDirectory()
    await chmod(home.path, 0o700)
    const programs = join(home.path, 'programs')
    await mkdir(programs)
    await writeFile(join(programs, 'codex'), '#!/bin/sh\necho codex 1.2.3\n', { mode: 0o755 })
    const env = { HOME: home.path, PATH: `${programs}:/usr/bin:/bin` }
    await using server = await servingIn({ home: home.path, env })
    expect(server.url).toMatch(/^http/)
    const ran = await cli(['doctor'], { home: home.path })
    expect(ran.stdout).toMatch(/^✓ agent codex +codex 1\.2\.3, tested with \d+\.\d+\.\d+, not logged in$/m)
    expect(ran.stdout).toContain('→ not logged in; run "codex login"')
    expect(ran.code, ran.stdout).toBe(0)
  })

  test('names a process that holds the data directory and does not answer', async () => {
    await using home = await temporaryDirectory()
    await chmod(home.path, 0o700)
    const holder = createServer((socket) => socket.destroy()).listen(join(home.path, 'lock.sock'))
    await once(holder, 'listening')
    await writeFile(join(home.path, 'owner.json'), '{"pid":4312}')
    const ran = await cli(['doctor'], { home: home.path })
    holder.close()
    expect(ran.stdout).toMatch(/✗ server .*pid 4312 holds the data directory and does not answer/)
  })
})

test('postern demo-agent is the agent, without the rest of the command line', async () => {
  await using home = await temporaryDirectory()
  const env = { DEMO_AGENT_HOME: join(home.path, 'conversations') }
  const ran = await cli(['demo-agent'], { home: home.path, env, stdin: '/files' })
  expect(ran.code).toBe(0)
  expect(
    ran.stdout
      .trim()
      .split('\n')
      .map((line) => (JSON.parse(line) as { type: string }).type),
  ).toContain('agent.end')
})
