/** A grid as CSV, Markdown, pictures and a page. */
import type { FinishedCell } from '../benchmark/summary.js'
import { ENDING_COLUMNS, csvOf, csvText, markdownTable } from '../benchmark/tables.js'
import { type ChartLine, type Panel, panelsChart, panelsDrawing } from '../report/lines.js'
import { htmlTable, linkToReport, page, section, svgFile } from '../report/page.js'
import { formatFixed, formatSpread } from '../report/format.js'
import { escape } from '../report/svg.js'
import {
  type GridCurve,
  type GridPoint,
  type GridResult,
  type GridRun,
  type Spread,
  horizontalOf,
} from './grid-numbers.js'
import type { Study } from './studies.js'

const HEADER = [
  'algorithm',
  'varied',
  'limit',
  'return',
  'cost',
  'worst seed',
  'norm. reward',
  'norm. cost',
  'safe',
  'runs',
]

export const GRID_LEGEND =
  'return, cost: mean ± standard deviation over runs, each the mean of its episodes; worst seed: the highest cost among them; norm. reward (R - Rmin) / (Rmax - Rmin); norm. cost C / limit; safe: mean cost at most the limit'

export const CURVES_LEGEND =
  'Curves: the policy that would ship if training ended there, played in the environment; mean and standard deviation over seeds. Training never read them, and no policy was chosen by them.'

const spreadText = (spread: Spread | null, digits: number): string => formatSpread(spread?.mean, spread?.std, digits)

const rowOf = (one: GridPoint): string[] => [
  one.label,
  one.variant ?? '–',
  String(one.cost_limit),
  spreadText(one.return, 1),
  spreadText(one.cost, 2),
  formatFixed(one.worst_cost, 2),
  spreadText(one.normalized_reward, 2),
  spreadText(one.normalized_cost, 2),
  one.safe ? 'yes' : 'NO',
  String(one.runs),
]

const targetsOf = ({ points }: GridResult): string[] => [...new Set(points.map(({ target }) => target))]

/** A table for each target. */
export const gridTables = (grid: GridResult): { target: string; header: string[]; rows: string[][] }[] =>
  targetsOf(grid).map((target) => ({
    target,
    header: HEADER,
    rows: grid.points.filter((point) => point.target === target).map(rowOf),
  }))

const RUN_COLUMNS = [
  'target',
  'algorithm',
  'variant',
  'cost_limit',
  'seed',
  'judge',
  'return',
  'cost',
  ...ENDING_COLUMNS,
] as const satisfies readonly (keyof GridRun)[]

/** One line a run. */
export const gridCsv = ({ runs }: GridResult): string => csvOf(RUN_COLUMNS, runs)

/** One line a point of a curve. */
export function curvesCsv({ curves }: GridResult): string {
  const header = [
    'target',
    'algorithm',
    'variant',
    'cost_limit',
    'update',
    'runs',
    'return',
    'return_std',
    'cost',
    'cost_std',
  ]
  return csvText(
    header,
    curves.flatMap(({ target, algorithm, variant, cost_limit, runs, return: ret, cost }) =>
      ret.map(({ x, mean, std }, k) => {
        return [target, algorithm, variant, cost_limit, x, runs, mean, std, cost[k]!.mean, cost[k]!.std]
      }),
    ),
  )
}

/** A picture as a file of its own. */
export interface Picture {
  name: string
  title: string
  content: string
}

/** Final values over what varies, and curves, for each target. */
export function gridPictures(grid: GridResult): Picture[] {
  return targetsOf(grid).flatMap((target) =>
    drawingsOf(grid, target).map(({ name, title, panels, marks }) => {
      const { frame, label, body } = panelsDrawing(panels, { marks })
      return { name, title, content: svgFile(frame, `${title}: ${label}`, body) }
    }),
  )
}

interface Drawn {
  name: string
  title: string
  panels: Panel[]
  marks: boolean
}

function drawingsOf(grid: GridResult, target: string): Drawn[] {
  const stem = target.replaceAll(/[^\w.-]/g, '_')
  const final = finalPanels(grid, target)
  const limits = [...new Set(grid.curves.map(({ cost_limit }) => cost_limit))]
  const watched = limits.flatMap((limit): Drawn[] => {
    const own = grid.curves.filter((curve) => curve.target === target && curve.cost_limit === limit)
    if (own.length === 0) return []
    const of = limits.length > 1 ? `-l${limit}` : ''
    const title = `${target}, limit ${limit}: while policies were trained`
    return [{ name: `${stem}-curves${of}.svg`, title, panels: curvePanels(own, limit), marks: false }]
  })
  return [...(final === null ? [] : [{ name: `${stem}.svg`, title: target, panels: final, marks: true }]), ...watched]
}

/** Return and cost against the horizontal axis; null where nothing varies. */
function finalPanels(grid: GridResult, target: string): Panel[] | null {
  const horizontal = horizontalOf(grid)
  const own = grid.points.filter((point) => point.target === target)
  if (horizontal === null || own.length === 0) return null
  const placed = own.map((point) => ({ point, ...horizontal.place(point) }))
  const names = [...new Set(placed.map(({ line }) => line))]
  const lines = (of: 'return' | 'cost'): ChartLine[] =>
    names.map((name) => ({
      name,
      points: placed
        .filter(({ line }) => line === name)
        .map(({ x, point }) => ({ x, mean: point[of].mean, std: point[of].std }))
        .toSorted((a, b) => a.x - b.x),
    }))
  const limits = new Set(own.map(({ cost_limit }) => cost_limit))
  const limit = horizontal.limit ? 'x' : limits.size === 1 ? own[0]!.cost_limit : null
  const shared = { x_name: horizontal.name, names: horizontal.names }
  return [
    { title: 'return', lines: lines('return'), ...shared },
    { title: 'cost', lines: lines('cost'), limit, ...shared },
  ]
}

function curvePanels(curves: readonly GridCurve[], limit: number): Panel[] {
  const lines = (of: 'return' | 'cost'): ChartLine[] =>
    curves.map((curve) => ({ name: [curve.label, curve.variant].filter(Boolean).join(', '), points: curve[of] }))
  const x_name = 'updates of the algorithm'
  return [
    { title: 'return', x_name, lines: lines('return') },
    { title: 'cost', x_name, lines: lines('cost'), limit },
  ]
}

interface Head {
  study: Study
  command: string
  pictures: readonly Pick<Picture, 'name' | 'title'>[]
}

export function gridMarkdown(grid: GridResult, { study, command, pictures }: Head): string {
  return `${[
    `# ${study.title}`,
    `Made by \`${command}\` (the paper: ${study.figure}).`,
    ...pictures.map(({ name, title }) => `![${title}: return and cost](${name})`),
    ...gridTables(grid).map(({ target, header, rows }) => `## ${target}\n\n${markdownTable(header, rows)}`),
    `${GRID_LEGEND}.`,
    ...(grid.curves.length === 0 ? [] : [CURVES_LEGEND]),
  ].join('\n\n')}\n`
}

export function gridPage(
  grid: GridResult,
  { study, command }: Head,
  finished: readonly FinishedCell[],
  out: string,
): string {
  return page(`drcorl: ${study.title}`, [
    `<header><h1>${escape(study.title)}</h1><p class="sub">${escape(`The paper: ${study.figure}.`)} Made by <code>${escape(command)}</code></p></header>`,
    ...gridTables(grid).map(({ target, header, rows }) =>
      section(
        target,
        ...drawingsOf(grid, target).map(
          ({ title, panels, marks }) =>
            `<h3>${escape(title)}</h3><figure class="card">${panelsChart(panels, { marks })}</figure>`,
        ),
        htmlTable(header, rows, 'numbers'),
      ),
    ),
    `<p class="note">${escape(GRID_LEGEND)}.</p>`,
    grid.curves.length === 0 ? '' : `<p class="note">${escape(CURVES_LEGEND)}</p>`,
    section('Runs', runLinks(finished, out)),
  ])
}

function runLinks(finished: readonly FinishedCell[], out: string): string {
  const rows = finished.map(({ cell }) => {
    const cells = [cell.algorithm, cell.variant ?? '–', cell.cost_limits.join(', '), String(cell.seed)]
    const text = cells.map((one) => `<td>${escape(one)}</td>`).join('')
    return `<tr><th scope="row">${escape(cell.target.name)}</th>${text}<td>${linkToReport(cell.folder, out)}</td></tr>`
  })
  const head = ['target', 'algorithm', 'varied', 'limit', 'seed', 'report'].map(
    (name) => `<th scope="col">${name}</th>`,
  )
  return `<details><summary>${rows.length} runs</summary><div class="scroll"><table><thead><tr>${head.join('')}</tr></thead><tbody>${rows.join('\n')}</tbody></table></div></details>`
}
