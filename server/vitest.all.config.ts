import { defineConfig } from 'vitest/config'

/** What `npm test` runs: the server's tests and the SDK's, as one. Needs no network. */
export default defineConfig({
  test: {
    projects: ['./vitest.config.ts', '../sdk/vitest.config.ts'],
    // Real processes on a two-core machine: few files at once.
    maxWorkers: 2,
  },
})
