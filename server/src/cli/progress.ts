import type { Postern, TaskId } from '@postern/sdk'
import { textOf } from './follow.ts'
import { inert } from './text.ts'

const FRAMES = ['⠋', '⠙', '⠹', '⠸', '⠼', '⠴', '⠦', '⠧', '⠇', '⠏']
const FRAME_MS = 100
/** Milliseconds before a spinner appears: what is quick needs none. */
const DELAY_MS = 400
const MAX_WIDTH = 40

/** Redraws one line of stderr with what a run is doing, until stopped. For terminals. */
export function showProgress(postern: Postern, taskId: TaskId, signal: AbortSignal): { stop(): void } {
  const over = new AbortController()
  const startedAt = Date.now()
  let doing = ''
  let frame = 0
  void (async () => {
    for await (const event of postern.runs.events(taskId, { signal: AbortSignal.any([signal, over.signal]) })) {
      if (event.type === 'tool.started') doing = `tool: ${inert(textOf(event['name']), true)}`
      if (event.type === 'agent.message') doing = 'writing'
    }
  })().catch(() => undefined) // only the decoration is lost
  const two = (count: number): string => String(count).padStart(2, '0')
  const timer = setInterval(() => {
    const elapsedMs = Date.now() - startedAt
    if (elapsedMs < DELAY_MS) return
    const seconds = Math.floor(elapsedMs / 1000)
    const clock = `${two(Math.floor(seconds / 60))}:${two(seconds % 60)}`
    const sign = FRAMES[frame++ % FRAMES.length]
    const parts = [`${sign} ${clock}`, ...(doing ? [doing.slice(0, MAX_WIDTH)] : []), 'Ctrl-C leaves, the run goes on']
    process.stderr.write(`\r\u001b[K${parts.join(' · ')}`)
  }, FRAME_MS)
  return {
    stop() {
      clearInterval(timer)
      over.abort()
      process.stderr.write('\r\u001b[K')
    },
  }
}
