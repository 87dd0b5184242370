import { DrcorlError } from '../base/errors.js'

/**
 * The three normalised costs of the field, which all read "safe below 1" and differ by some per cent; `C` is the
 * episodic cost and `l` the limit:
 *
 * - `dsrl`: (C + e) / (l + e), e = 1 only if l = 0, else 0 (DSRL, OSRL)
 * - `paper`: (C + 0.1) / (l + 0.1) (the DRCORL paper)
 * - `release`: C / (l + 0.1) (the DRCORL paper's released code)
 *
 * Whether an episode is safe is judged on the raw cost, C <= l, never on one of these.
 */
export const COST_CONVENTIONS = ['dsrl', 'paper', 'release'] as const

export type CostConvention = (typeof COST_CONVENTIONS)[number]

const PAPER_EPSILON = 0.1

/**
 * (R - Rmin) / (Rmax - Rmin): 0 is the worst and 1 the best episode of the task's dataset; values outside are possible.
 *
 * @throws DrcorlError `Config` unless Rmin < Rmax.
 */
export function normalizeReward(ret: number, range: { min_return: number; max_return: number }): number {
  const { min_return, max_return } = range
  if (!(min_return < max_return)) {
    throw new DrcorlError('Config', `score range: min_return ${min_return} must be below max_return ${max_return}`)
  }
  return (ret - min_return) / (max_return - min_return)
}

/** @throws DrcorlError `Config` for a limit that is negative or no number. */
export function normalizeCost(cost: number, limit: number, convention: CostConvention): number {
  if (!(limit >= 0 && Number.isFinite(limit))) {
    throw new DrcorlError('Config', `cost_limit ${limit} must be a number, 0 or more`)
  }
  if (convention === 'release') return cost / (limit + PAPER_EPSILON)
  const epsilon = convention === 'paper' ? PAPER_EPSILON : limit === 0 ? 1 : 0
  return (cost + epsilon) / (limit + epsilon)
}
