import type { RunReason } from '../model.ts'

/** A run that has no program to wait for: it fails with this reason and sentence. */
export class Unstartable extends Error {
  override readonly name = 'Unstartable'
  readonly reason: RunReason
  constructor(reason: RunReason, detail: string) {
    super(detail)
    this.reason = reason
  }
}
