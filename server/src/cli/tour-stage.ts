import type { Minted, Postern, Session } from '@postern/sdk'
import type { Context } from './context.ts'

/** Where the tour plays. */
export const WORKSPACE = 'ws-demo'
/** Milliseconds that a step of the demo agent may take here, also on a machine that is busy. */
export const STEP_LIMIT_MS = 60_000

/** What every step of the tour has. */
export interface Stage {
  postern: Postern
  context: Context
  /** Aborts when the server of the tour was told to stop: nothing is waited for any more. */
  signal: AbortSignal
  /** The numbered line of the step. */
  line(name: string, text: string): void
  /** One more line of it. */
  more(text: string): void
  /** What earlier steps have left for later ones. */
  left: { session?: Session; door?: Minted }
}
