/** How long a policy takes to decide, from JavaScript, once it is warm. */
import { DrcorlError } from '../base/errors.js'
import { Random } from '../envs/random.js'
import type { LoadedPolicy } from '../policy/policy.js'

/** A measurement of many decisions. */
export interface Timing {
  /** For 1,000 decisions: the median of the rounds. */
  seconds: number
  /** The fastest round. */
  fastest: number
  /** Decisions of a round: fewer than 1,000 where these would have taken too long; `seconds` is scaled then. */
  decisions: number
  rounds: number
}

export interface TimingOptions {
  /** Most seconds for all rounds of one measurement; a policy that is slower makes fewer decisions, one at least. */
  seconds: number
  signal: AbortSignal
}

export const DECISIONS = 1000
const ROUNDS = 3
/** Decisions before the clock starts: longer than the memory of any policy that keeps a window. */
const WARM = 100
/** Of a batch: rows with full windows. */
const WARM_BATCHES = 12
const WARM_SHARE = 0.2

/**
 * 1,000 decisions one after the other: one row, another observation each time, one call into the addon each. All are of
 * one episode.
 */
export function timeSequential(policy: LoadedPolicy, options: TimingOptions): Timing {
  const observations = observationsOf(policy, DECISIONS)
  const rows = Array.from({ length: DECISIONS }, (_, row) =>
    observations.subarray(row * policy.obs_dim, (row + 1) * policy.obs_dim),
  )
  const action = new Float32Array(policy.act_dim)
  policy.reset([0])
  const decide = (count: number, seconds: number): { count: number; seconds: number } =>
    during(count, seconds, options.signal, (k) => policy.actInto(rows[k % DECISIONS]!, action))
  decide(WARM, WARM_SHARE * options.seconds)
  const budget = options.seconds / ROUNDS
  return summary(Array.from({ length: ROUNDS }, () => decide(DECISIONS, budget)))
}

/**
 * One batch of 1,000 rows, with full windows where a policy keeps one; fewer rows where these would take too long.
 *
 * @param sequential of the same policy: what a row may cost at most.
 */
export function timeBatch(policy: LoadedPolicy, sequential: Timing, options: TimingOptions): Timing {
  const affordable = Math.floor((options.seconds / (ROUNDS + 1) / sequential.fastest) * DECISIONS)
  const count = Math.max(1, Math.min(DECISIONS, affordable))
  const observations = observationsOf(policy, count)
  const actions = new Float32Array(count * policy.act_dim)
  policy.reset(Array.from({ length: count }, (_, row) => row))
  const act = (): void => policy.actInto(observations, actions)
  during(WARM_BATCHES, WARM_SHARE * options.seconds, options.signal, act)
  const rounds = Array.from({ length: ROUNDS }, () => during(1, options.seconds, options.signal, act))
  return summary(rounds.map(({ seconds }) => ({ count, seconds })))
}

/** Calls up to `count` times, at least once, and stops after `most` seconds. */
function during(
  count: number,
  most: number,
  signal: AbortSignal,
  call: (k: number) => void,
): { count: number; seconds: number } {
  const start = performance.now()
  for (let k = 0; k < count;) {
    if (signal.aborted) throw new DrcorlError('Cancelled', 'stopped before every policy was timed')
    call(k)
    k += 1
    const seconds = (performance.now() - start) / 1000
    if (k === count || seconds >= most) return { count: k, seconds }
  }
  return { count: 0, seconds: 0 }
}

function summary(rounds: readonly { count: number; seconds: number }[]): Timing {
  const times = rounds.map(({ count, seconds }) => (seconds * DECISIONS) / count).toSorted((a, b) => a - b)
  const seconds = times[Math.floor((times.length - 1) / 2)]!
  const decisions = Math.min(...rounds.map(({ count }) => count))
  return { seconds, fastest: times[0]!, decisions, rounds: rounds.length }
}

function observationsOf({ obs_dim }: LoadedPolicy, rows: number): Float32Array {
  const random = new Random(1)
  return Float32Array.from({ length: rows * obs_dim }, () => 2 * random.uniform() - 1)
}
