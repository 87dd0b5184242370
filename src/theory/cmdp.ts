/**
 * Finite constrained decision processes, their policies and exact values. Values are discounted sums, never normalised.
 */
import type { Random } from '../envs/random.js'
import { solve } from './linear.js'

/** A tabular CMDP; arrays of [S], [S*A] (row s, column a) and [S*A*S]. Rewards and costs lie in [0, 1]. */
export interface Cmdp {
  name: string
  states: number
  actions: number
  gamma: number
  /** Initial distribution, [S]. */
  rho: Float64Array
  reward: Float64Array
  cost: Float64Array
  /** P(s' | s, a), [S*A*S]. */
  transition: Float64Array
  /** Limit on the discounted cost from `rho`. */
  cost_limit: number
}

/** pi(a | s), [S*A]. */
export type Table = Float64Array

/** What a policy is worth for one signal: V [S], Q [S*A] and A = Q - V [S*A], and V at the initial distribution. */
export interface Values {
  v: Float64Array
  q: Float64Array
  advantage: Float64Array
  value: number
}

export interface Evaluation {
  reward: Values
  cost: Values
}

/** Weights drawn uniformly from the simplex of `n` parts: exponentials over their sum. */
function simplex(n: number, random: Random): number[] {
  const parts = Array.from({ length: n }, () => -Math.log(1 - random.uniform()))
  const sum = parts.reduce((total, part) => total + part, 0)
  return parts.map((part) => part / sum)
}

/** A random policy, uniform on the simplex of every state. */
export function randomPolicy({ states, actions }: Cmdp, random: Random): Table {
  return Float64Array.from(Array.from({ length: states }, () => simplex(actions, random)).flat())
}

export const uniformPolicy = ({ states, actions }: Cmdp): Table => new Float64Array(states * actions).fill(1 / actions)

/**
 * A random CMDP: each (s, a) leads to three states, rewards and costs are uniform. Its limit lies half-way between the
 * cost of the uniform policy and 0.8 of it, so that it is feasible in most draws and binds in most.
 */
export function randomCmdp(states: number, actions: number, gamma: number, random: Random): Cmdp {
  const transition = new Float64Array(states * actions * states)
  const successors = Math.min(3, states)
  for (let row = 0; row < states * actions; row++) {
    const weights = simplex(successors, random)
    for (const weight of weights) {
      const at = row * states + Math.floor(random.uniform() * states)
      transition[at] = transition[at]! + weight
    }
  }
  const signal = (): Float64Array => Float64Array.from({ length: states * actions }, () => random.uniform())
  const name = `random ${states}x${actions}`
  const rho = Float64Array.from(simplex(states, random))
  const drawn = { name, states, actions, gamma, rho, reward: signal(), cost: signal(), transition, cost_limit: 0 }
  return { ...drawn, cost_limit: 0.9 * evaluate(drawn, uniformPolicy(drawn)).cost.value }
}

/**
 * Two ways round a corner: from state 0 the short way pays 1 and costs 1 a step, the long way pays 0.6 and costs 0.1;
 * both lead back. Reward and cost want opposite actions everywhere, so every step in the band is one of conflict.
 */
export function fork(gamma: number): Cmdp {
  const transition = new Float64Array(2 * 2 * 2)
  // State 1 is the long way, on which the second action turns back at once.
  for (const [s, a, next] of [
    [0, 0, 0],
    [0, 1, 1],
    [1, 0, 0],
    [1, 1, 1],
  ] as const) {
    transition[(s * 2 + a) * 2 + next] = 1
  }
  return {
    name: 'fork',
    states: 2,
    actions: 2,
    gamma,
    rho: Float64Array.of(1, 0),
    reward: Float64Array.of(1, 0.6, 1, 0.6),
    cost: Float64Array.of(1, 0.1, 1, 0.1),
    transition,
    cost_limit: 0.4 / (1 - gamma),
  }
}

/** Exact values of a policy: one linear system for both signals. */
export function evaluate(cmdp: Cmdp, policy: Table): Evaluation {
  const { states, actions, gamma, transition } = cmdp
  const matrix = new Float64Array(states * states)
  const right = new Float64Array(states * 2)
  for (let s = 0; s < states; s++) {
    matrix[s * states + s] = 1
    for (let a = 0; a < actions; a++) {
      const row = s * actions + a
      const weight = policy[row]!
      right[s * 2] = right[s * 2]! + weight * cmdp.reward[row]!
      right[s * 2 + 1] = right[s * 2 + 1]! + weight * cmdp.cost[row]!
      for (let next = 0; next < states; next++) {
        matrix[s * states + next] = matrix[s * states + next]! - gamma * weight * transition[row * states + next]!
      }
    }
  }
  solve(matrix, right, states, 2)
  return { reward: valuesOf(cmdp, cmdp.reward, right, 0), cost: valuesOf(cmdp, cmdp.cost, right, 1) }
}

function valuesOf(cmdp: Cmdp, signal: Float64Array, solved: Float64Array, column: number): Values {
  const { states, actions, gamma, transition } = cmdp
  const v = Float64Array.from({ length: states }, (_, s) => solved[s * 2 + column]!)
  const q = new Float64Array(states * actions)
  const advantage = new Float64Array(states * actions)
  for (let row = 0; row < q.length; row++) {
    let next = 0
    for (let s = 0; s < states; s++) next += transition[row * states + s]! * v[s]!
    q[row] = signal[row]! + gamma * next
    advantage[row] = q[row]! - v[Math.floor(row / actions)]!
  }
  return { v, q, advantage, value: dot(cmdp.rho, v) }
}

/** The discounted state distribution (1 - gamma) sum_t gamma^t P(s_t = s) from `start` (default rho), [S]. */
export function occupancy(cmdp: Cmdp, policy: Table, start = cmdp.rho): Float64Array {
  const { states, actions, gamma, transition } = cmdp
  const matrix = new Float64Array(states * states)
  for (let next = 0; next < states; next++) {
    matrix[next * states + next] = 1
    for (let s = 0; s < states; s++) {
      for (let a = 0; a < actions; a++) {
        const row = s * actions + a
        const moved = gamma * policy[row]! * transition[row * states + next]!
        matrix[next * states + s] = matrix[next * states + s]! - moved
      }
    }
  }
  const solved = start.map((p) => (1 - gamma) * p)
  solve(matrix, solved, states, 1)
  return solved
}

export function dot(a: Float64Array, b: Float64Array): number {
  let sum = 0
  for (let i = 0; i < a.length; i++) sum += a[i]! * b[i]!
  return sum
}

/** E_{s~d} sum_a policy(a|s) f(s, a). */
export function mean({ actions }: Cmdp, d: Float64Array, policy: Table, f: Float64Array): number {
  let sum = 0
  for (let row = 0; row < f.length; row++) sum += d[Math.floor(row / actions)]! * policy[row]! * f[row]!
  return sum
}

/** KL(p(.|s) || q(.|s)) of every state, [S]. */
export function divergence({ states, actions }: Cmdp, p: Table, q: Table): Float64Array {
  const out = new Float64Array(states)
  for (let row = 0; row < p.length; row++) {
    const s = Math.floor(row / actions)
    if (p[row]! > 0) out[s] = out[s]! + p[row]! * Math.log(p[row]! / q[row]!)
  }
  return out
}

/** p(a | s) of a measure over pairs; uniform where a state has none. */
export function conditional(measure: Float64Array, actions: number): Float64Array {
  return measure.map((value, row) => {
    const first = Math.floor(row / actions) * actions
    const total = measure.subarray(first, first + actions).reduce((sum, part) => sum + part, 0)
    return total > 0 ? value / total : 1 / actions
  })
}

/** Largest absolute value. */
export const largest = (x: Float64Array): number => x.reduce((most, value) => Math.max(most, Math.abs(value)), 0)
