import { isoTime, type Clock } from '../clock.ts'
import { DomainError } from '../errors.ts'
import type { Workspace, WorkspaceRow } from '../model.ts'
import { fingerprintOf, type Claims } from '../store/claims.ts'
import type { Table } from '../store/table.ts'
import { createDirectories } from './directories.ts'
import { nearest, slug } from './naming.ts'
import type { CreateWorkspace, UpdateWorkspace, Workspaces } from './types.ts'

/** Numbers tried behind a slug that is taken. */
const MAX_SUFFIX = 1_000

/** What a workspace needs to know of agents. */
interface KnownAgents {
  all(): { id: string; configured?: boolean; hasModel: boolean; headless?: unknown; live?: unknown }[]
  find(id: string): unknown
}

export function createWorkspaces(deps: {
  table: Table<WorkspaceRow>
  claims: Claims
  agents: KnownAgents
  git: { init: (directory: string) => Promise<void> }
  dataDir: string
  clock: Clock
  /** @throws DomainError `unknown_credential` for a name that no credential has */
  checkCredentials: (names: readonly string[]) => Promise<void>
  /** True while runs are at work or queued in a workspace. */
  busy: (wsId: string) => boolean
  /** Told of a workspace that came or went. */
  onChange?: (wsId: string) => void
}): Workspaces {
  const { table, claims, agents, dataDir, clock, busy, onChange } = deps
  const directories = createDirectories({ dataDir, init: deps.git.init })
  /** Device of each directory as this server first saw it: between two starts of the machine they are numbered anew. */
  const devices = new Map<string, string>()
  let turn: Promise<unknown> = Promise.resolve()

  /** One registration at a time: what is free when it is looked at is still free when it is taken. */
  function inTurn<T>(work: () => Promise<T>): Promise<T> {
    const mine = turn.then(work)
    turn = mine.catch(() => undefined)
    return mine
  }

  async function find(id: string): Promise<WorkspaceRow> {
    const row = await table.get(id)
    if (row) return row
    const ids = (await table.list()).map((each) => each.id)
    const near = nearest(id, ids)
    throw new DomainError('workspace_not_found', `there is no workspace "${id}"${near ? `; nearest: "${near}"` : ''}`, {
      hint: 'postern workspace ls (the id, not the tag)',
    })
  }

  /** The enabled agents, each once, and the default one. @throws DomainError `unknown_agent`, `agent_not_enabled` */
  function chooseAgents(wanted: string[], named: string | undefined): { agents: string[]; defaultAgent: string } {
    const enabled = [...new Set(wanted)]
    const defaultAgent = named ?? enabled[0] ?? ''
    for (const id of [...enabled, defaultAgent]) {
      if (agents.find(id)) continue
      const known = agents.all().map((agent) => agent.id)
      throw new DomainError('unknown_agent', `there is no agent "${id}" (known: ${known.join(', ')})`, {
        hint: 'postern agents',
      })
    }
    if (!enabled.includes(defaultAgent)) {
      throw new DomainError(
        'agent_not_enabled',
        `default agent "${defaultAgent}" is not among the enabled ones (${enabled.join(', ')})`,
        { hint: `add "${defaultAgent}" to agents, or leave defaultAgent out` },
      )
    }
    return { agents: enabled, defaultAgent }
  }

  /**
   * Every agent that can do runs or hold sessions. The first becomes the default one, so it must be there and do runs: what
   * somebody configured, else the demo agent, which is part of us; of the others nobody knows here whether they are
   * installed.
   */
  function everyAgent(): string[] {
    const able = agents.all().filter((agent) => agent.headless ?? agent.live)
    const rank = (agent: (typeof able)[number]): number =>
      !agent.headless ? 3 : agent.configured ? 0 : agent.hasModel ? 2 : 1
    return able.toSorted((one, other) => rank(one) - rank(other)).map(({ id }) => id)
  }

  const exists = (what: string, id: string): DomainError =>
    new DomainError('workspace_exists', `${what} is the workspace "${id}" already`, {
      hint: `postern workspace show ${id}`,
    })

  /** Where a new workspace lies, and under which id: the named one, or the first free one made from its tag. */
  async function settle(input: CreateWorkspace): Promise<{ id: string; path: string; managed: boolean }> {
    const given = input.path === undefined ? undefined : await directories.existing(input.path)
    const twin = given === undefined ? undefined : (await table.list()).find((each) => each.path === given)
    if (twin) throw exists(JSON.stringify(input.path), twin.id)
    const base = input.id ?? `ws-${slug(input.tag)}`
    for (let n = 1; n <= (input.id === undefined ? MAX_SUFFIX : 1); n++) {
      const id = n === 1 ? base : `${base}-${n}`
      if (await table.get(id)) {
        if (input.id === undefined) continue
        throw exists(`"${id}"`, id)
      }
      const path = given ?? (await directories.make(id))
      if (path !== undefined) return { id, path, managed: given === undefined }
      if (input.id === undefined) continue
      throw new DomainError('workspace_exists', `files of an earlier workspace "${id}" are still there`, {
        hint: 'name another id, or register that directory by its path',
      })
    }
    throw new DomainError('workspace_exists', `${MAX_SUFFIX} workspaces are named like "${input.tag}" already`, {
      hint: 'name an id',
    })
  }

  async function register(input: CreateWorkspace, commit: (id: string) => Promise<void>): Promise<WorkspaceRow> {
    const chosen = chooseAgents(input.agents ?? everyAgent(), input.defaultAgent)
    await deps.checkCredentials(input.credentials ?? [])
    const { id, path, managed } = await settle(input)
    const identity = await directories.identify(path)
    if (!identity) throw new DomainError('path_not_usable', `the directory of "${id}" vanished while it was registered`)
    const row: WorkspaceRow = {
      id,
      tag: input.tag,
      path,
      managed,
      ...chosen,
      credentials: input.credentials ?? [],
      permissions: input.permissions ?? 'edit',
      onRequest: input.onRequest ?? 'ask',
      childWorkspaces: input.childWorkspaces ?? [],
      nudge: input.nudge ?? false,
      budget: input.budget ?? {},
      maxRuns: input.maxRuns ?? null,
      createdAt: isoTime(clock.now()),
      ...identity,
    }
    await commit(id)
    if (!(await table.insert(row))) throw exists(`"${id}"`, id)
    devices.set(id, identity.device)
    return row
  }

  return {
    async create(input, idempotency) {
      const claim =
        idempotency &&
        claims.begin([idempotency.caller, idempotency.method, idempotency.path, idempotency.key], fingerprintOf(input))
      try {
        const known = claim?.recordId === undefined ? undefined : await table.get(claim.recordId)
        if (known) return { workspace: publicPart(known), replayed: true }
        // A claim without its record: the server died in between, and this request finishes it.
        const named = claim?.recordId === undefined ? input : { ...input, id: claim.recordId }
        const row = await inTurn(() => register(named, async (id) => await claim?.commit(id)))
        onChange?.(row.id)
        return { workspace: publicPart(row), replayed: false }
      } finally {
        claim?.release()
      }
    },

    list: async () => (await table.list({ order: 'oldest' })).map(publicPart),
    get: async (id) => publicPart(await find(id)),

    async update(id, patch) {
      return await inTurn(async () => {
        const row = await find(id)
        await deps.checkCredentials(patch.credentials ?? []) // names it has already stay, also of what is gone
        const wanted = patch.agents ?? row.agents
        const stays = wanted.includes(row.defaultAgent) ? row.defaultAgent : undefined
        const chosen =
          patch.agents === undefined && patch.defaultAgent === undefined
            ? {} // an agent that is no longer configured does not stand in the way of other changes
            : chooseAgents(wanted, patch.defaultAgent ?? stays)
        const updated = await table.update(id, { ...defined(patch), ...chosen })
        return publicPart(updated ?? (await find(id)))
      })
    },

    async remove(id, { purge }) {
      return await inTurn(async () => {
        const row = await find(id)
        if (busy(id)) {
          throw new DomainError('workspace_busy', `runs are at work or queued in ${id}`, {
            retryAfterSeconds: 5,
            hint: `postern runs -w ${id} --status running`,
          })
        }
        if (purge && row.managed) await directories.purge(row)
        await table.remove(id)
        devices.delete(id)
        onChange?.(id)
        return publicPart(row)
      })
    },

    async directory(id) {
      const row = await find(id)
      const found = await directories.identify(row.path)
      // By path and inode after a start, when devices may have new numbers; from then on by device too.
      if (found?.inode === row.inode && found.device === (devices.get(id) ?? found.device)) {
        devices.set(id, found.device)
        return row.path
      }
      throw new DomainError(
        'path_not_usable',
        `the directory of ${id} is not the one that was registered (moved, replaced or removed)`,
        { hint: `put it back, or: postern workspace rm ${id}, and register the new one` },
      )
    },
  }
}

function publicPart({ device: _device, inode: _inode, ...shown }: WorkspaceRow): Workspace {
  return shown
}

/** A patch without the fields that were left out. */
function defined(patch: UpdateWorkspace): Partial<WorkspaceRow> {
  return Object.fromEntries(Object.entries(patch).filter(([, value]) => value !== undefined))
}
