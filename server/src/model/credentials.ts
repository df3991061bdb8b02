import { z } from 'zod'
import { AgentId } from '../model.ts'

/** Credentials: named sets of environment variables, sealed at rest. Source: docs/contract.md 5; docs/security.md 5. */

export const CREDENTIAL_LIMITS = {
  /** Characters of a credential's name. */
  nameLength: 64,
  /** Variables of one credential. */
  variables: 64,
  /** Characters of a variable's name. */
  variableNameLength: 128,
  /** Bytes of UTF-8 of all names and values of one credential together; what a kernel takes is 128 KiB each. */
  bytes: 65_536,
  /** Credentials of one server. */
  credentials: 500,
} as const

export const CredentialName = z
  .string()
  .regex(/^[A-Za-z0-9](?:[A-Za-z0-9._-]{0,63})$/, {
    error: 'must be 1 to 64 letters, digits, . _ or -, beginning with a letter or digit',
  })
  .meta({
    description: `Name of a credential: 1 to ${CREDENTIAL_LIMITS.nameLength} letters, digits, \`.\`, \`_\`, \`-\`; case matters.`,
    example: 'anthropic',
  })

const agents = z.array(AgentId).max(32)

/** A named set of environment variables, as callers see it: without a value. */
export const Credential = z
  .object({
    name: CredentialName,
    variables: z.array(z.string()).meta({ description: 'Names of the variables, sorted. Values never come back.' }),
    agents: agents.meta({ description: 'Agents it is limited to; empty: every agent.' }),
    usable: z.boolean().meta({ description: 'False when it was sealed with a key that is lost: set it again.' }),
    createdAt: z.iso.datetime(),
    updatedAt: z.iso.datetime().meta({ description: 'When its values were last set.' }),
  })
  .meta({ id: 'Credential', description: 'A named set of environment variables; values are write-only.' })
export type Credential = z.infer<typeof Credential>

export const CredentialList = z
  .object({ credentials: z.array(Credential) })
  .meta({ id: 'CredentialList', description: 'Every credential, by name.' })
export type CredentialList = z.infer<typeof CredentialList>

/** What the store keeps: the values in `sealed` alone. */
export const CredentialRow = Credential.omit({ name: true, usable: true }).extend({
  /** The name. */
  id: CredentialName,
  /** A JSON object of the variables, see `seal`. */
  sealed: z.string(),
})
export type CredentialRow = z.infer<typeof CredentialRow>

const VARIABLE = /^[A-Za-z_][A-Za-z0-9_]*$/

/** What is wrong with a set of variables; texts never hold a value, nor a name that may be one. */
function problemsOf(variables: Record<string, string>): { path: string[]; message: string }[] {
  const names = Object.keys(variables)
  const found: { path: string[]; message: string }[] = []
  const { variables: most, variableNameLength, bytes } = CREDENTIAL_LIMITS
  if (names.length === 0) found.push({ path: [], message: 'must hold at least one variable' })
  if (names.length > most) found.push({ path: [], message: `${names.length} variables; the limit is ${most}` })
  for (const [index, name] of names.entries()) {
    const value = variables[name] ?? ''
    if (!VARIABLE.test(name)) {
      const message = `name ${index + 1} is not the name of a variable: letters, digits and _, no digit first`
      found.push({ path: [], message })
    } else if (name.length > variableNameLength) {
      found.push({
        path: [],
        message: `name ${index + 1}: ${name.length} characters; the limit is ${variableNameLength}`,
      })
    } else if (value === '') found.push({ path: [name], message: 'must not be empty' })
    else if (value.includes('\0')) found.push({ path: [name], message: 'must not contain NUL (U+0000)' })
    else if (!value.isWellFormed()) found.push({ path: [name], message: 'must not contain half of a surrogate pair' })
  }
  const size = Object.entries(variables).reduce((sum, [k, v]) => sum + Buffer.byteLength(k) + Buffer.byteLength(v), 0)
  if (size > bytes) found.push({ path: [], message: `${size} bytes of names and values; the limit is ${bytes}` })
  return found
}

/** Body of `POST /api/credentials`. Strict, and what it refuses it does not repeat. */
export const SetCredential = z
  .strictObject({
    name: CredentialName,
    variables: z
      .record(z.string(), z.string({ error: 'must be a string' }))
      .superRefine((variables, context) => {
        for (const { path, message } of problemsOf(variables)) context.addIssue({ code: 'custom', path, message })
      })
      .meta({
        description:
          `1 to ${CREDENTIAL_LIMITS.variables} variables by name, at most ${CREDENTIAL_LIMITS.bytes} bytes together. ` +
          'Names that change what program runs, what it loads or who it is are refused.',
        example: { EXAMPLE_API_KEY: 'the value' },
      }),
    agents: agents.meta({ description: 'Agents it is limited to; default: every agent.' }).optional(),
  })
  .meta({ id: 'SetCredential' })
export type SetCredential = z.infer<typeof SetCredential>
