/** What the demo agent may do at the server that started it, with the key that it was given. */
export interface Door {
  /** Leaves an entry in the Inbox. @returns its id */
  push(entry: { title: string; body: string; documents: string[] }): Promise<string>
  /** Declares that there is nothing to report. */
  silent(why: string): Promise<void>
  /** News for the run that started this one. */
  report(message: string): Promise<void>
}

/** Milliseconds that the server may take for one answer. */
const ANSWER_MS = 30_000

/** Undefined: no server started this process. */
export function openDoor(environment: Record<string, string | undefined>): Door | undefined {
  const { POSTERN_URL: url, POSTERN_TOKEN: token, POSTERN_RUN_ID: id } = environment
  if (!url || !token || !id) return undefined

  async function post(path: string, body: unknown): Promise<Record<string, unknown>> {
    const answer = await fetch(url + path, {
      method: 'POST',
      headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
      body: JSON.stringify(body),
      signal: AbortSignal.timeout(ANSWER_MS),
    })
    const said = (await answer.json()) as Record<string, unknown>
    if (!answer.ok) throw new Error(`the server answered ${answer.status}: ${String(said['detail'])}`)
    return said
  }
  return {
    async push(entry) {
      return String((await post('/api/inbox', entry))['id'])
    },
    async silent(why) {
      await post(`/api/headless/${id}/silent`, { why })
    },
    async report(message) {
      await post(`/api/headless/${id}/report`, { message })
    },
  }
}
