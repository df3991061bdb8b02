import { AgentRefused, type AgentConnection, type LiveHandlers, type Turn, type TurnEnd } from '../agents/live.ts'
import type { AgentEvent } from '../agents/event.ts'
import type { Redactor } from '../events/redactor.ts'

/** A connection whose agent's words carry nothing secret, also where a secret is said in pieces. */
export interface Discreet {
  connection: AgentConnection
  /** Hands on what was held back because it might have become a secret; to be called when the program has ended. */
  flush(): void
}

/**
 * Connects by way of a redactor: events, questions, the end of a turn and refusals. What is held back of a text is
 * handed on before its turn is said to have ended.
 */
export function connectDiscreetly(
  connect: (handlers: LiveHandlers) => AgentConnection,
  redactor: Redactor,
  handlers: LiveHandlers,
): Discreet {
  const words = redactor.events<AgentEvent>()
  const flush = (): void => words.flush().forEach((event) => handlers.onEvent(event))
  const connection = connect({
    onEvent: (event) => words.push(event).forEach((safe) => handlers.onEvent(safe)),
    onRequest: (ask, signal) => handlers.onRequest(redactor.value(ask), signal),
  })
  const closed = (end: TurnEnd): TurnEnd => {
    flush()
    return redactor.value(end)
  }
  function safe(turn: Turn): Turn {
    const ended = turn.ended.then(closed, (gone: unknown) => {
      flush()
      throw gone
    })
    ended.catch(() => undefined)
    return { ...turn, ended }
  }
  async function refusing<T>(work: Promise<T>): Promise<T> {
    try {
      return await work
    } catch (error) {
      if (!(error instanceof AgentRefused)) throw error
      throw new AgentRefused(error.kind, redactor.text(error.message))
    }
  }
  return {
    flush,
    connection: {
      open: (...how) => refusing(connection.open(...how)),
      prompt: (text) => safe(connection.prompt(text)),
      async steer(text) {
        const begun = await refusing(connection.steer(text))
        return begun && safe(begun)
      },
      cancel: () => connection.cancel(),
    },
  }
}
