/**
 * Algorithm 2 of the paper on a table: exact softmax natural gradient with its three cases,
 * and the weighted mixture (41).
 */
import { type Cmdp, type Evaluation, type Table, dot, evaluate, uniformPolicy } from './cmdp.js'

/** Which step an iteration took: reward, cost, or in the band with aligned or conflicting gradients. */
export const CASES = ['reward', 'aligned', 'conflicting', 'cost'] as const
export type Case = (typeof CASES)[number]

export interface Adaptation {
  iterations: number
  /** Step size of the natural gradient. */
  eta: number
  /** Reward steps up to limit - slack_below, cost steps from limit + slack_above, the band between. */
  slack_above: number
  slack_below: number
  /** False leaves the band out: reward steps up to limit + slack_above, as in CRPO. */
  band: boolean
  /** Weights of (12) are kept below this; infinite as printed. */
  clip: number
  /** What critics are off by: of Q for each signal, [S*A], and of the cost that is compared with the limit. */
  error?: { reward: Float64Array; cost: Float64Array; estimate: number }
}

/** What one iteration was, before its step. */
export interface Iteration {
  policy: Table
  values: Evaluation
  chosen: Case
  /** The step's weights: theta moves along x_r A_r - x_c A_c. */
  x_r: number
  x_c: number
  /** E_{a~pi} exp(eta A / (1 - gamma)) of every state, [S], with A the combined advantage of the step. */
  normaliser: Float64Array
  /** Largest |x_r A_r - x_c A_c|, errors included. */
  advantage: number
}

/** Totals over a run. */
export interface Course {
  counts: Record<Case, number>
  /**
   * Value of the mixture policy (41): weights 1 on reward steps, x_r in the band, 0 on cost steps; null without weight.
   */
  mixture: { reward: number; cost: number } | null
  /** The policy after the last step. */
  last: Table
  /** Largest weight of (12) before clipping. */
  weight: number
  clipped: number
}

/** Runs Algorithm 2 from the uniform policy; `visit` sees every iteration. */
export function adapt(cmdp: Cmdp, settings: Adaptation, visit: (iteration: Iteration) => void = () => {}): Course {
  const { eta, error } = settings
  const counts: Record<Case, number> = { reward: 0, aligned: 0, conflicting: 0, cost: 0 }
  const mixed = { weight: 0, reward: 0, cost: 0 }
  let [largest, clipped] = [0, 0]
  let policy = uniformPolicy(cmdp)
  for (let t = 0; t < settings.iterations; t++) {
    const values = evaluate(cmdp, policy)
    const direction = {
      reward: centred(cmdp, policy, values.reward.q, error?.reward),
      cost: centred(cmdp, policy, values.cost.q, error?.cost),
    }
    const { chosen, x_r, x_c, raw } = weights(cmdp, settings, values.cost.value + (error?.estimate ?? 0), direction)
    largest = Math.max(largest, raw)
    if (raw > settings.clip) clipped++
    counts[chosen]++
    const combined = direction.reward.map((a, row) => x_r * a - x_c * direction.cost[row]!)
    const step = tilt(cmdp, policy, combined, eta / (1 - cmdp.gamma))
    const advantage = combined.reduce((most, a) => Math.max(most, Math.abs(a)), 0)
    visit({ policy, values, chosen, x_r, x_c, normaliser: step.normaliser, advantage })
    const weight = chosen === 'cost' ? 0 : x_r
    mixed.weight += weight
    mixed.reward += weight * values.reward.value
    mixed.cost += weight * values.cost.value
    policy = step.policy
  }
  const { weight, reward, cost } = mixed
  const mixture = weight > 0 ? { reward: reward / weight, cost: cost / weight } : null
  return { counts, mixture, last: policy, weight: largest, clipped }
}

/** The case of an iteration and its weights, by (12) where the gradients conflict. */
function weights(
  { cost_limit }: Cmdp,
  { slack_above, slack_below, band, clip }: Adaptation,
  estimate: number,
  direction: { reward: Float64Array; cost: Float64Array },
): { chosen: Case; x_r: number; x_c: number; raw: number } {
  if (estimate > cost_limit + slack_above) return { chosen: 'cost', x_r: 0, x_c: 1, raw: 1 }
  if (!band || estimate <= cost_limit - slack_below) {
    return { chosen: 'reward', x_r: 1, x_c: 0, raw: 1 }
  }
  const product = -dot(direction.reward, direction.cost)
  if (product >= 0) return { chosen: 'aligned', x_r: 0.5, x_c: 0.5, raw: 0.5 }
  const share = (own: Float64Array): number => (1 - product / dot(own, own)) / 2
  const [x_r, x_c] = [share(direction.reward), share(direction.cost)]
  return { chosen: 'conflicting', x_r: Math.min(clip, x_r), x_c: Math.min(clip, x_c), raw: Math.max(x_r, x_c) }
}

/** Q, with its error, less its mean under the policy: adding any V(s) to Q changes no step. */
function centred({ states, actions }: Cmdp, policy: Table, q: Float64Array, error?: Float64Array): Float64Array {
  const out = Float64Array.from(q, (value, row) => value + (error?.[row] ?? 0))
  for (let s = 0; s < states; s++) {
    let mean = 0
    for (let a = 0; a < actions; a++) mean += policy[s * actions + a]! * out[s * actions + a]!
    for (let a = 0; a < actions; a++) out[s * actions + a] = out[s * actions + a]! - mean
  }
  return out
}

/** pi(a|s) exp(scale f(s, a)) / Z(s): the softmax natural gradient step (31), (32). */
export function tilt(
  { states, actions }: Cmdp,
  policy: Table,
  f: Float64Array,
  scale: number,
): { policy: Table; normaliser: Float64Array } {
  const next = policy.map((p, row) => p * Math.exp(scale * f[row]!))
  const normaliser = new Float64Array(states)
  for (let row = 0; row < next.length; row++) {
    const s = Math.floor(row / actions)
    normaliser[s] = normaliser[s]! + next[row]!
  }
  return { policy: next.map((p, row) => p / normaliser[Math.floor(row / actions)]!), normaliser }
}
