import { randomUUID } from 'node:crypto'
import { appendFileSync, existsSync, mkdirSync, readFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'

/** One thing said in a conversation. */
export interface Said {
  role: 'user' | 'agent'
  text: string
}

/** Conversations on disk, a file of JSON Lines each, so that a later process can go on with one. */
export interface Conversations {
  /** Where they and other state of the agent lie. */
  readonly home: string
  start(): string
  /** What was said so far; undefined: there is no such conversation. */
  read(id: string): Said[] | undefined
  add(id: string, said: Said): void
}

/** Ids are ours alone, so none can name a file elsewhere. */
const ID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/

/** @param home default: `demo-agent` under `~/.postern` */
export function openConversations(home = join(homedir(), '.postern', 'demo-agent')): Conversations {
  const directory = join(home, 'conversations')
  const file = (id: string): string => join(directory, `${id}.jsonl`)
  const append = (id: string, text: string): void => appendFileSync(file(id), text, { mode: 0o600 })

  return {
    home,
    start() {
      const id = randomUUID()
      mkdirSync(directory, { recursive: true, mode: 0o700 })
      append(id, '')
      return id
    },
    read(id) {
      if (!ID.test(id) || !existsSync(file(id))) return undefined
      const lines = readFileSync(file(id), 'utf8').split('\n')
      return lines.filter(Boolean).map((line) => JSON.parse(line) as Said)
    },
    add: (id, said) => append(id, `${JSON.stringify(said)}\n`),
  }
}
