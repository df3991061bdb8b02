import { isMap, isScalar, LineCounter, parseDocument, stringify, type Document, type Pair, type YAMLMap } from 'yaml'
import { DomainError } from '../errors.ts'
import { LIMITS } from '../model.ts'
import { commentLines, Frontmatter, ISSUE_LIMITS, type IssueComment } from '../model/issues.ts'
import { checkWhen } from './schedule.ts'

/**
 * The text of an issue file, read and edited. Pure. An edit changes the words it is about and no other byte: keys that
 * are not known, their order, comments and white space stay. Source: docs/contract.md 5.
 */

/** One thing wrong with a file. `line` counts from 1. */
export interface FileError {
  line: number
  message: string
}

/** An issue file as read. */
export interface ParsedIssue extends Frontmatter {
  /** Everything after the frontmatter, up to the first comment, without the end of its last line: the prompt. */
  body: string
  comments: IssueComment[]
}

interface Parts {
  /** Where the YAML begins and ends in the text. */
  start: number
  end: number
  bodyStart: number
}

const FENCE = /^---[ \t]*(?:\r\n|\n|$)/
/** Aliases that one frontmatter may use; more are an attempt to make it large. */
const MAX_ALIASES = 20

/** Reads a file; of a broken one every error, in the order of lines. */
export function parseIssue(text: string): { issue: ParsedIssue } | { errors: FileError[] } {
  const parts = split(text)
  if ('line' in parts) return { errors: [parts] }
  const bytes = Buffer.byteLength(text.slice(parts.start, parts.end))
  if (bytes > ISSUE_LIMITS.frontmatterBytes) {
    const message = `the frontmatter has ${bytes} bytes; the limit is ${ISSUE_LIMITS.frontmatterBytes}`
    return { errors: [{ line: 2, message }] }
  }
  const lines = new LineCounter()
  const document = parse(text, parts, lines)
  const lineOf = (offset: number): number => lines.linePos(offset).line + 1 // below the first fence
  if (document.errors.length > 0) {
    return { errors: document.errors.map(({ pos, message }) => ({ line: lineOf(pos[0]), message: sentence(message) })) }
  }
  if (document.contents !== null && !isMap(document.contents)) {
    return { errors: [{ line: 2, message: 'the frontmatter must be keys with values, such as `title: …`' }] }
  }
  let data: Record<string, unknown>
  try {
    data = plain(document)
  } catch (error) {
    return { errors: [{ line: 1, message: sentence(error instanceof Error ? error.message : String(error)) }] }
  }
  const errors: FileError[] = []
  const at = (path: PropertyKey[]): number => lineOf(offsetOf(document, path))
  for (const key of ['at', 'every', 'cron']) {
    if (key in data) errors.push({ line: at([key]), message: `\`${key}\` belongs under \`when\`: ${EXAMPLE[key]}` })
  }
  const checked = Frontmatter.safeParse(data)
  if (!checked.success) {
    for (const issue of checked.error.issues) {
      const path = [...issue.path, ...(issue.code === 'unrecognized_keys' ? issue.keys.slice(0, 1) : [])]
      const isMissing = path.length === 1 && !(String(path[0]) in data)
      const what = isMissing ? 'is missing' : issue.message
      errors.push({ line: at(path), message: `${path.join('.') || 'frontmatter'}: ${what}` })
    }
  }
  const wrong = checked.data?.when && checkWhen(checked.data.when)
  if (wrong) errors.push({ line: at(['when', wrong.key]), message: `when.${wrong.key}: ${wrong.message}` })
  const { body, comments } = readBody(text.slice(parts.bodyStart))
  const complain = (message: string): void =>
    void errors.push({ line: text.slice(0, parts.bodyStart).split('\n').length, message })
  if (body.length > LIMITS.promptUnits) {
    complain(`the body has ${body.length} characters; the limit is ${LIMITS.promptUnits}`)
  }
  if (checked.data?.when && !/\S/.test(body)) complain('a scheduled issue needs a body: it is the prompt')
  if (errors.length > 0 || !checked.success) return { errors: errors.toSorted((a, b) => a.line - b.line) }
  return { issue: { ...checked.data, body, comments } }
}

const EXAMPLE: Record<string, string> = {
  at: '`when: { kind: at, at: 2026-12-01T08:00:00Z }`',
  every: '`when: { kind: every, every: 1h }`',
  cron: '`when: { kind: cron, cron: "30 8 * * 1-5", timezone: America/New_York }`',
}

/** Values to put into the frontmatter; null takes the key out, undefined leaves it. */
export type Edit = { body?: string | undefined } & Record<string, unknown>

/**
 * The text with `edit` made.
 *
 * @param text one that `parseIssue` could read
 * @throws DomainError `validation_failed` when a key cannot be changed by itself
 */
export function editIssue(text: string, edit: Edit): string {
  const { body, ...values } = edit
  let edited = text
  for (const [key, value] of Object.entries(values)) {
    if (value !== undefined) edited = setKey(edited, key, value)
  }
  return body === undefined ? edited : setBody(edited, body)
}

/** The text with a comment after the last one. */
export function appendComment(text: string, { at, author, text: words }: IssueComment): string {
  const end = lineEnd(text)
  const before = text.endsWith(end) ? text : text + end
  return `${before}${end}<!-- comment ${at} ${author} -->${end}${words.trim()}${end}`
}

/** A new file. */
export function newIssue(values: Record<string, unknown>, body: string): string {
  const lines = Object.entries(values)
    .filter(([, value]) => value !== undefined)
    .map(([key, value]) => `${key}: ${inline(value)}\n`)
  return `---\n${lines.join('')}---\n${body}${body === '' ? '' : '\n'}`
}

function split(text: string): Parts | FileError {
  const bom = text.startsWith('\uFEFF') ? 1 : 0
  const open = FENCE.exec(text.slice(bom))
  if (!open) return { line: 1, message: 'the file must begin with frontmatter: a line `---`, keys, a line `---`' }
  const start = bom + open[0].length
  for (let at = start; at < text.length;) {
    const next = text.indexOf('\n', at) + 1 || text.length
    const close = FENCE.exec(text.slice(at, next))
    if (close) return { start, end: at, bodyStart: next }
    at = next
  }
  return { line: 1, message: 'the frontmatter is not closed: a line `---` is missing after the keys' }
}

function parse(text: string, { start, end }: Pick<Parts, 'start' | 'end'>, lines?: LineCounter): Document {
  return parseDocument(text.slice(start, end), {
    ...(lines && { lineCounter: lines }),
    prettyErrors: false,
    version: '1.2',
    schema: 'core',
    logLevel: 'silent',
  })
}

/** Plain values; a key without a value counts as absent. */
function plain(document: Document): Record<string, unknown> {
  const data = (document.toJS({ maxAliasCount: MAX_ALIASES }) ?? {}) as Record<string, unknown>
  return Object.fromEntries(Object.entries(data).filter(([, value]) => value !== null))
}

/** Where the node of a path begins; of one that is not there, its nearest ancestor. */
function offsetOf(document: Document, path: PropertyKey[]): number {
  let map: unknown = document.contents
  let offset = 0
  for (const key of path) {
    const pair = isMap(map) ? pairOf(map, String(key)) : undefined
    if (!pair) break
    offset = rangeOf(pair.key)?.[0] ?? offset
    map = pair.value
  }
  return offset
}

const pairOf = (map: YAMLMap, key: string): Pair | undefined =>
  map.items.find((pair) => isScalar(pair.key) && String(pair.key.value) === key)
const rangeOf = (node: unknown): [number, number, number] | undefined =>
  (node as { range?: [number, number, number] | null } | null)?.range ?? undefined

function readBody(text: string): { body: string; comments: IssueComment[] } {
  const lines = commentLines(text)
  let body = text.slice(0, lines[0]?.start)
  // Neither the end of the last line nor the empty line before a comment is part of what was said.
  if (lines.length > 0) body = body.replace(/\r?\n$/, '')
  body = body.replace(/\r?\n$/, '')
  const comments = lines.map(({ at, author, end }, i) => ({
    at,
    author,
    text: text.slice(end, lines[i + 1]?.start).trim(),
  }))
  return { body, comments }
}

function setBody(text: string, body: string): string {
  const parts = split(text)
  if ('line' in parts) throw new Error(parts.message)
  const end = lineEnd(text)
  const head = text.slice(0, parts.bodyStart)
  const after = text.slice(parts.bodyStart)
  const [first] = commentLines(after)
  const comments = first ? end + after.slice(first.start) : ''
  return (head.endsWith('\n') ? head : head + end) + (body === '' ? '' : body + end) + comments
}

const lineEnd = (text: string): string => (/\r\n/.test(text) ? '\r\n' : '\n')

/** A value in one line of YAML. */
function inline(value: unknown): string {
  return stringify(value, { collectionStyle: 'flow', lineWidth: 0, version: '1.2', schema: 'core' }).trimEnd()
}

/**
 * Sets, replaces or removes one key by cutting its words out of the text. What cannot be cut, such as a frontmatter in
 * braces, is written anew by the library, which keeps keys, order and comments, but not every space.
 *
 * @throws DomainError `validation_failed` when either would change more than the key
 */
function setKey(text: string, key: string, value: unknown): string {
  const parts = split(text)
  if ('line' in parts) throw new Error(parts.message)
  const document = parse(text, parts)
  const yaml = text.slice(parts.start, parts.end)
  const wanted = { ...plain(document) }
  if (value === null) delete wanted[key]
  else wanted[key] = value
  for (const way of [spliced, rewritten]) {
    try {
      const changed = way({ yaml, document, key, value, end: lineEnd(text) })
      if (changed !== undefined && isSame(changed, wanted)) {
        return text.slice(0, parts.start) + changed + text.slice(parts.end)
      }
    } catch {
      // The library throws for an alias whose anchor is gone.
    }
  }
  const message = `${key} cannot be changed by itself, for instance because an alias repeats it: edit the file by hand`
  throw new DomainError('validation_failed', message, { errors: [{ pointer: `/${key}`, detail: message }] })
}

function isSame(yaml: string, wanted: Record<string, unknown>): boolean {
  const document = parse(yaml, { start: 0, end: yaml.length })
  return document.errors.length === 0 && stringify(plain(document)) === stringify(wanted)
}

interface KeyEdit {
  yaml: string
  /** What `yaml` says. */
  document: Document
  key: string
  value: unknown
  /** End of a line. */
  end: string
}

function rewritten({ document, key, value, end }: KeyEdit): string {
  if (value === null) document.delete(key)
  else document.set(key, value)
  return document.toString({ lineWidth: 0 }).replaceAll(/\r?\n/g, end)
}

function spliced({ yaml, document, key, value, end }: KeyEdit): string | undefined {
  const map = document.contents
  if (map !== null && (!isMap(map) || map.flow)) return undefined
  const pair = map === null ? undefined : pairOf(map, key)
  if (!pair) {
    if (value === null) return yaml
    return `${yaml}${yaml === '' || yaml.endsWith('\n') ? '' : end}${key}: ${inline(value)}${end}`
  }
  const from = rangeOf(pair.key)
  const to = rangeOf(pair.value)
  if (!from) return undefined
  if (value === null) {
    const rest = yaml.indexOf('\n', Math.max(from[1], (to?.[1] ?? from[1]) - 1)) + 1 || yaml.length
    return yaml.slice(0, from[0]) + yaml.slice(rest)
  }
  if (isMap(pair.value) && typeof value === 'object') {
    const inner = intoMap(yaml, pair.value, value as Record<string, unknown>)
    if (inner !== undefined) return inner
  }
  const colon = yaml.indexOf(':', from[1]) + 1
  if (!to || to[0] === to[1]) return `${yaml.slice(0, colon)} ${inline(value)}${yaml.slice(colon)}`
  const newline = isScalar(pair.value) && (pair.value.type === 'BLOCK_LITERAL' || pair.value.type === 'BLOCK_FOLDED')
  const block = newline || (!isScalar(pair.value) && yaml.slice(colon, to[0]).includes('\n'))
  if (block) return `${yaml.slice(0, colon)} ${inline(value)}${end}${yaml.slice(to[1])}`
  return `${yaml.slice(0, to[0])}${inline(value)}${yaml.slice(to[1])}`
}

/** Changes values inside a map when its keys stay the same: what else is in it stays. */
function intoMap(yaml: string, map: YAMLMap, wanted: Record<string, unknown>): string | undefined {
  const had = map.items.map(({ key }) => (isScalar(key) ? String(key.value) : ''))
  const has = Object.keys(wanted).filter((key) => wanted[key] !== undefined)
  if (had.length !== has.length || !has.every((key) => had.includes(key))) return undefined
  let changed = yaml
  for (const { key, value } of map.items.toReversed()) {
    const range = rangeOf(value)
    if (!isScalar(key) || !isScalar(value) || !range) return undefined
    const next = wanted[String(key.value)]
    if (value.value === next) continue
    changed = changed.slice(0, range[0]) + inline(next) + changed.slice(range[1])
  }
  return changed
}

/** The first line of what the library says, without its position. */
const sentence = (message: string): string => (message.split('\n')[0] ?? message).replace(/ at line \d+.*$/, '')
