import { defineConfig } from 'vitest/config'

/** The fault plan: `pnpm test:faults`. One file at a time, so that two cores are enough and figures mean something. */
export default defineConfig({
  test: {
    include: ['test/faults/**/*.test.ts'],
    fileParallelism: false,
    testTimeout: 180_000,
    hookTimeout: 60_000,
  },
})
