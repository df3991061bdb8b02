import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { checkGate, reachOf } from './gate.ts'
import { readHeaders } from './headers.ts'

const reach = reachOf({ host: '127.0.0.1', publicUrl: undefined }, 47_331)
const check = (headers: [string, string][], url = '/', where = reach): void =>
  checkGate({ method: 'GET', url }, readHeaders(headers.flat()), where)
const ours = '127.0.0.1:47331'

describe('Host', () => {
  test('is ours by one of five names with the real port, and by nothing else', () => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc.domain(),
          fc.ipV4(),
          fc.ipV6().map((address) => `[${address}]`),
          fc.string(),
        ),
        fc.integer({ min: 0, max: 65_535 }),
        (name, port) => {
          const host = `${name}:${port}`
          fc.pre(!reach.hosts?.has(host.toLowerCase()))
          expect(() => check([['Host', host]])).toThrow(expect.objectContaining({ code: 'host_not_allowed' }))
        },
      ),
      { numRuns: 500 },
    )
  })

  test('needs no port where the port is 80, and may be the public one', () => {
    const web = reachOf({ host: '127.0.0.1', publicUrl: 'https://Door.example/x' }, 80)
    for (const host of ['localhost', 'localhost:80', 'door.example', 'DOOR.example']) {
      expect(() => check([['Host', host]], '/', web)).not.toThrow()
    }
    for (const host of ['localhost:81', 'door.example:80', 'x.door.example']) {
      expect(() => check([['Host', host]], '/', web)).toThrow(expect.objectContaining({ code: 'host_not_allowed' }))
    }
  })

  test('may be the address of an unusual loopback bind', () => {
    const odd = reachOf({ host: '127.0.0.5', publicUrl: undefined }, 5_000)
    expect(() => check([['Host', '127.0.0.5:5000']], '/', odd)).not.toThrow()
  })
})

describe('Origin', () => {
  test('is ours or refused', () => {
    fc.assert(
      fc.property(fc.oneof(fc.webUrl(), fc.string({ minLength: 1 }), fc.constant('null')), (origin) => {
        fc.pre(origin.toLowerCase() !== `http://${ours}`)
        const headers: [string, string][] = [
          ['Host', ours],
          ['Origin', origin],
        ]
        expect(() => check(headers)).toThrow(expect.objectContaining({ code: 'origin_not_allowed' }))
      }),
    )
    expect(() =>
      check([
        ['Host', ours],
        ['Origin', `http://${ours}`],
      ]),
    ).not.toThrow()
    expect(() =>
      check([
        ['Host', ours],
        ['Origin', `http://${ours}`],
        ['Origin', `http://${ours}`],
      ]),
    ).toThrow()
  })
})

describe('the target', () => {
  test('never passes with a dot segment, however it is written', () => {
    const dots = fc.constantFrom('.', '..', '%2e', '%2E.', '.%2e', '%2e%2e')
    const plain = fc.stringMatching(/^[a-z0-9_-]{1,8}$/)
    fc.assert(
      fc.property(fc.array(plain), dots, fc.array(plain), fc.boolean(), (before, dot, after, hasQuery) => {
        const url = `/${[...before, dot, ...after].join('/')}${hasQuery ? '?a=b' : ''}`
        expect(() => check([['Host', ours]], url)).toThrow(expect.objectContaining({ code: 'not_found' }))
      }),
    )
    expect(() => check([['Host', ours]], '/a?b=/../c')).not.toThrow()
    expect(() => check([['Host', ours]], '/.../x')).not.toThrow()
  })

  test('is refused or decodes, for any text', () => {
    fc.assert(
      fc.property(fc.string(), (text) => {
        const url = `/${text}`
        try {
          check([['Host', ours]], url)
        } catch (error) {
          expect(error).toMatchObject({ name: 'DomainError' })
          return
        }
        expect(() => decodeURIComponent(url)).not.toThrow()
        expect(url).toMatch(/^[\x21-\x7e]+$/)
      }),
      { numRuns: 500 },
    )
  })
})
