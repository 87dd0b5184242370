/** From the finished runs of a grid to the points and curves of its pictures. */
import { groupBy } from '../base/groups.js'
import { meanAndStd } from '../base/moments.js'
import { type FinishedCell, type Measurement, measure } from '../benchmark/summary.js'
import type { LinePoint } from '../report/lines.js'
import { type Axis, LIMIT, variantsOf } from './axes.js'

/** One policy of one run, with what the run differed in. */
export interface GridRun extends Measurement {
  variant: string | null
}

/** Runs that differ in their seeds alone. */
export interface GridPoint {
  target: string
  algorithm: string
  label: string
  variant: string | null
  cost_limit: number
  runs: number
  return: Spread
  cost: Spread
  /** Null where the target has no score range. */
  normalized_reward: Spread | null
  normalized_cost: Spread
  /** Of the worst seed. */
  worst_cost: number
  /** Mean cost at most the limit. */
  safe: boolean
}

export interface Spread {
  mean: number
  /** Null for one run. */
  std: number | null
}

/** What was watched while runs that differ in their seeds alone were trained. */
export interface GridCurve extends Pick<GridPoint, 'target' | 'algorithm' | 'label' | 'variant' | 'cost_limit'> {
  /** Seeds. */
  runs: number
  return: LinePoint[]
  cost: LinePoint[]
}

export interface GridResult {
  axes: readonly Axis[]
  runs: GridRun[]
  points: GridPoint[]
  curves: GridCurve[]
}

export function gridOf(finished: readonly FinishedCell[], axes: readonly Axis[]): GridResult {
  const runs = finished.flatMap((one) =>
    measure(one)
      .filter(({ policy }) => policy === 'used')
      .map((measured): GridRun => Object.assign({}, measured, { variant: one.cell.variant })),
  )
  const points = [...groupBy(runs, keyOf).values()].map(pointOf)
  const watched = finished.filter(({ run }) => run.monitor !== null && run.monitor.points.length > 0)
  const alike = groupBy(watched, ({ cell }) => keyOf({ ...cell, target: cell.target.name }))
  const curves = [...alike.values()].map((own) =>
    curveOf(own, runs.find(({ algorithm }) => algorithm === own[0]!.cell.algorithm)?.label),
  )
  return { axes, runs, points, curves }
}

const keyOf = (one: Pick<GridPoint, 'target' | 'algorithm' | 'variant' | 'cost_limit'>): string =>
  JSON.stringify([one.target, one.algorithm, one.variant, one.cost_limit])

function pointOf(own: GridRun[]): GridPoint {
  const { target, algorithm, label, variant, cost_limit } = own[0]!
  const rewards = own.map((one) => one.normalized_reward).filter((value) => value !== null)
  const cost = meanAndStd(own.map((one) => one.cost))
  return {
    target,
    algorithm,
    label,
    variant,
    cost_limit,
    runs: own.length,
    return: meanAndStd(own.map((one) => one.return)),
    cost,
    normalized_reward: rewards.length === own.length ? meanAndStd(rewards) : null,
    normalized_cost: meanAndStd(own.map((one) => one.normalized_cost)),
    worst_cost: Math.max(...own.map((one) => one.cost)),
    safe: cost.mean <= cost_limit,
  }
}

/** Mean and deviation over seeds of what each was seen to do at the same update. */
function curveOf(own: readonly FinishedCell[], label: string | undefined): GridCurve {
  const { target, algorithm, variant, cost_limit } = own[0]!.cell
  const points = own.flatMap(({ run }) => run.monitor!.points)
  const updates = [...new Set(points.map(({ update }) => update))].toSorted((a, b) => a - b)
  const at = (of: 'return' | 'cost'): LinePoint[] =>
    updates.map((x) => {
      const { mean, std } = meanAndStd(points.filter(({ update }) => update === x).map((point) => point[of].mean))
      return { x, mean, std }
    })
  const names = { target: target.name, algorithm, label: label ?? algorithm, variant, cost_limit }
  return { ...names, runs: own.length, return: at('return'), cost: at('cost') }
}

/** Where a point stands on the horizontal axis, and which line it is of. */
export interface Place {
  x: number
  line: string
}

/**
 * The horizontal axis of the final values: the limit where it varies, else the first axis; null where nothing varies.
 */
export interface Horizontal {
  name: string
  /** Of the places 0, 1, .. where the values are no numbers. */
  names: string[] | undefined
  /** True where it is the limit. */
  limit: boolean
  place: (point: GridPoint) => Place
}

export function horizontalOf({ axes, points }: GridResult): Horizontal | null {
  const own = axes.filter(({ name }) => name !== LIMIT)
  const limits = new Set(points.map(({ cost_limit }) => cost_limit))
  if (axes.some(({ name }) => name === LIMIT) || (own.length === 0 && limits.size > 1)) {
    const line = ({ label, variant }: GridPoint): string => [label, variant].filter(Boolean).join(', ')
    return {
      name: 'cost limit',
      names: undefined,
      limit: true,
      place: (one) => ({ x: one.cost_limit, line: line(one) }),
    }
  }
  const [first] = own
  if (first === undefined) return null
  const values = new Map((variantsOf(axes) ?? []).map((variant) => [variant.name, variant.values]))
  const numeric = first.values.every((value) => Number.isFinite(Number(value)))
  const place = ({ label, variant, cost_limit }: GridPoint): Place => {
    const [value = '', ...rest] = values.get(variant ?? '') ?? []
    const others = own.slice(1).map(({ name }, index) => `${name}=${rest[index]}`)
    const limit = limits.size > 1 ? [`limit ${cost_limit}`] : []
    const x = numeric ? Number(value) : first.values.indexOf(value)
    return { x, line: [label, ...others, ...limit].join(', ') }
  }
  return { name: first.name.replaceAll('_', ' '), names: numeric ? undefined : first.values, limit: false, place }
}
