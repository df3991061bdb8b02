import { mkdir, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'

const MANIFEST = { name: 'demo', private: true, type: 'module', scripts: { test: 'node --test' } }

/** A tiny program with two things left to do. */
const FILES: Record<string, string> = {
  'README.md': '# Demo\n\nA small directory for the demo agent to look at.\n',
  'package.json': `${JSON.stringify(MANIFEST, null, 2)}\n`,
  'src/greet.js': '// TODO: greet in other languages\nexport const greet = (name) => `Hello, ${name}!`\n',
  'src/main.js': "import { greet } from './greet.js'\n\nconsole.log(greet(process.argv[2] ?? 'you'))\n",
  'test/greet.test.js': [
    "import assert from 'node:assert'",
    "import test from 'node:test'",
    "import { greet } from '../src/greet.js'",
    '',
    "test('greets', () => assert.equal(greet('you'), 'Hello, you!'))",
    '',
  ].join('\n'),
  'notes/ideas.md': '- TODO: decide what this is for\n',
}

/** Puts something to look at into a new workspace, which is a directory of this machine. Returns how many files. */
export async function writeSample(directory: string): Promise<number> {
  for (const [name, text] of Object.entries(FILES)) {
    await mkdir(dirname(join(directory, name)), { recursive: true })
    await writeFile(join(directory, name), text)
  }
  return Object.keys(FILES).length
}
