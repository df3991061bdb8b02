import type { RunRow } from '../model.ts'
import type { Inbox } from './types.ts'

/**
 * Leaves an entry for a run that an issue started and that failed, or ended without a word: nobody watched it. Once for
 * each run, whatever happens between. Source: docs/contract.md 3.
 */
export async function tellOfEnded(inbox: Pick<Inbox, 'push'>, run: RunRow): Promise<void> {
  const isScheduled = run.trigger.kind === 'issue'
  if (!isScheduled || run.status === 'canceled') return
  if (run.status === 'succeeded' && run.outcome !== 'no_report') return
  const { issueId } = run.trigger
  const name = issueId === null ? run.id : `${issueId}`
  const title =
    run.status === 'succeeded' ? `${name}: ended without a report` : `${name}: ${run.status.replace('_', ' ')}`
  const body = [
    `Run \`${run.id}\` of agent \`${run.agent}\` in \`${run.wsId}\` ended \`${run.status}\`.`,
    ...(run.reason === null ? [] : [`Reason: \`${run.reason}\`.`]),
    ...(run.detail === null ? [] : ['', ...run.detail.split('\n').map((line) => `    ${line}`)]),
    '',
    `What it did: \`postern runs show ${run.id}\``,
  ].join('\n')
  const origin = { from: 'server' as const, wsId: run.wsId, taskId: run.id, sessionId: null, issueId }
  await inbox.push({ title: title.slice(0, 200), body, key: 'ended' }, origin)
}
