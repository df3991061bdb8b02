import { ERRORS, type ErrorCode } from '../errors.ts'
import { PROBLEMS } from './problem-texts.ts'
import type { OpenApiDocument, Operation } from './openapi.ts'

type Json = Record<string, unknown>

/** The whole reference as one Markdown file, from the document. Headings have the anchors that `/docs#` uses. */
export function referenceMarkdown(document: OpenApiDocument, url: string): string {
  const parts = [
    `# ${document.info.title} ${document.info.version}`,
    document.info.description,
    `Server: ${url}`,
    "Operations marked *local* need no token from a caller on the server's machine and of its user; all others need `Authorization: Bearer` with the admin token, but for those of the hook: what they need is the token of a channel address.",
  ]
  for (const { name, description } of document['tags'] as { name: string; description: string }[]) {
    parts.push(`## ${name}`, description)
    for (const [path, item] of Object.entries(document.paths)) {
      for (const [method, operation] of Object.entries(item)) {
        if (operation.tags.includes(name)) parts.push(operationMarkdown(method, path, operation, document))
      }
    }
  }
  parts.push('## Schemas')
  for (const [name, schema] of Object.entries(document.components.schemas)) parts.push(schemaMarkdown(name, schema))
  parts.push('## Errors', 'Every failure is `application/problem+json`; decide by `code`.', errorTable())
  return `${parts.join('\n\n')}\n`
}

function operationMarkdown(method: string, path: string, operation: Operation, document: OpenApiDocument): string {
  const isLocal = operation.security.some((requirement) => Object.keys(requirement).length === 0)
  const lines = [
    `### <a id="${operation.operationId}"></a>${operation.operationId}`,
    `\`${method.toUpperCase()} ${path}\`${isLocal ? ' *local*' : ''}`,
    operation.description ?? operation.summary,
  ]
  const parameters = operation.parameters ?? []
  if (parameters.length > 0) {
    lines.push(
      parameters
        .map((parameter) => {
          const required = parameter['required'] === true ? ', required' : ''
          return `- \`${str(parameter['name'])}\` (${str(parameter['in'])}${required}): ${str(parameter['description'])}`
        })
        .join('\n'),
    )
  }
  const body = nameOf(contentOf(operation.requestBody)?.[1])
  if (body) {
    const example = document.components.examples[body]?.['value']
    lines.push(`Body: [${body}](#${body})`)
    if (example) lines.push(`\`\`\`json\n${JSON.stringify(example)}\n\`\`\``)
  }
  lines.push(
    Object.entries(operation.responses)
      .map(([status, response]) => `- **${status}** ${answerText(response)}`)
      .join('\n'),
  )
  return lines.join('\n\n')
}

function answerText(response: Json): string {
  const codes = response['x-codes'] as string[] | undefined
  if (codes) return codes.map((code) => `[\`${code}\`](#${code})`).join(', ')
  const content = contentOf(response)
  const schema = nameOf(content?.[1])
  return `${str(response['description'])}${schema ? ` [${schema}](#${schema})` : content ? ` \`${content[0]}\`` : ''}`
}

function contentOf(holder: Json | undefined): [string, Json] | undefined {
  return Object.entries((holder?.['content'] ?? {}) as Record<string, Json>)[0]
}

function nameOf(media: Json | undefined): string | undefined {
  return (media?.['schema'] as { $ref?: string } | undefined)?.$ref?.split('/').at(-1)
}

function schemaMarkdown(name: string, schema: Json): string {
  const properties = Object.entries((schema['properties'] ?? {}) as Record<string, Json>)
  const required = (schema['required'] ?? []) as string[]
  const lines = [`### <a id="${name}"></a>${name}`]
  if (schema['description'] !== undefined) lines.push(str(schema['description']))
  if (schema['enum']) lines.push(typeOf(schema))
  if (properties.length > 0) {
    lines.push(
      properties
        .map(([field, property]) => {
          const optional = required.includes(field) ? '' : ', optional'
          const description = property['description'] === undefined ? '' : `: ${str(property['description'])}`
          return `- \`${field}\` (${typeOf(property)}${optional})${description}`
        })
        .join('\n'),
    )
  }
  return lines.join('\n\n')
}

function typeOf(schema: Json): string {
  const { $ref } = schema as { $ref?: string }
  if ($ref) return `[${$ref.split('/').at(-1)}](#${$ref.split('/').at(-1)})`
  if (schema['enum']) return (schema['enum'] as unknown[]).map((value) => `\`${String(value)}\``).join(' ')
  const choices = (schema['anyOf'] ?? schema['oneOf']) as Json[] | undefined
  if (choices) return choices.map(typeOf).join(' or ')
  if (schema['type'] === 'array') return `list of ${typeOf((schema['items'] ?? {}) as Json)}`
  const { type } = schema as { type?: string | string[] }
  const limits = [
    ['minimum', '≥'],
    ['maximum', '≤'],
    ['maxLength', 'length ≤'],
  ].flatMap(([key = '', sign]) => (schema[key] === undefined ? [] : [` ${sign} ${str(schema[key])}`]))
  return `${[type ?? 'any'].flat().join(' or ')}${limits.join(',')}`
}

const str = (value: unknown): string =>
  typeof value === 'string' || typeof value === 'number' ? String(value) : JSON.stringify(value ?? '')

function errorTable(): string {
  const rows = (Object.keys(ERRORS) as ErrorCode[]).map((code) => {
    const { status, title, retryable } = ERRORS[code]
    const repeat = retryable ? 'yes' : 'no'
    return `| <a id="${code}"></a>\`${code}\` | ${status} | ${title} | ${repeat} | ${PROBLEMS[code].advice} |`
  })
  return ['| Code | Status | Means | Retryable | What to do |', '|-|-|-|-|-|', ...rows].join('\n')
}
