/** Exit codes of the command line; part of its contract with scripts. */
export const EXIT = {
  ok: 0,
  unexpected: 1,
  usage: 2,
  notReachable: 3,
  notAuthorised: 4,
  notFound: 5,
  wrongState: 6,
  capacity: 7,
  ownDeadline: 8,
  failed: 10,
  canceled: 11,
  timedOut: 12,
  interrupted: 13,
  damagedData: 65,
  dataInUse: 73,
  badConfiguration: 78,
  interruptedByUser: 130,
} as const

let leave = (): void => process.exit(EXIT.ok)

/** What is done when nobody reads stdout any more: `postern runs | head` has had enough. */
export const readerLeft = (): void => leave()

/** A command with something to end says how. */
export function whenReaderLeaves(end: () => void): void {
  leave = end
}

/** Exit code of `--wait` and `--exit-status`, by the status of the run. */
export function exitOf(status: string): number {
  switch (status) {
    case 'succeeded':
      return EXIT.ok
    case 'failed':
      return EXIT.failed
    case 'canceled':
      return EXIT.canceled
    case 'timed_out':
      return EXIT.timedOut
    case 'interrupted':
      return EXIT.interrupted
    default:
      return EXIT.unexpected
  }
}

/**
 * Ends the command with a code; the message, when there is one, was not shown yet. Its hint names our commands as
 * `postern …`: how they are typed here is filled in where it is shown.
 */
export class CliExit extends Error {
  override readonly name = 'CliExit'
  readonly code: number
  readonly hint: string | undefined
  constructor(code: number, message = '', hint?: string) {
    super(message)
    this.code = code
    this.hint = hint
  }
}
