import { defineConfig } from '@hey-api/openapi-ts'

/** Generates the core under `src/generated` from the committed document. Callers see no name of it but the types. */
export default defineConfig({
  input: '../openapi.json',
  output: { path: 'src/generated', importFileExtension: '.ts' },
  plugins: [
    '@hey-api/client-ky',
    '@hey-api/typescript',
    {
      name: '@hey-api/sdk',
      operations: { strategy: 'single', containerName: 'Operations', methods: 'instance', nesting: 'operationId' },
    },
  ],
})
