import { createInterface } from 'node:readline'
import {
  isOver,
  PosternError,
  type Event,
  type Postern,
  type RequestId,
  type Session,
  type SessionId,
} from '@postern/sdk'
import type { Context } from './context.ts'
import { CliExit, EXIT } from './exit.ts'
import { explain } from './explain.ts'
import { createEventPrinter, describe } from './follow.ts'
import { resolveSession } from './ids.ts'
import { exitOfTurn, howToAnswer } from './session.ts'
import { inert } from './text.ts'

const PROMPT = '> '
const YES_OR_NO = /^\s*(y|yes|n|no)\s*$/i
const means = (line: string): 'allow' | 'deny' => (/^\s*y/i.test(line) ? 'allow' : 'deny')

/**
 * `postern session attach`: a conversation. On a terminal what the agent says comes as it says it, questions are
 * answered inline, Ctrl-C interrupts the turn and twice leaves, Ctrl-D leaves. On a pipe each line is a message, and the
 * next is sent when the agent has answered. The session stays in any case.
 *
 * @param begin.after show what happened behind this event first; default: only what happens from now on
 * @param begin.isAsked a first message was sent: on a pipe its answer comes before the first line is read
 */
export async function attach(
  context: Context,
  given: string,
  begin: { after?: number; isAsked?: boolean } = {},
): Promise<number> {
  const postern = await context.connect()
  const session = await postern.sessions.get(await resolveSession(postern, given))
  if (isOver(session)) {
    throw new CliExit(EXIT.wrongState, `${session.id} ended`, `postern session start -w ${session.wsId}`)
  }
  const talks = process.stdin.isTTY && context.options.input
  return talks
    ? await converse(context, postern, session, begin.after ?? session.lastSeq)
    : await readLines(context, postern, session.id, begin.isAsked === true)
}

// A terminal

async function converse(context: Context, postern: Postern, session: Session, after: number): Promise<number> {
  const { screen } = context
  const { id } = session
  const keys = 'Ctrl-C interrupts, twice leaves · Ctrl-D leaves · the session stays'
  screen.note(screen.style('gray', `${id} · ${session.agent} in ${session.wsId}, ${session.state} · ${keys}`))
  const output = process.stdout.isTTY ? process.stdout : process.stderr
  const typing = createInterface({ input: process.stdin, output, prompt: PROMPT, terminal: true })
  const left = new AbortController()
  const outcome = Promise.withResolvers<number>()
  const own = new Set<unknown>()
  const asked: RequestId[] = []
  let isBusy = session.state === 'busy' || session.state === 'waiting'
  let isWarned = false
  let begun = '' // a message of several lines: those that ended with a backslash

  const printer = createEventPrinter(context, (event) => {
    if (event.type === 'input.accepted' && own.has(event['deliveryId'])) return undefined
    return describe(event)
  })
  let isClosed = false
  const prompt = (): void => {
    if (!isClosed) typing.prompt(true)
  }
  /** Puts something above the line that is being typed. */
  function above(write: () => void): void {
    if (!printer.isOpen()) output.write('\r\u001b[K')
    write()
    if (!printer.isOpen()) prompt()
  }
  const tell = (text: string): void =>
    above(() => {
      printer.endLine()
      screen.note(screen.style('gray', text))
    })
  const question = (requestId: RequestId, title: string): void => {
    asked.push(requestId)
    if (asked.length === 1) ask(title)
  }
  const ask = (title: string): void => {
    typing.setPrompt(`allow "${inert(title, true).slice(0, 60)}"? y/n `)
    prompt()
  }
  function answered(requestId: unknown): void {
    const at = asked.indexOf(requestId as RequestId)
    if (at !== -1) asked.splice(at, 1)
    if (asked.length === 0) typing.setPrompt(PROMPT)
    prompt()
  }

  function show(event: Event): void {
    if (event.type === 'session.state') {
      const wasBusy = isBusy
      isBusy = event['state'] === 'busy' || event['state'] === 'waiting'
      if (isBusy && !wasBusy) isWarned = false
    }
    if (event.type === 'turn.ended') printer.endLine()
    above(() => printer.print(event))
    if (event.type === 'permission.requested') question(event['requestId'] as RequestId, String(event['title']))
    if (event.type === 'permission.answered') answered(event['requestId'])
  }

  async function take(line: string): Promise<void> {
    const [request] = asked
    if (request !== undefined) {
      if (!YES_OR_NO.test(line)) return tell('it waits for an answer: y or n')
      await postern.requests.answer(request, means(line), { signal: left.signal })
      return answered(request)
    }
    if (line.endsWith('\\')) {
      begun += `${line.slice(0, -1)}\n`
      return
    }
    const message = begun + line
    begun = ''
    if (message.trim() === '') return prompt()
    isWarned = false
    const receipt = await postern.sessions.send(id, message, { signal: left.signal })
    own.add(receipt.deliveryId)
    if (receipt.status === 'buffered') tell('it waits its turn: the agent is not idle')
  }
  function onInterrupt(): void {
    if (isWarned) return outcome.resolve(EXIT.interruptedByUser)
    isWarned = true
    tell(isBusy ? 'interrupting the turn; Ctrl-C again leaves, the session stays' : 'Ctrl-C again leaves')
    if (isBusy) void postern.sessions.interrupt(id, { signal: left.signal }).catch(complain)
  }
  const complain = (error: unknown): void => {
    if (!left.signal.aborted) above(() => explain(context, error))
  }

  let taking = Promise.resolve()
  typing.on('line', (line) => {
    taking = taking.then(() => take(line)).catch(complain)
  })
  typing.on('SIGINT', onInterrupt)
  typing.on('close', () => {
    isClosed = true
    outcome.resolve(EXIT.ok)
  })
  const listening = (async () => {
    for await (const event of postern.sessions.events(id, { after, signal: left.signal })) show(event)
    outcome.resolve(EXIT.wrongState)
  })().catch((error: unknown) => {
    if (left.signal.aborted) return
    outcome.resolve(explain(context, error))
  })
  try {
    const pending = await postern.requests.list({ sessionId: id, status: 'pending' }).toArray()
    // Those that come later are told by their events.
    for (const request of pending.toReversed()) if (!asked.includes(request.id)) question(request.id, request.title)
    prompt()
    const code = await outcome.promise
    if (code === EXIT.ok) await taking // what was typed before Ctrl-D is sent
    return code
  } finally {
    left.abort()
    typing.close()
    await listening
    printer.endLine()
    screen.note(`left; ${id} stays: ${context.me} session attach ${id}`)
  }
}

// A pipe

async function readLines(context: Context, postern: Postern, id: SessionId, isAsked: boolean): Promise<number> {
  const { screen } = context
  const reading = createInterface({ input: process.stdin })
  const lines = reading[Symbol.asyncIterator]()
  const left = new AbortController()
  let isWarned = false
  const onInterrupt = (): void => {
    if (isWarned) return left.abort()
    isWarned = true
    screen.note('interrupting the turn; Ctrl-C again leaves, the session stays')
    void postern.sessions
      .interrupt(id, { signal: left.signal })
      .catch((error: unknown) => left.signal.aborted || explain(context, error))
  }
  process.on('SIGINT', onInterrupt)
  const printer = createEventPrinter(context)
  let coming: Promise<string | undefined> | undefined
  /** The next line, which stays the next one; undefined at the end. */
  const peek = (): Promise<string | undefined> =>
    (coming ??= lines.next().then(({ done, value }) => (done ? undefined : value)))
  const take = (): Promise<string | undefined> => {
    const line = peek()
    coming = undefined
    return line
  }
  const open = new Set<unknown>()
  async function answer(event: Event): Promise<void> {
    const { requestId } = event
    const line = await peek()
    if (!open.has(requestId)) return // answered otherwise meanwhile: the line is a message
    if (line === undefined || !YES_OR_NO.test(line)) return screen.note(howToAnswer(context, event))
    void take()
    await postern.requests.answer(requestId as RequestId, means(line), { signal: left.signal })
  }
  let code: number = EXIT.ok
  let answering: Promise<void> = Promise.resolve()
  function show(event: Event): void {
    printer.print(event)
    if (event.type === 'permission.answered') open.delete(event['requestId'])
    if (event.type === 'permission.requested') {
      open.add(event['requestId'])
      answering = answering.then(() => answer(event)).catch((error: unknown) => void explain(context, error))
    }
  }
  function endTurn(status: string): void {
    printer.endLine()
    open.clear()
    if (status !== 'completed') code = exitOfTurn(status)
  }
  try {
    if (isAsked) {
      let ended: Event | undefined
      for await (const event of postern.sessions.events(id, { signal: left.signal })) {
        show(event)
        ended = event.type === 'turn.ended' ? event : undefined
        if (ended) break
      }
      if (!ended) return EXIT.wrongState // the session ended before it, and said why
      endTurn(String(ended['status']))
    }
    for (let line = await take(); line !== undefined; line = await take()) {
      if (line.trim() === '') continue
      isWarned = false
      let deliveryId: unknown
      const reply = await postern.sessions.ask(id, line, {
        signal: left.signal,
        onEvent(event) {
          if (event.type === 'input.accepted' && event.text === line) deliveryId ??= event['deliveryId']
          if (event.type !== 'input.accepted' || event['deliveryId'] !== deliveryId) show(event)
        },
      })
      endTurn(reply.status)
    }
    return code
  } catch (error) {
    printer.endLine()
    if (left.signal.aborted) return EXIT.interruptedByUser
    if (!(error instanceof PosternError)) throw error
    return explain(context, error)
  } finally {
    process.off('SIGINT', onInterrupt)
    left.abort()
    reading.close()
    screen.note(`left; ${id} stays: ${context.me} session attach ${id}`)
  }
}
