/**
 * The two seams of evaluation: a batch of environments stepped side by side, and a policy that acts on the batch.
 * N environments, S observation and A action dimensions; every array is flat and row-major, so row i of the
 * observations is `observations.subarray(i * S, (i + 1) * S)`.
 */
import type { MaybePromise } from '../policy/policy.js'

export type { Feedback, MaybePromise, Policy } from '../policy/policy.js'

/** What one step of N environments gives. Terminated bootstraps to zero, truncated does not: they are never merged. */
export interface StepResult {
  /** Next observations, [N*S], the environment's own units. */
  observations: Float32Array
  /** [N], reward of this step. */
  rewards: Float32Array
  /** [N], cost of this step, >= 0. */
  costs: Float32Array
  /**
   * Further costs of this step by their names, [N] each; left out by environments without any. A limit on one of them
   * (`limits`) is judged by it.
   */
  further?: Readonly<Record<string, Float32Array>>
  /** [N], 1 where the episode ended in a terminal state. */
  terminated: Uint8Array
  /** [N], 1 where the episode was cut at its step limit. */
  truncated: Uint8Array
  /** Rows that were really stepped, where rows that have ended rest; left out where all N were. */
  stepped?: number
}

/**
 * N environments of one task.
 *
 * A row that has ended (terminated or truncated) may be reset by the environment, go on or rest; its later values mean
 * nothing until the next `reset`. The arrays a call returns belong to the environment and may be overwritten by the
 * next call: copy what must be kept.
 */
export interface VecEnv {
  /** Name in messages and results, for example `point-circle` or `BallCircle`. */
  readonly id: string
  /** S, length of one observation. */
  readonly obs_dim: number
  /**
   * A, length of one action, in the environment's own units, [-1, 1] in every task here; it clips to its box itself.
   */
  readonly act_dim: number
  /** The box of the actions, [A] each; left out where it is [-1, 1], an open side is an infinity. */
  readonly action_low?: readonly number[]
  readonly action_high?: readonly number[]
  /** Steps after which an episode is truncated. */
  readonly episode_length: number
  /** Names of the further costs in the result of a step; left out where there are none. */
  readonly further_costs?: readonly string[]
  /** N, rows stepped side by side. */
  readonly num_envs: number
  /**
   * Starts a new episode in every row; the same seed gives the same episode under the same actions.
   * @param seeds [N] non-negative integers, one for each row.
   * @returns first observations, [N*S].
   * @throws RangeError if the number of seeds is not N.
   */
  reset(seeds: readonly number[]): MaybePromise<Float32Array>
  /**
   * Applies one action in every row.
   * @param actions [N*A].
   * @throws RangeError if the length is not N*A.
   */
  step(actions: Float32Array): MaybePromise<StepResult>
  /** Frees what the environment holds outside JavaScript; embedded environments have nothing to free. */
  close?(): MaybePromise<void>
}

/** A simulator of costs alone: its steps give no rewards. Mode hybrid-eval visits it, and nothing else can use it. */
export interface CostEnv extends Omit<VecEnv, 'step'> {
  step(actions: Float32Array): MaybePromise<Omit<StepResult, 'rewards'>>
}

/**
 * Makes an environment of `num_envs` rows.
 * Aborting the signal ends one that runs in other processes, also inside a call.
 */
export type EnvFactory<Env extends CostEnv = VecEnv> = (num_envs: number, signal?: AbortSignal) => MaybePromise<Env>
