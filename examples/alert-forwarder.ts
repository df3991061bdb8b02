// Takes alerts as Prometheus' Alertmanager sends them and knocks with them: POSTERN_WEBHOOK=… node alert-forwarder.ts [port]
// It needs the address alone. Alertmanager repeats itself; the agent hears of each change of an alert once.
import { createServer } from 'node:http'
import { text } from 'node:stream/consumers'
import { PosternError, hooks } from '@postern/sdk'

interface Alert {
  status: string
  fingerprint: string
  startsAt: string
  labels: Record<string, string>
  annotations?: Record<string, string>
}

const webhook = process.env['POSTERN_WEBHOOK'] // `postern channel expose --session … --label alerts`
if (!webhook) throw new Error('POSTERN_WEBHOOK is not set')

async function forward({ status, fingerprint, startsAt, labels, annotations = {} }: Alert): Promise<void> {
  const lines = Object.entries({ ...labels, ...annotations }).map(([name, value]) => `${name}: ${value}`)
  const message = [`${status.toUpperCase()} since ${startsAt}`, ...lines].join('\n').slice(0, 16_000)
  // Retries by itself, with this key, while the server restarts or the session has no room.
  await hooks.send(webhook ?? '', { message, from: 'alertmanager', key: `${fingerprint}-${status}-${startsAt}` })
}

const server = createServer((request, response) => {
  void (async () => {
    try {
      const { alerts } = JSON.parse(await text(request)) as { alerts: Alert[] }
      for (const alert of alerts) await forward(alert)
      response.writeHead(204).end()
    } catch (error) {
      // 5xx: Alertmanager tries again later. What will never work is for a person to see.
      const isFinal = error instanceof SyntaxError || (error instanceof PosternError && !error.retryable)
      console.error(error instanceof PosternError ? `${error.code}: ${error.detail}` : String(error))
      response.writeHead(isFinal ? 400 : 502).end()
    }
  })()
})
server.listen(Number(process.argv[2] ?? 9_095), '127.0.0.1', () => {
  const address = server.address()
  console.log(`forwarding alerts from http://127.0.0.1:${typeof address === 'object' ? address?.port : ''}`)
})
