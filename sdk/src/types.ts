import type * as wire from './generated/types.gen.ts'

/** Any text; the known ones are what an editor offers. A newer server may send others. */
export type Open<Known extends string> = Known | (string & {})

/** Id of a run: `headless_<ulid>`, time-ordered. */
export type TaskId = `headless_${string}`
/** Id of a workspace: `ws-<slug>`. */
export type WorkspaceId = `ws-${string}`
/** Id of an agent, such as `demo`, or the name of a configured one. */
export type AgentId = Open<'demo' | 'claude' | 'codex' | 'opencode' | 'pi' | 'gemini' | 'qwen'>

export type RunStatus = Open<wire.RunStatus>
export type RunOutcome = Open<'reported' | 'silent' | 'no_report'>

/** Why a run did not succeed. */
export type RunReason = Open<
  | 'exit_nonzero'
  | 'no_result'
  | 'agent_error'
  | 'agent_not_logged_in'
  | 'rate_limited'
  | 'provider_error'
  | 'agent_not_found'
  | 'agent_not_startable'
  | 'workspace_moved'
  | 'credential_not_found'
  | 'worktree_failed'
  | 'resume_mismatch'
  | 'timeout'
  | 'idle'
  | 'output_limit'
  | 'process_limit'
  | 'budget_exceeded'
  | 'canceled_by_caller'
  | 'server_stopped'
  | 'server_died'
  | 'internal_error'
>

export type EventType = Open<
  | 'run.queued'
  | 'run.started'
  | 'run.ended'
  | 'run.silent'
  | 'run.reported'
  | 'run.nudged'
  | 'inbox.pushed'
  | 'inbox.read'
  | 'inbox.unread'
  | 'inbox.removed'
  | 'agent.message'
  | 'agent.thought'
  | 'tool.started'
  | 'tool.ended'
  | 'usage'
  | 'output.text'
  | 'log'
  | 'session.state'
  | 'input.accepted'
  | 'input.delivered'
  | 'input.failed'
  | 'input.uncertain'
  | 'turn.ended'
  | 'permission.requested'
  | 'permission.answered'
>

/** One headless execution of one prompt. */
export interface Run extends Omit<
  wire.Run,
  'taskId' | 'wsId' | 'status' | 'reason' | 'agent' | 'resume' | 'retryOf' | 'outcome' | 'inboxIds' | 'trigger'
> {
  taskId: TaskId
  wsId: WorkspaceId
  status: RunStatus
  /** Stable code whenever the run did not succeed. */
  reason: RunReason | null
  agent: AgentId
  /** The run whose conversation this one continues. */
  resume: TaskId | null
  retryOf: TaskId | null
  /** What it left for people. Exit 0 is not an outcome. */
  outcome: RunOutcome | null
  /** Inbox entries it pushed, oldest first. */
  inboxIds: InboxId[]
  trigger: Omit<wire.Trigger, 'kind' | 'parentTaskId'> & {
    kind: Open<wire.Trigger['kind']>
    parentTaskId: TaskId | null
  }
}

/** One page of runs, newest first, as the API answers it. */
export interface RunPage {
  tasks: Run[]
  nextCursor: string | null
  capacity: Capacity
}

/** One numbered event of a run or session: `seq` from 1, without gaps. Further fields depend on the type. */
export interface Event {
  seq: number
  at: string
  type: EventType
  text?: string
  [field: string]: unknown
}

/** One page of events, as the API answers it. */
export interface EventPage {
  events: Event[]
  /** Pass as `after` to go on. */
  nextAfter: number
  lastSeq: number
}

/** A directory agents work in. */
export interface Workspace extends Omit<
  wire.Workspace,
  'id' | 'agents' | 'defaultAgent' | 'childWorkspaces' | 'permissions' | 'onRequest'
> {
  id: WorkspaceId
  agents: AgentId[]
  defaultAgent: AgentId
  childWorkspaces: WorkspaceId[]
  permissions: Open<wire.Workspace['permissions']>
  onRequest: Open<wire.Workspace['onRequest']>
}

/** A coding-agent program behind an adapter. */
export interface Agent extends Omit<wire.Agent, 'id'> {
  id: AgentId
}

/** What one fixed prompt to an agent showed. */
export interface AgentProbe extends Omit<wire.AgentProbe, 'agent' | 'reason'> {
  agent: AgentId
  reason: RunReason | null
}

/** A named set of environment variables, without its values. */
export interface Credential extends Omit<wire.Credential, 'agents'> {
  agents: AgentId[]
}

/** A credential to set. `agents`: those it is limited to; default: every agent. */
export interface SetCredential extends Omit<wire.SetCredential, 'agents'> {
  agents?: AgentId[]
}

/** Caps on what agents report, of one run and of one day (UTC). */
export type Budget = wire.Budget

/** Id of an Inbox entry: `inb_<ulid>`, time-ordered. */
export type InboxId = `inb_${string}`

/** A durable result for people. */
export interface InboxEntry extends Omit<wire.InboxEntry, 'id' | 'from' | 'wsId' | 'taskId'> {
  id: InboxId
  /** Who pushed it, by the token of the push. */
  from: Open<wire.InboxEntry['from']>
  wsId: WorkspaceId | null
  /** The run that pushed it, or that the server reports. */
  taskId: TaskId | null
}

/** One page of entries, newest first, as the API answers it. */
export interface InboxPage extends Omit<wire.InboxList, 'entries'> {
  entries: InboxEntry[]
}

export interface InboxQuery {
  wsId?: WorkspaceId
  /** True: only unread entries; false: only read ones. */
  unread?: boolean
  /** Only entries with this text in title, body or the name of a document. */
  q?: string
  /** Entries asked for at a time, 1 to 200; the list itself does not end there. */
  pageSize?: number
}

/** An entry to push. `documents` are files of the workspace; a copy of each is kept. */
export interface PushInbox extends Omit<wire.PushInbox, 'wsId'> {
  wsId?: WorkspaceId
}

export type Capacity = wire.Capacity
export type Health = wire.Health

/** A run to start. `wsId` names the workspace; everything but the prompt has a default. */
export interface CreateRun extends Omit<wire.CreateRun, 'agent' | 'resume' | 'wait'> {
  wsId: WorkspaceId
  agent?: AgentId
  /** A run whose conversation to continue. */
  resume?: TaskId
}

export interface RunQuery {
  wsId?: WorkspaceId
  status?: RunStatus
  agent?: AgentId
  /** Runs asked for at a time, 1 to 200; the list itself does not end there. */
  pageSize?: number
}

export type IssueStatus = Open<wire.Issue['status']>
export type IssuePriority = Open<wire.Issue['priority']>
/** How a schedule goes. */
export type IssueHealth = Open<wire.Issue['health']>

/** When an issue runs by itself: once, every so often, or by a cron expression in a time zone. */
export type When = wire.When

interface IssueWords {
  wsId: WorkspaceId
  status: IssueStatus
  priority: IssuePriority
  agent: AgentId | null
  health: IssueHealth
}
/** An issue as the board lists it. */
export type IssueSummary = Omit<wire.IssueSummary, keyof IssueWords> & IssueWords
/** One issue with all its text. */
export type Issue = Omit<wire.Issue, keyof IssueWords> & IssueWords
export type IssueComment = wire.IssueComment
/** A file that could not be read as an issue. */
export type IssueProblem = Omit<wire.IssueProblem, 'wsId'> & { wsId: WorkspaceId }

/** Issues, and the files that could not be read as one. */
export interface IssueBoard {
  issues: IssueSummary[]
  problems: IssueProblem[]
}

/** The next fires of an issue, the last one, and how it goes. */
export interface IssueSchedule extends Omit<wire.IssueSchedule, 'wsId' | 'health' | 'lastFire'> {
  wsId: WorkspaceId
  health: IssueHealth
  /** The last fire; `status` null while its run has not ended. */
  lastFire:
    | (Omit<wire.IssueFire, 'taskId' | 'status' | 'reason'> & {
        taskId: TaskId
        status: RunStatus | null
        reason: RunReason | null
      })
    | null
}

export type SchedulePreview = wire.SchedulePreview

/** An issue to write. Everything but the title has a default. */
export interface CreateIssue extends Omit<wire.CreateIssue, 'agent' | 'status' | 'priority'> {
  agent?: AgentId
  status?: IssueStatus
  priority?: IssuePriority
}

/** Changes of an issue: what is absent stays, null takes a key out of the file. */
export interface UpdateIssue extends Omit<wire.UpdateIssue, 'agent' | 'status' | 'priority'> {
  agent?: AgentId | null
  status?: IssueStatus
  priority?: IssuePriority
}

export type CreateComment = wire.CreateComment

export interface CreateWorkspace extends Omit<wire.CreateWorkspace, 'id' | 'agents' | 'defaultAgent'> {
  id?: WorkspaceId
  agents?: AgentId[]
  defaultAgent?: AgentId
}

export interface UpdateWorkspace extends Omit<wire.UpdateWorkspace, 'agents' | 'defaultAgent'> {
  agents?: AgentId[]
  defaultAgent?: AgentId
}

/** True once a run has ended for good, also with a status this version does not know. */
export const hasEnded = (run: Pick<Run, 'finishedAt'>): boolean => run.finishedAt !== null

/** True for text shaped like the id of a run; whether there is such a run, the server says. */
export const isTaskId = (text: string): text is TaskId => text.startsWith('headless_')
/** True for text shaped like the id of a workspace. */
export const isWorkspaceId = (text: string): text is WorkspaceId => text.startsWith('ws-')
