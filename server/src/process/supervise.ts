import { once } from 'node:events'
import type { Readable, Writable } from 'node:stream'
import { execa } from 'execa'
import type { Clock } from '../clock.ts'
import { census, identify, isSame, signal as send } from './census.ts'
import { CGROUP_PREFIX, type Cgroup, type Cgroups } from './cgroup.ts'
import type { EndReason, Exit, ProcessIdentity } from './types.ts'

/** Milliseconds between TERM and KILL. */
export const GRACE_MS = 10_000
/** The same, when the server itself has to end. */
export const SERVER_GRACE_MS = 4_000
/** Milliseconds in which a program may end by itself once nothing more will be said to it, or by it. */
const CLOSE_MS = 1_000
/** Milliseconds that pipes may stay open once the program has exited. */
export const DRAIN_MS = 2_000
/** Bytes of stdout and stderr together after which a program is stopped. */
export const MAX_OUTPUT_BYTES = 1024 * 1024 * 1024
/** Processes of one run after which it is stopped. */
export const MAX_PROCESSES = 500
const PROCESS_CHECK_MS = 1_000
/** Looks at the process table after a run, before what is left is reported as survivors. */
const SWEEP_PASSES = 10
const SWEEP_PAUSE_MS = 50

export interface SuperviseRequest {
  /** Value of `POSTERN_RUN_ID` in `env`: finds what left the group. */
  mark: string
  /** Absolute path. */
  program: string
  args: string[]
  cwd: string
  env: Record<string, string>
  /** Written once `onStarted` has resolved, then stdin is closed; null: stdin stays open for `write`, and stdout has to as well. */
  stdin: string | null
  /** null: it may stay for as long as it likes. */
  timeoutMs: number | null
  idleTimeoutMs: number | null
  /** Aborted with an `EndReason` to end the group early. */
  signal: AbortSignal
  /** The program runs and has not seen its prompt yet. When this rejects, the program is ended as `not_started`. */
  onStarted(identity: ProcessIdentity): Promise<void>
  /** Every byte, in order per stream. The program is not read further until it resolves. */
  onOutput(stream: 'stdout' | 'stderr', chunk: Buffer): void | Promise<void>
}

export interface Supervised {
  /** Never rejects; settles when no process of the group is left, or those left were counted. */
  ended: Promise<Exit>
  /** Ends the group: TERM, KILL after the grace. The first reason stays; a later call can only shorten the grace. */
  stop(reason: EndReason, graceMs?: number): void
  /**
   * Resolves once every byte was handed to the program's stdin; waits for `onStarted`. Only for a request without `stdin`.
   *
   * @throws Error when the program is gone, or was before everything was written
   */
  write(text: string): Promise<void>
  /** Closes stdin: a program that waits for its next message ends by itself. One that stays for a second is ended. */
  close(reason: 'canceled' | 'hung_up'): void
}

/** Owner of every process of every run. */
export interface Processes {
  /** Starts a program in a group of its own. Starts take turns, one per turn of the event loop. */
  supervise(request: SuperviseRequest): Supervised
  /** All processes that belong to live runs. */
  ofRuns(): Set<number>
  /**
   * Ends what an earlier server left behind: groups whose leader is still the recorded process, and every process with
   * one of the marks. A recorded pid that now belongs to someone else is never signalled.
   */
  reap(left: { mark: string; identity: ProcessIdentity | undefined }[]): Promise<{ ended: number; survivors: number }>
}

/** See `Processes`. Decision 0007: a run ends with its process, and what it leaves is ended. */
export function createProcesses(deps: { clock: Clock; cgroups: Cgroups | undefined }): Processes {
  const { clock, cgroups } = deps
  let turn: Promise<void> = Promise.resolve()
  const live = new Map<string, Cgroup | undefined>()

  function nextTurn(): Promise<void> {
    // A fork copies page tables and blocks the loop: 40 in one turn would be felt by every caller.
    turn = turn.then(() => new Promise((resolve) => setImmediate(resolve)))
    return turn
  }

  async function sweep(mark: string, cgroup: Cgroup | undefined): Promise<{ ended: number; survivors: number }> {
    let ended = 0
    for (let pass = 0; ; pass++) {
      const left = new Set([...(census().get(mark) ?? []), ...(cgroup?.pids() ?? [])])
      if (left.size === 0 || pass === SWEEP_PASSES) {
        cgroup?.remove()
        return { ended, survivors: left.size }
      }
      if (pass === 0) ended = left.size
      cgroup?.kill()
      for (const pid of left) send(pid, 'SIGKILL')
      await clock.sleep(SWEEP_PAUSE_MS)
    }
  }

  function supervise(request: SuperviseRequest): Supervised {
    const { mark } = request
    const startedAt = clock.monotonic()
    const over = new AbortController() // ends every timer of this run
    let reason: EndReason | undefined
    let killAt = Infinity
    let wake: (() => void) | undefined
    let pid: number | undefined
    let hasExited = false
    const input = Promise.withResolvers<Writable>()
    input.promise.catch(() => undefined) // a program that never started: nobody may be writing

    function stop(why: EndReason, graceMs = why === 'server_stopped' ? SERVER_GRACE_MS : GRACE_MS): void {
      reason ??= why
      killAt = Math.min(killAt, clock.monotonic() + graceMs)
      if (pid !== undefined) send(-pid, 'SIGTERM')
      wake?.()
    }
    const onAbort = (): void => stop(request.signal.reason as EndReason)
    request.signal.addEventListener('abort', onAbort, { once: true })
    const after = (ms: number, work: () => void): void => void clock.sleep(ms, over.signal).then(work, () => undefined)

    function close(why: EndReason): void {
      void input.promise.then((stdin) => stdin.end()).catch(() => undefined)
      after(CLOSE_MS, () => hasExited || stop(why))
    }

    async function killWhenDue(): Promise<void> {
      while (!over.signal.aborted) {
        const wait = killAt - clock.monotonic()
        if (wait <= 0 && pid !== undefined) {
          send(-pid, 'SIGKILL')
          return
        }
        const woken = new Promise<void>((resolve) => (wake = resolve))
        await Promise.race([woken, clock.sleep(wait, over.signal).catch(() => undefined)])
      }
    }

    async function start(): Promise<Exit> {
      await nextTurn()
      if (request.signal.aborted) return exit(request.signal.reason as EndReason, null, null, 0, null)
      const cgroup = cgroups?.create(mark)
      const [program, args] = cgroup ? entering(cgroup, request) : [request.program, request.args]
      const child = execa(program, args, {
        cwd: request.cwd,
        env: request.env,
        extendEnv: false,
        stdin: 'pipe',
        stdout: 'pipe',
        stderr: 'pipe',
        buffer: false,
        encoding: 'buffer',
        reject: false,
        killDescendants: true, // a group of its own, which also ends when this process exits
        forceKillAfterDelay: false,
      })
      const { nodeChildProcess: node } = child
      if (node.pid === undefined) {
        const failed = await child
        cgroup?.remove()
        return exit('not_started', null, null, 0, failed.code ?? failed.shortMessage ?? 'unknown')
      }
      pid = node.pid
      if (reason !== undefined) send(-pid, 'SIGTERM') // asked to stop before there was anything to stop
      const exited = once(node, 'exit') as Promise<[number | null, NodeJS.Signals | null]>
      live.set(mark, cgroup)
      try {
        return await watch(node, exited, pid, cgroup)
      } finally {
        live.delete(mark)
      }
    }

    async function watch(
      node: { stdin: Writable | null; stdout: Readable | null; stderr: Readable | null },
      exited: Promise<[number | null, NodeJS.Signals | null]>,
      leader: number,
      cgroup: Cgroup | undefined,
    ): Promise<Exit> {
      let outputBytes = 0
      let lastOutput = clock.monotonic()
      async function pump(name: 'stdout' | 'stderr', stream: Readable | null): Promise<void> {
        try {
          for await (const chunk of stream ?? []) {
            lastOutput = clock.monotonic()
            outputBytes += (chunk as Buffer).length
            if (outputBytes > MAX_OUTPUT_BYTES) stop('output_limit')
            await request.onOutput(name, chunk as Buffer)
          }
        } catch {
          // destroyed after the drain, or nobody takes it any more
        }
      }
      const said = pump('stdout', node.stdout)
      const pumps = Promise.all([said, pump('stderr', node.stderr)])
      if (request.stdin === null) void said.then(() => close('hung_up'))
      node.stdin?.on('error', () => undefined) // it may be gone before it has read its prompt

      let failure: string | null = null
      const prompt = request.onStarted(identify(leader) ?? { pid: leader, startTime: null, bootId: null }).then(
        () => {
          if (request.stdin !== null) node.stdin?.end(request.stdin)
          else if (node.stdin) input.resolve(node.stdin)
        },
        (error: unknown) => {
          failure = (error as Error).message
          stop('not_started', 0)
        },
      )

      void killWhenDue()
      if (request.timeoutMs !== null) after(request.timeoutMs, () => stop('timed_out'))
      if (request.idleTimeoutMs !== null) watchIdle(request.idleTimeoutMs, () => lastOutput)
      watchProcesses(cgroup)

      const [exitCode, exitSignal] = await exited
      hasExited = true
      // Who ended by itself may have left something that still writes; who was ended has nothing more to say.
      if (reason === undefined) await atMost(DRAIN_MS, pumps)
      await prompt
      send(-leader, 'SIGKILL')
      const { survivors } = await sweep(mark, cgroup)
      await atMost(DRAIN_MS, pumps)
      node.stdout?.destroy()
      node.stderr?.destroy()
      return exit(reason ?? 'exited', exitCode, exitSignal, survivors, failure)
    }

    async function atMost(ms: number, work: Promise<unknown>): Promise<void> {
      const done = new AbortController()
      await Promise.race([work, clock.sleep(ms, done.signal).catch(() => undefined)])
      done.abort()
    }
    function watchIdle(limitMs: number, lastOutput: () => number): void {
      const check = (): void => {
        const left = lastOutput() + limitMs - clock.monotonic()
        if (left <= 0) stop('idle')
        else after(left, check)
      }
      after(limitMs, check)
    }
    function watchProcesses(cgroup: Cgroup | undefined): void {
      const check = (): void => {
        const count = cgroup ? cgroup.pids().length : (census().get(mark)?.length ?? 0)
        if (count > MAX_PROCESSES) {
          stop('process_limit', 0)
          cgroup?.kill()
        } else after(PROCESS_CHECK_MS, check)
      }
      after(PROCESS_CHECK_MS, check)
    }
    function exit(
      why: EndReason,
      exitCode: number | null,
      exitSignal: string | null,
      survivors: number,
      error: string | null,
    ): Exit {
      over.abort()
      request.signal.removeEventListener('abort', onAbort)
      input.reject(new Error('the program has ended'))
      return {
        reason: why,
        exitCode,
        signal: exitSignal,
        durationMs: Math.round(clock.monotonic() - startedAt),
        survivors,
        error,
      }
    }

    const ended = start().catch((error: unknown) => exit('not_started', null, null, 0, (error as Error).message))
    return {
      ended,
      stop,
      async write(text) {
        const stdin = await input.promise
        await new Promise<void>((resolve, reject) => {
          // The callback comes with the error too; a pipe destroyed with bytes waiting in it calls back as well.
          stdin.write(text, (error) => (error ? reject(error) : resolve()))
        })
      },
      close,
    }
  }

  return {
    supervise,
    ofRuns() {
      const pids = new Set<number>()
      if (live.size === 0) return pids
      for (const [mark, found] of census()) if (live.has(mark)) for (const pid of found) pids.add(pid)
      for (const cgroup of live.values()) for (const pid of cgroup?.pids() ?? []) pids.add(pid)
      return pids
    },
    async reap(left) {
      const marks = new Set(left.map(({ mark }) => mark))
      const groups = (cgroups?.left() ?? []).filter((group) =>
        marks.has(group.path.slice(group.path.lastIndexOf(CGROUP_PREFIX) + CGROUP_PREFIX.length)),
      )
      const found = census()
      const leaders = left.flatMap(({ identity }) => (identity && isSame(identity) ? [identity.pid] : []))
      const marked = left.flatMap(({ mark }) => found.get(mark) ?? [])
      for (const leader of leaders) send(-leader, 'SIGTERM')
      for (const pid of marked) send(pid, 'SIGTERM')
      const anyLeft = (): boolean => {
        const now = census()
        return left.some(({ mark }) => now.has(mark)) || groups.some((group) => group.pids().length > 0)
      }
      for (let waited = 0; waited < DRAIN_MS && anyLeft(); waited += SWEEP_PAUSE_MS) await clock.sleep(SWEEP_PAUSE_MS)
      for (const { identity } of left) if (identity && isSame(identity)) send(-identity.pid, 'SIGKILL')
      let ended = marked.length
      let survivors = 0
      for (const { mark } of left) {
        const swept = await sweep(
          mark,
          groups.find((group) => group.path.endsWith(`${CGROUP_PREFIX}${mark}`)),
        )
        ended = Math.max(ended, swept.ended)
        survivors += swept.survivors
      }
      return { ended, survivors }
    },
  }
}

/**
 * The same program, started inside its control group: added from outside, a child forked in the first millisecond would
 * escape. The shell only moves itself and becomes the program.
 */
function entering(cgroup: Cgroup, request: SuperviseRequest): [string, string[]] {
  const script = 'echo 0 2>/dev/null >"$0/cgroup.procs"; exec "$@"'
  return ['/bin/sh', ['-c', script, cgroup.path, request.program, ...request.args]]
}
