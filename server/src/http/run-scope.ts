import { DomainError } from '../errors.ts'
import type { ProcessIdentity } from '../keys/process-tokens.ts'
import type { Trigger } from '../model.ts'
import type { Runs } from '../runs/types.ts'
import type { Workspaces } from '../workspaces/types.ts'

/** A caller with the token of an agent process. */
export interface RunCaller extends ProcessIdentity {
  kind: 'run'
}

/**
 * What of an operation the token of an agent process covers; an operation without one is not covered. Source:
 * docs/contract.md 8.
 *
 * - `anyone`: all of it, it is about no one
 * - `self`: of the run that holds the token
 * - `own-run`: of that run, and of those it started
 * - `started-run`: only of those it started
 * - `own-session`: of the session that holds the token
 * - `own-workspace`: of the workspace it works in
 * - `start`: of that workspace, and of those its `childWorkspaces` names; of conversations, as `own-run`
 * - `inbox`: pushing, as itself
 */
export type RunScope =
  | 'anyone'
  | 'self'
  | 'own-run'
  | 'started-run'
  | 'own-session'
  | 'own-workspace'
  | 'start'
  | 'inbox'

/** What each scope covers, for the document. */
export const SCOPE_TEXT: Record<RunScope, string> = {
  anyone: 'Run token: yes.',
  self: 'Run token: for its own run.',
  'own-run': 'Run token: for its own run and those it started.',
  'started-run': 'Run token: for runs it started.',
  'own-session': 'Run token: for its own session.',
  'own-workspace': 'Run token: for its own workspace.',
  start: 'Run token: in its own workspace and those its `childWorkspaces` names; `resume` of runs it started.',
  inbox: 'Run token: as itself.',
}

/** Runs between a run and what started it that are looked through. */
const MAX_STEPS = 16

/**
 * Refuses what the token does not cover, before anything is looked at or changed. What does not exist is refused in the
 * same words: a narrow token is not a way to ask what there is.
 *
 * @param params path parameters
 * @throws DomainError `insufficient_scope`
 */
export type ScopeCheck = (
  caller: RunCaller,
  scope: RunScope | undefined,
  params: Record<string, string>,
) => Promise<void>

export function createScopeCheck(deps: { runs: Runs; workspaces: Workspaces }): ScopeCheck {
  const { runs, workspaces } = deps

  async function isStartedBy(caller: RunCaller, taskId: string): Promise<boolean> {
    let id: string | null = taskId
    for (let step = 0; id !== null && step < MAX_STEPS; step++) {
      const trigger: Trigger | undefined = await runs.get(id).then(
        (run) => run.trigger,
        () => undefined,
      )
      if (!trigger) return false
      const { parentTaskId, parentSessionId }: Trigger = trigger
      if (parentTaskId !== null && parentTaskId === caller.taskId) return true
      if (parentSessionId !== undefined && parentSessionId === caller.sessionId) return true
      id = parentTaskId
    }
    return false
  }

  async function covers(caller: RunCaller, scope: RunScope, params: Record<string, string>): Promise<boolean> {
    const { taskId = '', id = '' } = params
    switch (scope) {
      case 'anyone':
      case 'inbox':
        return true
      case 'self':
        return taskId === caller.taskId
      case 'own-run':
        return taskId === caller.taskId || (await isStartedBy(caller, taskId))
      case 'started-run':
        return await isStartedBy(caller, taskId)
      case 'own-session':
        return id === caller.sessionId
      case 'own-workspace':
        return id === caller.wsId
      case 'start':
        return id === caller.wsId || (await workspaces.get(caller.wsId)).childWorkspaces.includes(id)
    }
  }

  return async (caller, scope, params) => {
    if (scope !== undefined && (await covers(caller, scope, params).catch(() => false))) return
    const whose = caller.taskId === null ? 'session' : 'run'
    throw new DomainError('insufficient_scope', `the token of a ${whose} does not cover this`, {
      hint:
        scope === undefined || scope === 'anyone' ? 'this needs the admin token' : SCOPE_TEXT[scope].replace(/`/g, ''),
    })
  }
}
