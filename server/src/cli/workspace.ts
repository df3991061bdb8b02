import { basename, resolve } from 'node:path'
import type { UpdateWorkspace, Workspace, WorkspaceId } from '@postern/sdk'
import { parseCount, type Context } from './context.ts'
import { CliExit, EXIT } from './exit.ts'
import { resolveWorkspace } from './ids.ts'
import { age, inert, table } from './text.ts'

const asId = (id: string): WorkspaceId => id as WorkspaceId

export async function listWorkspaces(context: Context): Promise<number> {
  const { screen, options } = context
  const postern = await context.connect()
  const { workspaces } = await postern.workspaces.list().page()
  if (options.json) screen.printJson({ workspaces })
  else {
    const rows = workspaces.map((each) => [
      each.id,
      inert(each.tag, true),
      each.agents.join(','),
      each.permissions,
      age(each.createdAt),
      inert(each.path, true),
    ])
    screen.print(table(screen, ['ID', 'TAG', 'AGENTS', 'MAY', 'AGE', 'PATH'], rows))
    screen.note(
      `next: ${context.me} ${workspaces.length > 0 ? `run "…" -w ${workspaces[0]?.id}` : 'workspace add <path>'}`,
    )
  }
  return EXIT.ok
}

export async function addWorkspace(
  context: Context,
  path: string | undefined,
  flags: Record<string, string>,
): Promise<number> {
  const tag = flags['tag'] ?? (path === undefined ? undefined : basename(resolve(path)))
  if (tag === undefined) throw new CliExit(EXIT.usage, 'a workspace without a path needs a name', 'add --tag <name>')
  const postern = await context.connect()
  const workspace = await postern.workspaces.create({
    tag,
    ...(path !== undefined && { path: resolve(path) }),
    ...(flags['id'] !== undefined && { id: asId(flags['id']) }),
    ...settings(flags),
  })
  return show(context, workspace, `run "…" -w ${workspace.id}`)
}

export async function showWorkspace(context: Context, id: string): Promise<number> {
  const postern = await context.connect()
  const workspace = await postern.workspaces.get(await resolveWorkspace(postern, id))
  return show(context, workspace, `runs -w ${workspace.id}`)
}

export async function setWorkspace(context: Context, id: string, flags: Record<string, string>): Promise<number> {
  const patch: UpdateWorkspace = { ...(flags['tag'] !== undefined && { tag: flags['tag'] }), ...settings(flags) }
  if (Object.keys(patch).length === 0)
    throw new CliExit(EXIT.usage, 'nothing to change', `${context.me} workspace set --help`)
  const postern = await context.connect()
  const workspace = await postern.workspaces.update(await resolveWorkspace(postern, id), patch)
  return show(context, workspace, `workspace show ${workspace.id}`)
}

export async function removeWorkspace(context: Context, id: string, flags: { purge?: boolean }): Promise<number> {
  const { screen, options } = context
  const postern = await context.connect()
  // A prefix will not do here: what is forgotten should have been named.
  const workspace = await postern.workspaces.delete(asId(id), { purge: flags.purge === true })
  if (options.json) screen.printJson(workspace)
  else {
    const files = !workspace.managed
      ? 'its files were not touched'
      : flags.purge
        ? 'its directory was removed'
        : `its directory stays: ${workspace.path}`
    screen.print(`${workspace.id}\tforgotten`)
    screen.note(files)
  }
  return EXIT.ok
}

const namesIn = (list: string): string[] =>
  list
    .split(',')
    .map((each) => each.trim())
    .filter(Boolean)

function settings(flags: Record<string, string>): UpdateWorkspace {
  const { agents, defaultAgent, permissions, children, nudge, maxRuns } = flags
  if (nudge !== undefined && nudge !== 'on' && nudge !== 'off')
    throw new CliExit(EXIT.usage, `--nudge "${nudge}" is neither on nor off`)
  return {
    ...(agents !== undefined && { agents: namesIn(agents) }),
    ...(children !== undefined && { childWorkspaces: children === 'none' ? [] : namesIn(children).map(asId) }),
    ...(nudge !== undefined && { nudge: nudge === 'on' }),
    ...(defaultAgent !== undefined && { defaultAgent }),
    ...(permissions !== undefined && { permissions: permissions as 'edit' }), // the server names what it takes
    ...(maxRuns !== undefined && { maxRuns: maxRuns === 'none' ? null : parseCount(maxRuns, '--max-runs') }),
  }
}

function show(context: Context, workspace: Workspace, next: string): number {
  const { screen, options } = context
  if (options.json) {
    screen.printJson(workspace)
    return EXIT.ok
  }
  const fields: [string, string][] = [
    ['workspace', workspace.id],
    ['tag', inert(workspace.tag, true)],
    ['path', `${inert(workspace.path, true)}${workspace.managed ? ' (made by Postern)' : ''}`],
    [
      'agents',
      workspace.agents.map((each) => (each === workspace.defaultAgent ? `${each} (default)` : each)).join(', '),
    ],
    ['may', workspace.permissions],
    ...(workspace.childWorkspaces.length > 0
      ? [['children', workspace.childWorkspaces.join(', ')] as [string, string]]
      : []),
    ...(workspace.nudge ? [['nudge', 'on'] as [string, string]] : []),
    ['max runs', workspace.maxRuns === null ? 'no own limit' : String(workspace.maxRuns)],
  ]
  for (const [name, value] of fields) screen.print(`${screen.style('gray', name.padEnd(10))} ${value}`)
  screen.note(`next: ${context.me} ${next}`)
  return EXIT.ok
}
