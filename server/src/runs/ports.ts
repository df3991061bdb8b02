/** What a run needs of git. Nothing here writes into the user's repository but `addWorktree` and `removeWorktree`. */
export interface RunGit {
  /** HEAD and branch of the repository that the directory is in; undefined outside git. Starts no program. */
  describe(directory: string): Promise<{ headSha: string | null; branch: string | null } | undefined>
  /** HEAD, branch and the tree of the directory's files as they are; its objects lie in `scratch`. undefined outside git. */
  snapshot(
    directory: string,
    scratch: string,
  ): Promise<{ headSha: string | null; branch: string | null; tree: string } | undefined>
  /** The binary patch between two trees of `snapshot`. */
  diff(directory: string, scratch: string, from: string, to: string): Promise<{ patch: Buffer; filesChanged: number }>
  /** A new worktree at `path` on a new branch from HEAD; resolves with the directory in it that answers to `directory`. */
  addWorktree(directory: string, path: string, branch: string): Promise<string>
  /** The same in a worktree that is there, of the same repository. */
  insideWorktree(directory: string, path: string): Promise<string>
  /** Removes a worktree and its branch when nothing in it would be lost; false: it was kept. */
  removeWorktree(path: string, branch: string, baseSha: string | null): Promise<boolean>
}
