import type { Capacity } from '../model.ts'

/** What the boundary counts of its own work. */
export interface Counters {
  /** Answers by class of status: `2xx`, `4xx` and so on. */
  answers: Record<string, number>
}

export const newCounters = (): Counters => ({ answers: { '2xx': 0, '3xx': 0, '4xx': 0, '5xx': 0 } })

export function countAnswer({ answers }: Counters, status: number): void {
  const group = `${Math.floor(status / 100)}xx`
  answers[group] = (answers[group] ?? 0) + 1
}

type Sample = [labels: Record<string, string>, value: number]

/**
 * The state of the server for Prometheus. Source: its text exposition format, version 0.0.4.
 *
 * @param ended runs that ended since the server started, by status
 */
export function metricsText(state: {
  version: string
  capacity: Capacity
  ended: Readonly<Record<string, number>>
  counters: Counters
  openRequests: number
}): string {
  const { version, capacity, ended, counters, openRequests } = state
  const { rss, heapUsed } = process.memoryUsage()
  const loop = performance.eventLoopUtilization()
  const by = (label: string, values: Readonly<Record<string, number>>): Sample[] =>
    Object.entries(values).map(([name, value]) => [{ [label]: name }, value])
  return [
    metric('postern_info', 'gauge', 'The server, by version.', [[{ version }, 1]]),
    metric('postern_runs_running', 'gauge', 'Runs at work.', [[{}, capacity.running]]),
    metric('postern_runs_queued', 'gauge', 'Runs waiting for a place.', [[{}, capacity.queued]]),
    metric('postern_runs_limit', 'gauge', 'Runs that may work at once.', [[{}, capacity.limit]]),
    metric('postern_runs_ended_total', 'counter', 'Runs ended since the start, by status.', by('status', ended)),
    metric('postern_http_answers_total', 'counter', 'Answers since the start.', by('class', counters.answers)),
    metric('postern_http_open_requests', 'gauge', 'Requests without a finished answer.', [[{}, openRequests]]),
    metric('process_resident_memory_bytes', 'gauge', 'Resident memory.', [[{}, rss]]),
    metric('postern_heap_used_bytes', 'gauge', 'Heap in use.', [[{}, heapUsed]]),
    metric('process_start_time_seconds', 'gauge', 'When the process started.', [[{}, performance.timeOrigin / 1_000]]),
    metric('postern_event_loop_active_seconds_total', 'counter', 'Time at work.', [[{}, loop.active / 1_000]]),
    metric('postern_event_loop_idle_seconds_total', 'counter', 'Time waiting.', [[{}, loop.idle / 1_000]]),
  ].join('')
}

function metric(name: string, type: 'gauge' | 'counter', help: string, samples: Sample[]): string {
  const lines = samples.map(([labels, value]) => {
    const pairs = Object.entries(labels).map(([label, text]) => `${label}=${JSON.stringify(text)}`)
    return `${name}${pairs.length > 0 ? `{${pairs.join(',')}}` : ''} ${value}\n`
  })
  return `# HELP ${name} ${help}\n# TYPE ${name} ${type}\n${lines.join('')}`
}
