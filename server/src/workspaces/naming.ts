/** A name as part of an id: at most 40 lower case letters, digits and hyphens; `empty` when nothing is left of it. */
export function slug(tag: string, empty = 'workspace'): string {
  const plain = tag.normalize('NFKD').replace(/\p{M}/gu, '').toLowerCase()
  return (
    plain
      .replace(/[^a-z0-9]+/g, '-')
      .replace(/^-+|-+$/g, '')
      .slice(0, 40)
      .replace(/-+$/, '') || empty
  )
}

/** The candidate that differs least from a mistyped name; undefined when none is near. */
export function nearest(name: string, candidates: string[]): string | undefined {
  const limit = Math.max(2, Math.floor(name.length / 3))
  const ranked = candidates.map((candidate) => ({ candidate, distance: distance(name, candidate) }))
  const best = ranked.toSorted((a, b) => a.distance - b.distance)[0]
  return best && best.distance <= limit ? best.candidate : undefined
}

/** Levenshtein distance: insertions, deletions and replacements between two texts. */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++) {
      const replaced = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1)
      next[j] = Math.min(replaced, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1)
    }
    row = next
  }
  return row[b.length] ?? 0
}
