/**
 * What a policy is, wherever it runs. N rows side by side, S observation and A action dimensions; every array is flat
 * and row-major. Nothing in this file or in what it imports may need Node: browsers load it too.
 */

/** A value now or later: some policies answer at once, others live in a runtime that answers later. */
export type MaybePromise<T> = T | Promise<T>

/** What the environment answered to the previous action: policies that condition on return or budget to go read it. */
export interface Feedback {
  /** [N], reward of the previous step; 0 at the first step of an episode. */
  rewards: Float32Array
  /** [N], cost of the previous step; 0 at the first step of an episode. */
  costs: Float32Array
}

/**
 * A policy for N environments side by side; it may keep state for each row, from one `reset` of that row to the next.
 */
export interface Policy {
  /** Name shown in tables. */
  readonly name: string
  /** S, length of one observation. */
  readonly obs_dim: number
  /** A, length of one action. */
  readonly act_dim: number
  /** What computes its actions, for a policy that came from a file. */
  readonly runtime?: string
  /**
   * Forgets the state of the given rows; called before their first `act` of an episode.
   *
   * @param seeds of their episodes, where the caller has any: a policy that draws repeats itself by them.
   */
  reset(rows: readonly number[], seeds?: readonly number[]): void
  /**
   * @param observations [N*S].
   * @param feedback answer to the previous action.
   * @returns actions, [N*A].
   */
  act(observations: Float32Array, feedback: Feedback): MaybePromise<Float32Array>
}

/** What computes the actions of a policy file: the native addon, or JavaScript where there is none. */
export type PolicyRuntime = 'native' | 'javascript'

/** A `policy.safetensors` at play: raw observations in, actions inside the box out, at once. */
export interface LoadedPolicy extends Policy {
  readonly runtime: PolicyRuntime
  /** What the policy is conditioned on, a target or a limit, with the values in force. */
  readonly settings: Readonly<Record<string, number>>
  /** What the file says about its origin. */
  readonly metadata: Readonly<Record<string, string>>
  /**
   * @param observations [N*S] of N rows, which may be 1; in the environment's units.
   * @param feedback answer to the previous action; policies without memory need none.
   * @returns actions, [N*A], a new array.
   * @throws DrcorlError `Shape` for a length that is no whole number of rows, `Data` for a value that is not finite.
   */
  act(observations: Float32Array | readonly number[], feedback?: Feedback): Float32Array
  /**
   * As `act`, into an array of the caller, [N*A], that shares no memory with the others; nothing is allocated.
   *
   * @throws DrcorlError as `act`, and `Shape` where it does.
   */
  actInto(observations: Float32Array, actions: Float32Array, feedback?: Feedback): void
}

/** How `loadPolicy` loads. */
export interface LoadPolicyOptions {
  /**
   * `auto` takes the native addon where there is one and JavaScript where there is none; both give the same actions to
   * 1e-6 of the box. JavaScript plays policies of kind `mlp`, which most algorithms write, and mixtures of them.
   */
  runtime?: 'auto' | PolicyRuntime
}
