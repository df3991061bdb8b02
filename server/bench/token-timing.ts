/**
 * Whether a wrong first byte of a token's signature takes as long to refuse as a wrong last one: `node
 * server/bench/token-timing.ts`. Welch's t over interleaved rounds; beyond 4.5 somebody should look. The second figure
 * compares one case with itself, and shows what the machine adds. Nightly, and no gate: a busy machine can say anything.
 * Threat T13 of docs/security.md 7.
 */
import { checksum } from '../src/keys/checksum.ts'
import { channelHash, readToken, signToken } from '../src/channels/token.ts'

const ROUNDS = 150_000
const LIMIT = 4.5

const key = Buffer.alloc(32, 7)
const token = signToken(
  {
    kid: 1,
    verb: 1,
    expiresAt: 1_800_000_000,
    grantId: 'grant_01K00000000000000000000001',
    channelHash: channelHash('postern:/sessions/sess_01K00000000000000000000002'),
  },
  key,
)
const mac = Buffer.from(token.slice(62, 105), 'base64url')

function wrongAt(at: number): string {
  const wrong = Buffer.from(mac)
  wrong.writeUInt8(wrong.readUInt8(at) ^ 1, at)
  const body = token.slice(0, 62) + wrong.toString('base64url')
  return body + checksum(body)
}

const keyOf = (): Buffer => key
function nanoseconds(text: string): number {
  const from = process.hrtime.bigint()
  readToken(text, keyOf)
  return Number(process.hrtime.bigint() - from)
}

function welch(a: number[], b: number[]): number {
  const mean = (all: number[]): number => all.reduce((sum, each) => sum + each, 0) / all.length
  const [meanA, meanB] = [mean(a), mean(b)]
  const spread = (all: number[], middle: number): number =>
    all.reduce((sum, each) => sum + (each - middle) ** 2, 0) / (all.length - 1) / all.length
  return (meanA - meanB) / Math.sqrt(spread(a, meanA) + spread(b, meanB))
}

/** Without the slowest tenth: what the system does between two clocks. */
const calm = (all: number[]): number[] => all.toSorted((a, b) => a - b).slice(0, Math.floor(all.length * 0.9))

function compare(one: string, other: string): number {
  const times: [number[], number[]] = [[], []]
  for (let i = 0; i < 20_000; i++) nanoseconds(i % 2 ? one : other) // warm
  for (let i = 0; i < ROUNDS; i++) {
    const first = Math.random() < 0.5
    const [a, b] = first ? [one, other] : [other, one]
    const [ta, tb] = [nanoseconds(a), nanoseconds(b)]
    times[0].push(first ? ta : tb)
    times[1].push(first ? tb : ta)
  }
  return welch(calm(times[0]), calm(times[1]))
}

const t = compare(wrongAt(0), wrongAt(31))
const control = compare(wrongAt(0), wrongAt(0))
console.log(
  `T13: ${ROUNDS} rounds, t ${t.toFixed(2)} (control ${control.toFixed(2)}); ${Math.abs(t) < LIMIT ? 'no difference seen' : 'look at it'}`,
)
