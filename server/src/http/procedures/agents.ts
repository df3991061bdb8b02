import { z } from 'zod'
import { AgentId } from '../../model.ts'
import { AgentInfo, AgentProbe } from '../../model/agents.ts'
import { operation, procedure, router } from '../trpc.ts'

const AgentList = z.object({ agents: z.array(AgentInfo) }).meta({ id: 'AgentList', description: 'Every known agent.' })

/** Agents. Source: docs/contract.md 5. */
export const agentProcedures = router({
  list: procedure
    .meta(
      operation(
        'agents.list',
        'GET',
        '/api/agents',
        { summary: 'List agents', description: 'What is installed, what each can do, and how to install or log in.' },
        { answers: { 200: { description: 'Every known agent, built-in first.' } }, errors: [], exempt: true },
      ),
    )
    .input(z.strictObject({}))
    .output(AgentList)
    .query(async ({ ctx }) => ({ agents: await ctx.agents.info() })),

  probe: procedure
    .meta(
      operation(
        'agents.probe',
        'POST',
        '/api/agents/{id}/probe',
        {
          summary: 'Probe an agent',
          description:
            'Runs one fixed, harmless prompt in an empty directory: shows whether the agent is logged in and answers.',
        },
        {
          answers: { 200: { description: 'What was found.' } },
          errors: ['agent_not_found', 'agent_not_headless', 'capacity_reached', 'draining'],
          exempt: false,
          notFound: 'agent_not_found',
        },
      ),
    )
    .input(z.strictObject({ id: AgentId }))
    .output(AgentProbe)
    .mutation(({ ctx, input }) => ctx.probe(input.id, ctx.signal)),
})
