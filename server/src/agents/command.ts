import type { Clock } from '../clock.ts'
import type { CommandAgentConfig } from '../model/agents.ts'
import type { Agent, HeadlessTask } from './agent.ts'
import { decodeEvents } from './events-format.ts'
import { connectAcp } from './live/acp.ts'

/**
 * An agent of `config.json`: any program that takes a prompt and prints a reply, or our event words. As an argument the
 * prompt comes last, behind `--`, so that it is never taken for an option.
 *
 * With `acp` the same program, with the same arguments but those of a prompt and a conversation, speaks ACP on its stdio; with
 * `acp: "only"` it does nothing else. Modes named as our permission levels are set; an agent without them asks, or not, as it
 * was told by its own settings.
 */
export function commandAgent(id: string, config: CommandAgentConfig, clock: Clock): Agent {
  const [program = '', ...fixed] = config.command
  const { prompt, output, end, resume, model, permissions, acp } = config

  function fill(template: string[] | undefined, name: string, value: string | null): string[] {
    return template && value !== null ? template.map((text) => text.replaceAll(`{${name}}`, () => value)) : []
  }
  function args(task: HeadlessTask): string[] {
    return [
      ...fixed,
      ...fill(permissions, 'permissions', task.permissions),
      ...fill(model, 'model', task.model),
      ...fill(resume, 'conversationId', task.conversationId),
      ...(prompt === 'argument' ? ['--', task.prompt] : []),
    ]
  }

  return {
    id,
    title: config.title ?? id,
    program,
    versionArgs: null, // of an arbitrary program nobody knows how to ask
    configured: true,
    ...(config.sharesHome && { sharedHome: id }),
    resume: resume !== undefined,
    models: model !== undefined,
    hasModel: true,
    installHint: `check agents.${id}.command in config.json`,
    ...(acp !== 'only' && {
      headless: {
        compose: (task) => ({ program, args: args(task), env: {}, stdin: prompt === 'stdin' ? task.prompt : '' }),
        output: output === 'text' ? 'text' : 'events',
        endsWithRecord: end === 'record',
        usage: { tokens: 'step', cost: 'step' },
        decode: decodeEvents,
      },
    }),
    ...(acp !== false && {
      live: {
        program,
        compose: (task) => ({ program, args: [...fixed, ...fill(model, 'model', task.model)], env: {} }),
        connect: (io, handlers) =>
          connectAcp(io, handlers, {
            clock,
            modes: { ask: 'ask', edit: 'edit', full: 'full' },
            modesOptional: true,
            modelIsSet: true,
          }),
      },
    }),
  }
}
