import { readFile } from 'node:fs/promises'
import { text as readAll } from 'node:stream/consumers'
import { hooks, type Postern, type Receipt, type SessionId } from '@postern/sdk'
import type { Context } from './context.ts'
import { CliExit, EXIT } from './exit.ts'
import { resolveSession } from './ids.ts'
import { SAMPLES } from './samples.ts'
import { table } from './text.ts'

/** Seconds that an address lives which is minted for one knock. */
const TTL_SECONDS = 60

export interface TriggerFlags {
  session?: string
  webhookFile?: string
  from?: string
  key?: string
}

/** `postern trigger`: without a name, the samples; with one, a knock with it. */
export async function trigger(context: Context, name: string | undefined, flags: TriggerFlags): Promise<number> {
  const { screen, options, me } = context
  if (name === undefined) {
    if (options.json) screen.printJson(SAMPLES)
    else {
      const rows = Object.entries(SAMPLES).map(([each, { from, about }]) => [each, from, about])
      screen.print(table(screen, ['SAMPLE', 'FROM', 'WHAT'], rows))
    }
    screen.note(`next: ${me} trigger deploy --session <id>`)
    return EXIT.ok
  }
  const sample = Object.hasOwn(SAMPLES, name) ? SAMPLES[name] : undefined
  if (!sample) throw new CliExit(EXIT.usage, `there is no sample "${name}"`, 'postern trigger')
  if (flags.key !== undefined && flags.session !== undefined) {
    throw new CliExit(
      EXIT.usage,
      '--key goes with an address: a key is known to the one it was sent to, and --session mints a new one each time',
      'postern channel expose --session <id>, then trigger with POSTERN_WEBHOOK or --webhook-file',
    )
  }
  const knock = { message: sample.message, from: flags.from ?? sample.from }
  const webhook = await namedWebhook(flags)
  if ((webhook === undefined) === (flags.session === undefined)) {
    throw new CliExit(
      EXIT.usage,
      webhook === undefined
        ? 'where to? --session, POSTERN_WEBHOOK or --webhook-file'
        : 'either --session or an address',
      'an address is never an argument: other programs could read it there',
    )
  }
  const receipt =
    webhook === undefined
      ? await knockOn(context, flags.session ?? '', name, knock)
      : await hooks.send(webhook, { ...knock, key: flags.key })
  if (options.json) screen.printJson(receipt)
  else screen.print(`${receipt.deliveryId}\t${receipt.status}`)
  screen.note(`next: ${me} session attach ${receipt.sessionId}`)
  return EXIT.ok
}

async function knockOn(
  context: Context,
  given: string,
  label: string,
  knock: { message: string; from: string },
): Promise<Receipt> {
  const postern = await context.connect()
  return await knockOnce(postern, await resolveSession(postern, given), label, knock)
}

/**
 * Knocks on a session through an address of a minute, which is revoked at once when the agent has the message; one that
 * waits is left to its minute, since a revocation would drop it.
 *
 * @throws PosternError as the mint and the hook refuse
 */
export async function knockOnce(
  postern: Postern,
  sessionId: SessionId,
  label: string,
  knock: hooks.Knock,
): Promise<Receipt> {
  const door = await postern.channels.create({ sessionId, label, ttlSeconds: TTL_SECONDS })
  const receipt = await hooks.send(door.webhook, knock)
  if (receipt.status === 'delivered') await postern.channels.revoke(door.grantId)
  return receipt
}

/** The address in `--webhook-file` (`-`: stdin) or POSTERN_WEBHOOK. */
async function namedWebhook({ webhookFile, session }: TriggerFlags): Promise<string | undefined> {
  if (webhookFile === undefined) return session === undefined ? process.env['POSTERN_WEBHOOK'] || undefined : undefined
  if (webhookFile === '-') return (await readAll(process.stdin)).trim()
  try {
    return (await readFile(webhookFile, 'utf8')).trim()
  } catch (error) {
    throw new CliExit(EXIT.usage, `--webhook-file ${webhookFile}: ${(error as Error).message}`)
  }
}
