import { readFile } from 'node:fs/promises'
import { Validator } from '@seriousme/openapi-schema-validator'
import { expect, test } from 'vitest'
import { z } from 'zod'
import { ERRORS } from '../errors.ts'
import { PROBLEMS } from './problem-texts.ts'
import { openApiDocument } from './openapi.ts'

const document = openApiDocument('1.2.3')
const operations = Object.entries(document.paths).flatMap(([path, item]) =>
  Object.entries(item).map(([method, operation]) => ({ path, method, operation })),
)

test('the document is valid OpenAPI 3.1', async () => {
  const result = await new Validator().validate(structuredClone(document))
  expect(result).toEqual({ valid: true })
})

test('openapi.json at the root is what the sources say', async () => {
  const { version } = JSON.parse(await readFile(new URL('../../package.json', import.meta.url), 'utf8')) as {
    version: string
  }
  const committed = await readFile(new URL('../../../openapi.json', import.meta.url), 'utf8')
  expect(committed).toBe(`${JSON.stringify(openApiDocument(version), null, 2)}\n`)
})

test('the document is the same on every call', () => {
  expect(JSON.stringify(openApiDocument('1.2.3'))).toBe(JSON.stringify(document))
})

test('every operation has a dotted id of its own, a tag and a summary', () => {
  const ids = operations.map(({ operation }) => operation.operationId)
  expect(new Set(ids).size).toBe(ids.length)
  for (const { operation } of operations) {
    expect(operation.operationId).toMatch(/^[a-z]+\.[a-z]+$/)
    expect(operation.tags).toEqual([operation.operationId.split('.')[0]])
    expect(operation.summary).toBeTruthy()
  }
})

test('every failure is a problem that names its codes', () => {
  for (const { operation } of operations) {
    for (const [status, response] of Object.entries(operation.responses)) {
      if (Number(status) < 400) continue
      const content = response['content'] as Record<string, { schema: unknown }>
      expect(Object.keys(content)).toEqual(['application/problem+json'])
      expect(content['application/problem+json']?.schema).toEqual({ $ref: '#/components/schemas/Problem' })
      const codes = response['x-codes'] as (keyof typeof ERRORS)[]
      expect(codes.length).toBeGreaterThan(0)
      for (const code of codes) expect(ERRORS[code].status).toBe(Number(status))
    }
  }
})

test('every body and answer in JSON has an example, which fits its schema', () => {
  for (const { operation } of operations) {
    if (operation.operationId === 'server.openapi') continue // the document itself
    for (const holder of [operation.requestBody, ...Object.values(operation.responses)]) {
      const media = (holder?.['content'] as Record<string, { schema: object; examples?: object }>)?.['application/json']
      if (!media) continue
      const [, name = ''] = /#\/components\/schemas\/(\w+)/.exec(JSON.stringify(media.schema)) ?? []
      expect(media.examples, operation.operationId).toEqual({ example: { $ref: `#/components/examples/${name}` } })
      const { value } = document.components.examples[name] as { value: unknown }
      expect(schemaOf(name).safeParse(value).error?.issues ?? [], name).toEqual([])
    }
  }
})

/** Patterns by Unicode properties are left out: zod would read them without their flag. */
function schemaOf(name: string): z.ZodType {
  const known = (key: string, value: unknown): unknown =>
    key === 'pattern' && String(value).includes(String.raw`\p{`) ? undefined : value
  const text = JSON.stringify(document.components.schemas, known).replaceAll('#/components/schemas/', '#/$defs/')
  const defs = JSON.parse(text) as Record<string, object>
  return z.fromJSONSchema({ ...defs[name], $defs: defs } as never)
}

test('every code of the product is explained', () => {
  expect(Object.keys(PROBLEMS).sort()).toEqual(Object.keys(ERRORS).sort())
})

test('bodies are named, and refuse unknown fields; answers may gain fields', () => {
  for (const { operation } of operations) {
    if (!operation.requestBody) continue
    const content = operation.requestBody['content'] as Record<string, { schema: { $ref?: string } }>
    const name = content['application/json']?.schema.$ref?.split('/').at(-1) ?? ''
    expect(document.components.schemas[name]?.['additionalProperties']).toBe(false)
  }
  expect(JSON.stringify(document.components.schemas['Run'])).not.toContain('"additionalProperties":false')
})
