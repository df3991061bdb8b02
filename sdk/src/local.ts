/** What the machine says about where its server is. */
export interface LocalServer {
  /** `POSTERN_URL`. */
  namedUrl?: string | undefined
  /** `POSTERN_TOKEN`. */
  namedToken?: string | undefined
  /** Where the data directory is, as it was looked for. */
  home?: string | undefined
  /** `url` of `server.json` there. */
  url?: string | undefined
  pid?: number | undefined
  /** Why `server.json` is there and says nothing. */
  unreadable?: string | undefined
  /** What `admin-token` there holds; undefined inside a run, which may do only what a run may. */
  adminToken?: string | undefined
}

/** Outside Node there is no environment and no file: the caller names the server. */
export function lookAround(_home?: string): Promise<LocalServer> {
  return Promise.resolve({})
}
