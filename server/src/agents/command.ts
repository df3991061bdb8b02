import type { CommandAgentConfig } from '../model.ts'
import type { Agent, HeadlessTask } from './agent.ts'
import { decodeEvents } from './events-format.ts'

/**
 * An agent of `config.json`: any program that takes a prompt and prints a reply, or our event words. As an argument the
 * prompt comes last, behind `--`, so that it is never taken for an option.
 */
export function commandAgent(id: string, config: CommandAgentConfig): Agent {
  const [program = '', ...fixed] = config.command
  const { prompt, output, end, resume, model, acp } = config

  function args(task: HeadlessTask): string[] {
    const fill = (template: string[] | undefined, name: string, value: string | null): string[] =>
      template && value !== null ? template.map((text) => text.replaceAll(`{${name}}`, value)) : []
    return [
      ...fixed,
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
    live: acp,
    resume: resume !== undefined,
    models: model !== undefined,
    hasModel: true,
    installHint: `check agents.${id}.command in config.json`,
    headless: {
      compose: (task) => ({ program, args: args(task), env: {}, stdin: prompt === 'stdin' ? task.prompt : '' }),
      output: output === 'text' ? 'text' : 'events',
      endsWithRecord: end === 'record',
      usage: { tokens: 'step', cost: 'step' },
      decode: decodeEvents,
    },
  }
}
