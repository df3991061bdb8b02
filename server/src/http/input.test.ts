import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { z } from 'zod'
import { nearest, gather, refusalOf, shapeOf } from './input.ts'

const fields = [
  'prompt',
  'agent',
  'timeoutMs',
  'wait',
  'whenBusy',
  'idleTimeoutMs',
  'model',
  'resume',
  'isolation',
  'metadata',
]

test('a typo finds the field that was meant; another word finds none', () => {
  const pairs = [
    ['timeoutMS', 'timeoutMs'],
    ['timeout_ms', 'timeoutMs'],
    ['timoutMs', 'timeoutMs'],
    ['Prompt', 'prompt'],
    ['promtp', 'prompt'],
    ['when-busy', 'whenBusy'],
    ['modle', 'model'],
  ] as const
  for (const [typo, meant] of pairs) expect(nearest(typo, fields)).toBe(meant)
  for (const other of ['env', 'id', 'idempotencyKey', 'x', '', 'y'.repeat(100_000)])
    expect(nearest(other, fields)).toBeUndefined()
})

test('one slip in a field is always mended, or finds nothing worse', () => {
  fc.assert(
    fc.property(
      fc.constantFrom(...fields),
      fc.nat(20),
      fc.constantFrom('a', 'e', 'm', 'q', 't', 'z'),
      (field, at, letter) => {
        const slip = field.slice(0, at % field.length) + letter + field.slice((at % field.length) + 1)
        expect([field, undefined]).toContain(nearest(slip, [field]))
        expect(nearest(slip, [field])).toBe(field)
      },
    ),
  )
})

const schema = z.strictObject({
  id: z.string().regex(/^ws-/),
  count: z.int().optional(),
  flag: z.boolean().optional(),
  name: z.string().optional(),
})
const shape = shapeOf('/things/{id}', schema, false)

test('the shape says where each field comes from', () => {
  expect(shape.path).toEqual(['id'])
  expect(Object.fromEntries(shape.query)).toEqual({ count: 'number', flag: 'boolean', name: 'text' })
  expect(shape.body).toBeUndefined()
  expect(shapeOf('/things/{id}', schema, true).body).toEqual(['count', 'flag', 'name'])
})

test('any text of a query arrives as it was meant', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'grapheme' }), fc.integer(), fc.boolean(), (name, count, flag) => {
      const search = new URLSearchParams({ name, count: String(count), flag: String(flag) }).toString()
      expect({ ...gather(shape, { id: 'ws-a' }, search, undefined) }).toEqual({ id: 'ws-a', name, count, flag })
    }),
  )
})

test('the path wins over nothing: a body cannot name what is in the path', () => {
  const body = shapeOf('/things/{id}', schema, true)
  expect(() => gather(body, { id: 'ws-a' }, '', { id: 'ws-evil' })).toThrow('`id` is not a field.')
  expect(() => gather(shape, { id: 'ws-a' }, 'id=ws-evil', undefined)).toThrow('`id` is not a query parameter.')
})

test('no query makes anything but an error with a code, or an input', () => {
  fc.assert(
    fc.property(fc.string().map(encodeURI), (search) => {
      try {
        gather(shape, { id: 'ws-a' }, search.replaceAll('%', '%25'), undefined)
      } catch (error) {
        expect(error).toMatchObject({ name: 'DomainError' })
      }
    }),
  )
})

test('a path parameter that can name nothing is not found', () => {
  const input = { id: 'x"\n', count: 'y' }
  const parsed = schema.safeParse(input)
  if (parsed.success) throw new Error('parsed')
  const refused = refusalOf(parsed.error, shape, input, 'workspace_not_found')
  expect(refused).toMatchObject({ code: 'workspace_not_found', message: String.raw`there is no workspace "x\"\n"` })
  expect(refused.details.hint).toBe('postern workspace ls (the id, not the tag)')
  expect(refusalOf(parsed.error, shape, input).code).toBe('validation_failed')
})
