import type { Command } from 'commander'
import { expect, test } from 'vitest'
import { build } from './cli.ts'

/** Every command with its words, groups too. */
function all(command: Command, words: string[] = []): [string, Command][] {
  const own: [string, Command][] = words[0] === 'demo-agent' ? [] : [[words.join(' '), command]]
  return [...own, ...command.commands.flatMap((each) => all(each, [...words, each.name()]))]
}

test.each(all(build(() => undefined)))(
  'help of postern %s shows examples first, and what every command takes',
  (words, command) => {
    let shown = ''
    command.configureOutput({ writeOut: (text) => (shown += text) })
    command.outputHelp()
    expect(shown).toMatch(
      new RegExp(`^Examples:\n {2}\\$ postern ${words.split(' ')[0]?.replace('workspace', 'ws') ?? ''}`),
    )
    for (const flag of ['--json', '--data', '--server']) expect(shown).toContain(`\n  ${flag}`)
  },
)
