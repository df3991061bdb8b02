import { fileURLToPath } from 'node:url'
import type { Clock } from '../clock.ts'
import type { Agent } from './agent.ts'
import { decodeEvents } from './events-format.ts'
import { connectAcp } from './live/acp.ts'

/** The program stands beside us, as source or built. */
const PROGRAM = fileURLToPath(
  new URL(`../demo-agent/main${import.meta.url.endsWith('.ts') ? '.ts' : '.js'}`, import.meta.url),
)

/** The built-in agent without a model: a child process like any other, fixed work that is useful in any directory. */
export function demoAgent(home: string, clock: Clock): Agent {
  return {
    id: 'demo',
    title: 'Demo agent (no model)',
    program: process.execPath,
    versionArgs: null,
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
    live: {
      program: process.execPath,
      compose: () => ({ program: process.execPath, args: [PROGRAM, '--acp'], env: { DEMO_AGENT_HOME: home } }),
      connect: (io, handlers) => connectAcp(io, handlers, { clock, modes: { ask: 'ask', edit: 'edit', full: 'full' } }),
    },
  }
}
