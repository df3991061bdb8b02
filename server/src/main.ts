import { argv } from 'node:process'

/**
 * The program. The demo agent is started once a run and must not wait for the command line it does not need.
 */
const [, , command, ...rest] = argv
if (command === 'demo-agent') {
  const { runDemoAgent } = await import('./demo-agent/demo-agent.ts')
  process.exitCode = await runDemoAgent(rest) // not `exit`: it would drop what the pipe has not taken yet
} else {
  const { runCli } = await import('./cli/cli.ts')
  process.exitCode = await runCli(argv.slice(2))
}
