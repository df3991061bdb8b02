import type { Context } from './context.ts'
import { EXIT } from './exit.ts'

/** `postern keys rotate`. */
export async function rotateKeys(context: Context, flags: { drop?: boolean }): Promise<number> {
  const { screen, options } = context
  const postern = await context.connect()
  const { kid, previous, revoked } = await postern.keys.rotate({ drop: flags.drop === true })
  if (options.json) screen.printJson({ kid, previous, revoked })
  else {
    screen.print(`key ${kid}\tsigns from now on`)
    for (const each of previous)
      screen.print(`key ${each.kid}\t${each.verifyUntil === null ? 'void' : `good until ${each.verifyUntil}`}`)
    for (const grant of revoked) screen.print(`${grant}\trevoked`)
  }
  screen.note(
    flags.drop
      ? `${revoked.length} addresses are void: mint them again with ${context.me} channel expose`
      : 'addresses that older keys signed stay good until they expire; --drop voids them at once',
  )
  return EXIT.ok
}
