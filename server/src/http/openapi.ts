import { generateOpenApiDocument } from 'trpc-to-openapi'
import { z } from 'zod'
import type { ZodOpenApiPathsObject } from 'zod-openapi'
import { ERRORS, type ErrorCode } from '../errors.ts'
import {
  EXAMPLES,
  INFO,
  PARAMETER_EXAMPLES,
  REQUEST_HEADERS,
  RESPONSE_HEADERS,
  RUN_SECURITY,
  TAGS,
} from './documentation.ts'
import { PLAIN, type PlainOperation } from './plain.ts'
import { PROBLEMS } from './problem-texts.ts'
import { Problem, problemOf } from './problem.ts'
import { appRouter, mountables } from './router.ts'
import { SCOPE_TEXT } from './run-scope.ts'
import type { Answer, Meta, Rest } from './trpc.ts'

type Json = Record<string, unknown>
export interface Operation extends Json {
  operationId: string
  summary: string
  description?: string
  tags: string[]
  parameters?: Json[]
  requestBody?: Json
  responses: Record<string, Json>
  security: Json[]
}
/** The document, as far as other code reads it. */
export interface OpenApiDocument extends Json {
  openapi: string
  info: { title: string; version: string; description: string }
  servers: { url: string }[]
  paths: Record<string, Record<string, Operation>>
  components: { schemas: Record<string, Json>; examples: Record<string, Json> }
}

/** What any operation may answer, whatever it does. */
const ANYWHERE: ErrorCode[] = [
  'bad_request',
  'unknown_field',
  'host_not_allowed',
  'origin_not_allowed',
  'too_many_failures',
  'headers_too_large',
  'internal_error',
]
/** What any operation may answer that looks at who calls. */
const CALLER: ErrorCode[] = ['invalid_token', 'token_required']
const WITH_BODY: ErrorCode[] = ['invalid_json', 'request_timeout', 'payload_too_large', 'unsupported_media_type']

const ref = (kind: 'schemas' | 'headers' | 'examples', name: string): Json => ({
  $ref: `#/components/${kind}/${name}`,
})

/**
 * The OpenAPI 3.1 document: complete (every status, code and header of every operation), sorted and the same on every
 * call. The paths and schemas come from the procedures by trpc-to-openapi; what it cannot say is added here.
 *
 * @param version of the server
 */
export function openApiDocument(version: string): OpenApiDocument {
  const metas = new Map<string, Meta>()
  for (const { meta } of mountables()) metas.set(meta.openapi.operationId, meta)
  for (const plain of Object.values(PLAIN)) metas.set(plain.openapi.operationId, plain)
  const document = generateOpenApiDocument<Meta>(appRouter, {
    title: INFO.title,
    description: INFO.description,
    version,
    baseUrl: INFO.url,
    securitySchemes: {
      bearer: { type: 'http', scheme: 'bearer', description: INFO.security },
      channel: { type: 'http', scheme: 'bearer', description: INFO.channelSecurity },
      runToken: { type: 'http', scheme: 'bearer', description: RUN_SECURITY },
    },
    defs: { Problem, ...plainComponents() },
    paths: plainPaths(),
  }) as unknown as OpenApiDocument

  const { schemas } = document.components
  for (const name of Object.keys(schemas)) if (name.startsWith('error.')) delete schemas[name]
  for (const item of Object.values(document.paths)) {
    for (const operation of Object.values(item)) {
      const meta = metas.get(operation.operationId)
      if (meta) complete(operation, meta.rest, schemas)
    }
  }
  const bodies = new Set([...metas.values()].flatMap(({ rest }) => rest.bodyName ?? []))
  for (const [name, schema] of Object.entries(schemas)) if (!bodies.has(name)) loosen(schema)
  for (const schema of [schemas, document.paths]) tidy(schema)
  const codes = Object.keys(ERRORS) as ErrorCode[]
  const components = {
    ...document.components,
    headers: RESPONSE_HEADERS,
    examples: {
      ...Object.fromEntries(codes.map((code) => [code, { summary: ERRORS[code].title, value: exampleOf(code) }])),
      ...Object.fromEntries(Object.entries(EXAMPLES).map(([name, value]) => [name, { value }])),
    },
  }
  const info = { ...document.info, license: { name: 'MIT', identifier: 'MIT' } }
  const tags = Object.entries(TAGS).map(([name, description]) => ({ name, description }))
  return sorted({ ...document, info, tags, components }) as OpenApiDocument
}

/** Paths of the routes that are not procedures, from the schemas that check their input. */
function plainPaths(): ZodOpenApiPathsObject {
  const paths: ZodOpenApiPathsObject = {}
  for (const { openapi, input, body } of Object.values<PlainOperation>(PLAIN)) {
    const { method, path, protect: _, ...rest } = openapi
    const inPath = (name: string): boolean => path.includes(`{${name}}`)
    const shape = Object.entries(input.shape)
    paths[path] = {
      [method.toLowerCase()]: {
        ...rest,
        requestParams: {
          path: z.object(Object.fromEntries(shape.filter(([name]) => inPath(name)))),
          query: z.object(Object.fromEntries(shape.filter(([name]) => !inPath(name)))),
        },
        ...(body && { requestBody: { required: true, content: { 'application/json': { schema: body } } } }),
        responses: {},
      },
    }
  }
  return paths
}

/** The named schemas that only such routes answer with. */
function plainComponents(): Record<string, z.ZodType> {
  const schemas = Object.values(PLAIN).flatMap(({ rest }) =>
    Object.values<Answer>(rest.answers).flatMap(({ other }) => Object.values(other ?? {})),
  )
  return Object.fromEntries(
    schemas.flatMap((schema): [string, z.ZodType][] => {
      const id = schema.meta()?.id
      return id === undefined ? [] : [[id, schema]]
    }),
  )
}

function complete(operation: Operation, rest: Rest, schemas: Record<string, Json>): void {
  const json = (operation.responses['200']?.['content'] as Json | undefined)?.['application/json'] as Json | undefined
  operation.security = securityOf(rest)
  if (rest.runScope !== undefined) operation['x-run-scope'] = rest.runScope
  if (rest.runScope !== undefined && rest.runScope !== 'anyone')
    operation.description = [operation.description, SCOPE_TEXT[rest.runScope]].filter(Boolean).join(' ')
  operation.parameters = [...(operation.parameters ?? []), ...(rest.headers ?? []).map(headerParameter)]
  for (const parameter of operation.parameters) {
    const schema = parameter['schema'] as Json | undefined
    if (schema?.['description'] !== undefined) {
      parameter['description'] ??= schema['description']
      delete schema['description']
    }
    const example = PARAMETER_EXAMPLES[String(parameter['name'])]
    if (example !== undefined && parameter['in'] !== 'header') parameter['example'] = example
  }
  if (operation.parameters.length === 0) delete operation.parameters
  const body = (operation.requestBody?.['content'] as Json | undefined)?.['application/json'] as Json | undefined
  if (body && rest.bodyName) {
    schemas[rest.bodyName] = body['schema'] as Json
    body['schema'] = ref('schemas', rest.bodyName)
    Object.assign(body, exampleFor(body['schema'] as Json))
  }
  const isJson = json?.['schema'] !== undefined
  operation.responses = {
    ...Object.fromEntries(
      Object.entries(rest.answers).map(([status, answer]) => [
        status,
        success(answer, isJson && status !== '204' ? json : undefined),
      ]),
    ),
    ...problems([
      ...(rest.hookToken === undefined ? [...ANYWHERE, ...CALLER] : ANYWHERE),
      ...(body ? WITH_BODY : []),
      ...(takesInput(operation) ? ['validation_failed' as const] : []),
      ...(rest.runScope === 'anyone' || rest.hookToken !== undefined ? [] : ['insufficient_scope' as const]),
      ...rest.errors,
    ]),
  }
}

function securityOf({ exempt, hookToken, runScope }: Rest): Json[] {
  if (hookToken === 'path') return []
  if (hookToken === 'header') return [{ channel: [] }]
  return [...(exempt ? [{}] : []), { bearer: [] }, ...(runScope === undefined ? [] : [{ runToken: [] }])]
}

const takesInput = (operation: Operation): boolean =>
  operation.requestBody !== undefined ||
  (operation.parameters ?? []).some((parameter) => parameter['in'] === 'query' || parameter['name'] === 'Prefer')

function success(answer: Answer, json: Json | undefined): Json {
  const content: Json = {}
  if (json) content['application/json'] = { ...json, ...exampleFor(json['schema'] as Json) }
  for (const [type, other] of Object.entries(answer.other ?? {})) {
    const schema = schemaOf(other)
    content[type] = { schema, ...(type === 'application/json' && exampleFor(schema)) }
  }
  const headers = ['X-Request-Id', ...(answer.headers ?? [])].sort()
  return {
    description: answer.description,
    headers: Object.fromEntries(headers.map((name) => [name, ref('headers', name)])),
    ...(Object.keys(content).length > 0 && { content }),
  }
}

/** The example of a component, also where it may be null. */
function exampleFor(schema: { $ref?: string; anyOf?: { $ref?: string }[] }): Json {
  const name = (schema.$ref ?? schema.anyOf?.[0]?.$ref)?.replace('#/components/schemas/', '') ?? ''
  return EXAMPLES[name] === undefined ? {} : { examples: { example: ref('examples', name) } }
}

/** A reference when the schema is a component, else the schema itself. */
function schemaOf(schema: z.ZodType): Json {
  const id = schema.meta()?.id
  if (id !== undefined) return ref('schemas', id)
  const { $schema: _, ...rest } = z.toJSONSchema(schema, { io: 'input' }) as Json
  return rest
}

/** One response for each status, naming its codes. */
function problems(codes: ErrorCode[]): Record<string, Json> {
  const byStatus = Map.groupBy([...new Set(codes)].sort(), (code) => ERRORS[code].status)
  return Object.fromEntries(
    [...byStatus].map(([status, list]) => {
      const headers = ['X-Request-Id', ...(PROBLEM_HEADERS[status] ?? [])].sort()
      return [
        String(status),
        {
          description: list.map((code) => `\`${code}\`: ${ERRORS[code].title}`).join('. ') + '.',
          headers: Object.fromEntries(headers.map((name) => [name, ref('headers', name)])),
          content: {
            'application/problem+json': {
              schema: ref('schemas', 'Problem'),
              examples: Object.fromEntries(list.map((code) => [code, ref('examples', code)])),
            },
          },
          'x-codes': list,
        },
      ]
    }),
  )
}

const PROBLEM_HEADERS: Record<number, string[]> = {
  401: ['WWW-Authenticate'],
  409: ['Retry-After'],
  416: ['Content-Range'],
  429: ['RateLimit', 'RateLimit-Policy', 'Retry-After'],
  500: ['Retry-After'],
  503: ['Retry-After'],
}

const exampleOf = (code: ErrorCode): Json =>
  problemOf(code, 'req_01M7W3M6R0B5D8F1H4K7N0Q3T6', PROBLEMS[code].detail, { hint: PROBLEMS[code].advice })

function headerParameter(name: string): Json {
  return { in: 'header', name, ...REQUEST_HEADERS[name] }
}

/** Answers may gain fields: only request bodies promise `additionalProperties: false`. */
function loosen(node: unknown): void {
  if (typeof node !== 'object' || node === null) return
  const json = node as Json
  if (json['additionalProperties'] === false) delete json['additionalProperties']
  for (const value of Object.values(json)) loosen(value)
}

/** Drops what says nothing to a reader: the pattern behind `date-time` and the bounds of every integer. */
function tidy(node: unknown): void {
  if (typeof node !== 'object' || node === null) return
  const json = node as Json
  if (json['format'] === 'date-time') delete json['pattern']
  if (json['maximum'] === Number.MAX_SAFE_INTEGER) delete json['maximum']
  if (json['minimum'] === Number.MIN_SAFE_INTEGER) delete json['minimum']
  for (const value of Object.values(json)) tidy(value)
}

/** Top level and members of an operation in the order people read them; everything else by name. */
const ORDER = [
  'openapi', 'info', 'servers', 'tags', 'paths', 'components',
  'operationId', 'summary', 'description', 'parameters', 'requestBody', 'responses', 'security',
] // prettier-ignore

/** Keys sorted at every level. What holds data, not words of the document, keeps its order. */
function sorted(node: unknown, key = ''): unknown {
  if (Array.isArray(node)) return node.map((value) => sorted(value))
  if (typeof node !== 'object' || node === null || key === 'value' || key === 'properties') {
    return key === 'properties' ? mapValues(node as Json, sorted) : node
  }
  const rank = (name: string): number => (ORDER.indexOf(name) + ORDER.length + 1) % (ORDER.length + 1)
  const entries = Object.entries(node).toSorted(([a], [b]) => rank(a) - rank(b) || (a < b ? -1 : 1))
  return Object.fromEntries(entries.map(([name, value]) => [name, sorted(value, name)]))
}

const mapValues = (json: Json, change: (value: unknown) => unknown): Json =>
  Object.fromEntries(Object.entries(json).map(([name, value]) => [name, change(value)]))
