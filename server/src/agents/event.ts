import type { Usage } from '../model.ts'

/** What went wrong, as far as a caller can act on it. */
export type FailureKind = 'auth' | 'rate_limit' | 'provider' | 'agent'

/**
 * What an adapter makes of one line of output. `agent.session`, `agent.retry` with `fatal` and `agent.end` steer the run;
 * the others are stored as they are, as events of the run.
 */
export type AgentEvent =
  | { type: 'agent.session'; conversationId: string }
  | { type: 'agent.message'; text: string; delta?: boolean }
  | { type: 'agent.thought'; text: string; delta?: boolean }
  | { type: 'tool.started'; toolCallId: string; name: string; input?: unknown }
  | { type: 'tool.ended'; toolCallId: string; isError: boolean; output?: string }
  | {
      type: 'agent.retry'
      attempt?: number
      of?: number
      delayMs?: number
      status?: number
      message?: string
      fatal?: boolean
    }
  | {
      /** A retry that waits for a limit of the model's service: nothing is wrong, it lasts. */
      type: 'agent.waiting'
      kind: 'rate_limit'
      attempt?: number
      of?: number
      delayMs?: number
      status?: number
      message?: string
      /** When the limit ends (RFC 3339), where the agent knows it. */
      resetsAt?: string
    }
  | { type: 'permission.denied'; name: string; message?: string }
  /** With `messageId`: of one message of the model, until the program tells what the whole run used. */
  | ({ type: 'usage'; messageId?: string } & Omit<Usage, 'source'>)
  | { type: 'output.text'; text: string }
  | { type: 'log'; message: string; code?: 'unknown_record' }
  | { type: 'agent.end'; ok: boolean; text?: string; error?: { kind: FailureKind; message: string } }
