import { expectTypeOf, test } from 'vitest'
import {
  hasEnded,
  isWorkspaceId,
  type Call,
  type CreateRun,
  type Event,
  type Postern,
  type Run,
  type RunStatus,
} from '../src/index.ts'

/** Checked by the compiler; there is nothing to run. */
declare const postern: Postern

test('an id of one thing cannot stand for another', () => {
  expectTypeOf<Parameters<Postern['runs']['get']>[0]>().toEqualTypeOf<`headless_${string}`>()
  const misuse = (run: Run): void => {
    // @ts-expect-error a workspace is not a run
    void postern.runs.get(run.wsId)
    // @ts-expect-error a run is not a workspace
    void postern.runs.create({ wsId: run.taskId, prompt: 'x' })
    // @ts-expect-error a misspelt field is not a field
    void postern.runs.create({ wsId: run.wsId, prompt: 'x', timeoutMS: 1 })
    void postern.runs.create({ wsId: run.wsId, prompt: 'x', resume: run.taskId })
    // @ts-expect-error a run is not a session
    void postern.sessions.send(run.taskId, 'x')
    // @ts-expect-error a grant is minted on a session, not on a workspace
    void postern.channels.create({ sessionId: run.wsId })
    // @ts-expect-error what is steered into a turn has no reply of its own
    void postern.sessions.ask('sess_x', { message: 'x', delivery: 'steer' })
  }
  expectTypeOf(misuse).toBeFunction()
})

test('text from outside becomes an id by asking for its shape', () => {
  const text: string = 'ws-news'
  if (isWorkspaceId(text)) expectTypeOf(text).toEqualTypeOf<`ws-${string}`>()
})

test('statuses and event types are open', () => {
  expectTypeOf<'succeeded'>().toExtend<RunStatus>()
  expectTypeOf<string>().toExtend<RunStatus>()
  expectTypeOf<Event['text']>().toEqualTypeOf<string | undefined>()
  expectTypeOf<string>().toExtend<Event['type']>()
})

test('calls are promises of plain objects', () => {
  expectTypeOf<ReturnType<Postern['runs']['get']>>().toEqualTypeOf<Call<Run>>()
  expectTypeOf<Awaited<ReturnType<Postern['runs']['create']>>>().toEqualTypeOf<Run>()
  expectTypeOf<CreateRun>().not.toHaveProperty('wait')
  expectTypeOf(hasEnded).returns.toBeBoolean()
})
