import { join } from 'node:path'
import { InboxId } from '../model/inbox.ts'
import type { Disk } from '../store/disk.ts'

/**
 * Removes the folders that no entry has: of a push that a death cut off before its row, of a removal that it cut off after
 * that. Call before anything is pushed: a push writes its folder first.
 *
 * @param mayHave false only when no entry, not even one that cannot be read, has that id
 */
export async function removeLeftovers(
  { disk, directory }: { disk: Disk; directory: string },
  mayHave: (id: string) => Promise<boolean>,
): Promise<void> {
  const names = await disk.readdir(directory).catch(() => [] as string[])
  for (const name of names) {
    if (!InboxId.safeParse(name).success || (await mayHave(name))) continue
    await disk.rm(join(directory, name), { recursive: true, force: true })
  }
}
