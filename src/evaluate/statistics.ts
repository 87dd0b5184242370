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
  const mean = values.reduce((sum, value) => sum + value, 0) / n
  const sorted = values.toSorted((a, b) => a - b)
  const median = (sorted[Math.floor((n - 1) / 2)]! + sorted[Math.ceil((n - 1) / 2)]!) / 2
  const extremes = { median, min: sorted[0]!, max: sorted[n - 1]! }
  if (n === 1) return { mean, std: null, ci95: null, ...extremes }
  const std = Math.sqrt(values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (n - 1))
  const half = (tQuantile975(n - 1) * std) / Math.sqrt(n)
  return { mean, std, ci95: [mean - half, mean + half], ...extremes }
}
