import type { Command } from 'commander'
import { examples, type Action } from './command.ts'

/** `postern cred`: values come from stdin or a hidden prompt, never from an argument. */
export function addCredentials(cred: Command, action: Action): void {
  action(cred.command('ls', { isDefault: true }).description('list credentials, without values'), async (context) =>
    (await import('./credentials.ts')).listCredentials(context),
  )
  action(
    cred
      .command('set')
      .argument('<name>', 'name of the credential; an existing one is replaced')
      .description('set one: lines KEY=VALUE on stdin, or a hidden prompt on a terminal')
      .option('--agents <list>', 'agents it is limited to, separated by commas (default: every agent)')
      .addHelpText('before', examples('cred set anthropic --agents claude', 'cred set deploy < deploy.env')),
    async (context, name: string, flags: { agents?: string }) =>
      (await import('./credentials.ts')).setCredential(context, name, flags),
  )
  action(cred.command('rm').argument('<name>').description('forget one'), async (context, name: string) =>
    (await import('./credentials.ts')).removeCredential(context, name),
  )
}
