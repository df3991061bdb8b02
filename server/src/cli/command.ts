import type { Command } from 'commander'
import type { Context } from './context.ts'

/** Gives a command its action: called with the context first, its result is the exit code. */
export type Action = <T extends unknown[]>(
  command: Command,
  run: (context: Context, ...rest: T) => Promise<number>,
) => Command

/** Examples stand first: they are what people look for. */
export const examples = (...lines: string[]): string =>
  `Examples:\n${lines.map((line) => `  $ postern ${line}`).join('\n')}\n`

/** Makes a command that has commands of its own. */
export type Group = (name: string, description: string, ...lines: string[]) => Command
