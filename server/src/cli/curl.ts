/** A knock as a command for any shell. */
export function curlOf(webhook: string, body: { message: string; from?: string; idempotency_key?: string }): string {
  return `curl -X POST ${quote(webhook)} -H 'Content-Type: application/json' -d ${quote(JSON.stringify(body))}`
}

/** The variable that holds an address whose token nobody has kept; double quotes let the shell fill it in. */
export function curlToRepeat(body: { message: string; from?: string }): string {
  return `curl -X POST "$POSTERN_WEBHOOK" -H 'Content-Type: application/json' -d ${quote(JSON.stringify(body))}`
}

/** One word of a shell, whatever is in it. */
const quote = (text: string): string => `'${text.replaceAll("'", String.raw`'\''`)}'`
