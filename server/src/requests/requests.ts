import { isoTime, newId, type Clock } from '../clock.ts'
import { DomainError } from '../errors.ts'
import { LIMITS } from '../model.ts'
import { REQUEST_LIMITS, type AnswerRequest, type PermissionOption, type PermissionRequest } from '../model/sessions.ts'
import { decodeCursor, encodeCursor } from '../store/cursor.ts'
import type { Table } from '../store/table.ts'

/** Milliseconds that a person has to answer; then it is denied. */
export const REQUEST_DEADLINE_MS = 300_000

/** What a live agent asks, and for which session. */
export interface NewRequest extends Pick<
  PermissionRequest,
  'sessionId' | 'wsId' | 'agent' | 'title' | 'toolCallId' | 'kind' | 'options'
> {
  input?: unknown
  /** Who answers: a person, or the workspace's policy at once. */
  policy: 'ask' | 'allow' | 'deny'
}

export interface Asked {
  request: PermissionRequest
  /** The request as it was answered, by whoever came first. Never rejects. */
  answered: Promise<PermissionRequest>
}

export interface RequestQuery {
  status?: PermissionRequest['status']
  sessionId?: string
  wsId?: string
  limit?: number
  cursor?: string
}

/** Agents ask; a person, the workspace's policy or the deadline answers. The first answer wins. */
export interface Requests {
  /**
   * Records what is asked, within `REQUEST_LIMITS`. Aborting the signal cancels it: the turn is over.
   *
   * @throws DomainError `storage_unavailable`: nobody will be asked
   */
  ask(asked: NewRequest, signal: AbortSignal): Promise<Asked>
  /** @throws DomainError `request_not_found` */
  get(id: string): Promise<PermissionRequest>
  /** Newest first. @throws DomainError `invalid_cursor` */
  list(query: RequestQuery): Promise<{ requests: PermissionRequest[]; nextCursor: string | null }>
  /** @throws DomainError `request_not_found`, `request_answered`, `option_not_offered` */
  answer(id: string, answer: AnswerRequest): Promise<PermissionRequest>
  /** Cancels what an earlier server's agents asked: they are gone. */
  recover(): Promise<void>
}

export function createRequests(deps: {
  requests: Table<PermissionRequest>
  clock: Clock
  deadlineMs?: number
}): Requests {
  const { requests, clock, deadlineMs = REQUEST_DEADLINE_MS } = deps
  const waiting = new Map<string, (request: PermissionRequest) => void>()

  /** Decides a pending request; undefined: somebody else was first. */
  async function decide(
    id: string,
    status: PermissionRequest['status'],
    answer: string | null,
    answeredBy: PermissionRequest['answeredBy'],
  ): Promise<PermissionRequest | undefined> {
    const patch = { status, answer, answeredBy, answeredAt: isoTime(clock.now()) }
    const decided = await requests.update(id, patch, { status: 'pending' })
    if (decided) waiting.get(id)?.(decided)
    return decided
  }

  async function find(id: string): Promise<PermissionRequest> {
    const found = await requests.get(id)
    if (found) return found
    throw new DomainError('request_not_found', `there is no permission request ${id}`, { hint: 'postern requests' })
  }

  return {
    async ask({ policy, ...whole }, signal) {
      const asked = bounded(whole)
      const now = clock.now()
      const request: PermissionRequest = {
        id: newId('perm', clock),
        ...asked,
        status: 'pending',
        answer: null,
        answeredBy: null,
        createdAt: isoTime(now),
        expiresAt: isoTime(now + deadlineMs),
        answeredAt: null,
      }
      if (policy !== 'ask') {
        const option = optionFor(policy, asked.options)
        request.status = policy === 'allow' && option !== undefined ? 'allowed' : 'denied'
        request.answer = option ?? null
        request.answeredBy = 'policy'
        request.answeredAt = request.createdAt
      }
      await requests.insert(request)
      if (request.status !== 'pending') return { request, answered: Promise.resolve(request) }

      const { promise, resolve } = Promise.withResolvers<PermissionRequest>()
      const over = new AbortController()
      const settle = (decided: PermissionRequest): void => {
        waiting.delete(request.id)
        signal.removeEventListener('abort', cancel)
        over.abort()
        resolve(decided)
      }
      // What cannot be written down is denied all the same: the agent must not wait for the disk.
      const close = (status: 'expired' | 'canceled', by: 'deadline' | null): void =>
        void decide(request.id, status, status === 'expired' ? (optionFor('deny', asked.options) ?? null) : null, by)
          .catch(() => undefined)
          .then(() => waiting.get(request.id)?.({ ...request, status, answeredBy: by }))
      const cancel = (): void => close('canceled', null)
      waiting.set(request.id, settle)
      signal.addEventListener('abort', cancel, { once: true })
      if (signal.aborted) cancel()
      void clock.sleep(deadlineMs, over.signal).then(
        () => close('expired', 'deadline'),
        () => undefined,
      )
      return { request, answered: promise }
    },
    get: find,
    async list({ status, sessionId, wsId, limit = LIMITS.defaultListLimit, cursor }) {
      const rows = await requests.list({
        where: { ...(status && { status }), ...(sessionId && { sessionId }), ...(wsId && { wsId }) },
        limit: limit + 1,
        ...(cursor !== undefined && { after: decodeCursor('perm', cursor) }),
      })
      const page = rows.slice(0, limit)
      const last = rows.length > limit ? page.at(-1) : undefined
      return { requests: page, nextCursor: last ? encodeCursor(last.id) : null }
    },
    async answer(id, { answer, optionId }) {
      const request = await find(id)
      const option = optionId ?? optionFor(answer, request.options)
      const offered = request.options.find((each) => each.id === option)
      if (optionId !== undefined && (!offered || allows(offered) !== (answer === 'allow'))) {
        const possible = request.options.filter((each) => allows(each) === (answer === 'allow')).map((each) => each.id)
        throw new DomainError('option_not_offered', `"${optionId}" is not one of: ${possible.join(', ')}`)
      }
      if (answer === 'allow' && option === undefined)
        throw new DomainError('option_not_offered', 'the agent offered no way to allow this')
      const status = answer === 'allow' ? 'allowed' : 'denied'
      const decided = await decide(id, status, option ?? null, 'caller')
      if (decided) return decided
      const now = await find(id)
      throw new DomainError('request_answered', `${id} was ${now.status} by ${now.answeredBy ?? 'the end of its turn'}`)
    },
    async recover() {
      for (const { id } of await requests.list({ where: { status: 'pending' } }))
        await decide(id, 'canceled', null, null)
    },
  }
}

/** What is kept of a question. An option with an id too long to be named in an answer is not offered. */
function bounded<T extends Omit<NewRequest, 'policy'>>(asked: T): T {
  const { titleUnits, kindUnits, toolCallIdUnits, options, optionIdUnits, optionNameUnits } = REQUEST_LIMITS
  return {
    ...asked,
    title: beginning(asked.title, titleUnits),
    kind: asked.kind && beginning(asked.kind, kindUnits),
    toolCallId: asked.toolCallId && beginning(asked.toolCallId, toolCallIdUnits),
    ...(asked.input !== undefined && { input: shortened(asked.input) }),
    options: asked.options
      .filter(({ id }) => id.length <= optionIdUnits)
      .slice(0, options)
      .map((option) => ({ ...option, name: beginning(option.name, optionNameUnits) })),
  }
}

const beginning = (text: string, units: number): string => text.slice(0, units).toWellFormed()

/** The input as it is; of a long one, both ends of its JSON. */
function shortened(input: unknown): unknown {
  const whole = JSON.stringify(input)
  const cut = whole.length - REQUEST_LIMITS.inputUnits
  if (cut <= 0) return input
  const half = REQUEST_LIMITS.inputUnits / 2
  return `${whole.slice(0, half)}\n[${cut} characters cut]\n${whole.slice(-half)}`.toWellFormed()
}

const allows = ({ kind }: PermissionOption): boolean => kind === 'allow_once' || kind === 'allow_always'

/** The option that says it once; for good only where the agent offers nothing else. */
function optionFor(answer: 'allow' | 'deny', options: PermissionOption[]): string | undefined {
  const [once, always] = answer === 'allow' ? ['allow_once', 'allow_always'] : ['reject_once', 'reject_always']
  return (options.find(({ kind }) => kind === once) ?? options.find(({ kind }) => kind === always))?.id
}
