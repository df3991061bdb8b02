import { z } from 'zod'
import {
  AgentId,
  PermissionLevel,
  RequestPolicy,
  WorkspaceId,
  type IdempotencyScope,
  type Workspace,
} from '../model.ts'
import { Budget } from '../model/budget.ts'

const tag = z
  .string()
  .trim()
  .min(1)
  .max(100)
  .meta({ description: 'Display name, 1 to 100 characters.', example: 'news' })
const names = z.array(z.string().min(1).max(64)).max(32)

const settings = {
  agents: z
    .array(AgentId)
    .min(1)
    .max(32)
    .meta({ description: 'Agents enabled here; default: every agent the server knows.' })
    .optional(),
  defaultAgent: AgentId.meta({ description: 'One of `agents`; default: the first of them.' }).optional(),
  credentials: names
    .meta({
      description:
        'Names of credentials given to runs and sessions here; of two that set one variable, the later wins.',
    })
    .optional(),
  permissions: PermissionLevel.meta({ description: 'Default `edit`.' }).optional(),
  onRequest: RequestPolicy.meta({ description: 'Default `ask`.' }).optional(),
  childWorkspaces: z
    .array(WorkspaceId)
    .max(32)
    .meta({ description: 'Workspaces in which runs from here may start runs.' })
    .optional(),
  budget: Budget.meta({ description: 'Replaced as a whole; `{}`: no caps, which is the default.' }).optional(),
  nudge: z
    .boolean()
    .meta({ description: 'Ask a run that succeeded without reporting to report, in one more turn. Default false.' })
    .optional(),
  maxRuns: z
    .int()
    .min(1)
    .max(1_000)
    .nullable()
    .meta({ description: 'Most runs at once here; null: no own limit.' })
    .optional(),
}

/** Body of `POST /api/workspaces`. */
export const CreateWorkspace = z
  .strictObject({
    id: WorkspaceId.meta({ description: 'Default: made from the tag.' }).optional(),
    tag,
    path: z
      .string()
      .min(1)
      .max(4_096)
      .meta({
        description:
          'An existing directory, absolute; it is registered, never changed. Default: a new directory with `git init`.',
      })
      .optional(),
    ...settings,
  })
  .meta({ id: 'CreateWorkspace' })
export type CreateWorkspace = z.infer<typeof CreateWorkspace>

/** Body of `PATCH /api/workspaces/{id}`: what is absent stays. */
export const UpdateWorkspace = z.strictObject({ tag: tag.optional(), ...settings }).meta({ id: 'UpdateWorkspace' })
export type UpdateWorkspace = z.infer<typeof UpdateWorkspace>

/** Directories agents work in. */
export interface Workspaces {
  /**
   * Registers a directory, or makes one. `replayed`: the key was known and nothing was made.
   *
   * @throws DomainError `workspace_exists`, `path_not_usable`, `unknown_agent`, `agent_not_enabled` (a default agent that
   * is not among `agents`), `unknown_credential`, `validation_failed`
   */
  create(input: CreateWorkspace, idempotency?: IdempotencyScope): Promise<{ workspace: Workspace; replayed: boolean }>
  list(): Promise<Workspace[]>
  /** @throws DomainError `workspace_not_found` (names the nearest id) */
  get(id: string): Promise<Workspace>
  /** @throws DomainError `workspace_not_found`, `unknown_agent`, `agent_not_enabled`, `unknown_credential` */
  update(id: string, patch: UpdateWorkspace): Promise<Workspace>
  /**
   * Forgets the workspace; with `purge` removes its directory too, when Postern created it.
   *
   * @throws DomainError `workspace_not_found`, `workspace_busy` while runs are at work in it
   */
  remove(id: string, options: { purge: boolean }): Promise<Workspace>
  /**
   * The directory of a workspace, checked to be the one that was registered (real path, device, inode).
   *
   * @throws DomainError `workspace_not_found`, `path_not_usable` when it was moved, swapped or removed
   */
  directory(id: string): Promise<string>
}
