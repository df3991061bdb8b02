import type { Postern, Run, TaskId } from '@postern/sdk'
import { CliExit, EXIT } from './exit.ts'

/** Length of a whole run id. */
const WHOLE = 'headless_'.length + 26
/** Runs looked through for a prefix, newest first. */
const LOOKED_THROUGH = 1_000

/**
 * The run id that a prefix means: whole ids are taken as they are, `01M7…` without the kind will do.
 *
 * @throws CliExit 5 when there is none, 2 when there are several (they are listed)
 */
export async function resolveRun(postern: Postern, given: string): Promise<TaskId> {
  const prefix = given.startsWith('headless_') ? given : `headless_${given}`
  if (prefix.length >= WHOLE) return prefix as TaskId
  const recent: Run[] = await postern.runs.list({ pageSize: 200 }).toArray({ limit: LOOKED_THROUGH })
  const found = recent.map((run) => run.taskId).filter((id) => id.toLowerCase().startsWith(prefix.toLowerCase()))
  const [only, ...others] = found
  if (only === undefined) {
    throw new CliExit(EXIT.notFound, `no run among the newest ${recent.length} begins with "${given}"`, 'postern runs')
  }
  if (others.length > 0) {
    const listed = found.slice(0, 10).map((id) => `  ${id}`)
    throw new CliExit(EXIT.usage, `"${given}" means ${found.length} runs:\n${listed.join('\n')}`)
  }
  return only
}
