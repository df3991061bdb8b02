import type { Agent } from '../agents/agent.ts'
import { chooseAgent } from '../agents/choose.ts'
import { isoTime, newId } from '../clock.ts'
import { DomainError } from '../errors.ts'
import type { Event, PermissionLevel } from '../model.ts'
import type { Budget } from '../model/budget.ts'
import { LIMITS } from '../model.ts'
import { asMessage } from '../model/message.ts'
import {
  channelOf,
  type Delivery,
  type DeliveryRow,
  type Receipt,
  shownOf,
  type Session,
  type SessionRow,
} from '../model/sessions.ts'
import { fingerprintOf, once, SERVER_KEYS, type Claims } from '../store/claims.ts'
import { decodeCursor, encodeCursor } from '../store/cursor.ts'
import type { Workspaces } from '../workspaces/types.ts'
import { createActor, type Actor, type ActorDeps } from './actor.ts'
import { createPlaces } from './places.ts'
import type { Sessions } from './types.ts'
import { gone } from './why.ts'

/** Milliseconds that stopping the server waits for its sessions. */
const STOP_WAIT_MS = 6_500

export interface SessionsDeps extends Omit<ActorDeps, 'places'> {
  claims: Claims
  workspaces: Workspaces
  maxSessions: number
  /** True when the log of a session is still there. */
  hasLog(id: string): Promise<boolean>
}

/** See `Sessions`. `load` brings back what an earlier server left; `wake` starts those for which messages wait. */
export function createSessions(deps: SessionsDeps): Sessions & {
  load(): Promise<void>
  wake(): void
  liveIn(wsId: string): number
  isOpen(id: string): boolean
} {
  const { sessions, deliveries, events, claims, workspaces, agents, budgets, clock, maxSessions } = deps
  const actors = new Map<string, Actor>()
  const places = createPlaces(maxSessions)
  let isStopping = false

  const budgetOf = (wsId: string): Promise<Budget> =>
    workspaces.get(wsId).then(
      ({ budget }) => budget,
      () => ({}),
    )
  const actorDeps: ActorDeps = {
    ...deps,
    places,
    onEnded: (id) => {
      actors.delete(id)
      deps.onEnded(id)
    },
  }

  /** @throws DomainError `budget_reached` */
  async function checkBudget({ row: { wsId } }: Actor): Promise<void> {
    const budget = await budgetOf(wsId)
    await budgets.ready(wsId, budget)
    budgets.check(wsId, budget)
  }

  async function view(row: SessionRow): Promise<Session> {
    const actor = actors.get(row.id)
    if (actor) return await actor.view()
    return { ...shownOf(row), state: row.state, steerable: false, waiting: 0 }
  }
  async function find(id: string): Promise<SessionRow> {
    const row = actors.get(id)?.row ?? (await sessions.get(id))
    if (row) return row
    throw new DomainError('session_not_found', `there is no session ${id}`, { hint: 'postern session ls' })
  }
  /** @throws DomainError `session_not_found`, `session_ended` */
  async function actorOf(id: string): Promise<Actor> {
    const actor = actors.get(id)
    if (actor) return actor
    throw gone(await find(id))
  }
  async function findDelivery(id: string): Promise<DeliveryRow> {
    const row = await deliveries.get(id)
    if (row) return row
    throw new DomainError('delivery_not_found', `there is no delivery ${id}`, {
      hint: 'postern channel deliveries <grant-id>',
    })
  }

  async function open(request: Parameters<Sessions['open']>[0]): Promise<{ session: Session; replayed: boolean }> {
    const { body, idempotency } = request
    if (isStopping) throw new DomainError('draining', 'the server is stopping', { retryAfterSeconds: 5 })
    const claim =
      idempotency &&
      claims.begin([idempotency.caller, idempotency.method, idempotency.path, idempotency.key], fingerprintOf({ body }))
    try {
      const known = claim?.recordId === undefined ? undefined : await sessions.get(claim.recordId)
      if (known) return { session: await view(known), replayed: true }
      const workspace = await workspaces.get(body.wsId)
      const agent = chooseAgent(agents, workspace, body, 'live')
      const cwd = await deps.workspaceDirectory(body.wsId)
      const id = claim?.recordId ?? newId('sess', clock)
      await budgets.ready(body.wsId, workspace.budget)
      const taken = budgets.take(body.wsId, workspace.budget)
      if (!places.tryTake(id)) {
        taken.giveBack()
        throw new DomainError('capacity_reached', `${places.taken()} of ${maxSessions} sessions are live`, {
          retryAfterSeconds: 30,
          hint: 'postern session end <id>, or raise maxSessions in config.json',
        })
      }
      try {
        const createdAt = isoTime(clock.now())
        const row: SessionRow = {
          id,
          wsId: body.wsId,
          agent: agent.id,
          title: body.title ?? null,
          state: 'suspended',
          reason: null,
          detail: null,
          model: body.model ?? null,
          permissions: workspace.permissions,
          conversationId: null,
          turns: 0,
          usage: { inputTokens: 0, outputTokens: 0, costUsd: null, source: 'none' },
          createdAt,
          lastActivityAt: null,
          endedAt: null,
          lastSeq: 0,
          cwd,
          credentials: workspace.credentials,
          ...(agent.configured && { launch: launchOf(agent, workspace.permissions, body.model ?? null, cwd) }),
        }
        const first = body.prompt === undefined ? [] : [firstMessage(id, body.prompt, createdAt)]
        let isMine = false
        try {
          isMine = await once(claim, id, async () => {
            // Before the session: a crash between the two leaves a message to nobody, not a silent session.
            for (const message of first) await deliveries.insert(message)
            return await sessions.insert(row)
          })
        } finally {
          if (!isMine) for (const message of first) await deliveries.remove(message.id).catch(() => undefined)
        }
        if (!isMine) {
          taken.giveBack()
          return { session: await view(await find(id)), replayed: true }
        }
        const actor = createActor(actorDeps, row, first)
        actors.set(id, actor)
        first.forEach(actor.announce)
        void actor.start()
        return { session: await actor.view(), replayed: false }
      } catch (error) {
        places.free(id)
        taken.giveBack()
        throw error
      }
    } finally {
      claim?.release()
    }
  }

  function firstMessage(sessionId: string, message: string, createdAt: string): DeliveryRow {
    return {
      id: newId('dlv', clock),
      sessionId,
      grantId: null,
      label: null,
      taskId: null,
      mode: 'queue',
      message,
      from: null,
      status: 'accepted',
      reason: null,
      possibleDuplicate: false,
      createdAt,
      deliveredAt: null,
      confirmedAt: null,
      endedAt: null,
      order: 1,
      answeredAs: 'buffered',
      attempts: 0,
    }
  }

  async function load(): Promise<void> {
    const waiting = Map.groupBy(await deliveries.list({ where: { endedAt: null } }), (row) => row.sessionId)
    for (const row of await sessions.list({ where: { state: 'suspended' } }))
      actors.set(row.id, createActor(actorDeps, row, waiting.get(row.id) ?? []))
  }

  async function assertLog(row: SessionRow): Promise<void> {
    if (actors.has(row.id) || (await deps.hasLog(row.id))) return
    throw new DomainError('log_retired', `the events of ${row.id} were removed after their time; its record stays`)
  }

  return {
    open,
    load,
    get: async (id) => await view(await find(id)),
    async list({ wsId, state, agent, limit = LIMITS.defaultListLimit, cursor }) {
      const where = { ...(wsId !== undefined && { wsId }), ...(agent !== undefined && { agent }) }
      const after = cursor === undefined ? {} : { after: decodeCursor('sess', cursor) }
      let page: Session[]
      if (state === undefined || state === 'ended') {
        const rows = await sessions.list({
          where: { ...where, ...(state === 'ended' && { state: 'ended' as const }) },
          limit: limit + 1,
          ...after,
        })
        page = await Promise.all(rows.map(view))
      } else {
        // The live states are known to memory alone, which holds every session that has not ended.
        const rows = await sessions.list({ where: { ...where, state: 'suspended' }, ...after })
        page = (await Promise.all(rows.map(view))).filter((session) => session.state === state).slice(0, limit + 1)
      }
      const last = page.length > limit ? page[limit - 1] : undefined
      return { sessions: page.slice(0, limit), nextCursor: last ? encodeCursor(last.id) : null }
    },
    async send(id, { message, from, delivery = 'queue' }, idempotency) {
      const claim =
        idempotency &&
        claims.begin(
          [idempotency.caller, idempotency.method, idempotency.path, idempotency.key],
          fingerprintOf({ id, message, from, delivery }),
        )
      try {
        const known = claim?.recordId === undefined ? undefined : await deliveries.get(claim.recordId)
        if (known) return { receipt: receiptOf(known), replayed: true }
        const actor = await actorOf(id)
        await checkBudget(actor)
        const input = { message, from: from ?? null, mode: delivery, grantId: null, label: null, taskId: null, claim }
        return { receipt: receiptOf(await actor.accept(input)), replayed: false }
      } finally {
        claim?.release()
      }
    },
    async deliver({ sessionId, grantId, label, message, from, claim }) {
      const actor = await actorOf(sessionId)
      await checkBudget(actor)
      const row = await actor.accept({ message, from, mode: 'queue', grantId, label, taskId: null, claim })
      return { receipt: receiptOf(row), delivery: deliveryOf(row) }
    },
    async report(sessionId, { taskId, message, once }) {
      const claim = once && claims.begin(['report', sessionId, ...once], fingerprintOf(once), SERVER_KEYS)
      try {
        if (claim?.recordId !== undefined && (await deliveries.get(claim.recordId))) return
        const actor = await actorOf(sessionId)
        await checkBudget(actor)
        const text = asMessage(message)
        await actor.accept({ message: text, from: null, mode: 'queue', grantId: null, label: null, taskId, claim })
      } finally {
        claim?.release()
      }
    },
    async receipt(deliveryId) {
      const row = await deliveries.get(deliveryId)
      return row && receiptOf(row)
    },
    delivery: async (id) => deliveryOf(await findDelivery(id)),
    async deliveries({ grantId, sessionId, limit = LIMITS.defaultListLimit, cursor }) {
      const rows = await deliveries.list({
        where: { ...(grantId !== undefined && { grantId }), ...(sessionId !== undefined && { sessionId }) },
        limit: limit + 1,
        ...(cursor !== undefined && { after: decodeCursor('dlv', cursor) }),
      })
      const page = rows.slice(0, limit)
      const last = rows.length > limit ? page.at(-1) : undefined
      return { deliveries: page.map(deliveryOf), nextCursor: last ? encodeCursor(last.id) : null }
    },
    async revoke(grantId) {
      await Promise.all([...actors.values()].map((actor) => actor.revoke(grantId)))
    },
    async interrupt(id) {
      const actor = await actorOf(id)
      await actor.interrupt()
      return await actor.view()
    },
    async end(id) {
      const actor = actors.get(id)
      await actor?.end({ reason: 'ended_by_caller', detail: 'ended by a caller' })
      return await view(await find(id))
    },
    async events(id, after, limit) {
      const row = await find(id)
      await assertLog(row)
      const page = await events.read(id, after, limit)
      const lastSeq = Math.max((await view(row)).lastSeq, page.at(-1)?.seq ?? 0)
      return { events: page, nextAfter: page.at(-1)?.seq ?? after, lastSeq }
    },
    async *follow(id, after, signal): AsyncGenerator<Event> {
      const row = await find(id)
      await assertLog(row)
      if (actors.has(id)) {
        yield* events.follow(id, after, signal)
        return
      }
      for await (const event of events.past(id, after)) {
        if (signal.aborted) return
        yield event
      }
    },
    counts: () => ({
      live: places.taken(),
      limit: maxSessions,
      waiting: [...actors.values()].reduce((sum, actor) => sum + actor.waiting, 0),
    }),
    liveIn: (wsId) => [...actors.values()].filter((actor) => actor.isLive && actor.row.wsId === wsId).length,
    isOpen: (id) => actors.has(id),
    wake() {
      for (const actor of actors.values()) actor.wake()
    },
    async stop() {
      isStopping = true
      const over = new AbortController()
      const all = Promise.allSettled([...actors.values()].map((actor) => actor.stop()))
      await Promise.race([all, clock.sleep(STOP_WAIT_MS, over.signal).catch(() => undefined)])
      over.abort()
    },
  }
}

function launchOf(
  { live }: Agent,
  permissions: PermissionLevel,
  model: string | null,
  cwd: string,
): SessionRow['launch'] {
  const command = live?.compose({ cwd, permissions, model }, { conversationId: null, programPath: null })
  return command && { program: command.program, args: command.args }
}

const receiptOf = (row: DeliveryRow): Receipt => ({
  status: row.answeredAs,
  deliveryId: row.id,
  channel: channelOf(row.sessionId),
  sessionId: row.sessionId,
})

function deliveryOf(row: DeliveryRow): Delivery {
  const { order: _, answeredAs: __, attempts: ___, ...shown } = row
  return shown
}
