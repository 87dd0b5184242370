/** The best safe policy of a tabular CMDP, by a linear program over occupancy measures, solved by HiGHS. */
import { importPeer, missingPeer } from '../export/peers.js'
import { type Cmdp, type Table, conditional } from './cmdp.js'

/** The part of the package `highs` that is used: programs in CPLEX's LP format. */
interface Highs {
  solve(program: string): { Status: string; ObjectiveValue: number; Columns: Record<string, { Primal?: number }> }
}

/** Solves programs; null where no policy is within the limit. */
export type Solver = (cmdp: Cmdp) => Optimum | null

export interface Optimum {
  /** The program's own optimum, V_r* at rho. */
  value: number
  /** pi*(a|s) = mu(s, a) / sum_a mu(s, a); uniform where the occupancy is 0. */
  policy: Table
}

/**
 * Loads HiGHS.
 *
 * @throws DrcorlError `Runtime` where the optional package `highs` is not installed.
 */
export async function loadSolver(): Promise<Solver> {
  const load = await importPeer<() => Promise<Highs>>('highs')
  if (load === null) throw missingPeer('the optimum by a linear program', ['highs'])
  const highs = await load()
  return (cmdp) => optimum(cmdp, highs)
}

/**
 * max sum mu r / (1 - gamma) over mu >= 0 with sum_a mu(s', a) - gamma sum_{s,a} P(s'|s,a) mu(s, a) = (1 - gamma)
 * rho(s') and sum mu c <= (1 - gamma) limit.
 */
function optimum(cmdp: Cmdp, highs: Highs): Optimum | null {
  const { states, actions, gamma, rho, reward, cost, transition } = cmdp
  const rows = states * actions
  const sum = (coefficient: (row: number) => number): string =>
    Array.from({ length: rows }, (_, row) => [coefficient(row), row] as const)
      .filter(([value]) => value !== 0)
      .map(([value, row]) => `${value < 0 ? '-' : '+'} ${Math.abs(value)} m${row}`)
      // One term a line: a line of the format has a longest length.
      .join('\n  ')
  const flow = Array.from({ length: states }, (_, next) => {
    const coefficient = (row: number): number =>
      (Math.floor(row / actions) === next ? 1 : 0) - gamma * transition[row * states + next]!
    return ` f${next}: ${sum(coefficient)} = ${(1 - gamma) * rho[next]!}`
  })
  const program = [
    'Maximize',
    ` value: ${sum((row) => reward[row]!)}`,
    'Subject To',
    ...flow,
    ` limit: ${sum((row) => cost[row]!)} <= ${(1 - gamma) * cmdp.cost_limit}`,
    'End',
  ].join('\n')
  const solved = highs.solve(program)
  if (solved.Status !== 'Optimal') return null
  const mu = Float64Array.from({ length: rows }, (_, row) => Math.max(0, solved.Columns[`m${row}`]?.Primal ?? 0))
  return { value: solved.ObjectiveValue / (1 - gamma), policy: conditional(mu, actions) }
}
