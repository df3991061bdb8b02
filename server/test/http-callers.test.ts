import { spawn } from 'node:child_process'
import { chmod, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { connect, createServer, type AddressInfo } from 'node:net'
import { networkInterfaces } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { ConfigError } from '../src/config.ts'
import type { Run } from '../src/model.ts'
import { startTestServer, type TestServer } from './harness.ts'
import { memoryRuns, startHttp, TASK_ID } from './http-harness.ts'
import { rawConnection, rawJson, rawRequest } from './raw-http.ts'

const isLinux = process.platform === 'linux'
const bearer = (token: string): string => `Authorization: Bearer ${token}`

describe('local callers', () => {
  test('may start, read, retry and cancel runs, and read workspaces, agents and documents, without a token', async () => {
    await using http = await startHttp()
    for (const line of [
      'GET /api/headless',
      `GET /api/headless/${TASK_ID}`,
      `GET /api/headless/${TASK_ID}/events`,
      `POST /api/headless/${TASK_ID}/cancel`,
      `POST /api/headless/${TASK_ID}/retry`,
      'GET /api/workspaces',
      'GET /api/agents',
      ...['/healthz', '/readyz', '/metrics', '/openapi.json', '/docs', '/docs.md', '/llms.txt', '/'].map(
        (path) => `GET ${path}`,
      ),
    ]) {
      expect((await rawRequest(http.port, { line })).status, line).toBeLessThan(300)
    }
    expect((await rawJson(http.port, 'POST /api/workspaces/ws-a/headless', '{"prompt":"x"}')).status).toBe(202)
  })

  test('A4: need the token for whatever changes authority, and are told so', async () => {
    await using http = await startHttp()
    for (const line of [
      'POST /api/workspaces',
      'PATCH /api/workspaces/ws-a',
      'DELETE /api/workspaces/ws-a',
      'POST /api/agents/demo/probe',
    ]) {
      const without = await rawRequest(http.port, { line })
      expect([without.status, without.json?.['code']], line).toEqual([401, 'token_required'])
      expect(without.headers['www-authenticate']).toBe('Bearer realm="postern"')
      const wrong = await rawRequest(http.port, { line, headers: [bearer(`pstn_adm1_${'A'.repeat(49)}`)] })
      expect([wrong.status, wrong.json?.['code']], line).toEqual([401, 'invalid_token'])
      expect(wrong.headers['www-authenticate']).toBe('Bearer realm="postern", error="invalid_token"')
      expect(wrong.body).not.toContain('pstn_')
      expect((await rawRequest(http.port, { line, headers: [bearer(http.token)] })).status, line).not.toBe(401)
    }
  })

  test('A3: a credential that is sent is judged alone, on exempt routes too', async () => {
    await using http = await startHttp()
    for (const value of [
      'Bearer x',
      'Bearer',
      'Bearer ',
      'Basic YTpi',
      `Basic ${http.token}`,
      `Bearer ${http.token} x`,
      `Bearer ${http.token.toLowerCase()}`,
      '',
      'x',
    ]) {
      const answer = await rawRequest(http.port, { line: 'GET /healthz', headers: [`Authorization: ${value}`] })
      expect([answer.status, answer.json?.['code']], value).toEqual([
        answer.status === 429 ? 429 : 401,
        answer.status === 429 ? 'too_many_failures' : 'invalid_token',
      ])
    }
    expect((await rawRequest(http.port, { line: 'GET /healthz', headers: [bearer(http.token)] })).status).toBe(200)
    expect(
      (await rawRequest(http.port, { line: 'GET /healthz', headers: [`authorization: bearer ${http.token}`] })).status,
    ).toBe(200)
    const two = await rawRequest(http.port, { line: 'GET /healthz', headers: [bearer(http.token), bearer(http.token)] })
    expect(two.status).toBe(400)
  })

  test('A1: the 11th bad token in a minute is 429; a good one always passes', async () => {
    await using http = await startHttp()
    const call = (token: string) => rawRequest(http.port, { line: 'GET /api/workspaces', headers: [bearer(token)] })
    for (let i = 0; i < 10; i++) expect((await call(`bad${i}`)).status).toBe(401)
    const limited = await call('bad')
    expect([limited.status, limited.json?.['code'], limited.json?.['retryable']]).toEqual([
      429,
      'too_many_failures',
      true,
    ])
    const seconds = Number(limited.headers['retry-after'])
    expect(seconds).toBeGreaterThan(0)
    expect(seconds).toBeLessThanOrEqual(60)
    expect((await call(http.token)).status).toBe(200)
    expect((await rawRequest(http.port, { line: 'GET /api/workspaces' })).status).toBe(200)
  })
})

describe('callers that are not local', () => {
  /** An address of this machine that is not loopback. */
  const address = Object.values(networkInterfaces())
    .flat()
    .find((each) => each?.family === 'IPv4' && !each.internal)?.address
  const beyond = async (config: Record<string, unknown> = {}) => {
    const made = await startHttp()
    const token = await readFile(join(made.dataDir, 'admin-token'), 'utf8')
    const http = await startHttp({ config: { host: '0.0.0.0', ...config, dataDir: made.dataDir } })
    return {
      http,
      token: token.trim(),
      [Symbol.asyncDispose]: async () => {
        await http.close()
        await made[Symbol.asyncDispose]()
      },
    }
  }

  test.skipIf(address === undefined)(
    'L16: a remote socket that says it is 127.0.0.1 needs a token for everything',
    async () => {
      await using server = await beyond()
      const { http, token } = server
      for (const host of [address ?? '', '127.0.0.1']) {
        for (const headers of [[], ['X-Forwarded-For: 127.0.0.1'], ['X-Real-IP: 127.0.0.1']]) {
          for (const path of ['/api/headless', '/healthz', '/docs', '/metrics']) {
            const answer = await fetch(`http://${host}:${http.port}${path}`, {
              headers: Object.fromEntries(headers.map((h) => h.split(': '))),
            })
            expect(answer.status).toBe(401)
          }
        }
        const good = await fetch(`http://${host}:${http.port}/api/headless`, {
          headers: { authorization: `Bearer ${token}` },
        })
        expect(good.status).toBe(200)
      }
      expect(http.url).toBe(`http://127.0.0.1:${http.port}`)
    },
  )

  test('on a bind beyond this machine any Host is taken, and a foreign origin is not', async () => {
    await using server = await beyond()
    const { http, token } = server
    const call = (host: string, ...headers: string[]) =>
      rawRequest(http.port, { line: 'GET /api/headless', host, headers: [bearer(token), ...headers] })
    expect((await call('postern.example:8080')).status).toBe(200)
    expect((await call('postern.example', 'Origin: https://postern.example')).status).toBe(200)
    expect((await call('postern.example', 'Origin: https://evil.example')).status).toBe(403)
    expect((await call('a b')).status).toBe(403)
  })

  test('L15: with publicUrl, trustedProxies or requireToken nobody is local', async () => {
    for (const config of [
      { publicUrl: 'https://door.example' },
      { trustedProxies: ['10.0.0.0/8'] },
      { requireToken: true },
    ]) {
      await using http = await startHttp({ config })
      const answer = await rawRequest(http.port, { line: 'GET /healthz' })
      expect([answer.status, answer.json?.['code']]).toEqual([401, 'token_required'])
      expect((await rawRequest(http.port, { line: 'GET /healthz', headers: [bearer(http.token)] })).status).toBe(200)
      expect(http.logged.join()).toContain('every caller needs a token')
    }
  })

  test('L14: behind a bare proxy, publicUrl names the host and ends the exemption', async () => {
    await using http = await startHttp({ config: { publicUrl: 'https://door.example/' } })
    const call = (host: string, ...headers: string[]) =>
      rawRequest(http.port, { line: 'GET /api/headless', host, headers })
    expect((await call('door.example')).status).toBe(401)
    expect((await call('door.example', bearer(http.token), 'Origin: https://door.example')).status).toBe(200)
    expect((await call('door.example:443', bearer(http.token))).status).toBe(403)
    expect((await call(`127.0.0.1:${http.port}`)).status).toBe(401)
  })

  test('L14: a bare proxy of our own user is local, which is why publicUrl must be set behind one', async () => {
    await using http = await startHttp()
    const proxy = createServer((from) => {
      const to = connect(http.port, '127.0.0.1')
      from.pipe(to).pipe(from)
      for (const socket of [from, to]) socket.on('error', () => undefined)
    })
    await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve))
    const { port } = proxy.address() as AddressInfo
    expect((await rawRequest(port, { line: 'GET /api/headless', host: `127.0.0.1:${http.port}` })).status).toBe(200)
    proxy.close()
  })

  test('L23: a bind beyond this machine is refused until there is an admin token', async () => {
    await expect(startHttp({ config: { host: '0.0.0.0' } })).rejects.toThrow(ConfigError)
    await expect(startHttp({ config: { host: '::' } })).rejects.toThrow('start once on 127.0.0.1')
  })

  // Needs the right to start a program as another user.
  test.skipIf(!isLinux || process.getuid?.() !== 0)('L19: another user of this machine is not local', async () => {
    await using http = await startHttp()
    const status = (uid: number): Promise<string> =>
      new Promise((resolve, reject) => {
        const script = `exec 3<>/dev/tcp/127.0.0.1/${http.port}; printf 'GET /api/headless HTTP/1.1\\r\\nHost: 127.0.0.1:${http.port}\\r\\nConnection: close\\r\\n\\r\\n' >&3; head -1 <&3`
        const child = spawn('bash', ['--norc', '-c', script], {
          uid,
          gid: uid,
          cwd: '/',
          env: { PATH: '/usr/bin:/bin' },
        })
        let text = ''
        child.stdout.on('data', (chunk: Buffer) => (text += chunk.toString()))
        child.on('error', reject).on('close', () => resolve(text.slice(9, 12)))
      })
    expect(await status(65_534)).toBe('401')
    expect(await status(0)).toBe('200')
  })
})

describe('callers from inside a run', () => {
  const agents = { sh: { command: ['bash', '--norc', '-s'] } }
  let server: TestServer
  let wsId: string
  beforeAll(async () => {
    server = await startTestServer({ config: { agents } })
    wsId = await server.workspace({ agents: ['sh'] })
  })
  afterAll(() => server[Symbol.asyncDispose]())

  /** Statuses that a script inside a run got. */
  async function inside(script: string): Promise<string[]> {
    const call = `call() { exec 3<>/dev/tcp/127.0.0.1/${server.port}; printf '%s HTTP/1.1\\r\\nHost: 127.0.0.1:${server.port}\\r\\nConnection: close\\r\\nContent-Type: application/json\\r\\nContent-Length: %s\\r\\n%s\\r\\n%s' "$1" "\${#2}" "$3" "$2" >&3; head -1 <&3 | cut -c10-12; }\nexport -f call\n`
    const { body } = await server.call<Run>('POST', `/api/workspaces/${wsId}/headless`, {
      agent: 'sh',
      prompt: call + script,
      wait: true,
    })
    expect(body.detail).toBeNull()
    return (body.result.text ?? '').split('\n').filter((line) => line !== '')
  }

  test.skipIf(!isLinux)(
    'L1, L2: an agent and its children are not local, also when they leave its group and session',
    async () => {
      const start = `call 'POST /api/workspaces/${wsId}/headless' '{"prompt":"true","agent":"sh"}'`
      const before = await server.call<{ tasks: unknown[] }>('GET', '/api/headless')
      const statuses = await inside(
        [
          `call 'GET /api/headless' ''`,
          start,
          `call 'POST /api/workspaces' '{"tag":"mine"}'`,
          `bash -c "${start.replaceAll('"', '\\"')}"`,
          `setsid bash -c "${start.replaceAll('"', '\\"')}"`,
          `(setsid bash -c "${start.replaceAll('"', '\\"')} > forked" &) ; until [ -s forked ]; do sleep 0.02; done; cat forked`,
        ].join('\n'),
      )
      expect(statuses).toEqual(Array.from({ length: 6 }, () => '401'))
      const after = await server.call<{ tasks: unknown[] }>('GET', '/api/headless')
      expect(after.body.tasks.length).toBe(before.body.tasks.length + 1)
    },
  )

  test.skipIf(!isLinux)('a caller outside stays local while a run is at work', async () => {
    const { body } = await server.call<Run>('POST', `/api/workspaces/${wsId}/headless`, {
      agent: 'sh',
      prompt: 'sleep 30',
    })
    expect(body.status).toBe('running')
    expect((await rawRequest(server.port, { line: `GET /api/headless/${body.taskId}` })).status).toBe(200)
    expect((await rawRequest(server.port, { line: `POST /api/headless/${body.taskId}/cancel` })).status).toBe(200)
  })

  test.skipIf(!isLinux)('when it cannot be told who calls, the caller is not local', async () => {
    const runs = memoryRuns({ isRunning: true })
    const runProcesses = (): never => {
      throw new Error('no look')
    }
    await using http = await startHttp({ runs, runProcesses })
    expect((await rawRequest(http.port, { line: 'GET /api/headless' })).status).toBe(401)
    await using own = await startHttp({ runs, runProcesses: () => new Set([process.pid]) })
    expect((await rawRequest(own.port, { line: 'GET /api/headless' })).status).toBe(401)
  })

  test.skipIf(!isLinux)('a thousand callers at once cost a few looks', async () => {
    const runs = memoryRuns({ isRunning: true })
    let looks = 0
    await using http = await startHttp({ runs, runProcesses: () => (looks++, new Set<number>()) })
    const callers = await Promise.all(Array.from({ length: 300 }, () => rawConnection(http.port)))
    for (const { socket } of callers) socket.write(`GET /api/headless HTTP/1.1\r\nHost: 127.0.0.1:${http.port}\r\n\r\n`)
    await Promise.all(callers.map((caller) => caller.until('HTTP/1.1 200')))
    for (const { socket } of callers) socket.destroy()
    expect(looks).toBeLessThan(30)
  })
})

describe('the admin token file', () => {
  test.skipIf(process.platform === 'win32')(
    'T18: made once, mode 0600, and refused when it is not as it was made',
    async () => {
      await using http = await startHttp()
      const path = join(http.dataDir, 'admin-token')
      expect((await stat(path)).mode & 0o777).toBe(0o600)
      const again = async (): Promise<unknown> => {
        const other = await startHttp({ config: { dataDir: http.dataDir } })
        await other.close()
        return other.token
      }
      expect(await again()).toBe(http.token)

      await chmod(path, 0o644)
      await expect(again()).rejects.toThrow('has mode 0644')
      await chmod(path, 0o600)
      for (const text of [
        '',
        'secret',
        `${http.token}x`,
        http.token.slice(0, -1),
        http.token.replace('adm1', 'run1'),
      ]) {
        await writeFile(path, text)
        await expect(again()).rejects.toThrow('does not hold an admin token')
      }
      await rm(path)
      await symlink('/etc/hostname', path)
      await expect(again()).rejects.toThrow(ConfigError)
      await rm(path)
      expect(await again()).not.toBe(http.token)
    },
  )
})
