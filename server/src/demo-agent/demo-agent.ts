import { parseArgs } from 'node:util'
import { serveAcp } from './acp.ts'
import { openConversations } from './conversations.ts'
import { openDoor } from './door.ts'
import { runHeadless } from './headless.ts'
import { isLevel, LEVELS } from './stage.ts'

const USAGE = `usage: demo-agent [--acp] [--resume <conversation id>] [--permissions ${LEVELS.join('|')}] [--faults]
A prompt on stdin is one headless turn; the first line of a JSON-RPC client, or --acp, begins ACP over stdio.`

/**
 * The demo agent: a real agent program without a model. One headless turn, or ACP over stdio, by what comes first on
 * stdin. Resolves with the exit code; 2 for arguments it does not know.
 *
 * `DEMO_AGENT_HOME` names where it keeps conversations; default `~/.postern/demo-agent`.
 */
export async function runDemoAgent(argv: string[]): Promise<number> {
  let options
  try {
    options = parseArgs({
      args: argv,
      options: {
        acp: { type: 'boolean', default: false },
        faults: { type: 'boolean', default: false },
        resume: { type: 'string' },
        permissions: { type: 'string', default: 'edit' },
        help: { type: 'boolean', short: 'h', default: false },
      },
    }).values
  } catch (error) {
    process.stderr.write(`error: ${(error as Error).message}\n${USAGE}\n`)
    return 2
  }
  const { acp, faults, resume, permissions: level, help } = options
  if (help) {
    process.stdout.write(`${USAGE}\n`)
    return 0
  }
  if (!isLevel(level)) {
    process.stderr.write(`error: --permissions is "${level}", not one of ${LEVELS.join(' ')}\n`)
    return 2
  }
  process.stdout.on('error', () => process.exit(1)) // nobody listens any more

  const door = openDoor(process.env)
  const conversations = openConversations(process.env['DEMO_AGENT_HOME'])
  const input = process.stdin[Symbol.asyncIterator]() as AsyncIterator<Buffer>
  const first = acp ? { text: Buffer.alloc(0), isJsonRpc: true } : await firstLine(input)
  if (first.isJsonRpc) return await serveAcp({ begun: first.text, input, faults, conversations, door })
  const rest = await drain(input)
  return await runHeadless({
    prompt: Buffer.concat([first.text, rest]).toString('utf8'),
    resume,
    level,
    faults,
    conversations,
    door,
  })
}

/** Reads until the first line is there, or the end. */
async function firstLine(input: AsyncIterator<Buffer>): Promise<{ text: Buffer; isJsonRpc: boolean }> {
  const chunks: Buffer[] = []
  for (;;) {
    const { done, value } = await input.next()
    if (!done) chunks.push(value)
    if (!done && !value.includes(10)) continue
    const text = Buffer.concat(chunks)
    return { text, isJsonRpc: isJsonRpc(text.toString('utf8').split('\n', 1)[0] ?? '') }
  }
}

function isJsonRpc(line: string): boolean {
  if (!line.startsWith('{')) return false
  try {
    return (JSON.parse(line) as { jsonrpc?: unknown }).jsonrpc === '2.0'
  } catch {
    return false
  }
}

async function drain(input: AsyncIterator<Buffer>): Promise<Buffer> {
  const chunks: Buffer[] = []
  for (let next = await input.next(); !next.done; next = await input.next()) chunks.push(next.value)
  return Buffer.concat(chunks)
}
