import { expect, test } from 'vitest'
import { z } from 'zod'
import { AgentId, TaskId, WorkspaceId } from '../model.ts'

/** The words are set where the schemas are: importing them is enough. */
const said = (schema: z.ZodType, value: unknown): string => schema.safeParse(value).error?.issues[0]?.message ?? ''

test.each([
  [z.string(), undefined, 'is missing; must be text'],
  [z.number(), 'soon', 'must be a number, not text'],
  [z.int(), 1.5, 'must be a whole number, not 1.5'],
  [z.boolean(), null, 'must be true or false, not null'],
  [z.array(z.string()), {}, 'must be a list, not an object'],
  [z.strictObject({}), [], 'must be an object, not a list'],
  [z.enum(['ask', 'allow']), 'perhaps', 'must be one of ask, allow, not "perhaps"'],
  [z.literal(true), false, 'must be true'],
  [z.string().min(1), '', 'must not be empty'],
  [z.string().min(3), 'ab', 'must have at least 3 characters'],
  [z.string().max(3), 'abcd', 'has 4 characters; the limit is 3'],
  [z.array(z.string()).min(1), [], 'must have at least 1 entry'],
  [z.array(z.string()).max(1), ['a', 'b'], 'has 2 entries; the limit is 1'],
  [z.int().min(1), 0, 'must be at least 1'],
  [z.int().max(9), 10, 'must be at most 9'],
  [z.iso.datetime(), 'soon', 'must be a moment such as 2026-12-01T08:00:00Z'],
  [z.union([z.string(), z.number()]), true, 'has none of the forms that are possible'],
  [WorkspaceId, 'News', 'must be ws- and 1 to 63 of a-z 0-9 -, such as ws-news'],
  [TaskId, 'x', 'must be a whole run id, headless_ and 26 digits and capitals'],
  [AgentId, 'No Agent', 'must be 1 to 32 of a-z 0-9 -, beginning with a letter'],
  [z.string({ error: 'its own words' }), 1, 'its own words'],
])('%# of a schema and %j is said: %s', (schema, value, words) => {
  expect(said(schema, value)).toBe(words)
})
