import { z } from 'zod'
import { AgentId } from '../model.ts'

/** An agent as `GET /api/agents` lists it. */
export const AgentInfo = z
  .object({
    id: AgentId,
    title: z.string(),
    installed: z.boolean(),
    program: z.string().nullable().meta({ description: 'Absolute path of the program; null when it was not found.' }),
    version: z.string().nullable(),
    headless: z.boolean().meta({ description: 'Can do runs.' }),
    live: z.boolean().meta({ description: 'Can hold sessions.' }),
    resume: z.boolean().meta({ description: 'Can continue an earlier conversation.' }),
    models: z.boolean().meta({ description: 'Can be told which model to use.' }),
    hasModel: z.boolean().meta({ description: 'False for the demo agent: it has no model and costs nothing.' }),
    hint: z
      .string()
      .nullable()
      .meta({ description: 'How to install or log in, when something is missing; or that it says unknown things.' }),
    verified: z
      .string()
      .nullable()
      .meta({ description: 'The version this server was tested with; null for agents it does not know.' }),
    login: z.enum(['yes', 'no', 'unknown']).meta({
      description:
        'Whether a key or a login was found, by existence only; `yes` also where none is needed. Only a probe is proof.',
    }),
    unknownRecords: z
      .int()
      .min(0)
      .meta({ description: 'Records of this version, since the server started, that it could not translate.' }),
  })
  .meta({ id: 'Agent', description: 'A coding-agent program behind an adapter.' })
export type AgentInfo = z.infer<typeof AgentInfo>

/** What `POST /api/agents/{id}/probe` found out by running one fixed prompt. */
export const AgentProbe = z
  .object({
    agent: AgentId,
    ok: z.boolean().meta({ description: 'True when the agent answered the fixed prompt.' }),
    reason: z.string().nullable().meta({ description: 'Stable code, as of a run, when it did not.' }),
    detail: z.string().nullable().meta({ description: 'The reason in a sentence, for people.' }),
    text: z.string().nullable().meta({ description: "The agent's reply." }),
    durationMs: z.int().min(0).meta({ description: 'From start to end, in milliseconds.' }),
  })
  .meta({ id: 'AgentProbe', description: 'What one fixed prompt to an agent showed.' })
export type AgentProbe = z.infer<typeof AgentProbe>

/** A configured agent: any program that takes a prompt. Source: docs/contract.md 2. */
export const CommandAgentConfig = z.strictObject({
  /** The program and its arguments. */
  command: z.array(z.string().min(1)).min(1),
  /** How it gets the prompt: on stdin (default), or as the last argument, after `--`. */
  prompt: z.enum(['stdin', 'argument']).default('stdin'),
  /** What it prints: its reply as text (default), or JSON Lines in Postern's event words. */
  output: z.enum(['text', 'jsonl']).default('text'),
  /** What tells success: exit code 0 (default), or that and an `agent.end` without error. Needs `output: "jsonl"`. */
  end: z.enum(['exit', 'record']).default('exit'),
  /** It also speaks ACP over stdio and can hold sessions; `"only"`: it does nothing else and never runs headless. */
  acp: z.union([z.boolean(), z.literal('only')]).default(false),
  /** It rewrites settings that all of its kind share when it starts: its starts take turns. */
  sharesHome: z.boolean().default(false),
  title: z.string().min(1).max(100).optional(),
  /** Arguments that continue a conversation, with `{conversationId}` in them. Needs `output: "jsonl"`. */
  resume: z.array(z.string()).min(1).optional(),
  /** Arguments that say what it may do without asking, with `{permissions}` in them: `ask`, `edit` or `full`. */
  permissions: z.array(z.string()).min(1).optional(),
  /** Arguments that choose a model, with `{model}` in them. */
  model: z.array(z.string()).min(1).optional(),
})
export type CommandAgentConfig = z.infer<typeof CommandAgentConfig>
