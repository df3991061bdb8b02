import { expect, test } from 'vitest'
import { diskError, faultyDisk } from '../../test/faulty-disk.ts'
import { temporaryDirectory } from '../../test/temporary.ts'
import { systemClock } from '../clock.ts'
import type { PermissionOption } from '../model/sessions.ts'
import { systemDisk, type Disk } from '../store/disk.ts'
import { openStore } from '../store/store.ts'
import { createRequests, type NewRequest } from './requests.ts'

const option = (id: string, kind: PermissionOption['kind']): PermissionOption => ({ id, name: id, kind })
const asked: NewRequest = {
  sessionId: 'sess_01K00000000000000000000001',
  wsId: 'ws-a',
  agent: 'demo',
  title: 'rm -rf build',
  toolCallId: 't1',
  kind: 'execute',
  options: [option('always', 'allow_always'), option('once', 'allow_once'), option('no', 'reject_once')],
  policy: 'ask',
}
const never = new AbortController().signal

async function open(options: { disk?: Disk; deadlineMs?: number } = {}) {
  const directory = await temporaryDirectory()
  const { disk = systemDisk, deadlineMs = 60_000 } = options
  const store = await openStore({
    disk,
    dataDir: directory.path,
    clock: systemClock,
    maxIdempotencyKeys: 10,
    onTrouble: () => undefined,
  })
  const requests = createRequests({ requests: store.requests, clock: systemClock, deadlineMs })
  return {
    requests,
    async [Symbol.asyncDispose]() {
      await store.close()
      await directory[Symbol.asyncDispose]()
    },
  }
}

test('of a question without measure a record of measure is kept', async () => {
  await using opened = await open()
  const { request } = await opened.requests.ask(
    {
      ...asked,
      title: 't'.repeat(1_000_000),
      kind: 'k'.repeat(1_000_000),
      toolCallId: 'c'.repeat(1_000_000),
      input: { command: `begin${'x'.repeat(14 * 1024 * 1024)}end` },
      options: [
        option('i'.repeat(1_000), 'allow_once'),
        { ...option('once', 'allow_once'), name: 'n'.repeat(1_000_000) },
        ...Array.from({ length: 10_000 }, (_, i) => option(`more-${i}`, 'reject_once')),
      ],
    },
    never,
  )
  expect(JSON.stringify(request).length).toBeLessThan(15_000)
  expect(request.input).toMatch(/^{"command":"begin.*\n\[\d+ characters cut\]\n.*end"}$/)
  expect(request.options[0]).toMatchObject({ id: 'once' })
  expect(await opened.requests.answer(request.id, { answer: 'allow' })).toMatchObject({ answer: 'once' })
  const short = { command: 'ls' }
  expect((await opened.requests.ask({ ...asked, input: short }, never)).request.input).toEqual(short)
})

test('what nobody answers is denied at the deadline, with the way to deny that the agent offers', async () => {
  await using opened = await open({ deadlineMs: 50 })
  const { request, answered } = await opened.requests.ask(asked, never)
  expect(Date.parse(request.expiresAt) - Date.parse(request.createdAt)).toBe(50)
  expect(await answered).toMatchObject({ status: 'expired', answer: 'no', answeredBy: 'deadline' })
  await expect(opened.requests.answer(request.id, { answer: 'allow' })).rejects.toMatchObject({
    code: 'request_answered',
  })
})

test('of two who answer at once, one wins and the other is told', async () => {
  await using opened = await open()
  const { request, answered } = await opened.requests.ask(asked, never)
  const both = await Promise.allSettled([
    opened.requests.answer(request.id, { answer: 'deny' }),
    opened.requests.answer(request.id, { answer: 'allow' }),
  ])
  expect(both.map(({ status }) => status)).toEqual(['fulfilled', 'rejected'])
  expect(await answered).toMatchObject({ status: 'denied', answer: 'no', answeredBy: 'caller' })
})

test('allowing means once, unless another offered option is named', async () => {
  await using opened = await open()
  const first = await opened.requests.ask(asked, never)
  expect((await opened.requests.answer(first.request.id, { answer: 'allow' })).answer).toBe('once')
  const second = await opened.requests.ask(asked, never)
  for (const optionId of ['no', 'nothing']) {
    await expect(opened.requests.answer(second.request.id, { answer: 'allow', optionId })).rejects.toMatchObject({
      code: 'option_not_offered',
    })
  }
  expect(await opened.requests.answer(second.request.id, { answer: 'allow', optionId: 'always' })).toMatchObject({
    status: 'allowed',
    answer: 'always',
  })
})

test('a turn that ends cancels what it asked', async () => {
  await using opened = await open()
  const turn = new AbortController()
  const { answered } = await opened.requests.ask(asked, turn.signal)
  turn.abort()
  expect(await answered).toMatchObject({ status: 'canceled', answer: null, answeredBy: null })
  const over = await opened.requests.ask(asked, turn.signal)
  expect(await over.answered).toMatchObject({ status: 'canceled' })
})

test('the policy of a workspace answers at once, and is recorded', async () => {
  await using opened = await open()
  for (const [policy, status, answer] of [
    ['allow', 'allowed', 'once'],
    ['deny', 'denied', 'no'],
  ] as const) {
    const { request, answered } = await opened.requests.ask({ ...asked, policy }, never)
    expect(await answered).toMatchObject({ status, answer, answeredBy: 'policy' })
    expect(await opened.requests.get(request.id)).toMatchObject({ status })
  }
  const nothing = await opened.requests.ask({ ...asked, options: [], policy: 'allow' }, never)
  expect(await nothing.answered).toMatchObject({ status: 'denied', answer: null })
})

test('what an earlier server was asked is canceled: its agents are gone', async () => {
  await using opened = await open()
  const { request } = await opened.requests.ask(asked, never)
  await opened.requests.recover()
  expect(await opened.requests.get(request.id)).toMatchObject({ status: 'canceled' })
  expect((await opened.requests.list({ status: 'pending' })).requests).toEqual([])
})

test('a question that cannot be recorded is not asked; an answer that cannot be denies all the same', async () => {
  const faulty = faultyDisk()
  await using opened = await open({ disk: faulty.disk, deadlineMs: 300 })
  const { request, answered } = await opened.requests.ask(asked, never)
  faulty.onCall = () => {
    throw diskError('ENOSPC')
  }
  await expect(opened.requests.ask(asked, never)).rejects.toMatchObject({ code: 'storage_unavailable' })
  await expect(opened.requests.answer(request.id, { answer: 'allow' })).rejects.toMatchObject({
    code: 'storage_unavailable',
  })
  expect(await answered).toMatchObject({ status: 'expired' })
  faulty.onCall = undefined
})
