/** Several policies as one: each episode is played by one of them, drawn by weight. */
import { DrcorlError } from '../base/errors.js'
import { Random } from '../envs/random.js'
import type { Feedback, Policy } from '../policy/policy.js'
import { type Player, type RecordedEnv, requireBox, requireFit } from './players.js'

/** Streams of draws, told apart by these. */
const STREAM = { choice: 2, noise: 3 }

/** Who plays an episode: a function of seed and number, so that episodes may be played in any order. */
export function choosePlayer(weights: readonly number[], seed: number, episode: number): number {
  const total = weights.reduce((sum, weight) => sum + weight, 0)
  let left = new Random(seed, episode, STREAM.choice).uniform() * total
  const found = weights.findIndex((weight) => (left -= weight) < 0)
  return found < 0 ? weights.length - 1 : found
}

interface Row {
  player: number
  /** Row among those of its player. */
  own: number
  noise: Random
}

/** Plays the episodes of a recording; `begin` says which come next. */
export class Mixture implements Policy {
  readonly name = 'mixture'
  readonly obs_dim: number
  readonly act_dim: number
  private rows: Row[] = []

  private constructor(
    private readonly env: RecordedEnv,
    private readonly players: readonly Player[],
    private readonly policies: readonly Policy[],
    private readonly draws: { seed: number; noise: number },
  ) {
    this.obs_dim = env.obs_dim
    this.act_dim = env.act_dim
  }

  /** @throws DrcorlError `Shape` or `Usage` where a policy or the noise does not fit the environment. */
  static async make(
    env: RecordedEnv,
    players: readonly Player[],
    draws: { seed: number; noise: number },
  ): Promise<Mixture> {
    if (draws.noise > 0) requireBox(env, 'noise is measured')
    const policies: Policy[] = []
    for (const player of players) {
      const policy = await player.make(env)
      requireFit(policy, player.policy, env)
      policies.push(policy)
    }
    return new Mixture(env, players, policies, draws)
  }

  /**
   * The next episodes, one in each row.
   *
   * @param first number of the episode in row 0.
   * @param seeds their environments' seeds.
   * @returns who plays them.
   */
  begin(first: number, seeds: readonly number[]): Player[] {
    const { seed } = this.draws
    const weights = this.players.map(({ weight }) => weight)
    const taken = this.players.map(() => 0)
    this.rows = seeds.map((_, row) => {
      const player = choosePlayer(weights, seed, first + row)
      return { player, own: taken[player]!++, noise: new Random(seed, first + row, STREAM.noise) }
    })
    this.policies.forEach((policy, player) => {
      const own = seeds.filter((_, row) => this.rows[row]!.player === player)
      if (own.length > 0) policy.reset([...own.keys()], own)
    })
    return this.rows.map(({ player }) => this.players[player]!)
  }

  /** Episodes begin in `begin`, which knows their numbers. */
  reset(): void {}

  async act(observations: Float32Array, feedback: Feedback): Promise<Float32Array> {
    const actions = new Float32Array(this.rows.length * this.act_dim)
    for (const player of this.players.keys()) {
      const rows = [...this.rows.keys()].filter((row) => this.rows[row]!.player === player)
      if (rows.length > 0) await this.play(player, rows, observations, feedback, actions)
    }
    return actions
  }

  private async play(
    player: number,
    rows: readonly number[],
    observations: Float32Array,
    { rewards, costs }: Feedback,
    actions: Float32Array,
  ): Promise<void> {
    const { obs_dim, act_dim } = this
    const seen = new Float32Array(rows.length * obs_dim)
    rows.forEach((row, own) => seen.set(observations.subarray(row * obs_dim, (row + 1) * obs_dim), own * obs_dim))
    const answers = { rewards: pick(rewards, rows), costs: pick(costs, rows) }
    const chosen = await this.policies[player]!.act(seen, answers)
    requireActions(chosen, rows.length * act_dim, this.players[player]!.policy)
    rows.forEach((row, own) => {
      for (let entry = 0; entry < act_dim; entry += 1) {
        actions[row * act_dim + entry] = this.executed(chosen[own * act_dim + entry]!, row, entry)
      }
    })
  }

  /** With its noise and inside the box, as the environment takes it and as it is recorded. */
  private executed(action: number, row: number, entry: number): number {
    const [low, high] = [this.env.action_low[entry]!, this.env.action_high[entry]!]
    const { player, noise } = this.rows[row]!
    const isNoisy = this.draws.noise > 0 && !this.players[player]!.isRandom
    const noisy = isNoisy ? action + this.draws.noise * ((high - low) / 2) * noise.normal() : action
    return Math.min(high, Math.max(low, noisy))
  }
}

const pick = (values: Float32Array, rows: readonly number[]): Float32Array =>
  Float32Array.from(rows, (row) => values[row]!)

function requireActions(actions: Float32Array, length: number, policy: string): void {
  if (actions.length !== length) {
    throw new DrcorlError('Shape', `policy ${policy} gave ${actions.length} action components, not ${length}`)
  }
  const bad = actions.findIndex((value) => !Number.isFinite(value))
  if (bad < 0) return
  throw new DrcorlError('Data', `policy ${policy} gave the action component ${actions[bad]}, which is no number`)
}
