import { meanAndStd } from '../base/moments.js'
import type { Statistics } from '../config/results.js'

export type { Statistics }

/** 97.5 % quantiles of Student's t for 1 to 30 degrees of freedom. */
const T_975 = [
  12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.306, 2.2622, 2.2281, 2.201, 2.1788, 2.1604, 2.1448, 2.1314,
  2.1199, 2.1098, 2.1009, 2.093, 2.086, 2.0796, 2.0739, 2.0687, 2.0639, 2.0595, 2.0555, 2.0518, 2.0484, 2.0452, 2.0423,
]

/**
 * 97.5 % quantile of Student's t: the table, and above it the Cornish-Fisher expansion about the normal, error < 1e-4.
 */
export function tQuantile975(degrees: number): number {
  const tabulated = T_975[degrees - 1]
  if (tabulated !== undefined) return tabulated
  const z = 1.959964
  const first = (z ** 3 + z) / 4
  const second = (5 * z ** 5 + 16 * z ** 3 + 3 * z) / 96
  return z + first / degrees + second / degrees ** 2
}

/** @param values one for each episode, at least one. */
export function summarize(values: readonly number[]): Statistics {
  const n = values.length
  if (n === 0) throw new RangeError('no episodes to summarise')
  const { mean, std } = meanAndStd(values)
  const sorted = values.toSorted((a, b) => a - b)
  const median = (sorted[Math.floor((n - 1) / 2)]! + sorted[Math.ceil((n - 1) / 2)]!) / 2
  const extremes = { median, min: sorted[0]!, max: sorted[n - 1]! }
  if (std === null) return { mean, std, ci95: null, ...extremes }
  const half = (tQuantile975(n - 1) * std) / Math.sqrt(n)
  return { mean, std, ci95: [mean - half, mean + half], ...extremes }
}

/**
 * Clopper and Pearson's 95 % interval of a probability after `successes` of `trials`; null without trials. It holds the
 * true one at least 95 % of the time, whatever it is.
 */
export function clopperPearson95(successes: number, trials: number): [low: number, high: number] | null {
  if (trials === 0) return null
  const [low, high] = [successes, successes + 1].map((count) => {
    // Share at which at least `count` successes are as rare as 2.5 % (from below), or all but 2.5 % (from above).
    const wanted = count === successes ? 0.025 : 0.975
    return bisect((share) => atLeast(count, trials, share) - wanted)
  })
  return [successes === 0 ? 0 : low!, successes === trials ? 1 : high!]
}

/** Probability of at least `count` successes. */
function atLeast(count: number, trials: number, share: number): number {
  if (share <= 0) return count <= 0 ? 1 : 0
  if (share >= 1) return count <= trials ? 1 : 0
  let choices = 0
  let sum = 0
  for (let k = 0; k <= trials; k += 1) {
    if (k > 0) choices += Math.log((trials - k + 1) / k)
    if (k >= count) sum += Math.exp(choices + k * Math.log(share) + (trials - k) * Math.log1p(-share))
  }
  return sum
}

/** Root in [0, 1] of a function that rises. */
function bisect(rising: (at: number) => number): number {
  let [low, high] = [0, 1]
  for (let step = 0; step < 60; step += 1) {
    const middle = (low + high) / 2
    if (rising(middle) < 0) low = middle
    else high = middle
  }
  return (low + high) / 2
}
