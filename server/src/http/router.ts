import type { AnyTRPCProcedure } from '@trpc/server'
import type { z } from 'zod'
import { agentProcedures } from './procedures/agents.ts'
import { channelProcedures, deliveryProcedures, keyProcedures } from './procedures/channels.ts'
import { credentialProcedures } from './procedures/credentials.ts'
import { inboxProcedures } from './procedures/inbox.ts'
import { requestProcedures } from './procedures/requests.ts'
import { issueProcedures } from './procedures/issues.ts'
import { runProcedures } from './procedures/runs.ts'
import { sessionProcedures } from './procedures/sessions.ts'
import { workspaceProcedures } from './procedures/workspaces.ts'
import { router, type Meta } from './trpc.ts'

/** Every procedure, by noun. A REST route is mounted, and documented, for each of them. */
export const appRouter = router({
  runs: runProcedures,
  workspaces: workspaceProcedures,
  agents: agentProcedures,
  inbox: inboxProcedures,
  channels: channelProcedures,
  deliveries: deliveryProcedures,
  keys: keyProcedures,
  credentials: credentialProcedures,
  sessions: sessionProcedures,
  requests: requestProcedures,
  issues: issueProcedures,
})
export type AppRouter = typeof appRouter

/** A procedure as the front mounts it. */
export interface Mountable {
  /** Dotted path in the router, such as `runs.create`. */
  path: string
  type: 'query' | 'mutation'
  meta: Meta
  /** Path parameters, query parameters and body fields in one strict object. */
  input: z.ZodObject
}

/** Every procedure with its meta. tRPC keeps them flat at run time, whatever the type says. */
export function mountables(): Mountable[] {
  const procedures = appRouter._def.procedures as unknown as Record<
    string,
    AnyTRPCProcedure & { _def: { inputs: unknown[] } }
  >
  return Object.entries(procedures).map(([path, { _def }]) => ({
    path,
    type: _def.type as 'query' | 'mutation',
    meta: _def.meta as Meta,
    input: _def.inputs[0] as z.ZodObject,
  }))
}
