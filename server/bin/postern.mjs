#!/usr/bin/env node
// The command: from the TypeScript sources in a checkout, from dist in an installed package.
import { existsSync } from 'node:fs'
import module from 'node:module'

// Sources are stripped of their types and compiled once, not at every start.
module.enableCompileCache?.()
const source = new URL('../src/main.ts', import.meta.url)
await import(existsSync(source) ? source.href : new URL('../dist/main.js', import.meta.url).href)
