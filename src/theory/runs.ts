/** Runs of Algorithm 2 on one CMDP, each held to the sums (35)-(40) that the proof of Theorem 3.1 adds up. */
import type { Random } from '../envs/random.js'
import { type Adaptation, type Course, adapt } from './adaptation.js'
import { type Cmdp, divergence, dot, evaluate, occupancy } from './cmdp.js'
import type { Optimum } from './optimum.js'

/** One CMDP with its optimum. */
export interface Instance {
  cmdp: Cmdp
  optimum: Optimum
}

/** What a run came to, beside what the proof allows it. */
export interface Run {
  instance: Instance
  settings: Adaptation
  course: Course
  /** Largest excess of one iteration over the per-step inequality; rounding at most. */
  excess: number
  /** Largest |x_r A_r - x_c A_c| of an iteration. */
  advantage: number
  /**
   * Iterations whose step is too large for its second-order bound (eta A_max above 1 - gamma);
   * they are held to log Z itself.
   */
  large: number
  /** V_r* less the mixture's value, and the mixture's cost less the limit; null where every step was a cost step. */
  gap: number | null
  violation: number | null
  /** What (40) says of the gap at most, with the constants of this run. */
  bound: number
}

/** Step size and slacks of the dimension-free bound with A_max = 1: both fall as 1/sqrt(T). */
export function schedule(cmdp: Cmdp, iterations: number): Adaptation {
  const root = Math.sqrt(Math.log(cmdp.actions) / iterations)
  const slack = root / (1 - cmdp.gamma)
  return { iterations, eta: (1 - cmdp.gamma) * root, slack_above: slack, slack_below: slack, band: true, clip: 4 }
}

/** Errors of critics of at most `size`: the same in every iteration, as those of critics fitted to one data set are. */
export function criticError(cmdp: Cmdp, size: number, random: Random): NonNullable<Adaptation['error']> {
  const draw = (): Float64Array =>
    Float64Array.from({ length: cmdp.states * cmdp.actions }, () => random.between(-size, size))
  return { reward: draw(), cost: draw(), estimate: random.between(-size, size) }
}

/**
 * Runs Algorithm 2 and adds up its proof.
 *
 * Every iteration obeys x_r (V_r* - V_r) + x_c (V_c - V_c*) <= (KL_t - KL_{t+1}) / eta + eta A_max^2 / (1-gamma)^2 +
 * the critics' part. Summed, with V_c - V_c* at least slack_above - error on cost steps and -slack_below - error in the
 * band, that bounds the mixture's gap.
 *
 * @param error what critics are off by at most, 0 for exact ones.
 */
export function run(instance: Instance, settings: Adaptation, error = 0): Run {
  const { cmdp, optimum } = instance
  const { eta, slack_above, slack_below } = settings
  const horizon = 1 / (1 - cmdp.gamma)
  const d = occupancy(cmdp, optimum.policy)
  const best = evaluate(cmdp, optimum.policy)
  const distance = (policy: Float64Array): number => dot(d, divergence(cmdp, optimum.policy, policy))
  const sums = { allowed: 0, weight: 0 }
  let [excess, large, most] = [Number.NEGATIVE_INFINITY, 0, 0]
  // What the iteration before claims, less its divergence: known only once the next policy is.
  let pending: { claim: number; before: number } | null = null
  const settle = (policy: Float64Array): number => {
    const now = distance(policy)
    if (pending !== null) excess = Math.max(excess, pending.claim - (pending.before - now) / eta)
    return now
  }
  const course = adapt(cmdp, settings, ({ policy, values, chosen, x_r, x_c, normaliser, advantage }) => {
    const now = settle(policy)
    if (pending === null) sums.allowed += now / eta
    most = Math.max(most, advantage)
    const isLarge = eta * advantage * horizon > 1
    if (isLarge) large++
    const logs = normaliser.map((z) => Math.log(z))
    const second = isLarge ? dot(d, logs) / eta : eta * (advantage * horizon) ** 2
    const misread = (x_r + x_c) * 2 * error * horizon
    const left = x_r * (best.reward.value - values.reward.value) + x_c * (values.cost.value - best.cost.value)
    pending = { claim: left - second - misread, before: now }
    sums.allowed += second + misread
    if (chosen === 'cost') sums.allowed -= slack_above - error
    else sums.weight += x_r
    if (chosen === 'aligned' || chosen === 'conflicting') sums.allowed += x_c * (slack_below + error)
  })
  settle(course.last)
  const { mixture } = course
  return {
    instance,
    settings,
    course,
    excess,
    advantage: most,
    large,
    gap: mixture === null ? null : optimum.value - mixture.reward,
    violation: mixture === null ? null : mixture.cost - cmdp.cost_limit,
    bound: sums.weight > 0 ? Math.max(0, sums.allowed / sums.weight) : Number.POSITIVE_INFINITY,
  }
}
