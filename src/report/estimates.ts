import type { Certificate, Estimates } from '../config/results.js'
import type { Stored } from '../config/stored.js'
import { formatFixed, formatNumber, words } from './format.js'
import { type Frame, escape, line, linearScale, marker, rect, svg, text } from './svg.js'

/** One offline estimate of the policy's episodic cost, and of its return where the estimator gives one. */
export interface Estimate {
  name: string
  cost_mean: number | null
  cost_std: number | null
  /** Upper confidence bound. */
  cost_upper: number | null
  return_mean: number | null
  return_std: number | null
  /** The verdict goes by this row; the others are for information. */
  decides: boolean
}

/** The estimates of a certificate as rows, a family of estimators (critics on three sets of states) as several. */
export function estimatesOf(estimates: Stored<Estimates> | undefined): Estimate[] {
  const { model_rollout: model, critic_ucb: critics, fqe } = estimates ?? {}
  return [
    ...(model ? [{ ...row('model rollout', model.cost, model.return), decides: true }] : []),
    ...Object.entries(critics ?? {}).flatMap(([states, cost]) =>
      cost ? [row(`critics, upper bound: ${words(states)} states`, { mean: cost.mean, upper: cost.ucb })] : [],
    ),
    ...(fqe ? [row('fitted Q evaluation', { mean: fqe.cost?.mean, upper: fqe.cost?.ucb }, fqe.return)] : []),
  ]
}

type Spread = { mean?: number | null | undefined; std?: number | null | undefined }

function row(
  name: string,
  cost: (Spread & { upper?: number | null | undefined }) | undefined = {},
  ret: Spread | undefined = {},
): Estimate {
  return {
    name,
    cost_mean: cost.mean ?? null,
    cost_std: cost.std ?? null,
    cost_upper: cost.upper ?? null,
    return_mean: ret.mean ?? null,
    return_std: ret.std ?? null,
    decides: false,
  }
}

/** What evaluation measured, drawn under the estimates for comparison. */
export interface Measured {
  cost: { mean: number; ci95: [number, number] | null }
  episodes: number
}

const ROW = 30

/** Estimates side by side against the limit: dot = mean, bar = up to the upper bound; last row = measured, if any. */
export function estimateChart(
  estimates: readonly Estimate[],
  limit: number | null,
  measured: Measured | null,
  threshold: number | null = null,
): string {
  const shown = estimates.filter((estimate) => estimate.cost_mean !== null || estimate.cost_upper !== null)
  if (shown.length === 0) return ''
  const rows = shown.length + (measured === null ? 0 : 1)
  const frame: Frame = { width: 1000, height: 62 + rows * ROW, left: 250, right: 70, top: 22, bottom: 40 }
  const floor = frame.height - frame.bottom
  const values = shown.flatMap((estimate) => [estimate.cost_mean ?? 0, estimate.cost_upper ?? 0])
  const most = Math.max(...values, (limit ?? 0) * 1.2, measured?.cost.ci95?.[1] ?? 0, measured?.cost.mean ?? 0)
  const x = linearScale([Math.min(0, ...values), most * 1.03], [frame.left, frame.width - frame.right], 8)
  const middle = (index: number): number => frame.top + ROW * (index + 0.5)
  const body = [
    ...(limit === null ? [] : [rect(x(0), frame.top, x(limit) - x(0), floor - frame.top, 'safe-zone')]),
    line(frame.left, floor, frame.width - frame.right, floor, 'axis'),
    ...x.ticks.map((tick) => text(x(tick), floor + 17, formatNumber(tick), 'tick', 'middle')),
    text((frame.left + frame.width - frame.right) / 2, frame.height - 5, 'episodic cost', 'axis-name', 'middle'),
    ...shown.flatMap((estimate, index) => estimateMarks(estimate, middle(index), x, frame)),
    ...(measured === null ? [] : measuredMarks(measured, middle(shown.length), x, frame)),
    ...(limit === null
      ? []
      : [
          line(x(limit), frame.top, x(limit), floor, 'limit'),
          text(x(limit), frame.top - 8, `limit ${formatNumber(limit)}`, 'limit-name', 'middle'),
        ]),
    ...(threshold === null ? [] : thresholdMarks(threshold, shown, x, frame)),
  ]
  return svg(frame, `Estimates of the episodic cost${limit === null ? '' : ` against the limit ${limit}`}`, body)
}

function estimateMarks(estimate: Estimate, y: number, x: (value: number) => number, frame: Frame): string[] {
  const { name, cost_mean: mean, cost_upper: upper } = estimate
  const from = mean ?? upper ?? 0
  const to = upper ?? mean ?? 0
  const title = `${name}: mean ${formatNumber(mean)}, upper ${formatNumber(upper)}`
  return [
    text(frame.left - 14, y + 4, name, 'row-name', 'end'),
    line(x(from), y, x(to), y, 'spread s0'),
    upper === null ? '' : line(x(to), y - 6, x(to), y + 6, 'spread s0'),
    mean === null ? '' : marker('circle', x(from), y, 5.5, 'mark s0 mean', title),
  ]
}

/** What the upper end of the deciding row must not pass. */
function thresholdMarks(
  threshold: number,
  shown: readonly Estimate[],
  x: (value: number) => number,
  frame: Frame,
): string[] {
  const index = shown.findIndex((estimate) => estimate.decides)
  if (index < 0) return []
  const top = frame.top + ROW * index
  const name = `must stay below ${formatNumber(threshold)}`
  return [`<g><title>${name}</title>${line(x(threshold), top + 2, x(threshold), top + ROW - 2, 'limit threshold')}</g>`]
}

function measuredMarks(measured: Measured, y: number, x: (value: number) => number, frame: Frame): string[] {
  const { mean, ci95 } = measured.cost
  return [
    text(frame.left - 14, y + 4, `measured, ${measured.episodes} episodes`, 'row-name', 'end'),
    ci95 === null ? '' : line(x(Math.max(0, ci95[0])), y, x(ci95[1]), y, 'spread s1'),
    marker('square', x(mean), y, 5.5, 'mark s1 mean', `measured mean ${formatNumber(mean)}`),
  ]
}

/** The same numbers as a table. */
export function estimateTable(estimates: readonly Estimate[], limit: number | null): string {
  const cells = estimates.map((estimate) => {
    const judged = estimate.cost_upper ?? estimate.cost_mean
    const verdict = limit === null || judged === null ? '' : judged <= limit ? 'within' : 'over'
    const part = estimate.decides ? 'decides' : 'for information'
    return [
      `<th scope="row">${escape(estimate.name)}</th>`,
      ...[estimate.cost_mean, estimate.cost_std, estimate.cost_upper].map(
        (value) => `<td>${formatFixed(value, 2)}</td>`,
      ),
      `<td class="${verdict}">${verdict}</td>`,
      ...[estimate.return_mean, estimate.return_std].map((value) => `<td>${formatFixed(value, 1)}</td>`),
      `<td>${part}</td>`,
    ].join('')
  })
  const head = ['estimator', 'cost mean', 'std', 'upper bound', 'against limit', 'return mean', 'std', 'part']
  return (
    `<div class="scroll"><table class="numbers"><thead><tr>${head.map((name) => `<th scope="col">${name}</th>`).join('')}` +
    `</tr></thead><tbody>${cells.map((row, index) => `<tr${estimates[index]?.decides === true ? ' class="deciding"' : ''}>${row}</tr>`).join('')}</tbody></table></div>`
  )
}

/** Estimates of each policy the run kept, where the certificate holds them apart. */
export function policyEstimates({ policies }: Stored<Certificate>): { policy: string; estimates: Estimate[] }[] {
  return Object.entries(policies ?? {})
    .map(([policy, estimates]) => ({ policy, estimates: estimatesOf(estimates) }))
    .filter(({ estimates }) => estimates.length > 0)
}
