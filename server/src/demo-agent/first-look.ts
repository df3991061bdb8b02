import { join } from 'node:path'
import type { Stage } from './stage.ts'
import {
  findTodos,
  gitLog,
  gitUntracked,
  listFiles,
  listScripts,
  writeText,
  type FoundFile,
  type Match,
} from './workspace.ts'

export const REPORT = 'reports/first-look.md'
const SHOWN_FILES = 40
const SHOWN_LARGEST = 5
const SHOWN_COMMITS = 10

interface Findings {
  files: FoundFile[]
  commits: string[] | undefined
  todos: Match[]
  scripts: string[]
  untracked: string[] | undefined
}

/**
 * What the demo agent does with any prompt: looks around in fixed steps, and writes down what it saw. The same workspace
 * gives the same report.
 */
export async function lookAround(stage: Stage): Promise<void> {
  const { root, signal } = stage
  const found: Findings = { files: [], commits: undefined, todos: [], scripts: [], untracked: undefined }
  const look = async (name: string, work: () => Promise<string> | string): Promise<void> => {
    await stage.tool({ name, input: {}, needs: 'ask', work })
  }

  await look('list_files', () => {
    found.files = listFiles(root).filter(({ path }) => path !== REPORT)
    return count(found.files.length, 'file')
  })
  await look('git_log', async () => {
    found.commits = await gitLog(root, SHOWN_COMMITS, signal)
    found.untracked = (await gitUntracked(root, signal))?.filter((path) => path !== REPORT)
    if (found.untracked === undefined) return 'not a git repository'
    return `${count(found.commits?.length ?? 0, 'commit')} seen, ${count(found.untracked.length, 'untracked file')}`
  })
  await look('find_todos', () => {
    found.todos = findTodos(root, found.files)
    return count(found.todos.length, 'TODO')
  })
  await look('list_scripts', () => {
    found.scripts = listScripts(root)
    return found.scripts.join('\n') || 'none'
  })
  const report = describe(found)
  const written = await stage.tool({
    name: 'write_file',
    input: { path: REPORT },
    needs: 'edit',
    work() {
      writeText(root, REPORT, report)
      return `wrote ${REPORT}`
    },
  })
  const seen = `${count(found.files.length, 'file')} and ${count(found.todos.length, 'TODO')}`
  if (stage.door) {
    const { door } = stage
    const title = `First look: ${seen.replace(' and', ',')}`
    const documents = written.ok ? [join(root, REPORT)] : []
    const body = written.ok ? `What I saw is in \`${REPORT}\`.\n\n${report}` : report
    await stage.tool({
      name: 'inbox_push',
      input: { title },
      needs: 'ask',
      work: () => door.push({ title, body, documents }),
    })
  }
  const where = written.ok
    ? `What I saw is in ${REPORT}.`
    : `I could not write ${REPORT} (${written.output}); what I saw:\n\n${report}`
  stage.say(
    `I am the demo agent and have no model, so I understood nothing of your prompt. I looked around instead: ${seen}. ${where}`,
  )
}

function describe({ files, commits, todos, scripts, untracked }: Findings): string {
  const largest = files
    .toSorted((a, b) => b.sizeBytes - a.sizeBytes || (a.path < b.path ? -1 : 1))
    .slice(0, SHOWN_LARGEST)
  return [
    '# First look',
    '',
    'Written by the demo agent, which has no model: facts only.',
    '',
    `## Files: ${files.length}`,
    '',
    ...list(files.slice(0, SHOWN_FILES).map(({ path, sizeBytes }) => `\`${path}\` ${sizeBytes} bytes`)),
    ...(files.length > SHOWN_FILES ? [`- … and ${files.length - SHOWN_FILES} more`] : []),
    '',
    '## Largest',
    '',
    ...list(largest.map(({ path, sizeBytes }) => `\`${path}\` ${sizeBytes} bytes`)),
    '',
    '## History',
    '',
    ...(untracked === undefined ? ['Not a git repository.'] : list(commits ?? [], 'no commits yet')),
    ...(untracked === undefined
      ? []
      : ['', '## Not in git', '', ...list(untracked.slice(0, SHOWN_FILES).map((path) => `\`${path}\``))]),
    '',
    `## TODOs: ${todos.length}`,
    '',
    ...list(todos.map(({ path, line, text }) => `\`${path}:${line}\` ${text}`)),
    '',
    '## Scripts',
    '',
    ...list(scripts.map((script) => `\`${script}\``)),
    '',
  ].join('\n')
}

const list = (items: string[], none = 'none'): string[] =>
  items.length > 0 ? items.map((item) => `- ${item}`) : [none]
const count = (number: number, noun: string): string => `${number} ${noun}${number === 1 ? '' : 's'}`
