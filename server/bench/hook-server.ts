/**
 * The server as `postern serve` starts it, but with room for a flood on one grant: `node hook-server.ts <data directory>`.
 * The limits are what the benchmark would otherwise measure.
 */
import { loadConfig } from '../src/config.ts'
import { createLogger } from '../src/log.ts'
import { startServer } from '../src/server.ts'

const [data] = process.argv.slice(2)
const config = await loadConfig({ flags: { data, port: '0' }, env: {} })
const log = createLogger({ level: 'warn', write: (line) => void process.stderr.write(line) })
const limit = 1_000_000_000
const server = await startServer({
  config,
  environment: process.env,
  log,
  version: '0.0.0-bench',
  channelLimits: { perMinute: limit, burst: limit, keysPerGrant: limit },
})
console.log(`postern listening on ${server.url}`)
process.once('SIGTERM', () => void server.stop().then(() => process.exit(0)))
