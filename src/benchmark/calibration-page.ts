/** A calibration as CSV, Markdown, SVG and a page. */
import { normalizeCost } from '../evaluate/score.js'
import { formatFixed } from '../report/format.js'
import { htmlTable, linkToReport, page, section, svgFile, tiles } from '../report/page.js'
import { type Frame, axes, escape, line, linearScale, marker, rect, svg, text } from '../report/svg.js'
import type { CalibrationCounts, CalibrationRow, Outcome, Rate, Skipped } from './calibration.js'
import { csvOf, markdownTable } from './tables.js'

const WORDS: Record<Outcome, string> = {
  certified_safe: 'certified, safe',
  false_certified: 'FALSE: certified, unsafe',
  refused_safe: 'refused though safe',
  refused_unsafe: 'refused, unsafe',
}

export const CALIBRATION_LEGEND =
  'safe: the mean cost of the played episodes is at most the limit; estimate and upper: what the certificate said before any was played; false: certified, but not safe; 95 %: interval of the probability by Clopper and Pearson; unsettled: the 95 % interval of the measured mean holds the limit'

const COUNTS = ['runs of', 'runs', 'certified', 'false', '95 %', 'safe', 'refused of those', '95 %', 'unsettled']

const share = ({ count, of }: Rate): string => (of === 0 ? '–' : `${count} (${Math.round((100 * count) / of)} %)`)

const interval = ({ ci95 }: Rate): string =>
  ci95 === null ? '–' : `${ci95.map((value) => (100 * value).toFixed(1)).join(' to ')} %`

/** Cells of one group, under `COUNTS`. */
function countRow({ group, runs, false_certified, refused_safe, unsettled }: CalibrationCounts): string[] {
  return [
    group,
    String(runs),
    String(false_certified.of),
    share(false_certified),
    interval(false_certified),
    String(refused_safe.of),
    share(refused_safe),
    interval(refused_safe),
    String(unsettled),
  ]
}

/** The counts for a terminal or a table. */
export const countTable = (counts: readonly CalibrationCounts[]): { header: string[]; rows: string[][] } => ({
  header: COUNTS,
  rows: counts.map(countRow),
})

const RUNS = ['task', 'algorithm', 'limit', 'seed', 'estimate', 'upper', 'measured', '95 %', 'outcome', 'why refused']

function runRow(row: CalibrationRow): string[] {
  const { target, label, cost_limit, seed, estimate, upper, cost, cost_ci95: ci95, outcome, reasons } = row
  return [
    target,
    label,
    String(cost_limit),
    String(seed ?? '–'),
    formatFixed(estimate, 2),
    formatFixed(upper, 2),
    formatFixed(cost, 2),
    ci95 === null ? '–' : ci95.map((value) => value.toFixed(2)).join(' to '),
    WORDS[outcome],
    reasons.join('; '),
  ]
}

const CSV_COLUMNS = [
  'target',
  'algorithm',
  'cost_limit',
  'seed',
  'verdict',
  'estimate',
  'upper',
  'cost',
  'cost_low',
  'cost_high',
  'episodes',
  'safe',
  'settled',
  'outcome',
  'reasons',
  'run_dir',
] as const

/** One line a run. */
export const calibrationCsv = (rows: readonly CalibrationRow[]): string =>
  csvOf(
    CSV_COLUMNS,
    rows.map((row) => ({
      ...row,
      cost_low: row.cost_ci95?.[0] ?? null,
      cost_high: row.cost_ci95?.[1] ?? null,
      reasons: row.reasons.join('; '),
    })),
  )

/** A page for docs/results: counts, picture, runs. */
export function calibrationMarkdown(
  rows: readonly CalibrationRow[],
  counts: readonly CalibrationCounts[],
  { command, picture, skipped }: { command: string; picture: string; skipped: readonly Skipped[] },
): string {
  const { header, rows: counted } = countTable(counts)
  const safeCell = (cells: string[]): string[] => cells.map((cell) => cell.replaceAll('|', '\\|'))
  return `${[
    '# Calibration of the certificate',
    `Made by \`${command}\`: ${rows.length} runs, each judged offline and then played.`,
    `${CALIBRATION_LEGEND[0]!.toUpperCase()}${CALIBRATION_LEGEND.slice(1)}.`,
    markdownTable(header, counted),
    `![upper cost estimate against measured cost, both over the limit](${picture})`,
    ...(skipped.length === 0 ? [] : [`${skipped.length} more runs were left out: ${skippedWords(skipped)}.`]),
    '## Runs',
    markdownTable(RUNS, rows.map(runRow).map(safeCell)),
  ].join('\n\n')}\n`
}

/** Why runs were left out, each reason once. */
export const skippedWords = (skipped: readonly Skipped[]): string =>
  [...new Set(skipped.map(({ why }) => why))].join('; ')

/** The same as HTML, each run linked to its report. */
export function calibrationPage(
  rows: readonly CalibrationRow[],
  counts: readonly CalibrationCounts[],
  command: string,
  out: string,
): string {
  const all = counts[0]!
  const { header, rows: counted } = countTable(counts)
  const head = [...RUNS, 'report'].map((name) => `<th scope="col">${escape(name)}</th>`).join('')
  const body = rows.map((row) => {
    const [first = '', ...rest] = runRow(row)
    const cells = rest.map((cell) => `<td>${escape(cell)}</td>`).join('')
    return `<tr><th scope="row">${escape(first)}</th>${cells}<td>${linkToReport(row.run_dir, out)}</td></tr>`
  })
  return page('drcorl: calibration of the certificate', [
    `<header><h1>Calibration of the certificate</h1><p class="sub">Made by <code>${escape(command)}</code></p></header>`,
    tiles([
      { name: 'runs', value: String(rows.length) },
      {
        name: 'false of the certified',
        value: `${all.false_certified.count} of ${all.false_certified.of}`,
        more: interval(all.false_certified),
        tone: all.false_certified.count > 0 ? 'bad' : 'ok',
      },
      {
        name: 'refused of the safe',
        value: `${all.refused_safe.count} of ${all.refused_safe.of}`,
        more: interval(all.refused_safe),
      },
    ]),
    section('Estimate and truth', `<figure class="card">${svg(FRAME, LABEL, marks(rows))}${legend()}</figure>`),
    section('Counts', htmlTable(header, counted, 'numbers'), `<p class="note">${escape(CALIBRATION_LEGEND)}</p>`),
    section(
      'Runs',
      `<div class="scroll"><table><thead><tr>${head}</tr></thead><tbody>${body.join('\n')}</tbody></table></div>`,
    ),
  ])
}

/** The picture as a file of its own. */
export function calibrationSvg(rows: readonly CalibrationRow[]): string {
  const words = KEYS.map(({ css, shape, name }, index) => {
    const [x, y] = [FRAME.left + 12 + 190 * index, FRAME.top - 16]
    return marker(shape, x, y, 5, css) + text(x + 10, y + 4, name, 'tick')
  })
  return svgFile(FRAME, LABEL, [...words, ...marks(rows)])
}

const LABEL = 'Upper cost estimate against measured cost, each over the limit of its run'
const FRAME: Frame = { width: 1000, height: 620, left: 64, right: 22, top: 40, bottom: 50 }
/** Limits beyond which a point stands at the edge. */
const MOST = 3

const KEYS = [
  { css: 'mark s0 mean', shape: 'circle', name: 'certified' },
  { css: 'mark s1 mean', shape: 'square', name: 'not certified' },
] as const

const keyOf = ({ verdict }: CalibrationRow): (typeof KEYS)[number] => KEYS[verdict === 'certified' ? 0 : 1]

function marks(rows: readonly CalibrationRow[]): string[] {
  const over = ({ cost_limit }: CalibrationRow, cost: number): number =>
    Math.min(MOST, Math.max(0, normalizeCost(cost, cost_limit, 'dsrl')))
  const x = linearScale([-0.05, MOST * 1.03], [FRAME.left, FRAME.width - FRAME.right])
  const y = linearScale([-0.05, MOST * 1.03], [FRAME.height - FRAME.bottom, FRAME.top])
  const format = (tick: number): string => (tick === MOST ? `≥ ${MOST}` : String(tick))
  const floor = FRAME.height - FRAME.bottom
  const judged = rows.filter(({ upper }) => upper !== null)
  return [
    rect(FRAME.left, FRAME.top, x(1) - FRAME.left, floor - FRAME.top, 'safe-zone'),
    ...axes(FRAME, x, y, format),
    line(x(1), FRAME.top, x(1), floor, 'limit'),
    line(FRAME.left, y(1), FRAME.width - FRAME.right, y(1), 'limit'),
    line(x(0), y(0), x(MOST), y(MOST), 'axis'),
    text(x(1) + 6, FRAME.top + 12, 'limit', 'limit-name'),
    ...judged.flatMap((row) => {
      const { css, shape } = keyOf(row)
      const at = [x(over(row, row.cost)), y(over(row, row.upper!))] as const
      const spread = css.includes('s0') ? 'spread s0' : 'spread s1'
      const [low, high] = row.cost_ci95 ?? [row.cost, row.cost]
      const title = `${row.target}, ${row.label}, limit ${row.cost_limit}, seed ${row.seed}: upper estimate ${formatFixed(row.upper, 2)}, measured ${formatFixed(row.cost, 2)}; ${WORDS[row.outcome]}`
      return [
        line(x(over(row, low)), at[1], x(over(row, high)), at[1], spread),
        marker(shape, at[0], at[1], row.outcome === 'false_certified' ? 9 : 5, css, title),
      ]
    }),
    text(
      (FRAME.left + FRAME.width - FRAME.right) / 2,
      FRAME.height - 8,
      'measured cost / limit',
      'axis-name',
      'middle',
    ),
    text(FRAME.width - FRAME.right, FRAME.top - 12, 'upper estimate / limit', 'axis-name', 'end'),
  ]
}

function legend(): string {
  const keys = KEYS.map(
    ({ css, shape, name }) =>
      `<li><svg viewBox="0 0 16 16" aria-hidden="true">${marker(shape, 8, 8, 5.5, css)}</svg>${name}</li>`,
  )
  const words = '<li>lines: 95 % interval of the measured mean; diagonal: an estimate that is the truth</li>'
  return `<ul class="legend">${keys.join('')}${words}</ul>`
}
