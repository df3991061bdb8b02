import { expect } from 'vitest'
import { census } from '../src/process/census.ts'
import type { Event } from '../src/model.ts'
import type { Delivery, Receipt, Session } from '../src/model/sessions.ts'
import type { TestServer } from './harness.ts'
import { eventually } from './temporary.ts'

/** What tests of sessions do again and again, over REST. */
type Caller = Pick<TestServer, 'call' | 'workspace'>

/** The test agent: the demo agent with its faults on, as a configured agent that speaks ACP. */
export const faulty = {
  agents: {
    faulty: {
      command: [process.execPath, `${import.meta.dirname}/../src/demo-agent/main.ts`, '--faults'],
      acp: true,
    },
  },
}

/** Opens a session, with the demo agent unless the body says otherwise. */
export async function open(server: Caller, body: Record<string, unknown> = {}): Promise<Session> {
  const wsId = (body['wsId'] as string | undefined) ?? (await server.workspace())
  const answer = await server.call<Session>('POST', '/api/sessions', { wsId, agent: 'demo', ...body }, { token: true })
  expect(answer.status, answer.text).toBe(201)
  return answer.body
}
export const get = async (server: Caller, id: string): Promise<Session> =>
  (await server.call<Session>('GET', `/api/sessions/${id}`)).body
export const inState = (server: Caller, id: string, state: Session['state']): Promise<Session> =>
  eventually(async () => {
    const session = await get(server, id)
    return session.state === state && session
  })
export const events = async (server: Caller, id: string): Promise<Event[]> =>
  (await server.call<{ events: Event[] }>('GET', `/api/sessions/${id}/events`)).body.events
export const send = (server: Caller, id: string, message: string, more: Record<string, unknown> = {}) =>
  server.call<Receipt & { code?: string }>('POST', `/api/sessions/${id}/input`, { message, ...more }, { token: true })
export const delivery = async (server: Caller, sessionId: string, id: string): Promise<Delivery | undefined> =>
  (
    await server.call<{ deliveries: Delivery[] }>('GET', `/api/sessions/${sessionId}/deliveries?limit=200`)
  ).body.deliveries.find((each) => each.id === id)
export const confirmed = (server: Caller, sessionId: string, id: string): Promise<Delivery> =>
  eventually(async () => {
    const found = await delivery(server, sessionId, id)
    return found?.status === 'confirmed' && found
  })
/** What the agent said, turn by turn. */
export const replies = async (server: Caller, id: string): Promise<string[]> =>
  (await events(server, id)).flatMap((event) => (event.type === 'turn.ended' ? [event.text ?? ''] : []))
export const processesOf = (id: string): number[] => census().get(id) ?? []
