import type { ChildProcessWithoutNullStreams } from 'node:child_process'
import { once } from 'node:events'
import { Readable } from 'node:stream'
import type { AgentEvent } from '../src/agents/agent.ts'
import type { AgentConnection, LiveHandlers, LiveIo, PermissionAsk } from '../src/agents/live.ts'

/** The two ends of a child process, as a session would hand them over. */
export function endsOf(child: ChildProcessWithoutNullStreams): LiveIo {
  child.stdin.on('error', () => undefined) // told to the writer
  return {
    output: Readable.toWeb(child.stdout) as ReadableStream<Uint8Array>,
    write: (text) =>
      new Promise((resolve, reject) => child.stdin.write(text, (error) => (error ? reject(error) : resolve()))),
  }
}

/** A live program under test: what it said and asked, and how its requests are answered. */
export interface LiveProgram extends AsyncDisposable {
  connection: AgentConnection
  child: ChildProcessWithoutNullStreams
  events: AgentEvent[]
  asks: PermissionAsk[]
  /** The kind of option that is chosen; `never`: nobody answers. */
  answer: { kind: string }
  types(): string[]
  said(): string
}

/** Connects to a child process; disposing ends its stdin, and the child where that is not enough. */
export function liveProgram(
  child: ChildProcessWithoutNullStreams,
  connect: (io: LiveIo, handlers: LiveHandlers) => AgentConnection,
): LiveProgram {
  const exited = once(child, 'exit')
  exited.catch(() => undefined)
  const events: AgentEvent[] = []
  const asks: PermissionAsk[] = []
  const answer = { kind: 'allow_once' }
  const connection = connect(endsOf(child), {
    onEvent: (event) => void events.push(event),
    async onRequest(ask, signal) {
      asks.push(ask)
      const option = ask.options.find(({ kind }) => kind === answer.kind)
      if (option) return option.id
      await once(signal, 'abort')
      return undefined
    },
  })
  return {
    connection,
    child,
    events,
    asks,
    answer,
    types: () => events.map(({ type }) => type),
    said: () => events.flatMap((event) => (event.type === 'agent.message' ? [event.text] : [])).join(''),
    async [Symbol.asyncDispose]() {
      child.stdin.end()
      if (child.exitCode !== null || child.signalCode !== null) return
      const late = setTimeout(() => child.kill('SIGKILL'), 5_000)
      await exited
      clearTimeout(late)
    },
  }
}
