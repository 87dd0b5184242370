/** `drcorl theory`: the paper's theory checked by number. */
import { setImmediate } from 'node:timers/promises'
import { DrcorlError } from '../base/errors.js'
import * as convergence from './convergence.js'
import { loadSolver } from './optimum.js'
import type { Run } from './runs.js'
import * as statements from './statements.js'
import type { Statement } from './statements.js'

export interface TheoryOptions {
  /** Sizes [states, actions] of the random CMDPs. */
  sizes: readonly (readonly [number, number])[]
  /** CMDPs of each size. */
  instances: number
  gamma: number
  /** Numbers of iterations of Algorithm 2, increasing. */
  iterations: readonly number[]
  /** Errors of critics, 0 among them. */
  critic_errors: readonly number[]
  /** Pairs of policies for Proposition 3.1. */
  pairs: number
  seed: number
}

export interface TheoryResult {
  options: TheoryOptions
  statements: Statement[]
  /** Exact critics: one row an instance, one run a number of iterations. */
  runs: Run[][]
  /** Wrong critics: one row an instance, one run an error. */
  errors: Run[][]
  /** Variants of the band at the largest number of iterations. */
  variants: Record<string, Run[]>
  /** Drawn, without a safe policy, and left out. */
  infeasible: string[]
}

export const DEFAULTS: TheoryOptions = {
  sizes: [
    [4, 3],
    [10, 4],
    [20, 5],
  ],
  instances: 2,
  gamma: 0.9,
  iterations: [100, 1000, 10_000],
  critic_errors: [0, 0.01, 0.03, 0.1],
  pairs: 1000,
  seed: 0,
}

/**
 * Checks every statement. Deterministic in its options.
 *
 * @param onProgress told how much of the work is done, from 0 to 1.
 * @throws DrcorlError `Runtime` where the optional package `highs` is missing, `Interrupted` after `signal`.
 */
export async function checkTheory(
  options: TheoryOptions = DEFAULTS,
  onProgress: (share: number) => void = () => {},
  signal?: AbortSignal,
): Promise<TheoryResult> {
  const solve = await loadSolver()
  const { sizes, gamma, seed, iterations, critic_errors } = options
  const { feasible, infeasible } = statements.instances(sizes, options.instances, gamma, seed, solve)
  const most = iterations.at(-1)!
  const middle = iterations.at(-2) ?? most
  const each = iterations.length + critic_errors.length + Object.keys(convergence.VARIANTS).length
  let done = 0
  const tick = async (): Promise<void> => {
    onProgress(done++ / (feasible.length * each))
    // A turn of the event loop: without one no signal would ever be seen.
    await setImmediate()
    if (signal?.aborted) throw new DrcorlError('Interrupted', 'interrupted; the check keeps nothing')
  }
  const basic = [
    statements.program(feasible),
    ...statements.naturalGradient(feasible, seed),
    statements.closeness(feasible, options.pairs, seed),
    statements.mixture(feasible),
  ]
  const exact = await convergence.overIterations(feasible, iterations, tick)
  const errors = await convergence.overErrors(feasible, middle, critic_errors, seed, tick)
  const variants = await convergence.variants(feasible, middle, tick)
  onProgress(1)
  return {
    options,
    statements: [
      ...basic,
      ...convergence.convergence(exact, iterations),
      ...convergence.plateau(errors, critic_errors),
      convergence.weights(gamma, Math.min(1000, most), solve),
      convergence.lowerSlack(variants),
    ],
    runs: exact,
    errors,
    variants,
    infeasible,
  }
}
