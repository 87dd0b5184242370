/** The paper's statements on finite CMDPs, each computed exactly and judged. Numbers in brackets are the paper's. */
import { Random } from '../envs/random.js'
import { adapt, tilt } from './adaptation.js'
import {
  type Cmdp,
  conditional,
  divergence,
  dot,
  evaluate,
  fork,
  largest,
  mean,
  occupancy,
  randomCmdp,
  randomPolicy,
} from './cmdp.js'
import type { Solver } from './optimum.js'
import { type Instance, schedule } from './runs.js'

export type Verdict = 'holds' | 'holds with a constant' | 'does not hold as printed'

export interface Statement {
  name: string
  /** What is claimed. */
  claim: string
  verdict: Verdict
  /** The largest violation or ratio found, and over how many cases. */
  found: string
  /** What the printed form needs; empty where it needs nothing. */
  remark: string
}

/** Rounding of sums of some hundred terms of size 1 / (1 - gamma). */
const EXACT = 1e-9

/** The CMDPs of a check: `fork`, and `each` random ones of every size. Those without a safe policy are named apart. */
export function instances(
  sizes: readonly (readonly [number, number])[],
  each: number,
  gamma: number,
  seed: number,
  solve: Solver,
): { feasible: Instance[]; infeasible: string[] } {
  const drawn = sizes.flatMap(([states, actions], size) =>
    Array.from({ length: each }, (_, k) => randomCmdp(states, actions, gamma, new Random(seed, size, k))),
  )
  const solved = [fork(gamma), ...drawn].map((cmdp) => ({ cmdp, optimum: solve(cmdp) }))
  return {
    feasible: solved.filter((instance): instance is Instance => instance.optimum !== null),
    infeasible: solved.filter(({ optimum }) => optimum === null).map(({ cmdp }) => cmdp.name),
  }
}

function within(name: string, claim: string, worst: number, bar: number, found: string): Statement {
  return { name, claim, verdict: worst <= bar ? 'holds' : 'does not hold as printed', found, remark: '' }
}

const scientific = (value: number): string => value.toExponential(1)

/** (1): the linear program's optimum is the value of the policy of its measure, and that policy keeps the limit. */
export function program(set: readonly Instance[]): Statement {
  const worst = Math.max(
    ...set.map(({ cmdp, optimum }) => {
      const values = evaluate(cmdp, optimum.policy)
      return Math.max(Math.abs(values.reward.value - optimum.value), values.cost.value - cmdp.cost_limit)
    }),
  )
  const claim = "the linear program's optimum is the value of the policy of its occupancy measure, within the limit"
  return within('(1), optimum', claim, worst, 1e-6, `largest difference ${scientific(worst)} in ${set.length} cases`)
}

/** The performance difference (24), and identity, improvement and per-step bound of the softmax natural gradient. */
export function naturalGradient(set: readonly Instance[], seed: number): Statement[] {
  const worst = { difference: 0, identity: 0, improvement: Number.NEGATIVE_INFINITY, step: Number.NEGATIVE_INFINITY }
  const raise = (name: keyof typeof worst, value: number): void => void (worst[name] = Math.max(worst[name], value))
  const each = 10
  set.forEach(({ cmdp, optimum }, index) => {
    const random = new Random(seed, 17, index)
    const horizon = 1 / (1 - cmdp.gamma)
    const d = occupancy(cmdp, optimum.policy)
    const best = evaluate(cmdp, optimum.policy).reward.value
    for (let k = 0; k < each; k++) {
      const policy = randomPolicy(cmdp, random)
      const now = evaluate(cmdp, policy).reward
      const most = largest(now.advantage)
      const eta = random.uniform() / (horizon * most)
      const { policy: next, normaliser } = tilt(cmdp, policy, now.advantage, eta * horizon)
      const logs = normaliser.map((z) => Math.log(z))
      const nearer =
        (dot(d, divergence(cmdp, optimum.policy, policy)) - dot(d, divergence(cmdp, optimum.policy, next))) / eta
      const gap = best - now.value
      const gain = evaluate(cmdp, next).reward.value - now.value
      raise('difference', Math.abs(gap - horizon * mean(cmdp, d, optimum.policy, now.advantage)))
      raise('identity', Math.abs(gap - nearer - dot(d, logs) / eta))
      raise('improvement', Math.max(dot(cmdp.rho, logs) / (horizon * eta) - gain, -gain))
      raise('step', gap - nearer - eta * (most * horizon) ** 2)
    }
  })
  const cases = `in ${set.length * each} cases`
  const judge = (name: keyof typeof worst, where: string, claim: string, what: string): Statement =>
    within(where, claim, worst[name], EXACT, `largest ${what} ${scientific(worst[name])} ${cases}`)
  return [
    judge('difference', '(24), performance difference', 'V* - V = E_{d*} E_{pi*} A / (1 - gamma)', 'error'),
    judge('identity', '(31), identity', 'V* - V_t = E_{d*}[KL_t - KL_{t+1} + log Z_t] / eta', 'error'),
    judge('improvement', '(32), improvement', 'V_{t+1} - V_t >= (1 - gamma) E_rho log Z_t / eta >= 0', 'shortfall'),
    judge(
      'step',
      '(35), one step',
      'V* - V_t <= E_{d*}[KL_t - KL_{t+1}] / eta + eta A_max^2 / (1 - gamma)^2, if eta A_max <= 1 - gamma',
      'excess',
    ),
  ]
}

/** Proposition 3.1, (13): a policy close to the behavior policy in every state costs little more. */
export function closeness(set: readonly Instance[], pairs: number, seed: number): Statement {
  const random = new Random(seed, 31)
  let ratio = 0
  for (let k = 0; k < pairs; k++) {
    const { cmdp } = set[k % set.length]!
    const behavior = randomPolicy(cmdp, random)
    const base = evaluate(cmdp, behavior).cost
    // Tilts of 1e-4 to 10 reach both ends of the square root; half of them make the cost worse on purpose.
    const scale = 10 ** random.between(-4, 1)
    const direction = random.chance(0.5) ? base.q : Float64Array.from(behavior, () => random.normal())
    const { policy } = tilt(cmdp, behavior, direction, scale)
    const raised = evaluate(cmdp, policy).cost.value - base.value
    if (raised > EXACT) ratio = Math.max(ratio, raised / allowance(cmdp, policy, behavior, base.advantage))
  }
  return {
    ...within(
      '(13), Proposition 3.1',
      'V_c <= V_c^b + sqrt(2 eps) (A_max + gamma eps_adv / (1 - gamma)) / (1 - gamma), if KL <= eps in every state',
      ratio,
      1,
      `largest ratio of raised cost and allowance ${ratio.toFixed(2)} in ${pairs} pairs`,
    ),
    remark: 'with A_max = max |A_c^b| in the first term and eps_adv = max_s |E_pi A_c^b| in the second',
  }
}

/** The right side of (13) less V_c^b. */
export function allowance(cmdp: Cmdp, policy: Float64Array, behavior: Float64Array, advantage: Float64Array): number {
  const { states, actions, gamma } = cmdp
  const eps = largest(divergence(cmdp, policy, behavior))
  let shift = 0
  for (let s = 0; s < states; s++) {
    const row = s * actions
    const expected = dot(policy.subarray(row, row + actions), advantage.subarray(row, row + actions))
    shift = Math.max(shift, Math.abs(expected))
  }
  return (Math.sqrt(2 * eps) * (largest(advantage) + (gamma * shift) / (1 - gamma))) / (1 - gamma)
}

/** (41): drawing one iterate an episode is worth the weighted mean, checked on the one policy of the same occupancy. */
export function mixture(set: readonly Instance[]): Statement {
  let worst = 0
  for (const { cmdp } of set) {
    const { actions } = cmdp
    const measure = new Float64Array(cmdp.states * actions)
    let steps = 0
    const course = adapt(cmdp, schedule(cmdp, 200), ({ policy, chosen, x_r }) => {
      steps++
      if (chosen === 'cost') return
      const d = occupancy(cmdp, policy)
      policy.forEach((p, row) => (measure[row] = measure[row]! + x_r * d[Math.floor(row / actions)]! * p))
    })
    const counted = Object.values(course.counts).reduce((sum, count) => sum + count, 0)
    worst = Math.max(worst, Math.abs(counted - steps))
    if (course.mixture === null) continue
    const mixed = evaluate(cmdp, conditional(measure, actions))
    worst = Math.max(worst, Math.abs(mixed.reward.value - course.mixture.reward))
    worst = Math.max(worst, Math.abs(mixed.cost.value - course.mixture.cost))
  }
  const claim = 'the four cases partition the iterations, and the mixture is worth the weighted mean of its iterates'
  return within('(41), mixture', claim, worst, EXACT, `largest difference ${scientific(worst)} in ${set.length} runs`)
}
