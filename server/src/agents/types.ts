import type { AgentInfo } from '../model/agents.ts'
import type { Agent } from './agent.ts'

/** The table of agents: the built-in ones and those of `config.json`. */
export interface Agents {
  /** Every agent, built-in first; `shell` is listed and never headless. */
  all(): Agent[]
  find(id: string): Agent | undefined
  /** Counts a record that the agent's decoder did not know, for `info`. */
  noteUnknown(id: string): void
  /** What is installed, looked up at most every 30 s. */
  info(): Promise<AgentInfo[]>
}
