import { defineConfig } from 'vitest/config'

/** Packing and installing asks the package registry, so it is apart from `npm test`, which needs no network. */
export default defineConfig({
  test: {
    include: ['test/packages/**/*.test.ts'],
    testTimeout: 300_000,
    hookTimeout: 300_000,
  },
})
