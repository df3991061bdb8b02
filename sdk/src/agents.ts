import { makeCall, makeListing, type Call, type CallOptions, type Listing } from './call.ts'
import type { Client } from './generated/client/index.ts'
import { Agents as Operations } from './generated/sdk.gen.ts'
import type { Agent, AgentId, AgentProbe } from './types.ts'

/** A probe runs the agent: the server gives it a minute. */
const PROBE_TIMEOUT_MS = 90_000

/** Coding-agent programs behind adapters. */
export class Agents {
  readonly #operations: Operations

  constructor(client: Client) {
    this.#operations = new Operations({ client })
  }

  /** Every known agent, built-in first. */
  list(options: CallOptions = {}): Listing<Agent, { agents: Agent[] }> {
    return makeListing(
      () => makeCall((generated) => this.#operations.list({ ...generated, parseAs: 'json' }), options),
      ({ agents }) => ({ items: agents, nextCursor: null }),
    )
  }

  /** Runs one fixed, harmless prompt: shows whether the agent is logged in and answers. @throws NotFoundError, CapacityError */
  probe(id: AgentId, options: CallOptions = {}): Call<AgentProbe> {
    return makeCall((generated) => this.#operations.probe({ ...generated, path: { id }, parseAs: 'json' }), options, {
      timeoutMs: PROBE_TIMEOUT_MS,
    })
  }
}
