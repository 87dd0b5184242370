import { formatNumber, words } from './format.js'
import type { Csv } from './run-data.js'
import { type Frame, type Scale, axes, extent, line, linearScale, logScale, polyline, rect, svg, text } from './svg.js'

/** A phase of training and the steps it covers. */
export interface Phase {
  name: string
  from: number
  to: number
  seconds: number
}

/** One metric over training steps; only rows that report it. */
export interface Series {
  name: string
  points: [step: number, value: number][]
  /** The same points in runs without a gap: a phase that does not report the metric breaks the line. */
  runs: [step: number, value: number][][]
}

const FIXED = new Set(['step', 'phase', 'phase_step', 'seconds'])
/** Values that span more than this factor are drawn on a logarithmic scale. */
const LOG_SPAN = 30
/** Of one line. */
const MOST_POINTS = 2000

/** Phases in the order they ran, from the rows of metrics.csv. */
export function phasesOf(metrics: Csv): Phase[] {
  const steps = metrics.numbers('step')
  const seconds = metrics.numbers('seconds')
  // Not 0 in a run that took over its first phases.
  const start = (steps[0] ?? 0) - (metrics.numbers('phase_step')[0] ?? 0)
  const phases: Phase[] = []
  for (const [row, name] of metrics.text('phase').entries()) {
    const last = phases.at(-1)
    const before = { step: steps[row - 1] ?? start, seconds: seconds[row - 1] ?? 0 }
    if (last?.name === name) {
      last.to = steps[row]!
      last.seconds += seconds[row]! - before.seconds
    } else {
      phases.push({ name, from: before.step, to: steps[row]!, seconds: seconds[row]! - before.seconds })
    }
  }
  return phases
}

/** All metrics that any row reports, in the file's order. */
export function seriesOf(metrics: Csv): Series[] {
  const steps = metrics.numbers('step')
  return metrics.names
    .filter((name) => !FIXED.has(name))
    .map((name) => readSeries(name, steps, metrics.numbers(name)))
    .filter((series) => series.points.length > 1)
}

function readSeries(name: string, steps: readonly number[], values: readonly number[]): Series {
  const runs: [number, number][][] = []
  let open = false
  for (const [row, value] of values.entries()) {
    const present = Number.isFinite(value)
    if (present && !open) runs.push([])
    if (present) runs.at(-1)!.push([steps[row]!, value])
    open = present
  }
  return { name, points: runs.flat(), runs }
}

/** The offline estimate of the episodic cost over training, with the limit it is held against. */
export function estimateCurve(series: Series, phases: readonly Phase[], limit: number | null): string {
  const frame: Frame = { width: 1000, height: 290, left: 52, right: 64, top: 24, bottom: 44 }
  return curve(frame, series, phases, { limit, ticks: 8, log: false, name: 'training step' })
}

/** A small chart of one metric, over the phases that report it. */
export function smallCurve(series: Series, phases: readonly Phase[]): string {
  const frame: Frame = { width: 320, height: 172, left: 50, right: 20, top: 20, bottom: 26 }
  const values = series.points.map(([, value]) => value)
  const [low, high] = extent(values)
  const log = low > 0 && high / low > LOG_SPAN
  return curve(frame, series, phases, { limit: null, ticks: 3, log, name: '' })
}

interface CurveStyle {
  limit: number | null
  ticks: number
  log: boolean
  /** Of the horizontal axis. */
  name: string
}

function curve(frame: Frame, series: Series, phases: readonly Phase[], style: CurveStyle): string {
  const steps = series.points.map(([step]) => step)
  const [first, last] = extent(steps)
  const shown = phases.filter((phase) => phase.to >= first && phase.from < last)
  const start = Math.min(first, ...shown.map((phase) => phase.from))
  const x = linearScale([start, last], [frame.left, frame.width - frame.right], style.ticks)
  const y = valueScale(frame, series, style)
  const label = `${words(series.name)} over training steps${style.limit === null ? '' : `, limit ${style.limit}`}`
  const clip = (step: number): number => Math.min(Math.max(step, x.domain[0]), x.domain[1])
  const body = [
    ...shown.flatMap((phase, index) => phaseBand(frame, x(clip(phase.from)), x(clip(phase.to)), phase.name, index)),
    ...axes(frame, x, y, formatNumber),
    text((frame.left + frame.width - frame.right) / 2, frame.height - 6, style.name, 'axis-name', 'middle'),
    ...(style.limit === null ? [] : limitLine(frame, y(style.limit), style.limit)),
    ...series.runs.map((run) =>
      polyline(
        thinned(run).map(([step, value]) => [x(step), y(value)] as const),
        'curve',
      ),
    ),
  ]
  return svg(frame, label, body)
}

/** Every k-th point of many, and the last: more than a chart has pixels only add weight to the file. */
function thinned<T>(points: readonly T[]): readonly T[] {
  const every = Math.ceil(points.length / MOST_POINTS)
  return points.filter((_, index) => index % every === 0 || index === points.length - 1)
}

function valueScale(frame: Frame, series: Series, style: CurveStyle): Scale {
  const values = series.points.map(([, value]) => value)
  const range: [number, number] = [frame.height - frame.bottom, frame.top]
  const [low, high] = extent(values)
  if (style.log) return logScale([low, high], range, style.ticks)
  if (style.limit !== null) return linearScale([Math.min(0, low), Math.max(high, style.limit * 1.25) * 1.04], range)
  const margin = (high - low) * 0.06
  return linearScale([low - margin, high + margin], range, 3)
}

function phaseBand(frame: Frame, from: number, to: number, name: string, index: number): string[] {
  const height = frame.height - frame.top - frame.bottom
  const label = words(name)
  // 6.5 units a letter: a name that does not fit its band stays in the tooltip.
  const fits = label.length * 6.5 < to - from
  return [
    rect(from, frame.top, to - from, height, index % 2 === 0 ? 'phase even' : 'phase odd', label),
    fits ? text((from + to) / 2, frame.top - 7, label, 'phase-name', 'middle') : '',
  ]
}

function limitLine(frame: Frame, y: number, limit: number): string[] {
  const right = frame.width - frame.right
  return [line(frame.left, y, right, y, 'limit'), text(right + 7, y + 4, `limit ${formatNumber(limit)}`, 'limit-name')]
}
