import type { Agent } from '@postern/sdk'
import type { Context } from './context.ts'
import { EXIT } from './exit.ts'
import { inert, span, table } from './text.ts'

export async function listAgents(context: Context): Promise<number> {
  const { screen, options } = context
  const postern = await context.connect()
  const { agents } = await postern.agents.list().page()
  if (options.json) {
    screen.printJson({ agents })
    return EXIT.ok
  }
  const yes = (value: boolean): string => (value ? 'yes' : '-')
  const rows = agents.map((agent) => [
    agent.id,
    agent.installed ? screen.style('green', '✓ found') : screen.style('yellow', '✗ missing'),
    agent.version === null ? '-' : inert(agent.version, true),
    agent.verified === null ? '-' : inert(agent.verified, true),
    agent.login === 'unknown' ? '?' : agent.login === 'yes' ? 'yes' : '-',
    yes(agent.headless),
    yes(agent.live),
    yes(agent.resume),
    ...(screen.isTerminal ? [] : [hintOf(agent)]),
  ])
  const headings = ['ID', 'STATE', 'VERSION', 'TESTED', 'LOGIN', 'RUNS', 'SESSIONS', 'RESUME']
  screen.print(table(screen, screen.isTerminal ? headings : [...headings, 'HINT'], rows))
  // What is to be typed must not be cut at the edge.
  if (screen.isTerminal)
    for (const agent of agents) if (hintOf(agent) !== '') screen.print(`${agent.id}: ${hintOf(agent)}`)
  screen.note(`next: ${context.me} agents probe <id>`)
  return EXIT.ok
}

const hintOf = ({ hint, hasModel, headless }: Agent): string =>
  inert(hint ?? (hasModel || !headless ? '' : 'no model'), true)

export async function probeAgent(context: Context, id: string): Promise<number> {
  const { screen, options } = context
  const postern = await context.connect()
  const probe = await postern.agents.probe(id)
  if (options.json) screen.printJson(probe)
  else if (probe.ok) {
    screen.note(`${screen.style('green', '✓')} ${id} answered in ${span(probe.durationMs)}`)
    screen.print(inert(probe.text?.trim() ?? ''))
  } else {
    screen.complain(`${screen.style('red', `✗ ${probe.reason}`)}  ${inert(probe.detail ?? '', true)}`)
    screen.complain(`  ${context.me} agents shows how to install it`)
  }
  return probe.ok ? EXIT.ok : EXIT.failed
}
