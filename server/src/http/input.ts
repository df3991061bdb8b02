import { z } from 'zod'
import { DomainError, type ErrorCode, type FieldError } from '../errors.ts'

/** How text from a path or a query becomes what the schema wants. */
type Kind = 'number' | 'boolean' | 'text'

/** The input of one operation: where its fields come from, and of which kind they are. */
export interface InputShape {
  /** Names in the path. */
  path: string[]
  /** Names in the query, with their kinds; empty for an operation with a body. */
  query: Map<string, Kind>
  /** Names of the body's fields; undefined: the operation takes no body. */
  body: string[] | undefined
}

/** @param takesBody false: what is not in the path is in the query */
export function shapeOf(path: string, input: z.ZodObject, takesBody: boolean): InputShape {
  const names = Object.keys(input.shape)
  const inPath = names.filter((name) => path.includes(`{${name}}`))
  const rest = names.filter((name) => !inPath.includes(name))
  return {
    path: inPath,
    query: new Map(takesBody ? [] : rest.map((name) => [name, kindOf(input.shape[name])])),
    body: takesBody && rest.length > 0 ? rest : undefined,
  }
}

function kindOf(schema: unknown): Kind {
  if (schema instanceof z.ZodOptional || schema instanceof z.ZodDefault || schema instanceof z.ZodNullable) {
    return kindOf(schema.unwrap())
  }
  if (schema instanceof z.ZodNumber) return 'number'
  return schema instanceof z.ZodBoolean ? 'boolean' : 'text'
}

/**
 * One object from path, query and body, for a strict schema. What does not parse as its kind stays text, for the
 * schema to refuse by name.
 *
 * @param params decoded path parameters
 * @param search what follows the `?`, known to be validly percent-encoded
 * @throws DomainError `unknown_field`, `validation_failed`
 */
export function gather(
  shape: InputShape,
  params: Record<string, string>,
  search: string,
  body: unknown,
): Record<string, unknown> {
  const input: Record<string, unknown> = Object.create(null) as Record<string, unknown>
  if (search !== '') readQuery(shape, search, input)
  if (body !== undefined) readBody(shape, body, input)
  for (const name of shape.path) input[name] = params[name]
  return input
}

function readQuery({ query }: InputShape, search: string, input: Record<string, unknown>): void {
  for (const pair of search.split('&')) {
    if (pair === '') continue
    const at = pair.indexOf('=')
    const name = decode(at === -1 ? pair : pair.slice(0, at))
    const text = at === -1 ? '' : decode(pair.slice(at + 1))
    const kind = query.get(name)
    if (kind === undefined) throw unknownFields([[name, `/${escape(name)}`]], [...query.keys()], 'query parameter')
    if (name in input) throw broken([{ pointer: `/${escape(name)}`, detail: 'may be given once' }])
    input[name] = typed(kind, text)
  }
}

const decode = (text: string): string => decodeURIComponent(text.replaceAll('+', ' '))

function typed(kind: Kind, text: string): unknown {
  if (kind === 'number' && /^-?\d+(?:\.\d+)?$/.test(text)) return Number(text)
  if (kind === 'boolean' && (text === 'true' || text === 'false')) return text === 'true'
  return text
}

function readBody(shape: InputShape, body: unknown, input: Record<string, unknown>): void {
  if (typeof body !== 'object' || body === null || Array.isArray(body)) {
    const found = body === null ? 'null' : Array.isArray(body) ? 'an array' : `a ${typeof body}`
    throw new DomainError('validation_failed', `the body is ${found}; it must be a JSON object`, {
      errors: [{ pointer: '', detail: 'must be an object' }],
    })
  }
  const allowed = shape.body ?? []
  const unknown = Object.keys(body).filter((name) => !allowed.includes(name))
  if (unknown.length > 0) {
    throw unknownFields(
      unknown.map((name) => [name, `/${escape(name)}`]),
      allowed,
      'field',
    )
  }
  Object.assign(input, body)
}

/** Problems listed at most. */
const MAX_ERRORS = 20

/** What a path names, and where such things are listed, by the code for one that names nothing. */
const NAMED: Partial<Record<ErrorCode, [what: string, hint: string]>> = {
  workspace_not_found: ['workspace', 'postern workspace ls (the id, not the tag)'],
  run_not_found: ['run', 'postern runs'],
  session_not_found: ['session', 'postern session ls'],
  agent_not_found: ['agent', 'postern agents'],
  grant_not_found: ['grant', 'postern channel ls'],
  delivery_not_found: ['delivery', 'postern channel deliveries <grant-id>'],
  request_not_found: ['permission request', 'postern requests'],
  inbox_entry_not_found: ['inbox entry', 'postern inbox ls'],
  document_not_found: ['document', 'postern inbox read <id>'],
  issue_not_found: ['issue', 'postern issue ls'],
  credential_not_found: ['credential', 'postern cred ls'],
}

/** @param name of the parameter; @param value what stood there */
function namesNothing(code: ErrorCode, { path }: InputShape, name: string, value: unknown): DomainError {
  const [what, hint] = NAMED[code] ?? []
  const given = `"${inert(String(value))}"`
  const detail = what && path.length === 1 ? `there is no ${what} ${given}` : `nothing here has the ${name} ${given}`
  return new DomainError(code, detail, hint === undefined ? {} : { hint })
}

/**
 * What the schema found, as one error. A path parameter that cannot name anything is a thing that does not exist.
 *
 * @param input what was checked
 * @param notFound the code for such a path parameter
 */
export function refusalOf(
  error: z.ZodError,
  shape: InputShape,
  input: Record<string, unknown>,
  notFound?: ErrorCode,
): DomainError {
  const issues = error.issues.map(({ path, ...issue }) => ({ ...issue, path: path.map(String) }))
  const inPath = issues.find(({ path }) => path.length === 1 && shape.path.includes(path[0] ?? ''))?.path[0]
  if (inPath !== undefined && notFound) return namesNothing(notFound, shape, inPath, input[inPath])
  const unknown = issues.flatMap((issue) =>
    issue.code === 'unrecognized_keys'
      ? issue.keys.map((key): [string, string] => [key, pointerOf([...issue.path, key])])
      : [],
  )
  if (unknown.length > 0) return unknownFields(unknown, [], 'field')
  const errors = issues.map((issue) => ({ pointer: pointerOf(issue.path), detail: issue.message }))
  const tooLong = issues.find((issue) => issue.code === 'custom' && issue.params?.['code'] === 'prompt_too_long')
  if (tooLong) {
    return new DomainError('prompt_too_long', tooLong.message, {
      errors,
      hint: 'put context in a workspace file and name it in the prompt',
    })
  }
  return broken(errors)
}

function broken(errors: FieldError[]): DomainError {
  const [first] = errors
  const more = errors.length > 1 ? ` (and ${errors.length - 1} more)` : ''
  const name = first?.pointer.slice(1).replaceAll('/', '.')
  return new DomainError('validation_failed', `${name ? `${name}: ` : ''}${first?.detail ?? 'malformed'}${more}`, {
    errors: errors.slice(0, MAX_ERRORS),
  })
}

/** @param unknown names and pointers; @param allowed what could have been meant */
function unknownFields(unknown: [string, string][], allowed: string[], what: string): DomainError {
  const errors = unknown.slice(0, MAX_ERRORS).map(([name, pointer]) => {
    const near = nearest(name, allowed)
    return { pointer, detail: `\`${inert(name)}\` is not a ${what}.${near ? ` Did you mean \`${near}\`?` : ''}` }
  })
  const more = unknown.length > 1 ? ` (and ${unknown.length - 1} more)` : ''
  return new DomainError('unknown_field', `${errors[0]?.detail ?? ''}${more}`, {
    errors,
    hint: allowed.length > 0 ? `possible: ${allowed.join(', ')}` : `there is no ${what} here`,
  })
}

/** A name as it may be shown: short, and on one line. */
const inert = (name: string): string => JSON.stringify(name.slice(0, 80)).slice(1, -1)

/** Source: RFC 6901. */
const escape = (segment: string): string => segment.replaceAll('~', '~0').replaceAll('/', '~1')
const pointerOf = (path: string[]): string => path.map((segment) => `/${escape(segment)}`).join('')

/** Edits that a typo may need. */
const MAX_EDITS = 2

/** The allowed name that a typo of it would look like. */
export function nearest(name: string, allowed: string[]): string | undefined {
  if (name.length > 64) return undefined
  const plain = (text: string): string => text.toLowerCase().replace(/[_-]/g, '')
  const ranked = allowed
    .map((candidate) => ({ candidate, edits: distance(plain(name), plain(candidate)) }))
    .sort((a, b) => a.edits - b.edits)
  const [best] = ranked
  return best && best.edits <= Math.min(MAX_EDITS, best.candidate.length / 2) ? best.candidate : undefined
}

/** Levenshtein distance. */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1] ? 0 : 1
      next.push(Math.min((next[j - 1] ?? 0) + 1, (row[j] ?? 0) + 1, (row[j - 1] ?? 0) + same))
    }
    row = next
  }
  return row[b.length] ?? 0
}
