#!/usr/bin/env node
// The command: from the TypeScript sources in a checkout, from dist in an installed package.
import { existsSync } from 'node:fs'
import module from 'node:module'

const source = new URL('../src/main.ts', import.meta.url)
const isCheckout = existsSync(source)
// Said here, in words that every Node understands: an older one stumbles over the first file.
if (Number.parseInt(process.versions.node) < 22 || (isCheckout && !process.features.typescript)) {
  const remedy = isCheckout ? 'npx postern and npm start bring theirs along' : 'install a newer one'
  console.error(`✗ old_node  postern needs Node 22.23 or newer; this is ${process.version}\n  ${remedy}`)
  process.exit(1)
}

// Sources are stripped of their types and compiled once, not at every start.
module.enableCompileCache?.()
await import(isCheckout ? source.href : new URL('../dist/main.js', import.meta.url).href)
