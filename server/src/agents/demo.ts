import { fileURLToPath } from 'node:url'
import type { Agent } from './agent.ts'
import { decodeEvents } from './events-format.ts'

/** The program stands beside us, as source or built. */
const PROGRAM = fileURLToPath(
  new URL(`../demo-agent/main${import.meta.url.endsWith('.ts') ? '.ts' : '.js'}`, import.meta.url),
)

/** The built-in agent without a model: a child process like any other, fixed work that is useful in any directory. */
export function demoAgent(home: string): Agent {
  return {
    id: 'demo',
    title: 'Demo agent (no model)',
    program: process.execPath,
    versionArgs: null,
    live: true,
    resume: true,
    models: false,
    hasModel: false,
    installHint: null,
    login: 'none',
    headless: {
      compose: ({ prompt, permissions, conversationId }) => ({
        program: process.execPath,
        args: [PROGRAM, '--permissions', permissions, ...(conversationId === null ? [] : ['--resume', conversationId])],
        env: { DEMO_AGENT_HOME: home },
        stdin: prompt,
      }),
      output: 'events',
      endsWithRecord: true,
      usage: { tokens: 'step', cost: 'step' },
      decode: decodeEvents,
    },
  }
}
