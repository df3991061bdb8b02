#!/usr/bin/env node
// scripted-agent.mjs: a program that speaks the output format of each of six coding agents, and misbehaves as it is told.
// Run as `node scripted-agent.mjs <agent> [what the agent would get]`, the prompt on stdin: its last word is the scenario.
// A scenario is a recorded run (the name of a file in ../samples), or one of the words below. Every line it prints was
// printed by the real program. Node >= 20, no dependencies.
import { spawn } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'

const [agent, ...args] = process.argv.slice(2)
const samples = new URL('../samples/', import.meta.url)
const index = JSON.parse(readFileSync(new URL('index.json', samples), 'utf8'))

if (args.includes('--version')) {
  console.log('9.9.9')
  process.exit()
}

/** A recorded run: what it printed and how it ended. */
function recorded(name) {
  const known = index.find(({ file }) => file === `${agent}-${name}.stdout.jsonl`)
  if (!known) throw new Error(`no sample ${agent}-${name}`)
  const stderr = new URL(`${agent}-${name}.stderr.txt`, samples)
  return {
    lines: readFileSync(new URL(known.file, samples), 'utf8').split('\n').filter(Boolean),
    stderr: existsSync(stderr) ? readFileSync(stderr, 'utf8') : '',
    exitCode: known.exitCode,
    signal: known.signal,
    /** Somebody ended it: by itself it would have gone on. */
    stays: known.stoppedBy !== null,
  }
}

/** True for a record that says how the turn ended. */
function isEnd(line) {
  const { type, part } = JSON.parse(line)
  if (agent === 'opencode') return type === 'error' || (type === 'step_finish' && part.reason !== 'tool-calls')
  return ['result', 'turn.completed', 'turn.failed', 'agent_end', 'agent_settled'].includes(type)
}

/** The record without the agent's words; undefined when it is nothing but them. */
function withoutWords(line) {
  const record = JSON.parse(line)
  const silence = (message) => {
    if (message?.role === 'assistant') message.content = message.content.filter(({ type }) => type !== 'text')
  }
  silence(record.message)
  for (const message of record.messages ?? []) silence(message)
  if (typeof record.result === 'string') record.result = ''
  const isWords =
    record.type === 'text' ||
    record.type === 'message_update' ||
    record.item?.type === 'agent_message' ||
    (record.type === 'message' && record.role === 'assistant')
  return isWords ? undefined : JSON.stringify(record)
}

const good = () => recorded('ok')
const SCENARIOS = {
  /** Does its work and says nothing. */
  'empty-answer': () => ({ ...good(), lines: good().lines.map(withoutWords).filter(Boolean) }),
  /** Half an answer, and then its model's service refuses. */
  'error-after-text': () => {
    const failed = recorded('400')
    const said = recorded('long-answer').lines
    const lines = [...said.slice(0, said.findIndex(isEnd)), ...failed.lines.slice(failed.lines.findIndex(isEnd))]
    return { ...failed, lines }
  },
  /** Reports its result and never goes. */
  'hang-after-result': () => ({ ...good(), stays: true, exitCode: 143 }),
  /** Leaves a child in a session of its own. */
  'leave-a-child': () => {
    spawn('sleep', ['600'], { detached: true, stdio: 'ignore' }).unref()
    return good()
  },
  /** Reports a failure and exits with 0. */
  lie: () => ({ ...recorded('400'), exitCode: 0 }),
  /** Reports success and exits with 1. */
  'lie-the-other-way': () => ({ ...good(), exitCode: 1 }),
  /** Exits with 0 and never said a word. */
  'say-nothing': () => ({ ...good(), lines: [], stderr: '' }),
  /** Somebody else ends it in the middle of its work. */
  'killed-from-outside': () => ({ ...recorded('sigterm'), stays: false }),
  /** Repeats a request with a wrong key for ever. */
  '401-for-ever': () => {
    const lines = recorded('401').lines
    const tries = lines.findIndex((line) => /api_retry|Reconnecting/.test(line))
    return { ...recorded('401'), lines: lines.slice(0, tries + 1), stays: true }
  },
}

let prompt = ''
for await (const chunk of process.stdin) prompt += chunk
const scenario = prompt.trim().split(/\s+/).at(-1)
const { lines, stderr, exitCode, signal, stays } = (SCENARIOS[scenario] ?? (() => recorded(scenario)))()

function end() {
  if (signal === null) process.exit(exitCode)
  process.removeAllListeners('SIGTERM')
  process.kill(process.pid, signal)
}
process.on('SIGTERM', end)
process.stderr.write(stderr)
process.stdout.write(lines.map((line) => `${line}\n`).join(''), () => {
  if (stays) setInterval(() => undefined, 60_000)
  else end()
})
