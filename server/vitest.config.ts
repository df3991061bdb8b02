import { defineConfig } from 'vitest/config'

export default defineConfig({
  test: {
    include: ['src/**/*.test.ts', 'test/**/*.test.ts'],
    exclude: ['test/faults/**', 'test/packages/**', '**/node_modules/**'],
    // Real processes on a two-core machine: few files at once, generous limits, no timed assertions.
    maxWorkers: 2,
    testTimeout: 60_000,
    hookTimeout: 60_000,
    dangerouslyIgnoreUnhandledErrors: false,
  },
})
