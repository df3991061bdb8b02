import { basename, resolve } from 'node:path'
import type { Budget, UpdateWorkspace, Workspace, WorkspaceId } from '@postern/sdk'
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
  const caps = budgetOf(flags)
  if (Object.keys({ ...patch, ...caps }).length === 0)
    throw new CliExit(EXIT.usage, 'nothing to change', 'postern workspace set --help')
  const postern = await context.connect()
  const wsId = await resolveWorkspace(postern, id)
  // Caps that are not named stay; the server takes a budget as a whole.
  const before = Object.keys(caps).length === 0 ? undefined : (await postern.workspaces.get(wsId)).budget
  const budget = before && Object.fromEntries(Object.entries({ ...before, ...caps }).filter(([, cap]) => cap !== null))
  const workspace = await postern.workspaces.update(wsId, { ...patch, ...(budget && { budget }) })
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
  const { agents, credentials, defaultAgent, permissions, onRequest, children, nudge, maxRuns } = flags
  if (nudge !== undefined && nudge !== 'on' && nudge !== 'off')
    throw new CliExit(EXIT.usage, `--nudge "${nudge}" is neither on nor off`)
  return {
    ...(agents !== undefined && { agents: namesIn(agents) }),
    ...(children !== undefined && { childWorkspaces: children === 'none' ? [] : namesIn(children).map(asId) }),
    ...(credentials !== undefined && { credentials: credentials === 'none' ? [] : namesIn(credentials) }),
    ...(nudge !== undefined && { nudge: nudge === 'on' }),
    ...(defaultAgent !== undefined && { defaultAgent }),
    ...(permissions !== undefined && { permissions: permissions as 'edit' }), // the server names what it takes
    ...(onRequest !== undefined && { onRequest: onRequest as 'ask' }),
    ...(maxRuns !== undefined && { maxRuns: maxRuns === 'none' ? null : parseCount(maxRuns, '--max-runs') }),
  }
}

/** Flags of `workspace set`, what they cap, and how that is shown. */
const CAPS = [
  ['budgetRunTokens', '--budget-run-tokens', 'maxTokensPerRun', 'tokens a run'],
  ['budgetRunCost', '--budget-run-cost', 'maxCostUsdPerRun', 'US dollars a run'],
  ['budgetRuns', '--budget-runs', 'runsPerDay', 'runs a day'],
  ['budgetTokens', '--budget-tokens', 'tokensPerDay', 'tokens a day'],
  ['budgetCost', '--budget-cost', 'costUsdPerDay', 'US dollars a day'],
] as const

/** The caps that are named; null ends one. @throws CliExit 2 */
function budgetOf(flags: Record<string, string>): { [cap in keyof Budget]?: number | null } {
  const caps: { [cap in keyof Budget]?: number | null } = {}
  for (const [name, flag, cap] of CAPS) {
    const given = flags[name]
    if (given === undefined) continue
    if (given === 'none') caps[cap] = null
    else caps[cap] = /cost/i.test(cap) ? parseDollars(given, flag) : parseCount(given, flag)
  }
  return caps
}

/** @throws CliExit 2 */
function parseDollars(given: string, flag: string): number {
  const amount = Number(given)
  if (amount > 0 && amount < Infinity) return amount
  throw new CliExit(EXIT.usage, `${flag} "${given}" is no amount of US dollars`, 'such as 2.50, or none')
}

function budgetText(budget: Budget): string {
  return CAPS.flatMap(([, , cap, unit]) => (budget[cap] === undefined ? [] : `${budget[cap]} ${unit}`)).join(', ')
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
    ['on request', workspace.onRequest],
    ...(workspace.childWorkspaces.length > 0
      ? [['children', workspace.childWorkspaces.join(', ')] as [string, string]]
      : []),
    ...(workspace.nudge ? [['nudge', 'on'] as [string, string]] : []),
    ...(workspace.credentials.length > 0 ? [['given', workspace.credentials.join(', ')] as [string, string]] : []),
    ['max runs', workspace.maxRuns === null ? 'no own limit' : String(workspace.maxRuns)],
    ...(budgetText(workspace.budget) === '' ? [] : [['budget', budgetText(workspace.budget)] as [string, string]]),
  ]
  for (const [name, value] of fields) screen.print(`${screen.style('gray', name.padEnd(10))} ${value}`)
  screen.note(`next: ${context.me} ${next}`)
  return EXIT.ok
}
