/**
 * Mixtures of policies in plain JavaScript: at the start of an episode one of them is drawn by weight, and plays all of
 * it. Needs no Node.
 */
import { type Fields, type Mlp, isMlp, mlpOf, openFields, otherKind } from './mlp.js'
import { MlpPlayer, actBy, requirePlayed, requireTurn } from './player.js'
import type { LoadedPolicy } from './policy.js'

/** Several policies, and how often each plays. */
interface Mixture {
  members: [Mlp, ...Mlp[]]
  /** Sums of the weights up to and with each member. */
  sums: number[]
  seed: bigint
}

/**
 * A policy file at play.
 *
 * @param address stands in messages of the file.
 * @throws DrcorlError as `readMlp`.
 */
export function playBytes(
  name: string,
  bytes: Uint8Array,
  address: string,
  settings: Record<string, number>,
): LoadedPolicy {
  const { fields, kind } = openFields(bytes, address)
  if (kind === 'mixture') return new MixturePlayer(name, readMixture(fields, settings))
  if (!isMlp(kind)) throw otherKind(address, kind)
  const mlp = mlpOf(fields, fields, kind, fields.settings(settings))
  fields.finish()
  return new MlpPlayer(name, mlp)
}

function readMixture(fields: Fields, settings: Record<string, number>): Mixture {
  const kind = fields.choice('member_kind', ['mlp', 'gaussian'])
  const weights = fields.vector('weights')
  const bad = weights.findIndex((weight) => weight <= 0)
  if (bad >= 0) throw fields.data('weights', `value ${bad} is ${weights[bad]}, not positive`)
  const own = fields.settings(settings)
  const members = Array.from(weights, (_, k) => mlpOf(fields, fields.within(`member.${k}.`), kind, own))
  const seed = fields.whole('seed')
  fields.finish()
  let sum = 0
  return { members: members as Mixture['members'], sums: Array.from(weights, (weight) => (sum += weight)), seed }
}

/** One row's episode: its seed, and who plays it, nobody before its first step. */
interface Row {
  seed: number
  member: MlpPlayer | null
}

/** The same draws as the native player's: equal seeds and first observations are played by the same member. */
export class MixturePlayer implements LoadedPolicy {
  readonly runtime = 'javascript'
  readonly obs_dim: number
  readonly act_dim: number
  readonly settings: Readonly<Record<string, number>>
  readonly metadata: Readonly<Record<string, string>>
  private readonly members: MlpPlayer[]
  private readonly rows = new Map<number, Row>()
  private readonly first: Float32Array

  constructor(
    readonly name: string,
    private readonly mixture: Mixture,
  ) {
    const { obs_dim, act_dim, settings, metadata } = mixture.members[0]
    this.obs_dim = obs_dim
    this.act_dim = act_dim
    this.settings = settings
    this.metadata = metadata
    this.members = mixture.members.map((member) => new MlpPlayer(name, member))
    this.first = new Float32Array(obs_dim)
  }

  reset(rows: readonly number[], seeds: readonly number[] = []): void {
    rows.forEach((row, index) => this.rows.set(row, { seed: seeds[index] ?? 0, member: null }))
  }

  act(observations: Float32Array | readonly number[]): Float32Array {
    return actBy(this, observations)
  }

  actInto(observations: Float32Array, actions: Float32Array): void {
    const rows = requireTurn(observations, actions, this)
    for (let row = 0; row < rows; row += 1) {
      this.playing(row, observations).actRow(observations, row * this.obs_dim, actions, row * this.act_dim)
    }
    requirePlayed(actions, this.act_dim)
  }

  /** Who plays a row; drawn at its first observation. */
  private playing(row: number, observations: Float32Array): MlpPlayer {
    const entry = this.rows.get(row) ?? { seed: 0, member: null }
    if (entry.member !== null) return entry.member
    const { members, sums, seed } = this.mixture
    const { mean, std } = members[0]
    const f32 = Math.fround
    for (let i = 0; i < this.obs_dim; i += 1) {
      this.first[i] = f32(f32(observations[row * this.obs_dim + i]! - mean[i]!) / std[i]!)
    }
    const point = draw(seed, BigInt(Math.trunc(entry.seed)), this.first) * sums.at(-1)!
    const index = sums.findIndex((sum) => point < sum)
    const member = this.members[index < 0 ? sums.length - 1 : index]!
    this.rows.set(row, { ...entry, member })
    return member
  }
}

/** 2^64 over the golden ratio. */
const GOLDEN = 0x9e3779b97f4a7c15n
const u64 = (value: bigint): bigint => BigInt.asUintN(64, value)

/** SplitMix64's finaliser. */
function mix(value: bigint): bigint {
  let z = u64((value ^ (value >> 30n)) * 0xbf58476d1ce4e5b9n)
  z = u64((z ^ (z >> 27n)) * 0x94d049bb133111ebn)
  return z ^ (z >> 31n)
}

/** A uniform draw from (0, 1) that is a hash of its arguments; `Draws` of crates/actor in JavaScript. */
function draw(seed: bigint, episode: bigint, observation: Float32Array): number {
  let key = mix(mix(u64(seed + GOLDEN)) ^ u64(episode))
  // + 0 gives both zeros one pattern.
  const bits = new Uint32Array(observation.map((value) => value + 0).buffer)
  for (const pattern of bits) key = mix(u64(key + GOLDEN) ^ BigInt(pattern))
  return (Number(mix(u64(key + GOLDEN)) >> 11n) + 0.5) / 2 ** 53
}
