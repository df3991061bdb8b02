import { fileURLToPath } from 'node:url'
import { defineConfig } from 'vitest/config'

export default defineConfig({
  // In the package the conditional import of package.json chooses; here the sources run, in Node.
  resolve: { alias: { '#local': fileURLToPath(new URL('src/local.node.ts', import.meta.url)) } },
  test: {
    include: ['test/**/*.test.ts'],
    maxWorkers: 2,
    testTimeout: 60_000,
    hookTimeout: 60_000,
    dangerouslyIgnoreUnhandledErrors: false,
  },
})
