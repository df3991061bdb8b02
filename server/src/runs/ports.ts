/** What a run needs of git. Nothing here writes into the user's repository but `addWorktree` and `removeWorktree`. */
export interface RunGit {
  /** HEAD and branch of the repository that the directory is in; undefined outside git. */
  describe(directory: string): Promise<{ headSha: string | null; branch: string | null } | undefined>
  /** Id of a tree of the directory's files as they are (untracked ones too, ignored ones not); its objects lie in `scratch`. */
  snapshot(directory: string, scratch: string): Promise<string>
  /** The binary patch between two trees of `snapshot`. */
  diff(directory: string, scratch: string, from: string, to: string): Promise<{ patch: Buffer; filesChanged: number }>
  /** A new worktree at `path` on a new branch from HEAD. */
  addWorktree(directory: string, path: string, branch: string): Promise<void>
  /** Removes a worktree and its branch when nothing in it would be lost; false: it was kept. */
  removeWorktree(path: string, branch: string, baseSha: string | null): Promise<boolean>
}
