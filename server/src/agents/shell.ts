import type { Agent } from './agent.ts'

/** A plain terminal: listed, so that callers see that it exists, and never headless, because it has no model loop. */
export const shellAgent: Agent = {
  id: 'shell',
  title: 'Shell',
  program: null,
  versionArgs: null,
  resume: false,
  models: false,
  hasModel: false,
  installHint: null,
  login: 'none',
}
