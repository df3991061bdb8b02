import { readFile, writeFile } from 'node:fs/promises'
import { openApiDocument } from '../src/http/openapi.ts'

// Writes openapi.json at the root of the repository; with --check it only compares, and fails when it is stale.
const target = new URL('../../openapi.json', import.meta.url)
const { version } = JSON.parse(await readFile(new URL('../package.json', import.meta.url), 'utf8')) as {
  version: string
}
const text = `${JSON.stringify(openApiDocument(version), null, 2)}\n`
if (process.argv.includes('--check')) {
  const committed = await readFile(target, 'utf8').catch(() => '')
  if (committed !== text) {
    console.error('openapi.json is stale: run npm run generate')
    process.exitCode = 1
  }
} else {
  await writeFile(target, text)
}
