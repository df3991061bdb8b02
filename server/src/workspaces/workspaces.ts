import { mkdir, realpath, rm, stat } from 'node:fs/promises'
import { isAbsolute, join, relative, sep } from 'node:path'
import type { Agents } from '../agents/types.ts'
import { isoTime, type Clock } from '../clock.ts'
import { DomainError } from '../errors.ts'
import type { Workspace, WorkspaceRow } from '../model.ts'
import { fingerprintOf, type Claims } from '../store/claims.ts'
import type { Table } from '../store/table.ts'
import { nearest, slug } from './naming.ts'
import type { CreateWorkspace, UpdateWorkspace, Workspaces } from './types.ts'

/** Numbers tried behind a slug that is taken. */
const MAX_SUFFIX = 1_000

export function createWorkspaces(deps: {
  table: Table<WorkspaceRow>
  claims: Claims
  agents: Agents
  git: { init(directory: string): Promise<void> }
  dataDir: string
  clock: Clock
  /** True while runs are at work or queued in a workspace. */
  busy(wsId: string): boolean
}): Workspaces {
  const { table, claims, agents, git, dataDir, clock, busy } = deps
  const own = join(dataDir, 'workspaces')
  const registering = new Set<string>() // real paths and ids on their way into the table

  async function find(id: string): Promise<WorkspaceRow> {
    const row = await table.get(id)
    if (row) return row
    const near = nearest(
      id,
      (await table.list()).map((each) => each.id),
    )
    throw new DomainError('workspace_not_found', `there is no workspace "${id}"${near ? `; nearest: "${near}"` : ''}`, {
      hint: 'postern workspace ls (the id, not the tag)',
    })
  }

  /** @throws DomainError `unknown_agent`, `agent_not_enabled` */
  function checkAgents(enabled: string[], defaultAgent: string): void {
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
      )
    }
  }

  /** Every agent that can do runs; those somebody configured come before the one without a model. */
  function allAgents(): string[] {
    const able = agents.all().filter((agent) => agent.headless)
    return [...able.filter((agent) => agent.hasModel), ...able.filter((agent) => !agent.hasModel)].map(
      (agent) => agent.id,
    )
  }

  async function existing(path: string): Promise<string> {
    const refuse = (why: string): DomainError =>
      new DomainError('path_not_usable', `"${path}" ${why}`, {
        hint: 'name an existing directory by its absolute path',
      })
    if (!isAbsolute(path)) throw refuse('is not absolute')
    if (path.includes('\0')) throw refuse('contains a NUL')
    const real = await realpath(path).catch(() => undefined)
    const found = real === undefined ? undefined : await stat(real)
    if (real === undefined || !found?.isDirectory()) throw refuse(found ? 'is not a directory' : 'does not exist')
    if (real === sep) throw refuse('is the whole machine')
    const state = await realpath(dataDir)
    const below = relative(state, real)
    const holdsState = !relative(real, state).startsWith('..')
    if (holdsState || (!below.startsWith('..') && !isAbsolute(below)))
      throw refuse('holds the state of the server, or lies in it')
    return real
  }

  async function freeId(input: CreateWorkspace): Promise<string> {
    if (input.id !== undefined) {
      if ((await table.get(input.id)) || registering.has(input.id)) {
        throw new DomainError('workspace_exists', `there is a workspace "${input.id}" already`, {
          hint: `postern workspace show ${input.id}`,
        })
      }
      return input.id
    }
    const base = `ws-${slug(input.tag)}`
    for (let n = 1; n <= MAX_SUFFIX; n++) {
      const id = n === 1 ? base : `${base}-${n}`
      if (!registering.has(id) && !(await table.get(id))) return id
    }
    throw new DomainError('workspace_exists', `${MAX_SUFFIX} workspaces are named like "${input.tag}" already`, {
      hint: 'name an id',
    })
  }

  async function register(input: CreateWorkspace, commit: (id: string) => Promise<void>): Promise<WorkspaceRow> {
    const enabled = input.agents ?? allAgents()
    const defaultAgent = input.defaultAgent ?? enabled[0] ?? 'demo'
    checkAgents(enabled, defaultAgent)
    const given = input.path === undefined ? undefined : await existing(input.path)
    const id = await freeId(input)
    const path = given ?? join(own, id)
    const mine = [id, path].filter((name) => !registering.has(name))
    if (mine.length < 2)
      throw new DomainError('workspace_exists', `"${registering.has(id) ? id : path}" is being registered`)
    for (const name of mine) registering.add(name)
    try {
      const twin = (await table.list()).find((each) => each.path === path)
      if (twin) {
        throw new DomainError('workspace_exists', `"${path}" is the workspace ${twin.id} already`, {
          hint: `postern workspace show ${twin.id}`,
        })
      }
      if (given === undefined) await makeDirectory(path)
      const { dev, ino } = await stat(path, { bigint: true })
      const row: WorkspaceRow = {
        id,
        tag: input.tag,
        path: await realpath(path),
        managed: given === undefined,
        agents: enabled,
        defaultAgent,
        credentials: input.credentials ?? [],
        permissions: input.permissions ?? 'edit',
        onRequest: input.onRequest ?? 'ask',
        childWorkspaces: input.childWorkspaces ?? [],
        maxRuns: input.maxRuns ?? null,
        createdAt: isoTime(clock.now()),
        device: String(dev),
        inode: String(ino),
      }
      await commit(id)
      if (!(await table.insert(row))) throw new DomainError('workspace_exists', `there is a workspace "${id}" already`)
      return row
    } finally {
      for (const name of mine) registering.delete(name)
    }
  }

  async function makeDirectory(path: string): Promise<void> {
    try {
      await mkdir(path, { recursive: true, mode: 0o700 })
    } catch (cause) {
      throw new DomainError('storage_unavailable', 'the directory of the workspace could not be made', {
        cause,
        retryAfterSeconds: 1,
      })
    }
    await git.init(path).catch(() => undefined) // without git it is a plain directory: runs work, diffs do not
  }

  return {
    async create(input, idempotency) {
      const claim =
        idempotency &&
        claims.begin([idempotency.caller, idempotency.method, idempotency.path, idempotency.key], fingerprintOf(input))
      try {
        const known = claim?.recordId === undefined ? undefined : await table.get(claim.recordId)
        if (known) return { workspace: publicPart(known), replayed: true }
        const row = await register(
          claim?.recordId === undefined ? input : { ...input, id: claim.recordId },
          async (id) => await claim?.commit(id),
        )
        return { workspace: publicPart(row), replayed: false }
      } finally {
        claim?.release()
      }
    },
    list: async () => (await table.list({ order: 'oldest' })).map(publicPart),
    get: async (id) => publicPart(await find(id)),
    async update(id, patch) {
      const row = await find(id)
      const enabled = patch.agents ?? row.agents
      const defaultAgent =
        patch.defaultAgent ?? (enabled.includes(row.defaultAgent) ? row.defaultAgent : (enabled[0] ?? row.defaultAgent))
      checkAgents(enabled, defaultAgent)
      const updated = await table.update(id, { ...defined(patch), defaultAgent })
      return publicPart(updated ?? (await find(id)))
    },
    async remove(id, { purge }) {
      const row = await find(id)
      if (busy(id)) {
        throw new DomainError('workspace_busy', `runs are at work in ${id}`, {
          hint: `postern runs -w ${id} --status running`,
        })
      }
      await table.remove(id)
      const path = join(own, id)
      if (purge && row.managed && row.path === (await realpath(path).catch(() => ''))) {
        await rm(path, { recursive: true, force: true })
      }
      return publicPart(row)
    },
    async directory(id) {
      const row = await find(id)
      const real = await realpath(row.path).catch(() => undefined)
      const found = real === undefined ? undefined : await stat(real, { bigint: true })
      const same = real === row.path && String(found?.dev) === row.device && String(found?.ino) === row.inode
      if (same && found?.isDirectory()) return row.path
      throw new DomainError(
        'path_not_usable',
        `the directory of ${id} is not the one that was registered (moved, replaced or removed)`,
        {
          hint: `postern workspace show ${id}; put it back, or register the new one`,
        },
      )
    },
  }
}

function publicPart(row: WorkspaceRow): Workspace {
  const { device: _device, inode: _inode, ...shown } = row
  return shown
}

/** A patch without the fields that were left out. */
function defined(patch: UpdateWorkspace): Partial<WorkspaceRow> {
  return Object.fromEntries(Object.entries(patch).filter(([, value]) => value !== undefined))
}
