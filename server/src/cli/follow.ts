import type { Event } from '@postern/sdk'
import type { Context } from './context.ts'
import { inert } from './text.ts'

/** Prints events as they come: what the agent says on stdout, what it does on stderr; with --json JSON Lines. */
export async function follow(context: Context, events: AsyncIterable<Event>): Promise<void> {
  const { screen, options } = context
  let open = false // a message in deltas that has not ended its line
  const endLine = (): void => {
    if (open) screen.write('\n')
    open = false
  }
  for await (const event of events) {
    if (options.json) {
      screen.printJson(event)
      continue
    }
    if (event.type === 'agent.message' && event['delta'] === true) {
      screen.write(inert(event.text ?? ''))
      open = true
    } else if (event.type === 'agent.message') {
      endLine()
      screen.print(inert(event.text ?? ''))
    } else if (event.type === 'output.text') {
      screen.write(inert(event.text ?? ''))
      open = !(event.text ?? '').endsWith('\n')
    } else {
      const line = describe(event)
      if (line === undefined) continue
      endLine()
      screen.note(screen.style('gray', line))
    }
  }
  endLine()
}

/** A field for people: text as it is, anything else as JSON. */
export const textOf = (value: unknown): string =>
  typeof value === 'string' ? value : value === undefined ? '' : JSON.stringify(value)

/** One line about an event that is not speech; undefined for those that say nothing new. */
export function describe(event: Event): string | undefined {
  const field = (name: string): string => inert(textOf(event[name]), true)
  switch (event.type) {
    case 'run.queued':
      return 'queued: waiting for a place'
    case 'run.started':
      return `started ${field('agent')}`
    case 'tool.started':
      return `→ ${field('name')}${event['input'] === undefined ? '' : ` ${inert(JSON.stringify(event['input']), true).slice(0, 120)}`}`
    case 'tool.ended':
      return `${event['isError'] === true ? '✗' : '✓'} ${field('output').slice(0, 160) || 'done'}`
    case 'agent.retry':
      return `trying again: ${field('message')}`
    case 'agent.waiting': {
      const until = event['resetsAt'] === undefined ? '' : `, until ${field('resetsAt')}`
      return `waiting for the limit of the model's service${until}: ${field('message')}`
    }
    case 'permission.denied':
      return `denied: ${field('name')} ${field('message')}`
    case 'run.silent':
      return `nothing to report: ${field('why')}`
    case 'run.reported':
      return `${field('taskId')} reports: ${field('message').slice(0, 200)}`
    case 'run.nudged':
      return 'asked to report'
    case 'log':
      return `log: ${field('message').slice(0, 200)}`
    default:
      return undefined
  }
}
