import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { addressForLimits, hasExemption, mayBeLocal } from './caller.ts'
import { readHeaders } from './headers.ts'
import { isLoopbackAddress } from './peer.ts'

const open = { host: '127.0.0.1', publicUrl: undefined, trustedProxies: [], requireToken: false }

describe('the exemption', () => {
  test('is there on loopback alone, with nothing that speaks of a proxy', () => {
    for (const host of ['127.0.0.1', '127.9.9.9', '::1', 'localhost', '::ffff:127.0.0.1']) {
      expect(hasExemption({ ...open, host })).toBe(true)
    }
    for (const host of ['0.0.0.0', '::', '192.0.2.1', 'example.com', '128.0.0.1', '']) {
      expect(hasExemption({ ...open, host })).toBe(false)
    }
    expect(hasExemption({ ...open, publicUrl: 'https://door.example' })).toBe(false)
    expect(hasExemption({ ...open, trustedProxies: ['10.0.0.1'] })).toBe(false)
    expect(hasExemption({ ...open, requireToken: true })).toBe(false)
  })
})

describe('an address', () => {
  test('L18: is local as IPv4, IPv6 and IPv4 in IPv6, and in no other form', () => {
    for (const address of ['127.0.0.1', '127.255.255.254', '::1', '::ffff:127.0.0.1', '::ffff:7f00:1']) {
      expect(isLoopbackAddress(address)).toBe(true)
    }
    for (const address of [
      '::ffff:192.0.2.2',
      '127.0.0.1.evil',
      '::',
      '0.0.0.0',
      '::127.0.0.1',
      '128.0.0.1',
      '126.255.255.255',
      'localhost',
      '',
    ]) {
      expect(isLoopbackAddress(address)).toBe(false)
    }
  })

  test('L20: a socket without one is not local', () => {
    expect(isLoopbackAddress(undefined)).toBe(false)
    expect(mayBeLocal({ remoteAddress: undefined }, { isForwarded: false })).toBe(false)
  })

  test('of four bytes is local if and only if the first is 127', () => {
    fc.assert(
      fc.property(fc.ipV4(), (address) => {
        expect(isLoopbackAddress(address)).toBe(address.startsWith('127.'))
        expect(isLoopbackAddress(`::ffff:${address}`)).toBe(address.startsWith('127.'))
      }),
      { numRuns: 1_000 },
    )
  })

  test('of sixteen bytes is local if and only if it is ::1 or holds a local one', () => {
    fc.assert(
      fc.property(fc.ipV6(), (address) => {
        const local = isLoopbackAddress(address)
        if (local) expect(address).toMatch(/^[0:]*1$|^[0:]*(ffff|FFFF):(7[fF][0-9a-fA-F]{2}:|127\.)/)
      }),
      { numRuns: 1_000 },
    )
  })

  test('anything else is never local, and never an error', () => {
    fc.assert(fc.property(fc.string(), (text) => !isLoopbackAddress(`${text}!`)))
    fc.assert(fc.property(fc.webAuthority(), (text) => !isLoopbackAddress(`${text}.evil`)))
  })
})

describe('headers', () => {
  const names = fc.stringMatching(/^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,40}$/)
  const lines = fc.array(fc.tuple(names, fc.string()))
  const forwarding = fc.constantFrom(
    'Forwarded',
    'VIA',
    'x-forwarded-for',
    'X-Forwarded-Anything',
    'X-Real-IP',
    'x-client-ip',
    'True-Client-IP',
    'cf-ray',
    'Fly-Region',
    'tailscale-user',
    'X-Envoy-x',
    'x-amzn-y',
  )

  test('can only ever end the exemption: no set of them makes a remote caller local', () => {
    fc.assert(
      fc.property(lines, fc.ipV4(), (headers, remoteAddress) => {
        const facts = readHeaders(headers.flat())
        expect(mayBeLocal({ remoteAddress }, facts) && !remoteAddress.startsWith('127.')).toBe(false)
      }),
      { numRuns: 500 },
    )
  })

  test('that any proxy adds are found among any others, at any place, in any case', () => {
    fc.assert(
      fc.property(lines, forwarding, lines, (before, name, after) => {
        const facts = readHeaders([...before, [name, '127.0.0.1'], ...after].flat())
        expect(mayBeLocal({ remoteAddress: '127.0.0.1' }, facts)).toBe(false)
      }),
      { numRuns: 500 },
    )
  })

  test('are counted line by line, whatever their names', () => {
    fc.assert(
      fc.property(lines, (headers) => {
        const facts = readHeaders(headers.flat())
        expect(facts.count).toBe(headers.length)
        expect(facts.hosts).toEqual(headers.filter(([name]) => name.toLowerCase() === 'host').map(([, value]) => value))
      }),
    )
    expect(readHeaders(['__proto__', 'x', 'constructor', 'y', 'toString', 'z'])).toMatchObject({
      count: 3,
      isForwarded: false,
    })
  })
})

describe('the address that limits count by', () => {
  const of = (remoteAddress: string | undefined, forwardedFor: string[], trusted: string[] = []): string =>
    addressForLimits({ remoteAddress }, { forwardedFor }, trusted)

  test('is the socket, whatever the headers say, unless a proxy is trusted', () => {
    expect(of('192.0.2.7', ['203.0.113.9'])).toBe('192.0.2.7')
    expect(of('192.0.2.7', ['203.0.113.9'], ['10.0.0.0/8'])).toBe('192.0.2.7')
    expect(of(undefined, [])).toBe('unknown')
  })

  test('L17: behind a trusted proxy it is the rightmost one that is not trusted', () => {
    expect(of('10.0.0.1', ['127.0.0.1, 203.0.113.9'], ['10.0.0.0/8'])).toBe('203.0.113.9')
    expect(of('10.0.0.1', ['127.0.0.1', '203.0.113.9, 10.0.0.2'], ['10.0.0.0/8'])).toBe('203.0.113.9')
    expect(of('::ffff:10.0.0.1', ['203.0.113.9'], ['10.0.0.1'])).toBe('203.0.113.9')
    expect(of('10.0.0.1', [], ['10.0.0.0/8'])).toBe('10.0.0.1')
  })

  test('is the socket when the chain is malformed', () => {
    for (const chain of ['unknown', '203.0.113.9:80', '', '"203.0.113.9"', '203.0.113.9, x']) {
      expect(of('10.0.0.1', [chain], ['10.0.0.0/8'])).toBe('10.0.0.1')
    }
  })

  test('of IPv6 is its /64, so that one network counts once', () => {
    expect(of('2001:db8:1:2:3:4:5:6', [])).toBe(of('2001:db8:1:2:ffff::1', []))
    expect(of('2001:db8:1:3::1', [])).not.toBe(of('2001:db8:1:2::1', []))
  })
})
