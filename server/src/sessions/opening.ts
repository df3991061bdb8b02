import type { Live as LiveAgent } from '../agents/agent.ts'
import { AgentRefused, type AgentConnection, type Opened } from '../agents/live.ts'
import type { Clock } from '../clock.ts'
import type { DeliveryRow, SessionRow } from '../model/sessions.ts'
import type { Table } from '../store/table.ts'
import { NotLive } from './live.ts'

/** The beginning of a process: its conversation, the same one as before or none. */

/** Milliseconds that an agent may take to open its conversation; then its process is ended. */
export const OPEN_MS = 120_000

/** Some programs spoil a conversation that they are asked to continue too soon. */
export function msUntilResumable(row: SessionRow, live: LiveAgent | undefined, now: number): number {
  const { resumeAfterMs = 0 } = live ?? {}
  if (row.conversationId === null || row.conversationSince === undefined) return 0
  return Math.min(resumeAfterMs, Date.parse(row.conversationSince) + resumeAfterMs - now)
}

/**
 * Opens the conversation of the session, or a first one.
 *
 * @param sought marks of messages that the agent may remember
 * @throws NotLive for an agent that keeps silent, or answers in another conversation; AgentRefused, AgentGone
 */
export async function openConversation(
  clock: Clock,
  connection: AgentConnection,
  { agent, cwd, permissions, model, conversationId }: SessionRow,
  sought: string[],
): Promise<Opened> {
  const waited = new AbortController()
  const late = clock.sleep(OPEN_MS, waited.signal).then(() => {
    throw new NotLive('agent_error', `"${agent}" did not open its conversation within ${OPEN_MS / 1000} s`)
  })
  try {
    const opened = await Promise.race([connection.open({ cwd, permissions, model }, conversationId, sought), late])
    if (conversationId === null || opened.conversationId === conversationId) return opened
    const detail = `"${agent}" answered in conversation ${opened.conversationId}, not in ${conversationId}`
    throw new NotLive('resume_mismatch', detail)
  } finally {
    waited.abort()
  }
}

export const isUnknownConversation = (error: unknown): error is AgentRefused =>
  error instanceof AgentRefused && error.kind === 'unknown_conversation'

/** What the end of the process does not tell better. */
export const isExpected = (error: unknown): boolean => error instanceof AgentRefused || error instanceof NotLive

/** Whether anything was ever handed over. */
export async function hasHeard(deliveries: Table<DeliveryRow>, { id, turns }: SessionRow): Promise<boolean> {
  if (turns > 0) return true
  for (const status of ['confirmed', 'delivered', 'uncertain'] as const) {
    if ((await deliveries.list({ where: { sessionId: id, status }, limit: 1 })).length > 0) return true
  }
  return false
}
