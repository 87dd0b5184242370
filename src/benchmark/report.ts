import { labelOf } from '../report/compare.js'
import { htmlTable, linkToReport, page, section } from '../report/page.js'
import { type ScatterGroup, type ScatterPoint, scatterChart } from '../report/scatter.js'
import { pointsOf, policyGroups } from '../report/sections.js'
import { escape } from '../report/svg.js'
import { summarize } from '../evaluate/statistics.js'
import { formatFixed } from '../report/format.js'
import { besideTable, besideText } from './beside.js'
import { LEDGER_LEGEND, type LedgerRow, ledgerTable } from './ledger.js'
import { type FinishedCell, type Score, measure } from './summary.js'
import { DETAILS, LEGEND, detailRow, judgeWords } from './tables.js'

/** The page of a benchmark: for every target the table, and for every limit data and policies in one plane. */
export function benchmarkPage(
  title: string,
  finished: readonly FinishedCell[],
  scores: readonly Score[],
  { out, ledger, beside_paper }: { out: string; ledger: readonly LedgerRow[]; beside_paper: boolean },
): string {
  const targets = [...new Set(finished.map(({ cell }) => cell.target.name))]
  return page(`drcorl: ${title}`, [
    `<header><h1>${escape(title)}</h1><p class="sub">${escape(judgeWords(scores))}</p></header>`,
    ...targets.map((target) => {
      const own = finished.filter(({ cell }) => cell.target.name === target)
      const rows = scores.filter((one) => one.target === target).map(detailRow)
      const limits = [...new Set(own.flatMap(({ cell }) => cell.cost_limits))].toSorted((a, b) => a - b)
      const charts = limits.map((limit) =>
        chart(
          own.filter(({ cell }) => cell.cost_limits.includes(limit)),
          limit,
        ),
      )
      return section(target, htmlTable(DETAILS, rows, 'numbers'), ...charts)
    }),
    `<p class="note">${escape(LEGEND)}</p>`,
    beside_paper ? section('Beside the published table', paperTable(scores)) : '',
    section('Step parity', ...ledgerTables(ledger), `<p class="note">${escape(LEDGER_LEGEND)}.</p>`),
    section('Runs', htmlRuns(finished, out)),
  ])
}

function paperTable(scores: readonly Score[]): string {
  const { header, rows } = besideTable(scores)
  return `${htmlTable(header, rows, 'numbers')}<p class="note">${escape(besideText())}.</p>`
}

function ledgerTables(ledger: readonly LedgerRow[]): string[] {
  return [...new Set(ledger.map(({ target }) => target))].map((target) => {
    const { header, rows } = ledgerTable(ledger.filter((row) => row.target === target))
    return `<h3>${escape(target)}</h3>${htmlTable(header, rows)}`
  })
}

/** All algorithms at one limit, their seeds pooled. */
function chart(finished: readonly FinishedCell[], limit: number): string {
  const data = finished.map(({ run }) => pointsOf(run)).find((points) => points.length > 0) ?? []
  const algorithms = [...new Set(finished.map(({ cell }) => cell.algorithm))]
  const groups = algorithms.flatMap((algorithm) => {
    const points = finished.filter(({ cell }) => cell.algorithm === algorithm).flatMap((one) => pointsAt(one, limit))
    return points.length === 0 ? [] : [group(labelOf(algorithm), points)]
  })
  if (data.length + groups.length === 0) return ''
  return `<h3>Cost limit ${limit}</h3><figure class="card">${scatterChart(data, groups, limit)}</figure>`
}

/**
 * Episodes where the environment played them at the limit of the run; else one point a run: the mean at another limit,
 * or what the models expect.
 */
function pointsAt(one: FinishedCell, limit: number): ScatterPoint[] {
  const own = limit === one.cell.cost_limit
  if (own && one.cell.target.env !== null) return policyGroups(one.run, '').flatMap(({ points }) => points)
  return measure(one).filter(({ policy, cost_limit }) => policy === 'used' && cost_limit === limit)
}

function group(name: string, points: readonly ScatterPoint[]): ScatterGroup {
  const [cost, ret] = [summarize(points.map((point) => point.cost)), summarize(points.map((point) => point.return))]
  return { name, points, mean: { cost: cost.mean, cost_std: cost.std, return: ret.mean, return_std: ret.std } }
}

function htmlRuns(finished: readonly FinishedCell[], out: string): string {
  const header = ['target', 'algorithm', 'limit', 'seed', 'policy', 'return', 'cost', 'certificate', 'report']
  const rows = finished.flatMap((one) =>
    measure(one).map((measured) => {
      const cells = [
        measured.label,
        String(measured.cost_limit),
        String(measured.seed),
        measured.policy,
        formatFixed(measured.return, 1),
        formatFixed(measured.cost, 2),
        measured.verdict ?? 'none given',
      ]
      const text = cells.map((cell) => `<td>${escape(cell)}</td>`).join('')
      return `<tr><th scope="row">${escape(measured.target)}</th>${text}<td>${linkToReport(one.cell.folder, out)}</td></tr>`
    }),
  )
  const head = header.map((name) => `<th scope="col">${name}</th>`).join('')
  return `<details><summary>${rows.length} policies</summary><div class="scroll"><table class="numbers"><thead><tr>${head}</tr></thead><tbody>${rows.join('\n')}</tbody></table></div></details>`
}
