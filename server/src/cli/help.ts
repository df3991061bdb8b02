import type { Command } from 'commander'
import { examples } from './command.ts'

/** Examples of the commands that have none where they are declared. */
const EXAMPLES: Record<string, string[]> = {
  'agents ls': ['agents', 'agents --json'],
  'agents probe': ['agents probe demo'],
  'workspace ls': ['ws'],
  'workspace show': ['ws show ws-news', 'ws show ws-news --json'],
  'runs show': ['runs show 01M7W3M6', 'runs show 01M7W3M6 --exit-status'],
  'runs tree': ['runs tree 01M7W3M6'],
  'runs watch': ['runs watch 01M7W3M6', 'runs watch 01M7W3M6 --exit-status --deadline 10m'],
  'runs events': ['runs events 01M7W3M6', 'runs events 01M7W3M6 --after 40 --follow'],
  'runs output': ['runs output 01M7W3M6 --tail 4096', 'runs output 01M7W3M6 --stderr', 'runs output 01M7W3M6 --follow'],
  'runs diff': ['runs diff 01M7W3M6', 'runs diff 01M7W3M6 | git apply'],
  'runs cancel': ['runs cancel 01M7W3M6', 'runs cancel 01M7W3M6 01M7W3P0'],
  'runs retry': ['runs retry 01M7W3M6'],
  'session show': ['session show 01M7W2YA'],
  'session events': ['session events 01M7W2YA', 'session events 01M7W2YA --after 40 --follow'],
  'session interrupt': ['session interrupt 01M7W2YA'],
  'session end': ['session end 01M7W2YA', 'session end 01M7W2YA 01M7W9B2'],
  'channel ls': ['channel ls', 'channel ls --session 01M7W2YA'],
  'channel deliveries': ['channel deliveries grant_01M7W3P5', 'channel deliveries grant_01M7W3P5 --follow'],
  'requests ls': ['requests', 'requests --all --session 01M7W2YA'],
  'keys rotate': ['keys rotate', 'keys rotate --drop'],
  'cred ls': ['cred'],
  'cred rm': ['cred rm anthropic'],
  'issue show': ['issue show brief', 'issue show brief -w ws-news'],
  'issue comment': ['issue comment brief "Skip it on holidays." --author ada'],
  'issue rm': ['issue rm pre-market-brief -w ws-news'],
  'inbox read': ['inbox read 01M7W3N1', 'inbox read 01M7W3N1 --keep-unread'],
  'inbox open': ['inbox open 01M7W3N1', 'inbox open 01M7W3N1 reports/risk.md > risk.md'],
  'inbox none': ['inbox none "no position broke a rule"'],
  'inbox done': ['inbox done 01M7W3N1', 'inbox done --all -w ws-news'],
  'inbox reply': ['inbox reply 01M7W3N1 "And the others?" --follow'],
  'inbox rm': ['inbox rm 01M7W3N1'],
  version: ['version'],
}

/** What takes the id that somebody typed behind a group, as in `runs 01M7W3M6`. */
const TAKES: Record<string, string> = {
  agents: 'agents probe',
  workspace: 'ws show',
  runs: 'runs show',
  session: 'session show',
  channel: 'channel deliveries',
  requests: 'requests answer',
  issue: 'issue show',
  inbox: 'inbox read',
}

/** The words of a command behind `postern`. */
const wordsOf = (command: Command): string =>
  command.parent?.parent ? `${command.parent.name()} ${command.name()}` : command.name()

/** Gives a command the examples that it has here. */
export function addExamples(command: Command): void {
  const lines = EXAMPLES[wordsOf(command)]
  if (lines) command.addHelpText('before', examples(...lines))
}

/**
 * What to say of a word behind a group that is none of its commands; undefined: there is no such word. The group stands for
 * its `ls`, which takes none.
 */
export function strayWord(command: Command): { message: string; hint: string } | undefined {
  const [word] = command.args
  const group = command.parent?.name() ?? ''
  if (command.name() !== 'ls' || word === undefined) return undefined
  const meant = TAKES[group] === undefined ? '' : `did you mean postern ${TAKES[group]} ${word}? `
  return { message: `"${word}" is no command of postern ${group}`, hint: `${meant}postern ${group} --help lists them` }
}
