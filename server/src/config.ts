import { homedir } from 'node:os'
import { dirname, isAbsolute, resolve } from 'node:path'
import { access, chmod, constants, mkdir, readFile, stat } from 'node:fs/promises'
import ipaddr from 'ipaddr.js'
import { z } from 'zod'
import { AgentId } from './model.ts'
import { CommandAgentConfig } from './model/agents.ts'

const cidr = z
  .string()
  .refine((text) => ipaddr.isValidCIDR(text) || ipaddr.isValid(text), { error: 'not an address or CIDR range' })

/** A hundred years: what is longer is a slip, and at some point no date any more. */
const MAX_TTL_SECONDS = 3_155_760_000

/** `config.json` under the data directory. Unknown keys are refused by name. Source: docs/contract.md 2. */
export const ConfigFile = z.strictObject({
  agents: z.record(AgentId, CommandAgentConfig).default({}),
  maxRuns: z.int().min(1).max(1_000).default(8),
  maxQueued: z.int().min(0).max(100_000).default(100),
  maxSessions: z.int().min(1).max(1_000).default(8),
  channels: z
    .strictObject({
      defaultTtlSeconds: z.int().min(1).max(MAX_TTL_SECONDS).default(604_800),
      maxTtlSeconds: z.int().min(1).max(MAX_TTL_SECONDS).default(31_622_400),
    })
    .prefault({}),
  publicUrl: z.url({ protocol: /^https?$/ }).optional(),
  trustedProxies: z.array(cidr).default([]),
  requireToken: z.boolean().default(false),
  retention: z.strictObject({ outputDays: z.int().min(1).default(90) }).prefault({}),
  maxIdempotencyKeys: z.int().min(1).default(100_000),
})

/** Everything the server was told, checked. */
export interface Config extends z.infer<typeof ConfigFile> {
  host: string
  port: number
  /** True when somebody named the port: then a taken one is an error. */
  portNamed: boolean
  dataDir: string
}

export interface ConfigInput {
  flags: { host?: string | undefined; port?: string | undefined; data?: string | undefined }
  env: Record<string, string | undefined>
}

/** Bad or unsafe configuration: exit code 78, with a text that names file, key and value. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError'
}

export const DEFAULT_PORT = 47331

/** Where state lives: `--data`, else `POSTERN_HOME`, else `~/.postern`; absolute. */
export function dataDirectory(input: ConfigInput): string {
  const named = input.flags.data ?? input.env['POSTERN_HOME']
  return named ? resolve(named) : resolve(homedir(), '.postern')
}

/**
 * Why the data directory could not be used or made, as far as a look can tell; undefined: nothing stands in the way.
 */
export async function whyNoDirectory(path: string): Promise<string | undefined> {
  const { existing } = await nearest(path)
  if (!(await stat(existing)).isDirectory()) return `${existing} is not a directory`
  const mayWrite = await access(existing, constants.W_OK | constants.X_OK).then(
    () => true,
    () => false,
  )
  return mayWrite ? undefined : `${existing} may not be written by this user`
}

/** Makes the data directory with all above it, for its owner alone. @throws ConfigError */
export async function makeDataDirectory(path: string): Promise<void> {
  const refuse = (why: string): never => {
    throw new ConfigError(`the data directory ${path} cannot be made or used: ${why}`)
  }
  const why = await whyNoDirectory(path)
  if (why !== undefined) refuse(why)
  try {
    const { missing } = await nearest(path)
    // One by one: `recursive` never returns where a directory takes no entries, such as /proc.
    for (const each of missing) await mkdir(each, { mode: 0o700 }).catch(ignoreExisting)
    await chmod(path, 0o700)
  } catch (error) {
    refuse((error as Error).message)
  }
}

/** The path, or the next above it, that exists; and what is missing below that, the highest first. */
async function nearest(path: string): Promise<{ existing: string; missing: string[] }> {
  const missing: string[] = []
  let existing = path
  while (!(await exists(existing)) && dirname(existing) !== existing) {
    missing.unshift(existing)
    existing = dirname(existing)
  }
  return { existing, missing }
}

const exists = async (path: string): Promise<boolean> => (await stat(path).catch(() => undefined)) !== undefined
const ignoreExisting = (error: NodeJS.ErrnoException): void => {
  if (error.code !== 'EEXIST') throw error
}

/** Flags win over environment, environment over defaults; `config.json` holds the rest. @throws ConfigError */
export async function loadConfig(input: ConfigInput): Promise<Config> {
  const dataDir = dataDirectory(input)
  const portText = input.flags.port ?? (input.env['POSTERN_PORT'] || undefined)
  const port = portText === undefined ? DEFAULT_PORT : Number(portText)
  if (!/^\d{1,5}$/.test(portText ?? String(port)) || port > 65_535) {
    throw new ConfigError(`port ${JSON.stringify(portText)} is not a number from 0 to 65535`)
  }
  const host = input.flags.host ?? (input.env['POSTERN_HOST'] || '127.0.0.1')
  const file = await readConfigFile(resolve(dataDir, 'config.json'))
  return { ...file, host, port, portNamed: portText !== undefined, dataDir }
}

async function readConfigFile(path: string): Promise<z.infer<typeof ConfigFile>> {
  let text = '{}'
  try {
    text = await readFile(path, 'utf8')
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code !== 'ENOENT' && code !== 'ENOTDIR')
      // below a file there is none, which the directory will complain of
      throw new ConfigError(`${path} cannot be read: ${(error as Error).message}`)
  }
  let json: unknown
  try {
    json = JSON.parse(text)
  } catch (error) {
    throw new ConfigError(`${path} is not valid JSON: ${(error as Error).message}`)
  }
  const parsed = ConfigFile.safeParse(json)
  if (!parsed.success) {
    const problems = parsed.error.issues.map((issue) =>
      issue.code === 'unrecognized_keys'
        ? `unknown key ${issue.keys.map((key) => JSON.stringify([...issue.path, key].join('.'))).join(', ')}`
        : `${issue.path.join('.') || '(file)'}: ${issue.message}`,
    )
    throw new ConfigError(`${path}: ${problems.join('; ')}`)
  }
  for (const [id, agent] of Object.entries(parsed.data.agents)) {
    const wrong = wrongAgent(id, agent)
    if (wrong) throw new ConfigError(`${path}: agents.${id}${wrong}`)
  }
  return parsed.data
}

/** What the schema cannot say of a configured agent; undefined: it is fine. */
function wrongAgent(id: string, { command, output, end, resume, model, acp }: CommandAgentConfig): string | undefined {
  const [program = ''] = command
  if (id === 'shell') return ': "shell" is built in and never runs headless'
  if (program.includes('/') && !isAbsolute(program))
    return `.command: "${program}" must be a name on PATH or an absolute path`
  if (resume && acp === 'only')
    return '.resume is for runs, which "acp": "only" rules out; sessions resume by themselves'
  if (resume && output !== 'jsonl') return '.resume needs "output": "jsonl", so that the conversation can be verified'
  if (end === 'record' && output !== 'jsonl') return '.end: "record" needs "output": "jsonl"'
  if (resume && !resume.some((text) => text.includes('{conversationId}'))) return '.resume must hold {conversationId}'
  if (model && !model.some((text) => text.includes('{model}'))) return '.model must hold {model}'
  return undefined
}

/** True for a bind address that only this machine can reach. */
export function isLoopbackHost(host: string): boolean {
  if (host === 'localhost') return true
  return ipaddr.isValid(host) && ipaddr.process(host).range() === 'loopback'
}
