// The demo agent as a program of its own: `node main.ts [--acp] [--resume <conversationId>] [--permissions ask|edit|full] [--faults]`.
import { runDemoAgent } from './demo-agent.ts'

process.exitCode = await runDemoAgent(process.argv.slice(2))
