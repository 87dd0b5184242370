/** Theorem 3.1 by number: runs of Algorithm 2 over numbers of iterations, errors of critics, slacks and clips. */
import { Random } from '../envs/random.js'
import type { Adaptation } from './adaptation.js'
import { type Cmdp, fork } from './cmdp.js'
import type { Solver } from './optimum.js'
import { type Instance, type Run, criticError, run, schedule } from './runs.js'
import type { Statement } from './statements.js'

/** Rounding of a sum over a run. */
const EXACT = 1e-8
/** The slope asked of log(gap) against log(T): 1/2 is proven, and short runs are not yet on their line. */
const SLOPE = -0.45

/** Called before every run: tells progress, and throws where the user has had enough. */
export type Tick = () => Promise<void>

/** What may stand in the band's place. */
export const VARIANTS: Record<string, (settings: Adaptation) => Adaptation> = {
  band: (settings) => settings,
  'no lower slack': (settings) => ({ ...settings, slack_below: 0 }),
  'lower slack x 10': (settings) => ({ ...settings, slack_below: 10 * settings.slack_below }),
  'no band (CRPO)': (settings) => ({ ...settings, band: false }),
}

/** Exact critics: every instance at every number of iterations. */
export async function overIterations(
  set: readonly Instance[],
  iterations: readonly number[],
  tick: Tick,
): Promise<Run[][]> {
  const rows: Run[][] = []
  for (const instance of set) {
    const row: Run[] = []
    for (const count of iterations) {
      await tick()
      row.push(run(instance, schedule(instance.cmdp, count)))
    }
    rows.push(row)
  }
  return rows
}

/** Wrong critics, at the largest number of iterations. */
export async function overErrors(
  set: readonly Instance[],
  iterations: number,
  errors: readonly number[],
  seed: number,
  tick: Tick,
): Promise<Run[][]> {
  const rows: Run[][] = []
  for (const [index, instance] of set.entries()) {
    const row: Run[] = []
    for (const size of errors) {
      await tick()
      // One direction an instance, so that sizes differ in nothing else.
      const error = criticError(instance.cmdp, size, new Random(seed, 23, index))
      row.push(run(instance, { ...schedule(instance.cmdp, iterations), error }, size))
    }
    rows.push(row)
  }
  return rows
}

/** Least-squares slope of log(y) over log(x); null where a value is not above 0: no rate to speak of. */
export function slope(x: readonly number[], y: readonly (number | null)[]): number | null {
  if (x.length < 2 || y.some((value) => value === null || value <= 0)) return null
  const [lx, ly] = [x.map(Math.log), y.map((value) => Math.log(value!))]
  const average = (values: number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length
  const [mx, my] = [average(lx), average(ly)]
  const [top, bottom] = lx.reduce<[number, number]>(
    ([xy, xx], value, k) => [xy + (value - mx) * (ly[k]! - my), xx + (value - mx) ** 2],
    [0, 0],
  )
  return top / bottom
}

/** (35)-(40), (14), (15) with exact critics. */
export function convergence(runs: readonly Run[][], iterations: readonly number[]): Statement[] {
  const all = runs.flat()
  const excess = Math.max(...all.map((one) => one.excess))
  const total = all.reduce((sum, { settings }) => sum + settings.iterations, 0)
  const over = Math.max(...all.map(({ violation, settings }) => (violation ?? 0) - settings.slack_above))
  const ratio = Math.max(...all.map(({ gap, bound }) => Math.max(0, gap ?? 0) / bound))
  const slopes = runs
    .flatMap((row) => [
      slope(
        iterations,
        row.map(({ gap }) => gap),
      ),
      slope(
        iterations,
        row.map(({ violation }) => violation),
      ),
    ])
    .filter((value) => value !== null)
  const steepest = Math.max(...slopes)
  const stuck = all.filter(({ gap }) => gap === null).length
  // The paper's B over the one of these runs.
  const printed = Math.min(
    ...all.map(
      ({ advantage, instance: { cmdp } }) => (cmdp.states * cmdp.actions) / ((1 - cmdp.gamma) * advantage ** 2),
    ),
  )
  return [
    {
      name: '(35)-(38), every iteration',
      claim:
        'x_r (V_r* - V_r) + x_c (V_c - V_c*) <= E_{d*}[KL_t - KL_{t+1}] / eta + eta B, with B = A_max^2 / (1 - gamma)^2',
      verdict: excess <= EXACT ? (printed >= 1 ? 'holds' : 'holds with a constant') : 'does not hold as printed',
      found: `largest excess ${excess.toExponential(1)} in ${total} iterations`,
      remark:
        `A_max is of the combined advantage x_r A_r - x_c A_c, and eta A_max <= 1 - gamma is needed; the printed ` +
        `B = |S||A| / (1 - gamma)^3 is at least ${printed.toPrecision(2)} times this one here`,
    },
    {
      name: '(40), (42), sum',
      claim: "the mixture's gap is at most the sum of the steps' bounds over the weight of the mixture",
      verdict: ratio <= 1 && stuck === 0 ? 'holds' : 'does not hold as printed',
      found: `largest share of the bound ${ratio.toFixed(3)} in ${all.length} runs`,
      remark: 'slack_below stands in the bound with a plus sign: a wide lower slack costs return',
    },
    {
      name: '(14), rate',
      claim: 'gap and violation of the mixture fall as 1/sqrt(T)',
      verdict: slopes.length > 0 && steepest <= SLOPE ? 'holds' : 'does not hold as printed',
      found: `flattest slope ${steepest.toFixed(2)} of ${slopes.length} lines above 0, ${SLOPE} asked`,
      remark: 'with eta = (1 - gamma) sqrt(log|A| / T) and slacks sqrt(log|A| / T) / (1 - gamma)',
    },
    {
      name: '(15), violation',
      claim: "the mixture's cost is above the limit by slack_above at most",
      verdict: over <= EXACT ? 'holds' : 'does not hold as printed',
      found: `closest ${(-over).toFixed(4)} below it in ${all.length} runs`,
      remark: '',
    },
  ]
}

/** The critics' part of (14) and (15): a plateau in proportion to their error. */
export function plateau(runs: readonly Run[][], errors: readonly number[]): Statement[] {
  const all = runs.flat()
  const excess = Math.max(...all.map((one) => one.excess))
  const over = Math.max(
    ...runs.flatMap((row) =>
      row.map(({ violation, settings }, k) => (violation ?? 0) - settings.slack_above - errors[k]!),
    ),
  )
  let factor = 0
  for (const row of runs) {
    const exact = row[errors.indexOf(0)]
    row.forEach(({ gap }, k) => {
      if (errors[k]! > 0 && typeof exact?.gap === 'number' && gap !== null) {
        factor = Math.max(factor, Math.abs(gap - exact.gap) / errors[k]!)
      }
    })
  }
  const horizon = Math.max(...all.map(({ instance }) => 1 / (1 - instance.cmdp.gamma)))
  return [
    {
      name: '(14), critic error',
      claim: 'critics wrong by eps_off add O(eps_off) to the gap, whatever T',
      verdict: factor <= 4 * horizon && excess <= EXACT ? 'holds with a constant' : 'does not hold as printed',
      found: `largest change of the gap ${factor.toFixed(2)} eps_off in ${all.length} runs`,
      remark: `the constant is that of a horizon: 2 (x_r + x_c) / (1 - gamma) an iteration`,
    },
    {
      name: '(15), critic error',
      claim: "the mixture's cost is above the limit by slack_above + eps_off at most",
      verdict: over <= EXACT ? 'holds' : 'does not hold as printed',
      found: `closest ${(-over).toFixed(4)} below it in ${all.length} runs`,
      remark: '',
    },
  ]
}

/**
 * `fork` with rewards a hundredth as large: the two gradients differ a hundredfold in length and conflict everywhere.
 */
export function unbalanced(gamma: number): Cmdp {
  const cmdp = fork(gamma)
  return { ...cmdp, name: 'fork, rewards / 100', reward: cmdp.reward.map((value) => value / 100) }
}

/** (12): its weights have no bound, which the proof takes for granted. */
export function weights(gamma: number, iterations: number, solve: Solver): Statement {
  const cmdp = unbalanced(gamma)
  const instance: Instance = { cmdp, optimum: solve(cmdp)! }
  const settings = schedule(cmdp, iterations)
  const printed = run(instance, { ...settings, clip: Number.POSITIVE_INFINITY })
  const clipped = run(instance, settings)
  const { weight } = printed.course
  return {
    name: '(12), weights',
    claim: 'x_r and x_c are bounded by a constant where the gradients conflict',
    verdict: weight <= settings.clip ? 'holds' : 'does not hold as printed',
    found: `largest weight ${weight.toFixed(1)} on ${cmdp.name}`,
    remark:
      `x_r = (1 + |g_c| |cos| / |g_r|) / 2 grows with the ratio of lengths; clipped at ${settings.clip} ` +
      `(${clipped.course.clipped} of ${iterations} iterations) every other statement holds, excess ${clipped.excess.toExponential(1)}`,
  }
}

/** What the band is worth: the same runs with a wide lower slack, and with none (CRPO). */
export async function variants(
  set: readonly Instance[],
  iterations: number,
  tick: Tick,
): Promise<Record<string, Run[]>> {
  const compared: Record<string, Run[]> = {}
  for (const [name, change] of Object.entries(VARIANTS)) {
    const runs: Run[] = []
    for (const instance of set) {
      await tick()
      runs.push(run(instance, change(schedule(instance.cmdp, iterations))))
    }
    compared[name] = runs
  }
  return compared
}

/** The lower slack costs return and buys none. */
export function lowerSlack(compared: Record<string, Run[]>): Statement {
  const gaps = (name: string): number[] => (compared[name] ?? []).map(({ gap }) => gap ?? Number.NaN)
  const [narrow, wide] = [gaps('band'), gaps('lower slack x 10')]
  const worse = narrow.filter((gap, k) => wide[k]! > gap + EXACT).length
  const better = narrow.filter((gap, k) => wide[k]! < gap - EXACT).length
  return {
    name: '(40), lower slack',
    claim: 'both slacks should be reasonably large',
    verdict: worse > better ? 'does not hold as printed' : 'holds',
    found: `ten times the lower slack: gap larger in ${worse}, smaller in ${better} of ${narrow.length} runs`,
    remark:
      'slack_above is needed, slack_below enters the bound of the gap with a plus sign and no statement gains by it',
  }
}
