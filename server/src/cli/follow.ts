import type { Event } from '@postern/sdk'
import type { Context } from './context.ts'
import { inert } from './text.ts'

/** Prints events: what the agent says on stdout, what it does on stderr; with --json JSON Lines. */
export interface EventPrinter {
  print(event: Event): void
  /** Ends the line of a message that came in pieces and has not ended it. */
  endLine(): void
  /** True in the middle of such a line. */
  isOpen(): boolean
}

/** @param describeAs one line about an event that is not speech; undefined: nothing is shown */
export function createEventPrinter(
  { screen, options }: Context,
  describeAs: (event: Event) => string | undefined = describe,
): EventPrinter {
  let open = false
  const endLine = (): void => {
    if (open) screen.write('\n')
    open = false
  }
  function print(event: Event): void {
    const text = event.text ?? ''
    if (options.json) screen.printJson(event)
    else if (event.type === 'output.text' || (event.type === 'agent.message' && event['delta'] === true)) {
      screen.write(inert(text))
      if (text !== '') open = !text.endsWith('\n')
    } else if (event.type === 'agent.message') {
      endLine()
      screen.print(inert(text))
    } else {
      const line = describeAs(event)
      if (line === undefined) return
      endLine()
      screen.note(screen.style('gray', line))
    }
  }
  return { print, endLine, isOpen: () => open }
}

/** Prints events as they come, until there are no more. */
export async function follow(context: Context, events: AsyncIterable<Event>): Promise<void> {
  const printer = createEventPrinter(context)
  for await (const event of events) printer.print(event)
  printer.endLine()
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
    case 'session.state':
      return describeState(event)
    case 'input.accepted':
      return `← ${sender(event)}${field('text').slice(0, 300)}`
    case 'input.failed':
      return `✗ ${field('deliveryId')} was not delivered: ${field('reason')}`
    case 'input.uncertain':
      return `✗ ${field('deliveryId')}: the agent died in the hand-over; whether it has it is not known`
    case 'turn.ended':
      return describeTurn(event)
    case 'permission.requested':
      return `? it asks: ${field('title')}${event['kind'] == null ? '' : ` (${field('kind')})`} · ${field('requestId')}`
    case 'permission.answered':
      return `${field('status')}${event['answeredBy'] == null ? '' : ` by ${field('answeredBy')}`}`
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

/** Who sent it: what the sender says, and through which grant. */
export function sender(event: Event): string {
  const [from, label] = [event['from'], event['label']].map((value) => inert(textOf(value ?? undefined), true))
  const through = event['grantId'] == null ? '' : `via ${label || inert(textOf(event['grantId']), true)}`
  const who = [from, through].filter(Boolean).join(' ')
  return who === '' ? '' : `${who}: `
}

function describeState(event: Event): string | undefined {
  const why = [event['reason'], event['detail']].map((value) => inert(textOf(value ?? undefined), true)).filter(Boolean)
  switch (event['state']) {
    case 'starting':
      return 'the agent starts'
    case 'suspended':
      return `suspended: ${why.join(': ')}; the next message resumes it`
    case 'ended':
      return `ended: ${why.join(': ')}`
    default:
      return undefined
  }
}

function describeTurn(event: Event): string | undefined {
  if (event['status'] === 'completed') return undefined
  const error = event['error'] as { message?: unknown } | undefined
  return `✗ turn ${inert(textOf(event['status']), true)}${error ? `: ${inert(textOf(error.message), true).slice(0, 300)}` : ''}`
}
