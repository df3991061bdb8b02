import { setTimeout as delay } from 'node:timers/promises'
import type { Door } from './door.ts'
import { FAULTS } from './faults.ts'
import { lookAround } from './first-look.ts'
import { goodEnding, wholeNumber, type Command, type Ending, type Level, type Stage } from './stage.ts'
import { findTodos, gitLog, listFiles, readText, runTests, search, writeText } from './workspace.ts'

const NO_MODEL = 'I am the demo agent; I have no model.'
const MAX_LISTED = 200
const MAX_SLEEP_SECONDS = 24 * 60 * 60

/** A tool whose output is the reply. */
const tool =
  (
    name: string,
    needs: Level,
    input: (argument: string) => Record<string, unknown>,
    work: (stage: Stage, argument: string) => string | Promise<string>,
  ): Command =>
  async (stage, argument) => {
    const done = await stage.tool({ name, input: input(argument), needs, work: () => work(stage, argument) })
    stage.say(`${done.output}\n`)
  }

/** A tool that speaks to the server that started us. */
const atDoor = (name: string, work: (door: Door, argument: string) => Promise<string>): Command =>
  tool(
    name,
    'ask',
    (argument) => ({ text: argument }),
    async ({ door }, argument) => {
      if (!door) throw new Error('no server started me, so there is nobody to tell')
      return await work(door, argument)
    },
  )

const COMMANDS: Record<string, Command> = {
  '/files': tool(
    'list_files',
    'ask',
    () => ({}),
    ({ root }) => {
      const files = listFiles(root)
      const shown = files.slice(0, MAX_LISTED).map(({ path, sizeBytes }) => `${path} ${sizeBytes}`)
      return [`${files.length} files`, ...shown].join('\n')
    },
  ),
  '/todo': tool(
    'find_todos',
    'ask',
    () => ({}),
    ({ root }) => {
      const todos = findTodos(root, listFiles(root))
      return [`${todos.length} TODOs`, ...todos.map(({ path, line, text }) => `${path}:${line} ${text}`)].join('\n')
    },
  ),
  '/log': tool(
    'git_log',
    'ask',
    (argument) => ({ count: wholeNumber(argument, 5, 100) }),
    async ({ root, signal }, argument) => {
      const commits = await gitLog(root, wholeNumber(argument, 5, 100), signal)
      return commits?.join('\n') ?? 'no commits: not a git repository, or before the first one'
    },
  ),
  '/read': tool(
    'read_file',
    'ask',
    (path) => ({ path }),
    ({ root }, path) => readText(root, path),
  ),
  '/grep': tool(
    'search',
    'ask',
    (word) => ({ word }),
    ({ root }, word) => {
      if (word === '') throw new Error('/grep needs a word')
      const matches = search(root, listFiles(root), (line) => line.includes(word))
      return [`${matches.length} matches`, ...matches.map(({ path, line, text }) => `${path}:${line} ${text}`)].join(
        '\n',
      )
    },
  ),
  '/write': tool(
    'write_file',
    'edit',
    (argument) => ({ path: argument.split(/\s/, 1)[0] }),
    ({ root }, argument) => {
      const [, path = '', text = ''] = /^(\S+)\s?(.*)$/s.exec(argument) ?? []
      if (path === '') throw new Error('/write needs a path and a text')
      writeText(root, path, `${text}\n`)
      return `wrote ${path}`
    },
  ),
  '/check': tool(
    'run_tests',
    'full',
    () => ({}),
    async ({ root, signal }) => {
      const done = await runTests(root, signal)
      if (!done) return 'there is no test script in package.json and no test target in a Makefile'
      if (done.exitCode !== 0) throw new Error(`the tests failed (exit ${done.exitCode})\n${done.output}`)
      return `the tests passed\n${done.output}`
    },
  ),
  '/push': atDoor('inbox_push', (door, title) => door.push({ title, body: NO_MODEL, documents: [] })),
  '/silent': atDoor('inbox_none', async (door, why) => {
    await door.silent(why || 'told to be silent')
    return 'declared that there is nothing to report'
  }),
  '/report': atDoor('report', async (door, message) => {
    await door.report(message)
    return 'reported'
  }),
  async '/no-report'(stage) {
    await Promise.resolve()
    stage.say('I report nothing and do not say why, as told.\n')
  },
  async '/ask'(stage, question) {
    const answer = await stage.ask(question || 'May I?')
    const heard = {
      true: 'You allowed it.',
      false: 'You denied it.',
      undefined: 'There is nobody to ask in a headless run, so it is denied.',
    }
    stage.say(`${heard[`${answer}`]}\n`)
  },
  async '/sleep'(stage, argument) {
    const seconds = wholeNumber(argument, 1, MAX_SLEEP_SECONDS)
    await stage.tool({
      name: 'sleep',
      input: { seconds },
      needs: 'ask',
      async work() {
        await delay(seconds * 1000, undefined, { signal: stage.signal })
        return `slept ${seconds} s`
      },
    })
    stage.say(`I slept ${seconds} s.\n`)
  },
  async '/fail'(stage, argument, ending) {
    ending.exitCode = wholeNumber(argument, 1, 255)
    ending.record = false
    ending.error = { kind: 'agent', message: `told to fail with ${ending.exitCode}` }
    stage.say(`I fail with ${ending.exitCode}, as told.\n`)
  },
}

/** Postern's envelope around what came from outside; its mark tells its end from one that a sender wrote. */
const ENVELOPE = /^<postern-hook ([^\n]*) n="([0-9a-f]{16})">\n[^\n]*\n(.*)\n<\/postern-hook n="\2">$/s

/** What it was told, as it repeats it. */
function received(prompt: string): string {
  const [, attributes = '', , message = prompt] = ENVELOPE.exec(prompt) ?? []
  const again = attributes.includes('possible-duplicate="true"') ? ', perhaps for the second time' : ''
  return `${JSON.stringify(message)}${again}`
}

/**
 * One turn: slash commands, one a line, or any text. Rejects only when the stage's signal aborts.
 *
 * @returns how the program is to end, which faults may bend
 */
export async function runTurn(prompt: string, stage: Stage): Promise<Ending> {
  const ending = goodEnding()
  const lines = prompt
    .split('\n')
    .map((line) => line.trim())
    .filter(Boolean)
  if (lines.length === 0 || !lines.every((line) => line.startsWith('/'))) {
    if (stage.kind === 'headless') await lookAround(stage)
    else stage.say(`I received ${received(prompt)}. ${NO_MODEL}`)
  } else {
    for (const line of lines) await runCommand(line, stage, ending)
    stage.say(NO_MODEL)
  }
  const before = stage.earlier.filter(({ role }) => role === 'user')
  if (before.length > 0)
    stage.say(
      ` This is message ${before.length + 1} of our conversation; the first was ${JSON.stringify(before[0]?.text)}.`,
    )
  return ending
}

async function runCommand(line: string, stage: Stage, ending: Ending): Promise<void> {
  const [, name = '', argument = ''] = /^(\S+)\s*(.*)$/s.exec(line) ?? []
  const fault = Object.hasOwn(FAULTS, name) ? FAULTS[name] : undefined
  const command = Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined
  if (command) await command(stage, argument, ending)
  else if (fault && stage.faults) await fault(stage, argument, ending)
  else if (fault) stage.say(`${name} is a fault, and faults are off (start me with --faults).\n`)
  else stage.say(`I do not know ${name}. I know ${Object.keys(COMMANDS).join(' ')}.\n`)
  stage.signal.throwIfAborted()
}
